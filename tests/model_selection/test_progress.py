"""Progress told to scikit-learn's callbacks: every task that begins ends, whatever runs it; nothing else changes."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.callback import ProgressBar
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mtl_classic import (
    AveragingEnsemble,
    BaggingEnsemble,
    BoostingEnsemble,
    CalibratedModel,
    ConformalModel,
    MultiTaskSearchCV,
    PerTaskModel,
    StackingEnsemble,
    load_model,
    save_model,
)

X = np.random.default_rng(0).normal(size=(200, 3))
Y = np.c_[X[:, 0] > 0, X[:, 1] > 0]
NUMBERS = X[:, :2] + np.random.default_rng(1).normal(size=(200, 2))
LINEAR = PerTaskModel(learner=LogisticRegression())
PLAIN = PerTaskModel(learner="linear")
PAIR = [("one", LINEAR), ("other", PerTaskModel(learner=LogisticRegression(C=0.1)))]
SPACE = {"learner__C": [0.1, 1.0, 10.0]}


class Recorder:
    """Writes to a file what it is told: it may be told in other processes. Reaches estimators inside others."""

    max_propagation_depth = None

    def __init__(self, path: Path) -> None:
        self.path = path

    def setup(self, estimator: Any, context: Any) -> None:
        self._write("setup", estimator, context)

    def teardown(self, estimator: Any, context: Any) -> None:
        self._write("teardown", estimator, context)

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        self._write("begin", estimator, context)

    def on_fit_task_end(self, estimator: Any, context: Any) -> None:
        self._write("end", estimator, context)

    def _write(self, what: str, estimator: Any, context: Any) -> None:
        way, here = [], context
        while here is not None:
            way.append(f"{here.task_name} {here.task_id}")
            here = here.parent
        with self.path.open("a") as file:
            file.write(f"{what}: {' < '.join(way)} ({type(estimator).__name__})\n")

    def told(self) -> Counter[str]:
        """What was told, and how often."""
        return Counter(self.path.read_text().splitlines())

    def count(self, what: str, text: str) -> int:
        return sum(n for line, n in self.told().items() if line.startswith(f"{what}: ") and text in line)


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    return Recorder(tmp_path / "told.txt")


def check_pairs(recorder: Recorder) -> None:
    """Every task begins once and ends once."""
    told = recorder.told()
    assert set(told.values()) == {1}
    for first, last in (("begin: ", "end: "), ("setup: ", "teardown: ")):
        begun = sorted(line.removeprefix(first) for line in told if line.startswith(first))
        assert begun == sorted(line.removeprefix(last) for line in told if line.startswith(last))
    assert recorder.count("setup", "") == 1


@pytest.mark.parametrize(
    ("model", "labels", "steps"),
    [
        (AveragingEnsemble(PAIR), Y, {"refit": 2}),
        (AveragingEnsemble(PAIR, weights="optimize", cv=3), Y, {"cross-fit": 6}),
        (StackingEnsemble(PAIR, cv=3, fallback=False), Y, {"cross-fit": 6, "refit": 2}),
        (BaggingEnsemble(LINEAR, n_estimators=4), Y, {"bags": 4}),
        (BoostingEnsemble([("a", PLAIN), ("b", PLAIN)], cv=2), NUMBERS, {"cross-fit": 4}),
        (CalibratedModel(LINEAR, cv=2), Y, {"cross-fit": 2, "refit": 1}),
        (ConformalModel(PLAIN, cv=2), NUMBERS, {"cross-fit": 2, "refit": 1}),
        (ConformalModel(PLAIN, method="split"), NUMBERS, {"cross-fit": 1}),
        (MultiTaskSearchCV(LINEAR, SPACE, cv=2, strategy="grid"), Y, {"search": 6, "refit": 1}),
    ],
    ids=lambda value: type(value).__name__ if hasattr(value, "fit") else "",
)
def test_every_fit_is_told(model: Any, labels: Any, steps: dict[str, int], recorder: Recorder) -> None:
    if "random_state" in model.get_params(deep=False):
        model.set_params(random_state=0)
    alone = model.fit(X, labels).predict_scores(X)
    assert not recorder.path.exists()
    model.set_callbacks(recorder).fit(X, labels)
    check_pairs(recorder)
    for part, n in steps.items():
        assert recorder.count("end", f" < {part} ") == n
    np.testing.assert_array_equal(model.predict_scores(X), alone)


def test_a_fit_on_several_threads_tells_the_same(recorder: Recorder, tmp_path: Path) -> None:
    model = AveragingEnsemble(PAIR, weights="greedy", cv=2, random_state=0, n_jobs=1).set_callbacks(recorder)
    model.fit(X, Y)
    other = Recorder(tmp_path / "other.txt")
    model.set_params(n_jobs=2).set_callbacks(other).fit(X, Y)
    assert other.told() == recorder.told()


def test_steps_kept_in_a_cache_are_told_too(recorder: Recorder, tmp_path: Path) -> None:
    inner = AveragingEnsemble(PAIR, weights="greedy", cv=2, random_state=0)
    model = StackingEnsemble([("a", inner), *PAIR], cv=2, memory=str(tmp_path / "kept"), fallback=False, random_state=0)
    first = model.fit(X, Y).predict_scores(X)
    model.set_callbacks(recorder).fit(X, Y)  # nothing is fitted: callbacks are no part of what is kept
    check_pairs(recorder)
    assert recorder.count("end", " < cross-fit ") == 6
    assert recorder.count("end", "AveragingEnsemble") == 0
    np.testing.assert_array_equal(model.predict_scores(X), first)


def test_ensembles_inside_others_tell_of_their_own_steps(recorder: Recorder) -> None:
    inner = AveragingEnsemble(PAIR, weights="greedy", cv=2, random_state=0)
    CalibratedModel(inner).set_callbacks(recorder).fit(X, Y)
    check_pairs(recorder)
    assert recorder.count("end", "< cross-fit 0 < fit 0 < refit 0 < fit 0 (AveragingEnsemble)") == 4


def test_a_pipeline_hands_its_callbacks_on(recorder: Recorder) -> None:
    pipe = make_pipeline(StandardScaler(), AveragingEnsemble(PAIR, weights="greedy", cv=2, random_state=0))
    pipe.set_callbacks(recorder).fit(X, Y)
    assert recorder.count("end", " < cross-fit ") == 4


def test_a_search_tells_of_the_candidates_that_are_left(recorder: Recorder, tmp_path: Path) -> None:
    settings = {"cv": 2, "storage": str(tmp_path / "search.db"), "random_state": 0, "strategy": "grid"}
    MultiTaskSearchCV(LINEAR, SPACE, n_trials=2, **settings).fit(X, Y)
    search = MultiTaskSearchCV(LINEAR, SPACE, n_trials=3, **settings).set_callbacks(recorder).fit(X, Y)
    check_pairs(recorder)
    assert recorder.count("end", "candidate and fold") == 2
    assert len(search.cv_results_["params"]) == 3


def test_a_failed_fit_is_torn_down(recorder: Recorder) -> None:
    with pytest.raises(ValueError, match="no such"):
        AveragingEnsemble([("one", PerTaskModel(learner="no such"))]).set_callbacks(recorder).fit(X, Y)
    assert recorder.count("teardown", "") == 1
    assert recorder.count("end", "") == 0


def test_callbacks_are_not_saved(recorder: Recorder, tmp_path: Path) -> None:
    model = AveragingEnsemble([("one", PLAIN)]).set_callbacks(recorder).fit(X, Y)
    save_model(model, tmp_path / "model.zip")
    assert not hasattr(load_model(tmp_path / "model.zip"), "_skl_callbacks")


def test_a_bar_is_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("rich")
    AveragingEnsemble(PAIR, weights="greedy", cv=2, n_jobs=1).set_callbacks(ProgressBar()).fit(X, Y)
    assert "AveragingEnsemble - cross-fit" in capsys.readouterr().out
