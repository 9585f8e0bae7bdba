import pickle
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.special import ndtr
from sklearn.base import clone
from sklearn.metrics import r2_score, roc_auc_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from mtl_classic._core.random import generator
from mtl_classic.factorization import (
    Adadelta,
    Adagrad,
    Adam,
    FactorizationMachineClassifier,
    FactorizationMachineRegressor,
    Ftrl,
)
from mtl_classic.factorization._chain import Chain
from mtl_classic.factorization._draws import Scale, scores_of_draws
from mtl_classic.factorization._patterns import find_patterns, guess_fields
from mtl_classic.factorization._problem import Interactions, Parameters, Problem, Rows
from mtl_classic.factorization._registry import SOLVERS
from mtl_classic.factorization._settings import Settings
from mtl_classic.factorization._solvers import Capabilities
from mtl_classic.factorization._solvers_fieldwise import Als, Gibbs
from tests._reference import fieldwise as twin

N_USERS, N_ITEMS, N_TAGS = 6, 5, 4
FIELDS = {
    "user": np.arange(6),
    "item": np.arange(6, 11),
    "tags": np.arange(11, 15),
    "price": np.array([15]),
    "age": np.array([16, 17]),
    "unused": np.array([18]),
}
PARTS = np.array([0] * 6 + [1] * 9 + [2] + [0] * 2 + [1])
MIXING = np.array([[0, 1, 1], [1, 1, 0], [1, 0, 0]], dtype=np.float64)


def one_hot(codes: np.ndarray, size: int) -> np.ndarray:
    return np.eye(size)[codes]


