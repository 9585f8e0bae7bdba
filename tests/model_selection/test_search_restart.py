"""A search that is stopped, or killed, and started again loses nothing that had finished."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn.exceptions import FitFailedWarning

from mtl_classic import MultiTaskSearchCV, multitask_scorer
from mtl_classic.model_selection._search_study import _opened
from tests.model_selection.planted import TASKS, Planted, X, Y

SPACE = {"a": stats.uniform(-2, 4), "b": stats.uniform(-2, 4)}
STRATEGIES: list[dict[str, Any]] = [
    {"strategy": "random"},
    {"surrogate": "tpe"},
    {"surrogate": "gp"},
    {"strategy": "genetic"},
    {"surrogate": "gp", "objective": "pareto"},
]


class Stopping(Planted):
    """Is interrupted in the fit after the tenth that the log has seen."""

    def fit(self, X: Any, Y: Any, **settings: Any) -> Planted:
        if self.log is not None and Path(self.log).exists() and len(Path(self.log).read_text().split("\n")) > 10:
            raise KeyboardInterrupt
        return super().fit(X, Y, **settings)


def search(tmp_path: Path, model: Any, **settings: Any) -> MultiTaskSearchCV:
    given = {"n_trials": 12, "cv": 2, "random_state": 0, "storage": str(tmp_path / "search.db")} | settings
    return MultiTaskSearchCV(model, SPACE, **given)


def n_fits(log: Path) -> int:
    return log.read_text().count("\n")


@pytest.mark.parametrize("settings", STRATEGIES, ids=lambda s: "-".join(s.values()))
def test_a_stopped_search_goes_on(tmp_path: Path, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "log"
    model = Stopping(TASKS, log=str(log))
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path, model, pruning=False, **settings).fit(X, Y)
    assert n_fits(log) == 10
    before = log.read_text()
    log.write_text("")
    monkeypatch.setattr(Stopping, "fit", Planted.fit)
    found = search(tmp_path, model, pruning=False, **settings).fit(X, Y)
    assert len(found.cv_results_["params"]) == 12
    assert n_fits(log) == 2 * (12 - 5) + 1  # five candidates had finished; one refit
    tried = {line.split()[1] for line in before.splitlines()}
    assert {str(params["a"]) for params in found.cv_results_["params"][:5]} == tried
    whole = search(tmp_path, Planted(TASKS), pruning=False, storage=None, **settings).fit(X, Y)
    if "genetic" in settings.values():  # the order in which parents are told enters their children
        return
    assert found.cv_results_["params"] == whole.cv_results_["params"]


def test_a_finished_search_is_read_and_can_be_prolonged(tmp_path: Path) -> None:
    log = tmp_path / "log"
    first = search(tmp_path, Planted(TASKS, log=str(log))).fit(X, Y)
    log.write_text("")
    again = search(tmp_path, Planted(TASKS, log=str(log))).fit(X, Y)
    assert n_fits(log) == 1
    assert again.cv_results_["params"] == first.cv_results_["params"]
    assert again.best_params_ == first.best_params_
    longer = search(tmp_path, Planted(TASKS, log=str(log)), n_trials=16, n_jobs=1).fit(X, Y)
    assert longer.cv_results_["params"][:12] == first.cv_results_["params"]
    assert len(longer.cv_results_["params"]) == 16


def test_other_searches_in_the_same_file_do_not_mix(tmp_path: Path) -> None:
    first = search(tmp_path, Planted(TASKS)).fit(X, Y)
    assert len(search(tmp_path, Planted(TASKS), n_trials=4).fit(X + 1, Y).cv_results_["params"]) == 4
    assert len(search(tmp_path, Planted(TASKS, kind="y"), n_trials=4).fit(X, Y).cv_results_["params"]) == 4
    assert len(search(tmp_path, Planted(TASKS), n_trials=4, random_state=1).fit(X, Y).cv_results_["params"]) == 4
    assert len(search(tmp_path, Planted(TASKS), n_trials=4).fit(X, Y).cv_results_["params"]) == 12
    assert first.n_splits_ == 2


def test_a_storage_makes_up_for_a_missing_seed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    for _ in range(2):
        log.write_text("")
        search(tmp_path, Planted(TASKS, log=str(log)), random_state=None).fit(X, Y)
    assert n_fits(log) == 1


def test_a_file_keeps_its_name_whatever_it_means_in_a_url(tmp_path: Path) -> None:
    for name in ("which?.db", "a%20b.db", "{x}.db"):
        with _opened(str(tmp_path / name)):
            assert (tmp_path / name).is_file()


def test_random_numbers_drawn_elsewhere_are_no_part_of_a_search(tmp_path: Path) -> None:
    log, path = tmp_path / "log", str(tmp_path / "search.db")
    for seed in (0, 1):
        log.write_text("")
        np.random.seed(seed)  # which scipy's distributions carry along
        model, space = Planted(TASKS, log=str(log)), {"a": stats.norm(0, 1)}
        MultiTaskSearchCV(model, space, n_trials=3, cv=2, random_state=0, storage=path).fit(X, Y)
    assert n_fits(log) == 1
    MultiTaskSearchCV(model, {"a": stats.norm(0, 2)}, n_trials=3, cv=2, random_state=0, storage=path).fit(X, Y)
    assert n_fits(log) == 1 + 2 * 3 + 1


SCRIPT = """
from tests.model_selection.test_search_restart import *
search(Path({path!r}), Planted(TASKS, wait=0.15, log={log!r})).fit(X, Y)
"""


def test_a_killed_search_loses_no_finished_candidate(tmp_path: Path) -> None:
    log = tmp_path / "log"
    script = SCRIPT.format(path=str(tmp_path), log=str(log))
    process = subprocess.Popen([sys.executable, "-c", script], cwd=Path(__file__).parents[2])
    try:
        while process.poll() is None and not (log.exists() and n_fits(log) >= 7):
            time.sleep(0.02)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    killed_at = n_fits(log)
    model = Planted(TASKS, wait=0.15, log=str(log))
    found = search(tmp_path, model).fit(X, Y)
    fits = n_fits(log)
    judged = sum(2 if state == "complete" else 1 for state in found.cv_results_["state"])
    assert len(found.cv_results_["params"]) == 12
    assert fits <= judged + 1 + 2  # beside each fold once and the refit, only the candidate of that moment
    assert fits > killed_at >= 7


def test_metrics_of_a_resumed_search_keep_their_columns(tmp_path: Path) -> None:
    r2, mae = multitask_scorer("r2"), multitask_scorer("mae")
    first = search(tmp_path, Planted(TASKS), metrics={"r2": r2, "mae": mae}, n_trials=3).fit(X, Y)
    turned = search(tmp_path, Planted(TASKS), metrics={"mae": mae, "r2": r2}, n_trials=3).fit(X, Y)
    for name in ("r2", "mae"):
        column = f"mean_test_score_{name}"
        assert turned.cv_results_[column].tolist() == first.cv_results_[column].tolist()
    other = search(tmp_path, Planted(TASKS), metrics={"r2": mae, "mae": mae}, n_trials=3).fit(X, Y)
    assert other.cv_results_["mean_test_score_r2"].tolist() == first.cv_results_["mean_test_score_mae"].tolist()
    log = tmp_path / "log"
    for _ in range(2):
        log.write_text("")
        unpicklable = {"one": lambda model, X, Y: 1.0}
        search(tmp_path, Planted(TASKS, log=str(log)), metrics=unpicklable, n_trials=3).fit(X, Y)
    assert n_fits(log) == 1


def test_what_had_failed_is_tried_again_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, fit = tmp_path / "log", Planted.fit

    def out_of_memory(self: Planted, X: Any, Y: Any, **settings: Any) -> Planted:
        fit(self, X, Y, **settings)
        if self.a > 0:
            raise MemoryError
        return self

    def fitted() -> MultiTaskSearchCV:
        log.write_text("")
        model, path = Planted(TASKS, log=str(log)), tmp_path / "search.db"
        return search(tmp_path, model, storage=path, strategy="random", pruning=False, refit=False).fit(X, Y)

    with monkeypatch.context() as patch:
        patch.setattr(Planted, "fit", out_of_memory)
        for _ in range(2):
            with pytest.warns(FitFailedWarning):
                first = fitted()
            n_failed = int((first.cv_results_["state"] == "failed").sum())
            assert len(first.cv_results_["state"]) == 12
    assert 0 < n_failed == n_fits(log)
    mended = fitted()
    assert (mended.cv_results_["state"] == "complete").all()
    assert n_fits(log) == 2 * n_failed
    assert {p["a"] for p in mended.cv_results_["params"]} == {p["a"] for p in first.cv_results_["params"]}
    fitted()
    assert n_fits(log) == 0
