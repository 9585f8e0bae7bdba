"""Search: Bayesian against random, fronts against weighted sums, on planted problems and on boosted trees.

A planted problem predicts a known share of each label, so that a candidate costs nothing and its score is known.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import loguniform, uniform

from benchmarks._measure import write
from mtl_classic import LightGBMLearner, MultiTaskSearchCV, PerTaskModel
from mtl_classic._core.base import MultiTaskEstimator, Scores
from mtl_classic._core.validation import Table

N_SEEDS = 5  # medians of five, whatever --seeds says below that
N_TRIALS = 60
TASKS = {"y0": "regression", "y1": "regression"}
CENTRES = np.array([[0.3, -0.5, 0.1, 0.4, -0.2], [0.1, -0.3, 0.3, 0.2, 0.0]])  # what each task wants
WIDTHS = np.array([0.5, 0.7, 1.0, 2.0, 2.0])
SPACE = {name: uniform(-1.5, 3) for name in "abcde"}
TREES = {
    "learner__num_leaves": [3, 7, 15, 31, 63, 127],
    "learner__learning_rate": loguniform(0.01, 0.5),
    "learner__min_sum_hessian_in_leaf": loguniform(0.1, 100),
    "learner__lambda_l2": loguniform(0.01, 100),
    "learner__feature_fraction": uniform(0.2, 0.8),
}


class Planted(MultiTaskEstimator):
    """Predicts of each label, which stands in X, the share exp(−Σ ((x − c_t) / w)²)."""

    def __init__(
        self, tasks: Any = None, *, a: float = 0, b: float = 0, c: float = 0, d: float = 0, e: float = 0,
        centres: Any = CENTRES, widths: Any = WIDTHS, wait: float = 0.0,
    ) -> None:  # fmt: skip
        self.tasks = tasks
        self.a, self.b, self.c, self.d, self.e = a, b, c, d, e
        self.centres = centres
        self.widths = widths
        self.wait = wait

    def fit(self, X: Any, Y: Any, *, sample_weight: Any = None, events: Any = None, plan: Any = None) -> Planted:
        """Nothing is learnt."""
        self._start_fit(X, Y, sample_weight)
        time.sleep(self.wait)
        return self

    def _scores(self, X: Table, space: str) -> Scores:
        at = np.array([self.a, self.b, self.c, self.d, self.e])
        shares = np.exp(-(((at - np.asarray(self.centres)) / np.asarray(self.widths)) ** 2).sum(axis=1))
        return {task.name: shares[j] * np.asarray(X, dtype=float)[:, j] for j, task in enumerate(self.tasks_)}


def run(options: argparse.Namespace) -> None:
    """All parts; the medians are over at least five seeds."""
    seeds = range(max(options.seeds, N_SEEDS))
    rows = [row for seed in seeds for row in (*_planted(seed), *_fronts(seed))]
    rows += [row for seed in seeds for row in _trees(seed)]
    rows.append(_killed())
    write(options.out, "search", {"seeds": len(seeds), "trials": N_TRIALS, "rows": rows}, _markdown(pd.DataFrame(rows)))


def _data(seed: int, n: int = 60) -> tuple[np.ndarray, np.ndarray]:
    X = np.random.default_rng(seed).normal(size=(n, 2))
    return X, X.copy()


def _history(search: MultiTaskSearchCV) -> np.ndarray:
    """Best score so far, after each candidate."""
    scores = np.nan_to_num(search.cv_results_["mean_test_score"], nan=-np.inf)
    return np.maximum.accumulate(scores)


def _reached(history: np.ndarray, target: float) -> int:
    """Candidates until the target is reached; one more than there are if it never is."""
    return int(np.argmax(history >= target)) + 1 if history[-1] >= target else len(history) + 1


def _compare(part: str, model: Any, space: Any, X: Any, Y: Any, seed: int) -> list[dict[str, Any]]:
    settings = {"n_trials": N_TRIALS, "cv": 3, "pruning": False, "refit": False, "random_state": seed}
    histories, seconds = {}, {}
    for name, given in {
        "random": {"strategy": "random"},
        "bayesian, Gaussian process": {"surrogate": "gp"},
        "bayesian, TPE": {"surrogate": "tpe"},
        "genetic": {"strategy": "genetic"},
    }.items():
        started = time.process_time()
        search = MultiTaskSearchCV(model, space, **settings, **given).fit(X, Y)
        seconds[name] = (time.process_time() - started) / N_TRIALS
        histories[name] = _history(search)
    target = histories["random"][-1]
    return [
        {"part": part, "seed": seed, "model": name, "best": history[-1], "at half": history[N_TRIALS // 2 - 1],
         "random's best": target, "trials to random's best": _reached(history, target), "seconds": seconds[name]}
        for name, history in histories.items()
    ]  # fmt: skip


def _planted(seed: int) -> list[dict[str, Any]]:
    return _compare("planted", Planted(TASKS), SPACE, *_data(seed), seed)


def _trees(seed: int) -> list[dict[str, Any]]:
    """Two tasks of 1,500 rows, one of them with a third of its labels."""
    rng = np.random.default_rng([seed, 5])
    X = rng.normal(size=(1500, 8))
    signal_ = X[:, 0] + X[:, 1] * X[:, 2] + 0.5 * np.sin(3 * X[:, 3])
    Y = pd.DataFrame({"buy": (signal_ + rng.normal(size=1500) > 1) * 1.0, "spend": signal_ + rng.normal(size=1500)})
    Y.loc[rng.random(1500) < 2 / 3, "buy"] = np.nan
    learner = LightGBMLearner(max_iter=60)
    model = PerTaskModel({"buy": "binary", "spend": "regression"}, learner=learner, early_stopping=False)
    return _compare("trees", model.set_params(random_state=seed), TREES, X, Y, seed)


def _fronts(seed: int) -> list[dict[str, Any]]:
    """A front against weighted sums of the scores, each side with the same number of candidates in all.

    The front of this problem bends inwards, so that sums of scores see its ends only.
    """
    centres = np.array([[-0.6, -0.6, 0, 0, 0], [0.6, 0.6, 0, 0, 0]])
    model = Planted(TASKS, centres=centres, widths=np.full(5, 0.7))
    space = {"a": uniform(-1.5, 3), "b": uniform(-1.5, 3)}
    X, Y = _data(seed)
    settings: dict[str, Any] = {"cv": 3, "pruning": False, "refit": False, "random_state": seed}
    weights = np.linspace(0, 1, 5)
    each = N_TRIALS // len(weights)
    sums = []
    for w in weights:
        found = MultiTaskSearchCV(model, space, objective={"y0": w, "y1": 1 - w}, n_trials=each, **settings).fit(X, Y)
        sums.append([found.cv_results_[f"mean_test_score_{task}"][found.best_index_] for task in TASKS])
    rows = []
    for name, given in {
        "Gaussian process": {"surrogate": "gp"},
        "TPE": {"surrogate": "tpe"},
        "NSGA-II": {"strategy": "genetic"},
    }.items():
        found = MultiTaskSearchCV(model, space, objective="pareto", n_trials=N_TRIALS, **settings, **given).fit(X, Y)
        front = found.pareto_front_[list(TASKS)].to_numpy()
        rows.append(
            {"part": "fronts", "seed": seed, "model": name, "points": len(front),
             "sums beaten": _share_beaten(np.array(sums), front), "front beaten": _share_beaten(front, np.array(sums)),
             "sums reached": _share_reached(np.array(sums), front),
             "volume": _volume(front), "volume of sums": _volume(np.array(sums))}
        )  # fmt: skip
    return rows


def _share_beaten(points: np.ndarray, by: np.ndarray) -> float:
    """Share of the points for which another is at least as good in all tasks and better in one."""
    better = (by[None] >= points[:, None]).all(axis=2) & (by[None] > points[:, None]).any(axis=2)
    return float(better.any(axis=1).mean())


def _share_reached(points: np.ndarray, by: np.ndarray) -> float:
    """Share of the points that another comes within a hundredth of in all tasks: who is best at one can't be beaten."""
    return float((by[None] >= points[:, None] - 0.01).all(axis=2).any(axis=1).mean())


