"""The multi-task factorization machine goes on from what it knows."""

import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from mtl_classic import LabelError, Task, TaskError, load_model, save_model
from mtl_classic._core.exceptions import ConstantTaskWarning, FallbackWarning, UnlabelledTaskError
from mtl_classic.factorization import (
    FactorizationMachineClassifier,
    FactorizationMachineRegressor,
    MultiTaskFactorizationMachine,
)

N = 2000
IDS = ["user", "item"]
TASKS = {"click": "binary", "stars": "regression", "visits": "count", "mood": "multiclass"}
SETTINGS: dict[str, Any] = {"n_factors": 8, "init_scale": 0.1, "max_iter": 3, "random_state": 0}


@pytest.fixture(scope="module", name="X")
def make_rows() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame({"user": rng.integers(0, 40, N), "item": rng.integers(0, 30, N), "price": rng.random(N)})


@pytest.fixture(scope="module", name="Y")
def make_labels(X) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    score = rng.normal(size=40)[X["user"]] + rng.normal(size=30)[X["item"]]
    Y = pd.DataFrame(
        {
            "click": (score + rng.logistic(size=N) > 0) * 1.0,
            "stars": 30 + 5 * score + rng.normal(size=N),
            "visits": rng.poisson(np.exp(0.5 * score)) * 1.0,
            "mood": np.array(["bad", "good", "so so"], dtype=object)[np.digitize(score, [-1, 1])],
        }
    )
    return Y.mask(rng.random(Y.shape) < 0.3)


def machine(tasks: Any = TASKS, **changes: Any) -> MultiTaskFactorizationMachine:
    return MultiTaskFactorizationMachine(tasks, categorical=IDS, **(SETTINGS | changes))


def fit_quietly(model: MultiTaskFactorizationMachine, *args: Any, **kwargs: Any) -> MultiTaskFactorizationMachine:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FallbackWarning)
        return model.fit(*args, **kwargs)


SINGLE = {"click": (FactorizationMachineClassifier, {}), "stars": (FactorizationMachineRegressor, {})}
SINGLE["visits"] = (FactorizationMachineRegressor, {"loss": "poisson"})


@pytest.mark.parametrize("task", SINGLE)
@pytest.mark.parametrize("first", ["fit", "partial_fit"])
def test_one_task_is_the_machine_of_one_task(X, Y, task: str, first: str) -> None:
    kind, options = SINGLE[task]
    alone = kind(categorical=IDS, early_stopping=False, **(SETTINGS | options))
    joint = machine({task: TASKS[task]}, early_stopping=False)
    weights = np.random.default_rng(2).random(N) + 0.5
    labelled = Y[task].notna().to_numpy()
    parts = [np.arange(N) < 800, (np.arange(N) >= 700) & (np.arange(N) < 1500), np.arange(N) >= 1500]
    rows = X.assign(user=np.where(parts[1], X["user"] + 20, X["user"]))  # new ones come
    for k, part in enumerate(parts):
        name = first if k == 0 else "partial_fit"
        known = part & labelled
        kept = known if k == 0 else part  # the encoder and the order of a first fit are those of all rows
        getattr(alone, name)(rows[known], Y.loc[known, task].astype(float), sample_weight=weights[known])
        getattr(joint, name)(rows[kept], Y.loc[kept, [task]], sample_weight=weights[kept])
    ours = joint.predict_scores(X)[task]
    theirs = alone.predict_proba(X)[:, 1] if task == "click" else alone.predict(X)
    assert ours.std() > 0.05 * abs(ours.mean())
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)


@pytest.mark.parametrize("private", [0, 8])
def test_passes_after_a_fit_are_those_that_the_fit_would_have_made(X, Y, private: int) -> None:
    settings = {"early_stopping": False, "n_private": private, "solver": "sgd"}
    model = machine(**settings, max_iter=1).fit(X, Y)
    before = model.predict_scores(X)
    losses = [1 - model.score(X, Y)]
    for _ in range(5):
        model.partial_fit(X, Y)
        losses.append(1 - model.score(X, Y))
    assert (np.diff(losses) < 0).all()
    longer = machine(**settings, max_iter=6).fit(X, Y)
    assert abs(longer.score(X, Y) - model.score(X, Y)) < 0.02  # the rows in another order
    assert (model.predict_scores(X) - before).abs().max().min() > 0.01


