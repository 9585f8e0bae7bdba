"""Machines that know the time of the rows: stopped by the latest, scaled by them, and taught by them."""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.special import expit

from mtl_classic.factorization import FactorizationMachineClassifier, FactorizationMachineRegressor
from mtl_classic.factorization._latest import FEWEST_ROWS, calibrate, latest_units, rescale
from mtl_classic.factorization._problem import Interactions, Parameters, Problem, Rows
from mtl_classic.metrics import log_loss


def test_the_latest_rows_are_marked_and_queries_stay_whole() -> None:
    times = np.array([3.0, 1.0, 2.0, 2.0, 0.0])
    assert np.flatnonzero(latest_units(times, np.arange(5), 2)).tolist() == [0, 3]  # of equal times the later row
    queries = np.array([0, 1, 1, 2, 0])
    assert np.flatnonzero(latest_units(times, queries, 1)).tolist() == [0]
    assert not latest_units(times, queries, 0).any()


def problem_of(targets: np.ndarray, loss: object) -> Problem:
    X = sparse.csr_matrix((len(targets), 1), dtype=np.float32)
    return Problem(X, targets.astype(np.float32), np.ones(targets.shape, dtype=np.float32), loss)


def test_scores_that_are_too_sure_are_brought_back() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(-1, 1, 40_000)
    binary = (rng.random(len(truth)) < expit(truth)).astype(float)
    shift, slope = calibrate(problem_of(binary, "log"), (truth + 0.5) / 0.7)
    assert (shift, slope) == (pytest.approx(-0.5, abs=0.05), pytest.approx(0.7, abs=0.03))
    numbers = 2 + 0.8 * truth + rng.normal(size=len(truth))
    assert calibrate(problem_of(numbers, "squared"), truth) == (
        pytest.approx(2, abs=0.05),
        pytest.approx(0.8, abs=0.03),
    )
    counts = rng.poisson(np.exp(0.3 + 0.6 * truth)).astype(float)
    assert calibrate(problem_of(counts, "poisson"), truth) == (
        pytest.approx(0.3, abs=0.05),
        pytest.approx(0.6, abs=0.05),
    )
    two = np.column_stack([1 - binary, binary])
    alone, slope = calibrate(problem_of(two, (("softmax", 2),)), np.column_stack([0 * truth, truth / 0.7]))
    assert (alone, slope) == (0.0, pytest.approx(0.7, abs=0.03))
    few = slice(FEWEST_ROWS - 1)
    assert calibrate(problem_of(binary[few], "log"), truth[few] / 0.7) == (0.0, 1.0)
    assert calibrate(problem_of(binary, "hinge"), truth / 0.7) == (0.0, 1.0)


@pytest.mark.parametrize("n_outputs", [None, 3])
def test_rescaled_parameters_have_rescaled_scores(n_outputs: int | None) -> None:
    rng = np.random.default_rng(0)
    parameters = (
        Parameters(7, 5, 2, dtype=np.float64)
        if n_outputs is None
        else Parameters(7, 0, 2, n_outputs=n_outputs, n_private=5, dtype=np.float64)
    )
    parameters.factor_slots[..., parameters.live] = rng.normal(size=(7, 2, parameters.live.sum()))
    parameters.linear_slots[..., : n_outputs or 1] = rng.normal(size=(7, 2, n_outputs or 1))
    parameters.bias_slots[:, : n_outputs or 1] = rng.normal(size=n_outputs or 1)
    rows = Rows.read(sparse.csr_matrix(rng.normal(size=(20, 7))), Interactions())
    before = parameters.scores(rows, Interactions())
    assert np.abs(before).max() > 0.5
    rescale(parameters, 0.25, 0.6)
    shift = 0.25 if n_outputs is None else 0.0  # a softmax takes no notice of one
    np.testing.assert_allclose(parameters.scores(rows, Interactions()), shift + 0.6 * before, rtol=1e-10)


