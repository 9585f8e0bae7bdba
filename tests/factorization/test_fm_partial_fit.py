"""Factorization machines that go on from what they know: nothing is half done, first rows decide nothing for good."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from mtl_classic.factorization import FactorizationMachineClassifier, FactorizationMachineRegressor

SETTINGS: dict[str, Any] = {"n_factors": 8, "max_iter": 2, "random_state": 0}


@pytest.fixture(name="X")
def make_rows() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame({"user": rng.integers(0, 20, 300), "item": rng.integers(0, 15, 300), "price": rng.random(300)})


def labels(n: int = 300) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 2, n)


@pytest.mark.parametrize("solver", ["adagrad", "gibbs"])
def test_a_fit_that_fails_changes_nothing(X, solver: str) -> None:
    y = labels().astype(float)
    model = FactorizationMachineRegressor(categorical=["user", "item"], solver=solver, **SETTINGS).fit(X, y)
    before, state = model.predict(X), set(vars(model))
    for bad in (
        lambda: model.fit(X.rename(columns={"user": "shop"}), y),
        lambda: model.fit(X, y, sample_weight=-y),
        lambda: model.fit(X, y[:-1]),
    ):
        with pytest.raises(ValueError, match=r"There is no|no such column|Negative values|inconsistent"):
            bad()
        assert set(vars(model)) == state
        np.testing.assert_array_equal(model.predict(X), before)


@pytest.mark.parametrize("warm_start", [False, True])
def test_rows_that_fail_leave_no_columns_without_parameters(X, warm_start: bool) -> None:
    y, new = labels(), X.assign(user=X["user"] + 1000)
    model = FactorizationMachineClassifier(categorical=["user", "item"], warm_start=warm_start, **SETTINGS).fit(X, y)
    more = model.fit if warm_start else model.partial_fit
    unseen = model.decision_function(new)
    for bad in (
        lambda: more(new, y[:-1]),
        lambda: more(new, y, sample_weight=-np.ones(300)),
        lambda: more(new.assign(price="dear"), y),
    ):
        with pytest.raises((ValueError, TypeError), match=r"inconsistent|Negative values|held numbers"):
            bad()
        np.testing.assert_array_equal(model.decision_function(new), unseen)


def test_a_pass_that_diverges_or_is_interrupted_is_none(X, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers, y = X[["price"]].to_numpy(), labels().astype(float)
    model = FactorizationMachineRegressor(scale=False, **SETTINGS).fit(numbers, y)
    before = model.predict(numbers)
    with pytest.raises(ValueError, match="diverged"):
        model.partial_fit(numbers * 1e20, y)
    np.testing.assert_array_equal(model.predict(numbers), before)

    def interrupted(*after_the_pass: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mtl_classic.factorization._descent.refuse_divergence", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.partial_fit(numbers, y)
    np.testing.assert_array_equal(model.predict(numbers), before)


@pytest.mark.parametrize("change", [{"solver": "ftrl"}, {"loss": "poisson"}, {"n_factors": 4}])
def test_what_the_state_depends_on_cannot_change(X, change: dict) -> None:
    y = labels()
    model = FactorizationMachineRegressor(categorical=["user", "item"], solver="adam", **SETTINGS).fit(X, y)
    with pytest.raises(ValueError, match="cannot change between fits"):
        model.set_params(**change).partial_fit(X, y)


@pytest.mark.parametrize("first", [[0] * 10, [1]])
def test_the_first_rows_may_be_of_one_class(first: list[int]) -> None:
    rng = np.random.default_rng(0)
    X, y = np.eye(20)[rng.integers(0, 20, 5000)], (rng.random(5000) < 0.3).astype(int)
    model = FactorizationMachineClassifier(n_factors=8, random_state=0)
    model.partial_fit(X[: len(first)], first, classes=[0, 1])
    for start in range(0, 5000, 500):
        model.partial_fit(X[start : start + 500], y[start : start + 500])
    assert abs(model.predict_proba(X)[:, 1].mean() - 0.3) < 0.05


@pytest.mark.parametrize("number", [0.1, 5.0])
def test_the_first_rows_may_have_one_number(number: float) -> None:
    X = np.eye(4)[np.arange(100) % 4]  # the mean of a hundred times 0.1 is not 0.1, by a bit
    model = FactorizationMachineRegressor(random_state=0).partial_fit(X, np.full(100, number))
    assert model.target_scale_ == 1
    for _ in range(5):
        model.partial_fit(X, number + X[:, 1])
    assert model.predict(np.eye(4)).argmax() == 1


def test_classes_may_come_later() -> None:
    rng = np.random.default_rng(0)
    X, y = np.eye(20)[rng.integers(0, 20, 5000)], rng.integers(0, 3, 5000)
    model = FactorizationMachineClassifier(n_factors=8, random_state=0)
    model.partial_fit(X[:10], np.zeros(10, int), classes=[0, 1, 2])
    for start in range(0, 5000, 500):
        model.partial_fit(X[start : start + 500], y[start : start + 500])
    np.testing.assert_allclose(model.predict_proba(X).mean(axis=0), 1 / 3, atol=0.05)


def test_later_counts_may_all_be_zero() -> None:
    X = np.eye(5)[np.arange(50) % 5]
    model = FactorizationMachineRegressor(loss="poisson", random_state=0).partial_fit(X, np.arange(50) % 3)
    before = model.predict(X)
    assert (model.partial_fit(X, np.zeros(50)).predict(X) < before).all()
    with pytest.raises(ValueError, match="needs counts"):
        FactorizationMachineRegressor(loss="poisson").partial_fit(X, np.zeros(50))