def test_unlabelled_tasks_and_rows_move_nothing(X, Y) -> None:
    def passed(labels: pd.DataFrame, rows: pd.DataFrame, **given: Any) -> MultiTaskFactorizationMachine:
        model = machine(solver="adam", n_private=8).partial_fit(X[:1000], Y[:1000])
        return model.partial_fit(rows, labels, **given)

    start = machine(solver="adam", n_private=8).partial_fit(X[:1000], Y[:1000]).predict_scores(X)
    assert passed(Y[1000:].mask(Y[1000:].notna()), X[1000:]).predict_scores(X).equals(start)
    only = Y[1000:].assign(click=np.nan, visits=np.nan, mood=None)
    model = passed(only, X[1000:])
    assert model.predict_scores(X)["stars"].sub(start["stars"]).abs().max() > 1e-3
    weights = np.tile([0.0, 1.0, 0.0, 0.0], (1000, 1))
    assert passed(Y[1000:], X[1000:], sample_weight=weights).predict_scores(X).equals(model.predict_scores(X))
    labelled = only["stars"].notna().to_numpy()
    assert passed(only[labelled], X[1000:][labelled]).predict_scores(X).equals(model.predict_scores(X))


def test_every_machine_moves(X, Y) -> None:
    rng = np.random.default_rng(5)
    labels = Y.assign(stars=rng.normal(size=(40, 30))[X["user"], X["item"]])
    model = machine(task_weights={"stars": 1e-4}, fallback_level=0.01, max_iter=8)
    fit_quietly(model, X, labels)
    assert "stars" in model.fallbacks_
    keep, best = dict(model.fallbacks_), dict(model.best_iter_)
    before = model.predict_scores(X)
    model.partial_fit(X[:500], labels[:500])
    assert (model.fallbacks_, model.best_iter_) == (keep, best)
    assert ((model.predict_scores(X) - before).abs().max() > 1e-4).all()
    assert model.validation_losses_.empty
    assert list(model.validation_losses_) == list(TASKS)
    anchor = max(SINGLE, key=lambda name: labels[name].notna().sum())
    assert model.interaction_weights_[anchor].tolist() == [1.0] * 8


@pytest.mark.parametrize("task_weights", ["uncertainty", "dynamic", {"click": 3.0}, "cv"])
def test_task_weights(X, Y, task_weights: Any) -> None:
    if task_weights == "cv":
        with pytest.raises(ValueError, match="call fit before partial_fit"):
            machine(task_weights="cv").partial_fit(X, Y)
        return
    model = machine(task_weights=task_weights)
    for _ in range(4):
        model.partial_fit(X, Y)
    assert model.score(X, Y) > machine(task_weights=task_weights).partial_fit(X, Y).score(X, Y) > 0


def test_classes_come_later(X, Y) -> None:
    tasks = [Task("answer", "binary", positive="no"), Task("mood", "multiclass")]
    labels = pd.DataFrame({"answer": np.where(Y["click"] > 0, "no", "yes"), "mood": Y["mood"]})
    moods = ["so so", "bad", "good"]
    first = X[:10], labels[:10].assign(answer="yes", mood="bad")
    model = machine(tasks).partial_fit(*first, classes={"answer": ["yes", "no"], "mood": moods})
    assert model.classes_map_["answer"].tolist() == ["yes", "no"]
    assert model.classes_map_["mood"].tolist() == sorted(moods)
    for _ in range(3):
        model.partial_fit(X, labels, classes={"mood": moods})
    shares = [p.mean(axis=0) for p in model.predict_proba(X)]
    np.testing.assert_allclose(shares[0][1], (labels["answer"] == "no").mean(), atol=0.1)
    np.testing.assert_allclose(shares[1], labels["mood"].value_counts(normalize=True).loc[sorted(moods)], atol=0.1)
    with pytest.raises(ValueError, match="not the same as on the last call"):
        model.partial_fit(X, labels, classes={"mood": [*moods, "odd"]})
    before = model.predict_scores(X)
    new = X.assign(user=X["user"] + 1000)
    unseen = model.predict_scores(new)
    for bad, message in (
        (labels.assign(mood="odd"), "not announced"),
        (labels.assign(answer="perhaps"), "at fit its labels were"),
        (labels[:-1], "X has 2000 rows, but Y has 1999"),
    ):
        with pytest.raises((LabelError, ValueError), match=message):
            model.partial_fit(new, bad)
        assert model.predict_scores(X).equals(before)
        assert model.predict_scores(new).equals(unseen)


