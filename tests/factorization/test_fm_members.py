"""Machines that are averaged; the bound on the slope of Poisson loss."""

from pathlib import Path

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone

from mtl_classic import load_model, save_model
from mtl_classic._kernels.fm_losses import POISSON, loss_slope
from mtl_classic.factorization import FactorizationMachineClassifier, FactorizationMachineRegressor
from mtl_classic.factorization._machines import join_machines, split_machine
from mtl_classic.factorization._problem import Interactions, Parameters, Rows
from mtl_classic.metrics import log_loss

N_COLUMNS, N_MEMBERS = 7, 3
GROUPS = Interactions(
    np.array([0, 0, 0, 1, 1, 2, 2], dtype=np.int32), np.array([[0, 1, 0], [1, 0, 0], [0, 0, 0]], dtype=np.float32)
)
FIELDS = {"user": np.arange(60), "item": np.arange(60, 110)}


@pytest.mark.parametrize("interactions", [Interactions(), GROUPS], ids=["all", "groups"])
@pytest.mark.parametrize("n_outputs", [None, 3])
def test_the_joined_machine_has_the_mean_score(interactions: Interactions, n_outputs: int | None) -> None:
    rng = np.random.default_rng(0)
    sizes = (5 * N_MEMBERS, 2) if n_outputs is None else (0, 2)
    joined = Parameters(
        N_COLUMNS, *sizes, n_outputs=n_outputs, n_private=0 if n_outputs is None else 5 * N_MEMBERS, dtype=np.float64
    )
    members = split_machine(joined, N_MEMBERS)
    for member in members:
        member.factor_slots[..., member.live] = rng.normal(size=(N_COLUMNS, 2, member.live.sum()))
        member.linear_slots[..., : n_outputs or 1] = rng.normal(size=(N_COLUMNS, 2, n_outputs or 1))
        member.bias_slots[:, : n_outputs or 1] = rng.normal(size=n_outputs or 1)
    join_machines(members, joined)
    rows = Rows.read(sparse.csr_matrix(rng.normal(size=(20, N_COLUMNS))), interactions)
    expected = np.mean([member.scores(rows, interactions) for member in members], axis=0)
    assert np.abs(expected).max() > 0.5
    np.testing.assert_allclose(joined.scores(rows, interactions), expected, rtol=1e-10)


def ids(n: int, seed: int, noise: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = np.column_stack([rng.integers(0, 60, n), rng.integers(0, 50, n)])
    rng = np.random.default_rng(0)
    U, V = rng.normal(size=(60, 4)), rng.normal(size=(50, 4))
    score = (U[X[:, 0]] * V[X[:, 1]]).sum(axis=1)
    return X, score + noise * np.random.default_rng(seed + 1).normal(size=n)


def one_hot(X: np.ndarray) -> sparse.csr_matrix:
    return sparse.csr_matrix(
        (np.ones(X.size), (X + np.array([0, 60])).ravel(), np.arange(0, X.size + 1, 2)), shape=(len(X), 110)
    )


@pytest.mark.parametrize("solver", ["adagrad", "adam"])
def test_an_average_is_better_than_a_machine(solver: str) -> None:
    X, y = ids(6000, 0, noise=2.0)
    X_test, y_test = ids(4000, 5, noise=0.0)
    one = FactorizationMachineRegressor(
        n_factors=8, init_scale=0.1, reg_factors=0.001, solver=solver, random_state=0, n_iter_no_change=4
    )
    several = clone(one).set_params(n_members=4).fit(one_hot(X), y)
    errors = [np.mean((model.predict(one_hot(X_test)) - y_test) ** 2) for model in (one.fit(one_hot(X), y), several)]
    assert errors[0] < 0.6 * y_test.var()
    assert errors[1] < 0.93 * errors[0]
    assert several.factors_.shape == (110, 32)
    again = clone(several).fit(one_hot(X), y)
    np.testing.assert_array_equal(again.factors_, several.factors_)


def test_an_average_of_several_classes_goes_on_as_one_machine() -> None:
    X, y = ids(6000, 0)
    classes = np.digitize(y, [-1, 1])
    model = FactorizationMachineClassifier(
        n_factors=5, n_members=2, init_scale=0.1, reg_factors=0.001, random_state=0, max_iter=8
    )
    model.fit(one_hot(X[:3000]), classes[:3000])
    assert model.factors_.shape == (110, 3, 10)
    before = model.score(one_hot(X), classes)
    for _ in range(4):
        model.partial_fit(one_hot(X[3000:]), classes[3000:])
    assert model.score(one_hot(X), classes) > before + 0.01


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"n_members": 0}, ValueError, "n_members must be an integer of at least 1"),
        ({"n_members": 2.5, "solver": "gibbs", "loss": "probit"}, TypeError, "n_members must be an integer of"),
        ({"n_members": 2, "solver": "ftrl"}, ValueError, "solver='ftrl' cannot do members; solvers that can: adagrad"),
    ],
)
def test_members_that_cannot_be(changes: dict, error: type[Exception], message: str) -> None:
    X, y = ids(100, 0)
    with pytest.raises(error, match=message):
        FactorizationMachineClassifier(**changes).fit(one_hot(X), y > 0)


