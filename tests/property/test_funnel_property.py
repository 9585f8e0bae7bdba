"""What holds for any labels: a child is never more probable than its parent, and the order of tasks says nothing."""

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtl_classic import AveragingEnsemble, ConstantTaskWarning, FunnelModel, LightGBMLearner, PerTaskModel, Task

N = 80
SMALL = LightGBMLearner(max_iter=5, min_data_in_leaf=2, min_sum_hessian_in_leaf=1e-3)
TASKS = [
    Task("a", "binary"),
    Task("b", "binary", given="a"),
    Task("c", "binary", given="b"),
    Task("d", "binary", given="a"),
    Task("amount", "regression", given="c"),
]
STRUCTURES: dict[str, Any] = {
    **{mode: FunnelModel(mode=mode) for mode in ("product", "direct", "average", "auto")},
    "mixed": FunnelModel(mode={"b": "direct", "c": "average"}),
    "per task": PerTaskModel(),
    "average of two": AveragingEnsemble([("p", FunnelModel()), ("d", PerTaskModel())]),
}


def labels_of(seed: int, rates: list[float], missing: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(seed)
    X = pd.DataFrame(rng.normal(size=(N, 2)), columns=["x", "z"])
    a, b, c, d = (rng.random((4, N)) < np.array(rates)[:, None]).astype(float)
    Y = pd.DataFrame({"a": a, "b": a * b, "c": a * b * c, "d": a * d})
    Y["amount"] = Y["c"] * rng.normal(size=N)
    hidden = rng.random(Y.shape) < missing
    hidden[:6] = False
    return X, Y.mask(hidden)


def fit(structure: Any, tasks: list[Task], X: pd.DataFrame, Y: pd.DataFrame) -> Any:
    given_to_all = {"tasks": tasks, "learner": SMALL, "random_state": 0}
    model = structure.__class__(**structure.get_params(deep=False))
    if isinstance(model, AveragingEnsemble):
        members = [(name, member.__class__(**member.get_params(deep=False))) for name, member in model.estimators]
        for _, member in members:
            member.set_params(**given_to_all)
        model.estimators = members
    else:
        model.set_params(**given_to_all)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConstantTaskWarning)
        return model.fit(X, Y)


@pytest.mark.parametrize("name", list(STRUCTURES))
@given(
    seed=st.integers(0, 10_000),
    rates=st.lists(st.floats(0.05, 0.95), min_size=4, max_size=4),
    missing=st.sampled_from([0.0, 0.4]),
)
def test_a_child_is_never_more_probable_than_its_parent(
    name: str, seed: int, rates: list[float], missing: float
) -> None:
    X, Y = labels_of(seed, rates, missing)
    scores = fit(STRUCTURES[name], TASKS, X, Y).predict_scores(X)
    for task in TASKS:
        if task.parent is not None and task.kind == "binary":
            assert (scores[task.name] <= scores[task.parent]).all()
    assert scores[["a", "b", "c", "d"]].to_numpy().min() >= 0
    assert np.isfinite(scores.to_numpy()).all()


@pytest.mark.parametrize("name", list(STRUCTURES))
@settings(max_examples=10)
@given(order=st.permutations(range(5)), columns=st.permutations(range(5)))
def test_neither_the_order_of_tasks_nor_that_of_columns_changes_anything(
    name: str, order: list[int], columns: list[int]
) -> None:
    X, Y = labels_of(1, [0.6, 0.6, 0.5, 0.5], 0.2)
    wanted = fit(STRUCTURES[name], TASKS, X, Y).predict_scores(X)
    found = fit(STRUCTURES[name], [TASKS[j] for j in order], X, Y.iloc[:, columns]).predict_scores(X)
    assert list(found) == [TASKS[j].name for j in order]
    pd.testing.assert_frame_equal(found[wanted.columns], wanted, check_exact=True)