def test_announced_classes_need_no_label_yet(X, Y) -> None:
    few = Y[:50].assign(mood=None)
    with pytest.raises(UnlabelledTaskError, match="'mood' has no label"):
        machine().partial_fit(X[:50], few)
    model = machine().partial_fit(X[:50], few, classes={"mood": ["bad", "good", "so so"]})
    np.testing.assert_allclose(model.predict_scores(X).filter(like="mood"), 1 / 3, atol=0.05)
    with pytest.raises(UnlabelledTaskError, match="'stars' has no label in the first 50 rows"):
        machine().partial_fit(X[:50], Y[:50], sample_weight=np.tile([1.0, 0, 1, 1], (50, 1)))
    with pytest.raises(TaskError, match="names 'stars'"):
        machine().partial_fit(X, Y, classes={"stars": [1, 2]})
    with pytest.raises(TypeError, match="dict task -> labels"):
        machine().partial_fit(X, Y, classes=[0, 1])
    single = machine({"click": "binary"}).partial_fit(X[:1], [1], classes=[0, 1]).partial_fit(X[1:3], [0, 1])
    assert single.classes_.tolist() == [0, 1]
    assert single.predict(X).shape == (N,)


def test_constants_of_a_fit_stay(X, Y) -> None:
    labels = Y.assign(visits=2.0)
    with pytest.warns(ConstantTaskWarning):
        model = fit_quietly(machine(), X, labels)
    model.partial_fit(X[:500], labels[:500])
    assert (model.predict_scores(X)["visits"] == 2).all()
    with pytest.raises(LabelError, match="'visits' were all the same at fit"):
        model.partial_fit(X, Y)
    one = machine({"visits": "count"}).partial_fit(X, labels["visits"])  # first rows are no fit
    assert one.partial_fit(X, Y["visits"]).predict(X).std() > 0


def test_what_the_state_depends_on_cannot_change(X, Y) -> None:
    model = machine(solver="adam").partial_fit(X, Y)
    for change in ({"solver": "ftrl"}, {"n_factors": 16}, {"n_private": 8}, {"shared_linear": False}):
        with pytest.raises(ValueError, match="cannot change between fits"):
            machine(solver="adam").partial_fit(X, Y).set_params(**change).partial_fit(X, Y)
    with pytest.raises(AttributeError, match="partial_fit"):
        machine(solver="als").partial_fit(X, Y)
    with pytest.raises(ValueError, match="0 sample"):
        model.partial_fit(X[:0], Y[:0])
    with pytest.raises(ValueError, match="lacks columns"):
        model.partial_fit(X[["user"]], Y)


@pytest.mark.parametrize("form", ["csr", "array"])
def test_rows_of_any_form(X, Y, form: str) -> None:
    rows = np.column_stack([np.eye(40)[X["user"]], np.eye(30)[X["item"]]])
    matrix = sparse.csr_matrix(rows) if form == "csr" else rows
    model = MultiTaskFactorizationMachine(TASKS, **SETTINGS).partial_fit(matrix, Y)
    assert model.partial_fit(matrix, Y.to_numpy(dtype=object)).score(matrix, Y) > 0
    with pytest.raises(ValueError, match="features"):
        model.partial_fit(matrix[:, :-1], Y)


def test_copies_files_and_seeds(X, Y, tmp_path: Path) -> None:
    model = machine().partial_fit(X[:1000], Y[:1000])
    save_model(model, tmp_path / "model.zip")
    copies = [pickle.loads(pickle.dumps(model)), load_model(tmp_path / "model.zip")]
    expected = model.partial_fit(X[1000:], Y[1000:]).predict_scores(X)
    for copy in copies:
        assert copy.partial_fit(X[1000:], Y[1000:]).predict_scores(X).equals(expected)