@pytest.mark.parametrize("interactions", ["all", [("user", "item")]], ids=["all", "groups"])
def test_chains_are_pooled(interactions: str | list, tmp_path: Path) -> None:
    X, y = ids(3000, 0, noise=2.0)
    X_test, y_test = ids(2000, 5, noise=0.0)
    sides = {"user": ["user"], "item": ["item"]}
    one = FactorizationMachineRegressor(
        n_factors=4, solver="gibbs", max_iter=30, fields=FIELDS, groups=sides, interactions=interactions, random_state=0
    ).fit(one_hot(X), y)
    several = clone(one).set_params(n_members=3).fit(one_hot(X), y)
    assert several.factors_.shape == (110, 12)
    assert several._extra.n_draws == 3 * one._extra.n_draws
    np.testing.assert_array_equal(several._extra.factors[:, : one._extra.n_draws], one._extra.factors)
    errors = [np.mean((model.predict(one_hot(X_test)) - y_test) ** 2) for model in (one, several)]
    assert errors[1] < errors[0]
    mean, std = several.predict(one_hot(X_test), return_std=True)
    assert std.min() > 0
    np.testing.assert_array_equal(mean, several.predict(one_hot(X_test)))
    save_model(several, tmp_path / "chains.zip")
    loaded = load_model(tmp_path / "chains.zip")
    np.testing.assert_array_equal(loaded.predict(one_hot(X_test), return_std=True), (mean, std))
    np.testing.assert_array_equal(loaded.transform(one_hot(X_test)), several.transform(one_hot(X_test)))


def test_chains_of_a_classifier_say_more_than_one() -> None:
    X, y = ids(3000, 0, noise=2.0)
    X_test, y_test = ids(2000, 5, noise=2.0)
    one = FactorizationMachineClassifier(n_factors=4, solver="gibbs", loss="probit", max_iter=30, random_state=0)
    several = clone(one).set_params(n_members=3)
    losses = [
        log_loss(y_test > 0, m.fit(one_hot(X), y > 0).predict_proba(one_hot(X_test))[:, 1]) for m in (one, several)
    ]
    assert losses[1] < losses[0]


def test_members_do_not_change_between_fits_that_build_on_each_other() -> None:
    X, y = ids(500, 0)
    model = FactorizationMachineRegressor(n_members=2, random_state=0).fit(one_hot(X), y)
    with pytest.raises(ValueError, match="n_members"):
        model.set_params(n_members=3).partial_fit(one_hot(X), y)


def test_the_slope_of_poisson_loss_is_bounded() -> None:
    largest = np.log(40.0)
    assert loss_slope((POISSON, largest), 3.0, 1.0) == pytest.approx(np.e - 3)
    assert loss_slope((POISSON, largest), 0.0, 25.0) == pytest.approx(40)


def test_rare_counts_of_unscaled_columns_are_learnt() -> None:
    """Scores that overshoot on a large number once froze the accumulators, and the fit stayed at the mean."""
    rng = np.random.default_rng(0)
    n = 20_000
    group, number = rng.integers(0, 40, n), rng.gamma(0.3, 20.0, n)
    rate = np.exp(rng.normal(-2.5, 1.0, 40)[group])
    y = rng.poisson(rate)
    X = sparse.hstack([one_hot(np.column_stack([group, group])), sparse.csr_matrix(number[:, None])], format="csr")
    model = FactorizationMachineRegressor(loss="poisson", scale=False, n_factors=8, random_state=0).fit(X, y)
    assert model.best_iter_ > 0
    predicted = model.predict(X)
    deviance = (predicted - rate * np.log(predicted)).mean()
    assert deviance < (y.mean() - rate * np.log(y.mean())).mean() - 0.02