def _volume(points: np.ndarray) -> float:
    """The area that the points dominate within the unit square."""
    area, height = 0.0, 0.0
    for x, y in sorted(map(tuple, np.clip(points, 0, 1)), reverse=True):
        area += x * max(y - height, 0.0)
        height = max(height, y)
    return area


SCRIPT = """
from benchmarks.search import Planted, SPACE, TASKS, _data
from mtl_classic import MultiTaskSearchCV
X, Y = _data(0)
MultiTaskSearchCV(Planted(TASKS, wait=0.05), SPACE, n_trials=20, cv=2, storage={path!r}, random_state=0).fit(X, Y)
"""


def _killed() -> dict[str, Any]:
    """A search is killed five times, then fitted to its end."""
    import optuna

    X, Y = _data(0)
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "search.db")
        finished = []
        for k in range(5):
            process = subprocess.Popen([sys.executable, "-c", SCRIPT.format(path=path)])
            while process.poll() is None and _n_finished(path) < 3 * (k + 1):
                time.sleep(0.02)
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            finished.append(_n_finished(path))
        found = MultiTaskSearchCV(
            Planted(TASKS, wait=0.05), SPACE, n_trials=20, cv=2, storage=path, random_state=0
        ).fit(X, Y)
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        trials = optuna.load_study(study_name=None, storage=f"sqlite:///{path}").trials
    begun = sum("outcome" not in trial.user_attrs for trial in trials)
    return {"part": "killed", "seed": 0, "finished at each kill": finished,
            "candidates in the end": len(found.cv_results_["params"]), "begun in vain": begun}  # fmt: skip