def drifting(n: int, seed: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Tastes that turn slowly: what a row says holds for rows soon after it."""
    rng = np.random.default_rng(seed)
    X = pd.DataFrame({"user": rng.integers(0, 150, n), "item": rng.integers(0, 100, n), "day": np.sort(rng.random(n))})
    fixed = np.random.default_rng(0)
    U, V = fixed.normal(size=(2, 150, 3)), fixed.normal(size=(100, 3))
    angle = X["day"].to_numpy()[:, None]
    taste = np.cos(angle) * U[0][X["user"]] + np.sin(angle) * U[1][X["user"]]
    return X, (rng.random(n) < expit(1.5 * (taste * V[X["item"]]).sum(axis=1))).astype(int)


def machine(**params: object) -> FactorizationMachineClassifier:
    fixed = {"n_factors": 8, "init_scale": 0.1, "reg_factors": 0.003, "learning_rate": 0.1, "random_state": 0}
    return FactorizationMachineClassifier(**{"categorical": ["user", "item"], **fixed, **params})


def test_what_is_learnt_in_time_holds_better_for_rows_to_come() -> None:
    X, y = drifting(40_000, 1)
    past = (X["day"] < 0.85).to_numpy()
    later, truth = X[~past], y[~past]
    at_random = machine(exclude=["day"]).fit(X[past], y[past])
    in_time = machine(time="day").fit(X[past], y[past])
    losses = [log_loss(truth, model.predict_proba(later)[:, 1]) for model in (at_random, in_time)]
    assert losses[0] < 0.67
    assert losses[1] < losses[0] - 0.005
    assert set(in_time.fields_) == {"user", "item"}  # time is no feature
    given = machine().fit(X.loc[past, ["user", "item"]], y[past], time=X.loc[past, "day"])
    np.testing.assert_array_equal(given.factors_, in_time.factors_)
    assert np.isfinite(in_time.factors_).all()


@pytest.mark.parametrize("n_members", [1, 2])
def test_new_columns_of_the_latest_rows_are_learnt(n_members: int) -> None:
    X, y = drifting(4_000, 2)
    X.loc[X.index[-300:], "item"] = 100 + X["user"].iloc[-300:] % 3  # items that only the latest rows have
    model = machine(time="day", n_members=n_members).fit(X, y)
    columns = model.fields_["item"]
    assert (np.abs(model.factors_[columns]).sum(axis=1) > 0).sum() == X["item"].nunique()
    assert np.isfinite(model.predict_proba(X)).all()
    model.partial_fit(X.tail(200), y[-200:])
    assert np.isfinite(model.predict_proba(X)).all()


def test_several_classes_and_numbers_know_time_too() -> None:
    X, y = drifting(6_000, 3)
    classes = y + (X["item"] % 2).to_numpy()
    model = machine(time="day").fit(X, classes)
    np.testing.assert_allclose(model.predict_proba(X).sum(axis=1), 1)
    assert model.score(X, classes) > 0.5
    numbers = FactorizationMachineRegressor(categorical=["user", "item"], time="day", random_state=0).fit(X, classes)
    assert numbers.score(X, classes) > 0.3
    dates = X.assign(day=pd.Timestamp("2026-01-01") + pd.to_timedelta((X["day"] * 1e9).astype(int), unit="us"))
    again = machine(time="day").fit(dates, classes)
    np.testing.assert_array_equal(again.factors_, model.factors_)


def test_what_time_cannot_be_is_refused() -> None:
    X, y = drifting(200, 4)
    for solver in ("gibbs", "als", "ftrl"):
        with pytest.raises(ValueError, match=r"cannot do time; solvers that can: adagrad, sgd, adam, adadelta"):
            FactorizationMachineRegressor(solver=solver, time="day").fit(X, y)
    with pytest.raises(ValueError, match=r"time= names a column, so X must be a frame"):
        machine(time="day", categorical=()).fit(X.to_numpy(), y)
    with pytest.raises(ValueError, match=r"time has 7 entries, X has 200 rows"):
        machine().fit(X, y, time=np.arange(7))