def mixed_matrix(n: int = 40, seed: int = 0) -> np.ndarray:
    """One-hot users and items, tags of the items, numbers, an attribute of the users, an empty column."""
    rng = np.random.default_rng(seed)
    user, item = rng.integers(0, N_USERS, n), rng.integers(0, N_ITEMS, n)
    tags = (rng.random((N_ITEMS, N_TAGS)) < 0.5) * rng.choice([1.0, 0.5], (N_ITEMS, N_TAGS))
    return np.hstack(
        [
            one_hot(user, N_USERS),
            one_hot(item, N_ITEMS),
            tags[item],
            rng.normal(size=(n, 1)),
            one_hot(user % 2, 2),
            np.zeros((n, 1)),
        ]
    )


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("noisy", [False, True])
def test_sweep_equals_the_twin(weighted: bool, grouped: bool, noisy: bool) -> None:
    rng = np.random.default_rng(3)
    X = mixed_matrix().astype(np.float32).astype(np.float64)
    n, n_columns, n_factors = *X.shape, 3
    weights = rng.uniform(0.5, 2, n) if weighted else np.ones(n)
    interactions = Interactions(PARTS, MIXING) if grouped else Interactions()
    parts, mixing = (PARTS, MIXING) if grouped else (np.zeros(n_columns, int), np.ones((1, 1)))
    target = rng.normal(size=n)
    problem = Problem(sparse.csr_matrix(X), target, weights, "squared", interactions, fields=FIELDS)
    chain = Chain(problem, n_factors, generator(0), target)
    assert len(chain.blocks.codes) < len(FIELDS)  # users and ages, items and tags are one block each
    chain.factors[:] = rng.normal(size=chain.factors.shape)
    chain.linear[:] = rng.normal(size=n_columns)
    chain.prior[0], chain.prior[1] = rng.normal(size=chain.prior[0].shape), rng.uniform(0.5, 2, chain.prior[1].shape)
    chain.alpha, chain.bias = 1.7, 0.3
    factors, linear = chain.by_column()
    start = target - twin.score(X, parts, mixing, 0.3, linear, factors.T)
    chain.residual = start[chain.order]
    np.testing.assert_allclose(chain.scores(problem.X, problem), target - start, rtol=1e-9)
    noise = rng.normal(size=chain.prior[0].shape) if noisy else np.zeros(chain.prior[0].shape)
    back = np.argsort(chain.blocks.columns)
    bias = 0.3 + np.average(start, weights=weights)
    expected_linear, expected_factors = twin.sweep(
        X,
        target,
        weights,
        parts,
        mixing,
        chain.blocks.columns,
        bias,
        linear,
        factors.T,
        chain.prior[:, :, back],
        noise[:, back],
        1.7,
    )
    chain.rng = Silent()
    chain.run(noise if noisy else None)
    factors, linear = chain.by_column()
    assert np.abs(expected_factors).mean() > 0.1
    np.testing.assert_allclose(linear, expected_linear, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(factors.T, expected_factors, rtol=1e-10, atol=1e-12)
    residual = target - twin.score(X, parts, mixing, bias, linear, factors.T)
    np.testing.assert_allclose(chain.residual, residual[chain.order], rtol=1e-8, atol=1e-10)
    assert (np.diff(chain.blocks.codes[0].astype(int)) >= 0).all()
    assert len(np.unique(chain.blocks.codes[0])) == max(len(np.unique(codes)) for codes in chain.blocks.codes)


class Silent:
    """A generator that has nothing to say."""

    def standard_normal(self) -> float:
        return 0.0


@pytest.mark.parametrize("grouped", [False, True])
def test_scores_of_draws_equal_the_twin(grouped: bool) -> None:
    rng = np.random.default_rng(4)
    X = mixed_matrix()
    n_columns, n_draws = X.shape[1], 3
    interactions = Interactions(PARTS, MIXING) if grouped else Interactions()
    parts, mixing = (PARTS, MIXING) if grouped else (np.zeros(n_columns, int), np.ones((1, 1)))
    factors = rng.normal(size=(n_columns, n_draws, 2))
    linear, bias = rng.normal(size=(n_columns, n_draws)), rng.normal(size=n_draws)
    norms = (factors**2).sum(axis=2)
    scores = scores_of_draws(sparse.csr_matrix(X), factors, norms, linear, bias, interactions, 5, 30)
    expected = [twin.score(X[5:30], parts, mixing, bias[d], linear[:, d], factors[:, d].T) for d in range(n_draws)]
    assert np.abs(expected).mean() > 0.5
    np.testing.assert_allclose(scores, np.column_stack(expected), rtol=1e-10, atol=1e-12)


def test_blocks_hold_what_belongs_together() -> None:
    X = sparse.csr_matrix(mixed_matrix(400))
    field_of = np.empty(X.shape[1], dtype=np.int64)
    for k, columns in enumerate(FIELDS.values()):
        field_of[columns] = k
    blocks = find_patterns(X, field_of, [0] * len(FIELDS))
    sets = [set(blocks.columns[a:b].tolist()) for a, b in zip(blocks.starts[:-1], blocks.starts[1:], strict=True)]
    assert sorted(len(s) for s in sets) == [1, 18] or len(sets) <= 3
    dense = np.zeros(X.shape)
    patterns = sparse.csc_matrix((blocks.values, blocks.patterns, blocks.indptr), (blocks.n_patterns, X.shape[1]))
    for codes in blocks.codes:
        dense[:, blocks.columns] += patterns.toarray()[codes]
    np.testing.assert_array_equal(dense, X.toarray())


def test_one_hot_fields_are_guessed() -> None:
    rng = np.random.default_rng(0)
    user, item = rng.integers(0, 4, 100), rng.integers(0, 7, 100)
    two = sparse.csr_matrix(np.hstack([one_hot(user, 4), one_hot(item, 7)]))
    assert guess_fields(two).tolist() == [0] * 4 + [1] * 7
    numbers = sparse.csr_matrix(rng.normal(size=(50, 3)))
    assert guess_fields(numbers).tolist() == [0, 0, 0]
    assert guess_fields(sparse.csr_matrix(mixed_matrix())).max() == 0


def planted(n: int = 12_000, seed: int = 0, noise: float = 0.5) -> tuple[sparse.csr_matrix, np.ndarray, dict]:
    """Ratings of 200 users × 150 items with 2 factors of unit variance: the score's variance is 2 + .5."""
    rng = np.random.default_rng(seed)
    user, item = rng.integers(0, 200, n), rng.integers(0, 150, n)
    P, Q = rng.normal(size=(200, 2)), rng.normal(size=(150, 2))
    truth = 3.0 + 0.5 * rng.normal(size=200)[user] + 0.5 * rng.normal(size=150)[item] + (P[user] * Q[item]).sum(axis=1)
    rows = np.arange(n)
    X = sparse.hstack(
        [
            sparse.csr_matrix((np.ones(n), (rows, user)), (n, 200)),
            sparse.csr_matrix((np.ones(n), (rows, item)), (n, 150)),
        ]
    ).tocsr()
    fields = {"user": np.arange(200), "item": np.arange(200, 350)}
    return X.astype(np.float32), np.column_stack([truth, truth + noise * rng.normal(size=n)]), fields


def fit_gibbs(X, y, fields, loss="squared", sweeps=100, n_factors=4, seed=0, weights=None, solver=None):
    weights = np.ones(len(y)) if weights is None else weights
    problem = Problem(X, np.asarray(y, dtype=np.float32), weights, loss, fields=fields)
    parameters = Parameters(X.shape[1], n_factors)
    report = (solver or Gibbs()).solve(problem, parameters, Settings(max_iter=sweeps, seed=seed, early_stopping=False))
    return report, parameters


def test_gibbs_recovers_planted_factors() -> None:
    X, y, fields = planted()
    train, test = np.arange(10_000), np.arange(10_000, 12_000)
    report, parameters = fit_gibbs(X[train], y[train, 1], fields)
    draws = report.extra
    mean, std = draws.mean(X[test]), draws.std(X[test])
    error = mean - y[test, 0]
    assert np.sqrt(np.mean(error**2)) < 0.25  # noise .5, about 40 ratings for 7 numbers of each user
    assert draws.noise_variance.mean() == pytest.approx(0.25, rel=0.1)
    assert 0.85 < np.mean(np.abs(error) < 1.645 * std) < 0.98  # the first draws differ more than those of the posterior
    last = parameters.scores(Rows.read(X[test], Interactions()), Interactions())
    assert np.sqrt(np.mean((last - y[test, 0]) ** 2)) < 0.4


def test_draws_of_unseen_columns_are_their_prior() -> None:
    X, y, fields = planted(3000)
    wide = sparse.hstack([X, sparse.csr_matrix((3000, 2))]).tocsr()
    fields = fields | {"item": np.arange(200, 352)}
    draws = fit_gibbs(wide, y[:, 1], fields)[0].extra
    new = sparse.csr_matrix((np.ones(4), np.array([0, 350, 0, 351]), np.array([0, 2, 4])), (2, 352), dtype=np.float32)
    mean, std = draws.mean(new), draws.std(new)
    known = draws.std(wide[:100])
    assert mean[0] == pytest.approx(mean[1], rel=1e-5)
    assert std.min() > 1.5 * known.mean()
    items = sparse.hstack(
        [sparse.csr_matrix(one_hot(np.zeros(150, int), 200)), sparse.eye(150), sparse.csr_matrix((150, 2))]
    )
    assert mean[0] == pytest.approx(draws.mean(items.tocsr()).mean(), abs=0.25)


def test_probit_recovers_probabilities() -> None:
    X, y, fields = planted(20_000)
    score = y[:, 0] - 3
    rng = np.random.default_rng(5)
    label = (rng.random(len(score)) < ndtr(score)).astype(float)
    train, test = np.arange(16_000), np.arange(16_000, 20_000)
    report, _ = fit_gibbs(X[train], label[train], fields, "probit")
    p = report.extra.mean(X[test])
    assert np.mean(np.abs(p - ndtr(score[test]))) < 0.09
    assert roc_auc_score(label[test], p) > roc_auc_score(label[test], score[test]) - 0.02
    assert np.corrcoef(report.extra.mean_score(X[test]), score[test])[0, 1] > 0.9


def test_noise_is_not_learnt() -> None:
    X, _, fields = planted(8000)
    y = np.random.default_rng(1).normal(size=8000)
    draws = fit_gibbs(X[:6000], y[:6000], fields)[0].extra
    assert np.mean((draws.mean(X[6000:]) - y[6000:]) ** 2) < np.var(y[6000:]) * 1.03


def test_als_is_at_its_minimum() -> None:
    X, y, fields = planted(3000)
    y = y[:, 1]
    reg_linear, reg_factors = 0.02, 0.05
    rng = np.random.default_rng(0)
    weights = rng.uniform(0.5, 1.5, 3000)
    problem = Problem(
        X, y.astype(np.float32), weights, "squared", reg_linear=reg_linear, reg_factors=reg_factors, fields=fields
    )
    parameters = Parameters(350, 2)
    Als().solve(problem, parameters, Settings(max_iter=300, seed=0, early_stopping=False))
    scale = Scale.of(problem.targets, weights)
    V = parameters.factor_slots[:, 0, :2].astype(np.float64) / np.sqrt(scale.deviation)
    w = parameters.linear_slots[:, 0, 0].astype(np.float64) / scale.deviation
    x = X.toarray().astype(np.float64)
    user, item = x[:, :200] @ V[:200], x[:, 200:] @ V[200:]
    bias = (float(parameters.bias[0]) - scale.mean) / scale.deviation
    e = weights * (scale.apply(problem.targets) - bias - x @ w - (user * item).sum(axis=1))
    counts = weights @ x
    partner = np.vstack([x[:, :200].T @ (e[:, None] * item), x[:, 200:].T @ (e[:, None] * user)])
    for pull, push in ((x.T @ e, reg_linear * counts * w), (partner, reg_factors * counts[:, None] * V)):
        assert np.abs(push).mean() > 0.05
        np.testing.assert_allclose(pull, push, atol=2e-3)
    assert abs(e.sum()) < 1e-3


def test_als_stops_on_validation_rows() -> None:
    X, y, fields = planted(6000)
    problem = Problem(X, y[:, 1].astype(np.float32), np.ones(6000), "squared", reg_factors=0.05, fields=fields)
    parameters = Parameters(350, 2)
    report = Als().solve(problem, parameters, Settings(max_iter=200, seed=0))
    assert 1 < report.n_iter < 200
    assert min(report.validation_losses) == report.validation_losses[report.n_iter - 1]
    assert report.validation_losses[report.n_iter - 1] < 0.5 * 0.6**2


def test_weights_are_repetitions_and_zero_leaves_out() -> None:
    X, y, fields = planted(2000)
    y = y[:, 1]
    weights = np.random.default_rng(0).integers(0, 3, 2000)
    repeated = np.repeat(np.arange(2000), weights)
    settings = Settings(max_iter=20, seed=0, early_stopping=False)
    scores = []
    for rows, w in ((np.arange(2000), weights.astype(float)), (repeated, np.ones(len(repeated)))):
        problem = Problem(
            X[rows], y[rows].astype(np.float32), w, "squared", reg_factors=0.05, reg_linear=0.05, fields=fields
        )
        parameters = Parameters(350, 2)
        Als().solve(problem, parameters, settings)
        scores.append(parameters.scores(Rows.read(X, Interactions()), Interactions()))
    np.testing.assert_allclose(scores[0], scores[1], atol=2e-3)


def test_seeds_fix_every_bit_and_draws_travel() -> None:
    X, y, fields = planted(1500)
    a, b, c = (fit_gibbs(X, y[:, 1], fields, sweeps=15, seed=s)[0].extra for s in (1, 1, 2))
    assert a.mean(X).tobytes() == b.mean(X).tobytes() == pickle.loads(pickle.dumps(a)).mean(X).tobytes()
    assert not np.allclose(a.mean(X), c.mean(X))
    one = np.concatenate([a.mean(X[i]) for i in range(30)])
    np.testing.assert_allclose(one, a.mean(X[:30]), rtol=1e-6)


def test_memory_of_draws_is_bounded() -> None:
    X, y, fields = planted(1500)
    draws = fit_gibbs(X, y[:, 1], fields, sweeps=40, solver=Gibbs(max_bytes=4 * 350 * 5 * 7))[0].extra
    assert draws.factors.shape == (350, 7, 4)
    assert draws.n_draws == 7
    assert fit_gibbs(X, y[:, 1], fields, sweeps=1)[0].extra.n_draws == 1


@pytest.mark.parametrize(("solver", "name", "value"), [
    (Gibbs, "burn_in", 1.0), (Gibbs, "max_draws", 0), (Gibbs, "max_draws", 1.5), (Gibbs, "max_bytes", -1),
    (Adagrad, "accumulator_start", 0.0), (Adam, "beta1", 1.0), (Adam, "beta2", -0.1), (Adam, "epsilon", np.nan),
    (Adam, "epsilon", True), (Adadelta, "rho", 1), (Adadelta, "epsilon", 0.0), (Adadelta, "epsilon", np.inf),
    (Ftrl, "l1_linear", -1.0), (Ftrl, "l1_factors", "1"), (Ftrl, "accumulator_start", -1.0),
])  # fmt: skip
def test_wrong_settings_are_refused(solver: type, name: str, value: object) -> None:
    with pytest.raises((ValueError, TypeError), match=f"{name} must be .*, got {value!r}"):
        solver(**{name: value})


def test_odd_shapes() -> None:
    rng = np.random.default_rng(0)
    empty_rows = sparse.csr_matrix((20, 3), dtype=np.float32)
    report, _ = fit_gibbs(empty_rows, rng.normal(size=20), None, sweeps=5)
    assert np.isfinite(report.extra.mean(empty_rows)).all()
    one_field = sparse.csr_matrix(one_hot(rng.integers(0, 4, 50), 4), dtype=np.float32)
    report, _ = fit_gibbs(one_field, np.ones(50), None, sweeps=5)
    np.testing.assert_allclose(report.extra.mean(one_field), 1.0, atol=0.5)
    dense = sparse.csr_matrix(rng.normal(size=(300, 4)), dtype=np.float32)
    y = np.asarray(dense[:, 0].toarray()).ravel() * 2 + 1
    report, _ = fit_gibbs(dense, y, None, sweeps=50)
    assert np.corrcoef(report.extra.mean(dense), y)[0, 1] > 0.99


def frame(n: int = 4000, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    """Taste that only interactions explain: users like items of their own parity."""
    rng = np.random.default_rng(seed)
    X = pd.DataFrame(
        {"user": rng.integers(0, 40, n), "item": rng.integers(0, 30, n), "price": 100 * rng.normal(size=n)}
    )
    return X, (X["user"] % 2 == X["item"] % 2) + 0.005 * X["price"].to_numpy() + 0.2 * rng.normal(size=n)


@pytest.mark.parametrize("interactions", ["all", [("user", "item")]])
@pytest.mark.parametrize("solver", ["als", "gibbs"])
def test_regressor(solver: str, interactions: object) -> None:
    X, y = frame()
    model = FactorizationMachineRegressor(
        n_factors=4, solver=solver, categorical=["user", "item"], interactions=interactions, reg_factors=0.01,
        max_iter=40, random_state=0,
    )  # fmt: skip
    model.fit(X[:3000], y[:3000])
    predicted = model.predict(X[3000:])
    assert r2_score(y[3000:], predicted) > 0.85
    one = np.concatenate([model.predict(X[i : i + 1]) for i in range(3000, 3030)])
    np.testing.assert_allclose(one, predicted[:30], rtol=1e-5)
    again = clone(model).fit(X[:3000], y[:3000]).predict(X[3000:])
    assert again.tobytes() == predicted.tobytes()
    assert pickle.loads(pickle.dumps(model)).predict(X[3000:]).tobytes() == predicted.tobytes()
    new = X[:50].assign(user=999, item=888, price=np.nan)
    assert np.isfinite(model.predict(new)).all()
    if solver == "gibbs":
        mean, std = model.predict(X[3000:], return_std=True)
        np.testing.assert_array_equal(mean, predicted)
        assert (std > 0).all()
        assert model.predict(new, return_std=True)[1].mean() > 2 * std.mean()
    else:
        with pytest.raises(ValueError, match="posterior draws"):
            model.predict(X, return_std=True)


def test_classifier_by_probit() -> None:
    X, y = frame()
    label = np.where(y > 0.5, "yes", "no")
    model = FactorizationMachineClassifier(
        n_factors=4, solver="gibbs", loss="probit", categorical=["user", "item"], max_iter=40, random_state=0
    )
    model.fit(X[:3000], label[:3000])
    p = model.predict_proba(X[3000:])
    np.testing.assert_allclose(p.sum(axis=1), 1)
    assert roc_auc_score(label[3000:] == "yes", p[:, 1]) > 0.9
    assert model.score(X[3000:], label[3000:]) > 0.85
    assert abs(p[:, 1].mean() - (label[3000:] == "yes").mean()) < 0.03


@pytest.mark.parametrize("solver", ["als", "gibbs"])
def test_what_the_solvers_cannot_do_is_refused(solver: str) -> None:
    X, y = frame(200)
    for arguments, message in (
        ({"loss": "poisson"}, "loss"),
        ({"batch_size": 8}, "batches"),
        ({"dropout": 0.5}, "dropout"),
    ):
        with pytest.raises(ValueError, match=f"cannot do {message}"):
            FactorizationMachineRegressor(solver=solver, **arguments).fit(X, np.abs(y))
    assert not hasattr(FactorizationMachineRegressor(solver=solver), "partial_fit")
    assert not hasattr(FactorizationMachineClassifier(solver=SOLVERS[solver]), "partial_fit")
    with pytest.raises(AttributeError, match="has no attribute 'partial_fit'") as caught:
        FactorizationMachineRegressor(solver=solver).partial_fit(X, y)
    assert f"solver='{solver}' has no partial_fit; solvers that have: adagrad" in str(caught.value.__cause__)
    with pytest.raises(ValueError, match="cannot do warm_start"):
        FactorizationMachineRegressor(solver=solver, warm_start=True).fit(X, y)
    with pytest.raises(ValueError, match="cannot do loss"):
        FactorizationMachineClassifier(solver=solver, loss="log").fit(X, y > 0)
    if solver == "gibbs":
        with pytest.raises(ValueError, match="two classes"):
            FactorizationMachineClassifier(solver=solver, loss="probit").fit(X, X["user"] % 3)


SCALES = "targets are standardized without weights, and weighted rows draw other noise than repeated ones"
EXPECTED_FAILURES = {
    "check_sample_weight_equivalence_on_dense_data": SCALES,
    "check_sample_weight_equivalence_on_sparse_data": SCALES,
    "check_regressor_data_not_an_array": "the columns of a frame are fields, an array is one field",
}


@parametrize_with_checks(
    [
        FactorizationMachineRegressor(n_factors=2, solver="als", max_iter=5),
        FactorizationMachineRegressor(n_factors=2, solver="gibbs", max_iter=20),
    ],
    expected_failed_checks=lambda estimator: EXPECTED_FAILURES,
)
@pytest.mark.filterwarnings("ignore")
def test_conventions_of_scikit_learn(estimator, check) -> None:
    check(estimator)


def test_a_form_of_the_rows_that_a_solver_cannot_read_is_refused() -> None:
    class OnMatrices(Gibbs):
        can: ClassVar[Capabilities] = replace(Gibbs.can, inputs=frozenset({"csr"}))

    X = np.eye(4)
    machine = FactorizationMachineRegressor(solver=OnMatrices(), max_iter=2, random_state=0)
    machine.fit(sparse.csr_matrix(X), np.arange(4.0))
    for rows, form in ((X, "array"), (pd.DataFrame(X), "frame")):
        with pytest.raises(ValueError, match=f"cannot do X='{form}', only csr; solvers that can: adagrad"):
            machine.fit(rows, np.arange(4.0))