def _n_finished(path: str) -> int:
    import sqlite3

    if not Path(path).exists():
        return 0
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)
    try:
        query = "SELECT COUNT(*) FROM trial_user_attributes WHERE key = 'outcome'"
        return int(connection.execute(query).fetchone()[0])
    except sqlite3.OperationalError:  # the tables are not there yet
        return 0
    finally:
        connection.close()


def _markdown(frame: pd.DataFrame) -> str:
    lines = ["# Search", "", f"Medians of {frame['seed'].nunique()} seeds; {N_TRIALS} candidates each, three folds."]
    for part, title in (("planted", "A planted problem of five settings"), ("trees", "LightGBM, five settings")):
        lines += ["", f"## {title}", ""]
        lines += ["| search | best score | after half | candidates to random's best | CPU seconds a candidate |"]
        lines += ["|---|---|---|---|---|"]
        for name, group in frame[frame["part"] == part].groupby("model", sort=False):
            reached = group["trials to random's best"]
            lines.append(
                f"| {name} | {group['best'].median():.4f} | {group['at half'].median():.4f} | {reached.median():.0f} "
                f"({reached.min():.0f}–{reached.max():.0f}) | {group['seconds'].median():.2f} |"
            )
    lines += ["", "## Fronts against the bests of five weighted sums, the same candidates in all", ""]
    lines += ["| search | points | sums beaten | sums reached within .01 | points beaten | area | of the sums |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for name, group in frame[frame["part"] == "fronts"].groupby("model", sort=False):
        middle = group[["points", "sums beaten", "sums reached", "front beaten", "volume", "volume of sums"]].median()
        lines.append(
            f"| {name} | {middle['points']:.0f} | {middle['sums beaten']:.0%} | {middle['sums reached']:.0%} | "
            f"{middle['front beaten']:.0%} | {middle['volume']:.3f} | {middle['volume of sums']:.3f} |"
        )
    killed = frame[frame["part"] == "killed"].iloc[0]
    lines += ["", "## Killed five times", ""]
    lines.append(
        f"Finished at each kill: {', '.join(map(str, killed['finished at each kill']))}; in the end "
        f"{killed['candidates in the end']:.0f} candidates; {killed['begun in vain']:.0f} were begun and judged again."
    )
    return "\n".join(lines)
