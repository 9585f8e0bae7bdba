"""Complete Journey's test weeks by a model that each week's labels refresh, beside the same one left alone."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import numpy as np
import pandas as pd

from benchmarks.complete_journey import Table, prepare
from mtl_classic import MultiTaskModel, evaluate_scores

CHANGE = "loss of a model refreshed each week less one left alone, %"


@cache
def _table(households: int | None) -> Table:
    return prepare(households)


def refreshed(seed: int, households: int | None = None) -> dict[str, float]:
    """Change of each task's loss over the weeks after the first refresh, in per cent."""
    table = _table(households)
    Y = table.journey.Y[[task.name for task in table.tasks]]
    week = table.wide["time"].to_numpy()
    model = MultiTaskModel(table.tasks, **table.roles, aggregates=None, latent=None, random_state=seed, n_jobs=1).fit(
        table.wide.iloc[table.fit_rows], Y.iloc[table.fit_rows]
    )
    moved, scores, judged = model, [], []
    later = np.unique(week[table.test_rows])
    for told, asked in pairwise(later):
        rows, next_rows = (np.flatnonzero(week == time) for time in (told, asked))
        moved = moved.refresh(table.wide.iloc[rows], Y.iloc[rows])
        scores.append(moved.predict_scores(table.wide.iloc[next_rows]))
        judged.append(next_rows)
    every = np.concatenate(judged)
    found = evaluate_scores(
        Y.iloc[every],
        pd.concat(scores),
        tasks=table.tasks,
        baseline=model.predict_scores(table.wide.iloc[every]),
        metrics=["loss"],
        clusters=table.wide["household"].iloc[every].to_numpy(),
    )
    print(f"refresh, seed {seed}:", dict(found["verdict"].droplevel("metric")), flush=True)
    return {
        f"{CHANGE}, {task}": 100 * (float(row["value"]) / float(row["baseline"]) - 1)
        for (task, _), row in found.iterrows()
    }
