"""What a search found, in scikit-learn's form, and as a front of trade-offs between the tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mtl_classic._core.options import MAPPING, NUMBER, check_option
from mtl_classic.model_selection._search_space import Floats
from mtl_classic.model_selection._search_trial import COMPLETE, Outcome, Work

__all__ = ["choose", "cv_results", "points_frame", "undominated"]


def cv_results(work: Work, outcomes: Sequence[Outcome], names: Sequence[str]) -> dict[str, Any]:
    """Columns of scikit-learn's ``cv_results_``: the objective as "score", each task and metric as "score_NAME"."""
    params = [work.params(outcome.codes) for outcome in outcomes]
    found: dict[str, Any] = {}
    seconds = np.array([outcome.seconds for outcome in outcomes])
    for j, part in enumerate(("fit", "score")):
        found[f"mean_{part}_time"], found[f"std_{part}_time"] = _moments(seconds[:, :, j])
    for d in work.dimensions:
        column = np.empty(len(params), dtype=object)
        column[:] = [one[d.name] for one in params]
        found[f"param_{d.name}"] = np.ma.MaskedArray(column, mask=False)
    found["params"] = params
    found["state"] = np.array([outcome.state for outcome in outcomes])
    scores = np.array([outcome.scores for outcome in outcomes])
    n_tasks = len(work.judge.weights)
    folds = [[work.judge.summary(fold[:n_tasks]) for fold in one] for one in scores]
    complete = found["state"] == COMPLETE
    overall = np.array([work.judge.summary(work.judge.by_task(one)) for one in scores])
    found |= _columns("score", np.array(folds), complete, overall)
    for j, name in enumerate(names):
        found |= _columns(f"score_{name}", scores[:, :, j], complete, None)
    return found


def points_frame(work: Work, results: Mapping[str, Any], names: Sequence[str]) -> pd.DataFrame:
    """A row for each complete candidate: scores of tasks, further metrics, parameters."""
    complete = np.flatnonzero(results["state"] == COMPLETE)
    columns = {name: results[f"mean_test_score_{name}"][complete] for name in names}
    frame = pd.DataFrame(columns, index=pd.Index(complete, name="candidate"))
    for d in work.dimensions:
        frame[d.name] = pd.Series([results["params"][i][d.name] for i in complete], index=frame.index, dtype=object)
    return frame.infer_objects()


def undominated(values: Floats) -> Any:
    """Which rows no other row beats: at least as good in all columns and better in one.

    A task that no fold has a label of is NaN in all rows, and tells nothing.
    """
    values = np.nan_to_num(values)
    as_good = (values[:, None, :] >= values[None, :, :]).all(axis=2)
    better = (values[:, None, :] > values[None, :, :]).any(axis=2)
    return ~(as_good & better).any(axis=0)


def choose(points: pd.DataFrame, tasks: Sequence[str], weights: Floats, at_least: Mapping[str, float] | None) -> int:
    """The candidate of greatest weighted mean score of the tasks among those that keep the constraints."""
    check_option("at_least", at_least, (MAPPING, None))
    allowed = points
    for name, least in (at_least or {}).items():
        check_option(f"at_least[{name!r}]", least, NUMBER)
        if name not in points.columns:
            raise ValueError(f"at_least names {name!r}, which was not judged; there are {', '.join(points.columns)}.")
        allowed = allowed[allowed[name] >= least]
    if allowed.empty:
        best = ", ".join(f"{name} {points[name].max():.4g}" for name in at_least or {})
        raise ValueError(
            f"No candidate has at least {dict(at_least or {})}; the greatest found, each on its own: {best}. Ask for "
            f"less, or search longer."
        )
    return int(np.asarray(allowed.index)[np.argmax(np.nan_to_num(allowed[list(tasks)].to_numpy()) @ weights)])


def _columns(name: str, folds: Floats, complete: Any, mean: Floats | None) -> dict[str, Any]:
    found: dict[str, Any] = {f"split{k}_test_{name}": folds[:, k] for k in range(folds.shape[1])}
    means, spread = _moments(folds)
    found[f"mean_test_{name}"] = np.where(complete, means if mean is None else mean, np.nan)
    found[f"std_test_{name}"] = np.where(complete, spread, np.nan)
    ranked = pd.Series(found[f"mean_test_{name}"]).rank(ascending=False, method="min", na_option="bottom")
    found[f"rank_test_{name}"] = ranked.to_numpy().astype(np.int32)
    return found


def _moments(values: Floats) -> tuple[Floats, Floats]:
    """Mean and standard deviation of what is known in each row."""
    known = ~np.isnan(values)
    n = np.maximum(known.sum(axis=1), 1)
    mean = np.where(known, values, 0.0).sum(axis=1) / n
    spread = np.sqrt(np.where(known, (values - mean[:, None]) ** 2, 0.0).sum(axis=1) / n)
    return np.where(known.any(axis=1), mean, np.nan), np.where(known.any(axis=1), spread, np.nan)
