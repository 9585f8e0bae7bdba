"""Factorization machines for one label, as their users see them."""

import pickle
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.metrics import log_loss, roc_auc_score

from mtl_classic._core.exceptions import ConstantTaskWarning, RoleError
from mtl_classic.factorization import (
    FactorizationMachineClassifier,
    FactorizationMachineRegressor,
    Ftrl,
    MultiTaskFactorizationMachine,
)

N, N_USERS, N_ITEMS, RANK = 40_000, 200, 150, 3


@pytest.fixture(scope="module")
def planted() -> dict[str, np.ndarray]:
    """Scores of users and items whose products are of rank 3, with a little of a main effect."""
    rng = np.random.default_rng(0)
    user, item = rng.integers(0, N_USERS, N), rng.integers(0, N_ITEMS, N)
    U, V = rng.normal(size=(N_USERS, RANK)), rng.normal(size=(N_ITEMS, RANK))
    score = (U[user] * V[item]).sum(axis=1) + 0.7 * rng.normal(size=N_ITEMS)[item]
    return {
        "user": user,
        "item": item,
        "score": score,
        "binary": (rng.random(N) < 1 / (1 + np.exp(-2 * score))).astype(int),
        "number": 50 + 10 * score + rng.normal(size=N),
        "count": rng.poisson(np.exp(0.5 * score - 1)),
    }


@pytest.fixture(scope="module")
def frame(planted) -> pd.DataFrame:
    return pd.DataFrame({"user": planted["user"], "item": planted["item"]})


@pytest.fixture(scope="module")
def matrix(planted) -> sparse.csr_matrix:
    columns = np.column_stack([planted["user"], N_USERS + planted["item"]])
    shape = (N, N_USERS + N_ITEMS)
    return sparse.csr_matrix((np.ones(2 * N), columns.ravel(), np.arange(0, 2 * N + 1, 2)), shape=shape)


TRAIN, TEST = slice(0, 32_000), slice(32_000, N)
FIELDS = {"user": slice(0, N_USERS), "item": slice(N_USERS, N_USERS + N_ITEMS)}
SETTINGS = {"n_factors": 8, "init_scale": 0.1, "reg_factors": 0.01, "random_state": 0, "n_iter_no_change": 4}


# Recovery: bands hold with room for another machine's rounding.


def test_planted_factors_are_recovered_from_numbers(matrix, planted) -> None:
    model = FactorizationMachineRegressor(**SETTINGS, max_iter=60).fit(matrix[TRAIN], planted["number"][TRAIN])
    predicted = model.predict(matrix[TEST])
    assert np.corrcoef(predicted, planted["score"][TEST])[0, 1] > 0.97
    assert abs(predicted.mean() - planted["number"][TEST].mean()) < 1
    products = model.factors_[:N_USERS] @ model.factors_[N_USERS:].T
    assert np.linalg.svd(products - products.mean(0) - products.mean(1)[:, None], compute_uv=False)[RANK] < (
        0.25 * np.linalg.svd(products, compute_uv=False)[RANK - 1]
    )


@pytest.mark.parametrize("solver", ["adagrad", "adam", "adadelta", "ftrl"])
def test_planted_factors_are_recovered_from_classes(matrix, planted, solver: str) -> None:
    model = FactorizationMachineClassifier(**SETTINGS, solver=solver, max_iter=40)
    if solver == "ftrl":
        model.set_params(solver=Ftrl(l1_linear=0.1))
    model.fit(matrix[TRAIN], planted["binary"][TRAIN])
    oracle = roc_auc_score(planted["binary"][TEST], planted["score"][TEST])
    assert roc_auc_score(planted["binary"][TEST], model.decision_function(matrix[TEST])) > oracle - 0.03


def test_planted_factors_are_recovered_from_counts(matrix, planted) -> None:
    model = FactorizationMachineRegressor(**SETTINGS, loss="poisson", max_iter=40)
    predicted = model.fit(matrix[TRAIN], planted["count"][TRAIN]).predict(matrix[TEST])
    assert np.corrcoef(predicted, np.exp(0.5 * planted["score"][TEST] - 1))[0, 1] > 0.85
    assert predicted.mean() == pytest.approx(planted["count"][TEST].mean(), rel=0.1)


def test_interactions_between_groups_only(matrix, planted) -> None:
    both = FactorizationMachineClassifier(**SETTINGS, fields=FIELDS, interactions=[("user", "item")])
    both.fit(matrix[TRAIN], planted["binary"][TRAIN])
    none = FactorizationMachineClassifier(**SETTINGS, fields=FIELDS, interactions=[("user", "user")])
    none.fit(matrix[TRAIN], planted["binary"][TRAIN])
    y = planted["binary"][TEST]
    assert roc_auc_score(y, both.decision_function(matrix[TEST])) > 0.85
    assert roc_auc_score(y, none.decision_function(matrix[TEST])) < 0.75
    assert both.transform(matrix[:5]).shape == (5, 2 * 8)


def test_bpr_orders_rows_of_a_query(matrix, planted) -> None:
    model = FactorizationMachineClassifier(**SETTINGS, loss="bpr")
    model.fit(matrix[TRAIN], planted["binary"][TRAIN], query=planted["user"][TRAIN])
    scores, y, user = model.decision_function(matrix[TEST]), planted["binary"][TEST], planted["user"][TEST]
    aucs = [roc_auc_score(y[user == u], scores[user == u]) for u in range(N_USERS) if len(set(y[user == u])) == 2]
    assert np.mean(aucs) > 0.83
    assert not hasattr(model, "predict_proba")


def test_bpr_needs_queries_with_different_labels(matrix, planted) -> None:
    X, y = matrix[:100], planted["binary"][:100]
    with pytest.raises(ValueError, match="query"):
        FactorizationMachineClassifier(loss="bpr").fit(X, y)
    for early_stopping in (True, False):
        model = FactorizationMachineClassifier(loss="bpr", early_stopping=early_stopping, random_state=0)
        with pytest.raises(ValueError, match="different labels; there are none"):
            model.fit(X, y, query=np.arange(100))
    query = np.r_[0, 0, np.arange(1, 499)]  # one pair in all: no validation rows without it
    y = np.r_[0, 1, planted["binary"][2:500]]
    model = FactorizationMachineClassifier(**SETTINGS, loss="bpr").fit(matrix[:500], y, query=query)
    scores = model.decision_function(matrix[:2])
    assert scores[0] < scores[1]


def test_soft_labels(matrix, planted) -> None:
    soft = 1 / (1 + np.exp(-2 * planted["score"]))
    model = FactorizationMachineClassifier(**SETTINGS, loss="kl").fit(matrix[TRAIN], soft[TRAIN])
    assert np.corrcoef(model.predict_proba(matrix[TEST])[:, 1], soft[TEST])[0, 1] > 0.9
    three = np.column_stack([soft, (1 - soft) / 3, 2 * (1 - soft) / 3])
    model = FactorizationMachineClassifier(**SETTINGS, loss="kl").fit(matrix[TRAIN], three[TRAIN])
    np.testing.assert_allclose(model.predict_proba(matrix[TEST]).mean(axis=0), three[TEST].mean(axis=0), atol=0.02)
    with pytest.raises(ValueError, match="between 0 and 1"):
        model.fit(matrix[:100], 2 * soft[:100] + 1)
    with pytest.raises(ValueError, match="sum to 1"):
        model.fit(matrix[:100], three[:100] / 2)


# The same numbers, however they come.


def test_dense_equals_sparse() -> None:
    rng = np.random.default_rng(1)
    X = rng.normal(size=(400, 6)) * (rng.random((400, 6)) < [1, 1, 1, 0.9, 0.3, 0.2])
    X[:, 5] = X[:, 5] != 0
    y = (X[:, 0] * X[:, 1] > 0).astype(int)
    dense = FactorizationMachineClassifier(n_factors=8, random_state=0).fit(X, y)
    for form in (sparse.csr_matrix, sparse.csc_matrix, sparse.coo_matrix):
        other = FactorizationMachineClassifier(n_factors=8, random_state=0).fit(form(X), y)
        np.testing.assert_array_equal(other.decision_function(X), dense.decision_function(X))
    twice = sparse.csr_matrix((np.r_[X[0, :1], X[0, :1]], [0, 0], [0, 2]), shape=(1, 6))
    doubled = sparse.csr_matrix((2 * X[0, :1], [0], [0, 1]), shape=(1, 6))
    np.testing.assert_array_equal(dense.decision_function(twice), dense.decision_function(doubled))


def test_a_row_is_its_row_of_the_batch(matrix, planted) -> None:
    model = FactorizationMachineClassifier(**SETTINGS, max_iter=3).fit(matrix[TRAIN], planted["binary"][TRAIN])
    batch = model.predict_proba(matrix[TEST][:50])
    single = np.vstack([model.predict_proba(row) for row in matrix[TEST][:50]])
    np.testing.assert_allclose(single, batch, rtol=1e-5)
    order = np.random.default_rng(0).permutation(50)
    np.testing.assert_allclose(model.predict_proba(matrix[TEST][:50][order]), batch[order], rtol=1e-5)


def test_permuted_columns_agree(frame, matrix, planted) -> None:
    """First factors are drawn column by column, so that fits agree as two seeds do; predictions read names."""
    order = np.random.default_rng(1).permutation(matrix.shape[1])
    models = [
        FactorizationMachineClassifier(**SETTINGS).fit(X[TRAIN], planted["binary"][TRAIN])
        for X in (matrix, matrix[:, order])
    ]
    p, q = (m.predict_proba(X[TEST])[:, 1] for m, X in zip(models, (matrix, matrix[:, order]), strict=True))
    assert np.corrcoef(p, q)[0, 1] > 0.98
    losses = [log_loss(planted["binary"][TEST], scores) for scores in (p, q)]
    assert abs(losses[0] - losses[1]) < 0.01
    named = FactorizationMachineClassifier(**SETTINGS, categorical=["user", "item"], max_iter=2)
    named.fit(frame[TRAIN], planted["binary"][TRAIN])
    np.testing.assert_array_equal(named.predict_proba(frame[TEST][["item", "user"]]), named.predict_proba(frame[TEST]))


def test_permuted_columns_agree_exactly_under_als(planted) -> None:
    """ALS goes to a minimum: from whatever start, with one factor for a planted product of rank one."""
    rng = np.random.default_rng(2)
    X = pd.DataFrame({"user": planted["user"], "item": planted["item"]})[:8000]
    y = rng.normal(size=N_USERS)[X["user"]] * rng.normal(size=N_ITEMS)[X["item"]] + 0.1 * rng.normal(size=8000)
    settings = {"n_factors": 1, "solver": "als", "max_iter": 200, "early_stopping": False, "random_state": 0}
    fits = [
        FactorizationMachineRegressor(**settings, categorical=["user", "item"]).fit(X[names], y).predict(X)
        for names in (["user", "item"], ["item", "user"])
    ]
    np.testing.assert_allclose(fits[0], fits[1], atol=0.02)


@pytest.mark.parametrize("loss", ["log", "squared", "poisson"])
def test_overflow_is_refused_or_survived(matrix, planted, loss: str) -> None:
    rows = matrix[:2000].multiply(1e30).tocsr()
    machine = FactorizationMachineClassifier if loss == "log" else FactorizationMachineRegressor
    y = planted["binary"][:2000]
    with np.errstate(all="raise"):
        scaled = machine(loss=loss, random_state=0).fit(rows, y)  # columns are scaled
    assert np.isfinite(scaled.predict(rows)).all()
    with pytest.raises(ValueError, match="diverged|too large|infinity"):
        machine(loss=loss, scale=False, learning_rate=10.0, random_state=0).fit(rows, y)


def test_fits_repeat_bit_for_bit(matrix, planted) -> None:
    fits = [
        FactorizationMachineClassifier(**SETTINGS, max_iter=3, dropout=0.2).fit(matrix[TRAIN], planted["binary"][TRAIN])
        for _ in range(2)
    ]
    np.testing.assert_array_equal(fits[0].factors_, fits[1].factors_)
    copy = pickle.loads(pickle.dumps(fits[0]))
    np.testing.assert_array_equal(copy.decision_function(matrix[:99]), fits[0].decision_function(matrix[:99]))
    assert not hasattr(clone(fits[0]), "classes_")


def test_frames_equal_encoded_matrices(frame, matrix, planted) -> None:
    settings = SETTINGS | {"max_iter": 5}
    from_frame = FactorizationMachineClassifier(**settings, categorical=["user", "item"])
    from_frame.fit(frame[TRAIN], planted["binary"][TRAIN])
    from_matrix = FactorizationMachineClassifier(**settings).fit(matrix[TRAIN], planted["binary"][TRAIN])
    auc = [
        roc_auc_score(planted["binary"][TEST], scores)
        for scores in (from_frame.decision_function(frame[TEST]), from_matrix.decision_function(matrix[TEST]))
    ]
    assert abs(auc[0] - auc[1]) < 0.02
    assert list(from_frame.fields_) == ["user", "item"]


def test_weight_zero_leaves_a_row_out(matrix, planted) -> None:
    weight = np.r_[np.ones(2000), np.zeros(2000)]
    y = planted["binary"][:4000].copy()
    settings = SETTINGS | {"early_stopping": False, "max_iter": 5}
    first = FactorizationMachineClassifier(**settings).fit(matrix[:4000], y, sample_weight=weight)
    y[2000:] = 1 - y[2000:]
    second = FactorizationMachineClassifier(**settings).fit(matrix[:4000], y, sample_weight=weight)
    np.testing.assert_array_equal(first.factors_, second.factors_)


@pytest.mark.parametrize("solver", ["adagrad", "als", "gibbs"])
@pytest.mark.parametrize("outlier", [-1.0, 1e12])
def test_rows_of_weight_zero_are_as_if_they_were_not_there(matrix, planted, solver: str, outlier: float) -> None:
    y, weight = planted["number"][:3000].copy(), np.ones(3000)
    y[2000:], weight[2000:] = outlier, 0
    model = FactorizationMachineRegressor(n_factors=8, solver=solver, max_iter=10, random_state=0)
    without = clone(model).fit(matrix[:2000], y[:2000])
    model.fit(matrix[:3000], y, sample_weight=weight)
    np.testing.assert_allclose(model.predict(matrix[:99]), without.predict(matrix[:99]), rtol=1e-9)


def test_pairs_have_no_rows_of_weight_zero(matrix, planted) -> None:
    weight = np.r_[np.ones(2000), np.zeros(1000)]
    model = FactorizationMachineClassifier(**SETTINGS, loss="bpr", max_iter=3)
    without = clone(model).fit(matrix[:2000], planted["binary"][:2000], query=planted["user"][:2000])
    model.fit(matrix[:3000], planted["binary"][:3000], sample_weight=weight, query=planted["user"][:3000])
    np.testing.assert_array_equal(model.factors_, without.factors_)


# Numbers of all sizes.


def test_a_raw_column_does_no_harm(matrix, planted) -> None:
    rng = np.random.default_rng(0)
    raw = sparse.hstack([matrix, sparse.csr_matrix(rng.integers(0, 1000, (N, 1)).astype(float))]).tocsr()
    losses = []
    for X in (matrix, raw):
        model = FactorizationMachineRegressor(**SETTINGS, max_iter=30).fit(X[TRAIN], planted["number"][TRAIN])
        losses.append(np.mean((model.predict(X[TEST]) - planted["number"][TEST]) ** 2))
    assert losses[1] < 1.1 * losses[0]


def test_an_offset_does_no_harm() -> None:
    rng = np.random.default_rng(0)
    year, place = rng.integers(2000, 2021, 4000), rng.integers(0, 5, 4000)
    y = 0.3 * (year - 2010) * (place == 2) + 0.1 * rng.normal(size=4000)
    X = np.column_stack([year, np.eye(5)[place]])
    assert FactorizationMachineRegressor(n_factors=8, random_state=0).fit(X, y).score(X, y) > 0.9


def test_a_divergent_fit_says_so() -> None:
    rng = np.random.default_rng(0)
    X, y = 1e8 * rng.normal(size=(200, 3)), rng.normal(size=200)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # on the way there
        with pytest.raises(ValueError, match=r"diverged.*scale=True"):
            FactorizationMachineRegressor(scale=False, solver="sgd", random_state=0).fit(X, y)
    assert np.isfinite(FactorizationMachineRegressor(random_state=0).fit(X, y).predict(X)).all()


@pytest.mark.parametrize("solver", ["als", "gibbs"])
@pytest.mark.parametrize("size", [1e15, 1e30])
def test_divergent_sweeps_say_so(solver: str, size: float) -> None:
    rng = np.random.default_rng(0)
    X, y = size * rng.normal(size=(300, 4)), rng.normal(size=300)
    with pytest.raises(ValueError, match=r"diverged.*scale=True"):
        FactorizationMachineRegressor(scale=False, solver=solver, max_iter=20, random_state=0).fit(X, y)
    model = FactorizationMachineRegressor(solver=solver, max_iter=20, random_state=0).fit(X, y)
    assert np.abs(model.predict(X)).max() < 10


def test_huge_targets() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(500, 3))
    y = 1e12 + 1e10 * X[:, 0]
    assert FactorizationMachineRegressor(random_state=0).fit(X, y).score(X, y) > 0.95
    with pytest.raises(ValueError, match="too large: their variance overflows"):
        FactorizationMachineRegressor().fit(X, 1e300 * X[:, 0])


def test_empty_rows_and_columns() -> None:
    rng = np.random.default_rng(0)
    X = sparse.random(300, 10, 0.3, "lil", random_state=0)
    X[5], X[:, 7] = 0, 0
    y = rng.integers(0, 2, 300)
    model = FactorizationMachineClassifier(n_factors=8, random_state=0).fit(X.tocsr(), y)
    assert np.isfinite(model.decision_function(X.tocsr())).all()
    assert not model.factors_[7].any()
    assert model.coef_[7] == 0
    nothing = sparse.csr_matrix((4, 10))
    np.testing.assert_allclose(model.decision_function(nothing), model.intercept_, rtol=1e-6)
    assert model.decision_function(X.tocsr()[:0]).shape == (0,)


def test_columns_unseen_at_fit_say_nothing(matrix, planted) -> None:
    seen = np.asarray(planted["user"][TRAIN] != 17)
    model = FactorizationMachineClassifier(**SETTINGS, max_iter=3)
    model.fit(matrix[TRAIN][seen], planted["binary"][TRAIN][seen])
    row = sparse.csr_matrix(([1.0], [17], [0, 1]), shape=(1, matrix.shape[1]))
    assert model.decision_function(row)[0] == pytest.approx(model.intercept_)


def test_unseen_values_of_a_frame(frame, planted) -> None:
    model = FactorizationMachineClassifier(**SETTINGS, max_iter=3, categorical=["user", "item"])
    model.fit(frame[TRAIN], planted["binary"][TRAIN])
    new = pd.DataFrame({"item": [3, 10**6], "user": [10**6, 10**6]})
    assert np.isfinite(model.predict_proba(new)).all()


@pytest.mark.parametrize("n_factors", [1, 256])
def test_few_and_many_factors(matrix, planted, n_factors: int) -> None:
    model = FactorizationMachineClassifier(n_factors=n_factors, max_iter=2, random_state=0)
    model.fit(matrix[:4000], planted["binary"][:4000])
    assert model.factors_.shape == (matrix.shape[1], n_factors)
    assert log_loss(planted["binary"][TEST], model.predict_proba(matrix[TEST])) < 0.72


def test_one_class() -> None:
    X = np.random.default_rng(0).normal(size=(50, 3))
    with pytest.warns(ConstantTaskWarning, match="one class"):
        model = FactorizationMachineClassifier(random_state=0).fit(X, np.repeat("yes", 50))
    assert set(model.predict(X)) == {"yes"}
    assert model.predict_proba(X).shape == (50, 1)
    by_draws = FactorizationMachineClassifier(loss="probit", solver="gibbs", max_iter=5, random_state=0)
    with pytest.warns(ConstantTaskWarning, match="one class"):
        by_draws.fit(X, np.repeat("yes", 50))
    assert set(by_draws.predict(X)) == {"yes"}
    assert by_draws.predict_proba(X).shape == (50, 1)


def test_constant_target() -> None:
    X = np.random.default_rng(0).normal(size=(50, 3))
    model = FactorizationMachineRegressor(random_state=0).fit(X, np.full(50, 7.0))
    np.testing.assert_allclose(model.predict(X), 7.0, rtol=1e-4)


# More rows later.


def test_partial_fit_learns_new_values(frame, planted) -> None:
    model = FactorizationMachineClassifier(**SETTINGS, categorical=["user", "item"])
    old = np.flatnonzero(planted["user"][TRAIN] < 150)
    new = np.flatnonzero(planted["user"][TRAIN] >= 150)
    model.fit(frame.iloc[old], planted["binary"][old])
    width = len(model.coef_)
    for _ in range(5):
        model.partial_fit(frame.iloc[new], planted["binary"][new])
    assert len(model.coef_) == width + 50
    test = np.arange(N)[TEST]
    later = test[planted["user"][test] >= 150]
    auc = roc_auc_score(planted["binary"][later], model.decision_function(frame.iloc[later]))
    assert auc > 0.72
    earlier = test[planted["user"][test] < 150]
    assert roc_auc_score(planted["binary"][earlier], model.decision_function(frame.iloc[earlier])) > 0.8


def test_partial_fit_from_the_start(matrix, planted) -> None:
    model = FactorizationMachineClassifier(n_factors=8, random_state=0)
    model.partial_fit(matrix[:10], np.zeros(10, int), classes=[0, 1])
    for start in range(0, 30_000, 3000):
        rows = slice(start, start + 3000)
        model.partial_fit(matrix[rows], planted["binary"][rows])
    assert roc_auc_score(planted["binary"][TEST], model.decision_function(matrix[TEST])) > 0.6
    model.partial_fit(matrix[:3], [0, 1, 1], classes=[1, 0])
    with pytest.raises(ValueError, match="not the same as on the last call"):
        model.partial_fit(matrix[:3], [0, 1, 1], classes=[0, 1, 2])
    with pytest.raises(ValueError, match="announced"):
        model.partial_fit(matrix[:3], [0, 1, 2])
    with pytest.raises(ValueError, match="features"):
        model.partial_fit(matrix[:3, :9], [0, 1, 1])


def test_warm_start_goes_on(matrix, planted) -> None:
    model = FactorizationMachineRegressor(
        n_factors=8, init_scale=0.1, random_state=0, max_iter=3, warm_start=True, early_stopping=False
    )
    errors = []
    for _ in range(3):
        model.fit(matrix[TRAIN], planted["number"][TRAIN])
        errors.append(np.mean((model.predict(matrix[TRAIN]) - planted["number"][TRAIN]) ** 2))
    assert errors[0] > errors[1] > errors[2]


# Options.


def test_l1_makes_weights_zero(matrix, planted) -> None:
    rng = np.random.default_rng(0)
    noise = sparse.csr_matrix((rng.random((N, 30)) < 0.1).astype(float))
    X = sparse.hstack([matrix, noise]).tocsr()
    solver = Ftrl(l1_linear=100.0, l1_factors=50.0)
    model = FactorizationMachineClassifier(n_factors=8, solver=solver, random_state=0, early_stopping=False, max_iter=2)
    model.fit(X[TRAIN], planted["binary"][TRAIN])
    assert (model.coef_[-30:] == 0).mean() > 0.5
    assert (model.coef_[N_USERS:-30] != 0).any()
    assert (model.factors_ == 0).mean() > 0.2


def test_penalties_per_field(matrix, planted) -> None:
    model = FactorizationMachineClassifier(
        **SETTINGS | {"reg_factors": {"user": 3.0}}, reg_linear={"user": 10.0}, fields=FIELDS, max_iter=5
    )
    model.fit(matrix[TRAIN], planted["binary"][TRAIN])
    assert np.abs(model.coef_[:N_USERS]).mean() < 0.2 * np.abs(model.coef_[N_USERS:]).mean()
    with pytest.raises(ValueError, match="There is no field 'shop'"):
        model.set_params(reg_linear={"shop": 1.0}).fit(matrix[:100], planted["binary"][:100])


def test_dropout_and_drop_connect_regularize(matrix, planted) -> None:
    small, gaps = slice(0, 6000), {}
    for noise in ({}, {"dropout": 0.5}, {"drop_connect": 0.5}):
        settings = SETTINGS | {"early_stopping": False, "max_iter": 25, "reg_factors": 0.0} | noise
        model = FactorizationMachineClassifier(**settings).fit(matrix[small], planted["binary"][small])
        inside, outside = (
            log_loss(planted["binary"][rows], model.predict_proba(matrix[rows])) for rows in (small, TEST)
        )
        gaps[" ".join(noise)] = outside - inside
    assert gaps["dropout"] < 0.8 * gaps[""]
    assert gaps["drop_connect"] < 0.8 * gaps[""]


def test_larger_batches_learn_too(matrix, planted) -> None:
    model = FactorizationMachineClassifier(**SETTINGS, batch_size=32).fit(matrix[TRAIN], planted["binary"][TRAIN])
    assert roc_auc_score(planted["binary"][TEST], model.decision_function(matrix[TEST])) > 0.85


def test_several_classes(matrix, planted) -> None:
    y = np.array(["low", "middle", "high"])[np.digitize(planted["score"], [-1, 1])]
    model = FactorizationMachineClassifier(**SETTINGS).fit(matrix[TRAIN], y[TRAIN])
    assert model.score(matrix[TEST], y[TEST]) > 0.7
    np.testing.assert_allclose(model.predict_proba(matrix[:9]).sum(axis=1), 1)
    assert model.factors_.shape == (matrix.shape[1], 3, 8)
    with pytest.raises(ValueError, match="two classes"):
        FactorizationMachineClassifier(loss="hinge").fit(matrix[:100], y[:100])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_factors": 0}, "n_factors must be an integer of at least 1"),
        ({"n_factors": 2.5}, "n_factors must be an integer of at least 1"),
        ({"max_iter": True}, "max_iter must be an integer of at least 1"),
        ({"loss": "cauchy"}, "loss must be one of log"),
        ({"solver": "newton"}, "solver must be one of adagrad"),
        ({"solver": "als"}, "cannot do loss='log'.*solvers that can"),
        ({"learning_rate": -1.0}, "learning_rate must be a positive finite number or None"),
        ({"learning_rate": "fast"}, "learning_rate must be a positive finite number or None"),
        ({"fields": FIELDS, "interactions": None}, "interactions holds None; expected pairs"),
        ({"fields": FIELDS, "interactions": [3]}, "interactions holds 3; expected pairs"),
        ({"fields": FIELDS, "reg_factors": {"user": np.inf}}, "must be a finite number of at least 0, got inf"),
        ({"interactions": "none"}, 'interactions must be "all"'),
        ({"interactions": [("user", "item")]}, "need fields="),
        ({"fields": FIELDS, "interactions": [("user", "shop")]}, "expected pairs of the groups 'user', 'item'"),
        ({"fields": {"user": [10**6]}, "interactions": [("user", "user")]}, "outside X"),
        ({"fields": FIELDS, "groups": {"a": ["user"], "b": ["user"]}, "interactions": [("a", "b")]}, "overlap"),
        ({"fields": FIELDS, "groups": {"a": [], "b": ["user"]}, "interactions": [("a", "b")]}, "no field for 'a'"),
        ({"fields": {"a": [0, 1], "b": [2, 1]}}, "fields= names the column 1 twice, in 'a' and in 'b'"),
        ({"reg_factors": -1.0}, "reg_factors must be a finite number of at least 0 or a dict"),
        ({"dropout": 1.0}, "dropout must be a number of at least 0 and below 1"),
        ({"query": "user", "loss": "bpr"}, "X must be a frame"),
    ],
)
def test_bad_parameters(matrix, planted, changes: dict, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        FactorizationMachineClassifier(**changes).fit(matrix[:100], planted["binary"][:100])


def test_pairs_are_named_in_any_order_and_form(matrix, planted) -> None:
    rows = slice(0, 300)
    scores = [
        FactorizationMachineClassifier(max_iter=1, random_state=0, fields=FIELDS, interactions=pairs)
        .fit(matrix[rows], planted["binary"][rows])
        .decision_function(matrix[rows])
        for pairs in ([("user", "item")], (["item", "user"],), [{"user", "item"}, ("user", "item")])
    ]
    np.testing.assert_array_equal(scores[0], scores[1])
    np.testing.assert_array_equal(scores[0], scores[2])


def test_fields_have_columns_and_names_of_their_own() -> None:
    X = pd.DataFrame(np.eye(3)[np.arange(30) % 3], columns=["a", "b", "c"])
    with pytest.raises(ValueError, match="names of other columns, \\['c'\\]"):
        FactorizationMachineClassifier(fields={"c": ["a", "b"]}).fit(X, np.arange(30) % 2)
    with pytest.raises(ValueError, match="fields= names the column 'b' twice, in 'd' and in 'e'"):
        FactorizationMachineClassifier(fields={"d": ["a", "b"], "e": ["b", "c"]}).fit(X, np.arange(30) % 2)
    with pytest.raises(ValueError, match="fields\\['d'\\] names no column"):
        FactorizationMachineClassifier(fields={"d": []}).fit(X, np.arange(30) % 2)
    own = FactorizationMachineClassifier(fields={"c": ["b", "c"]}, max_iter=1).fit(X, np.arange(30) % 2)
    assert {name: len(columns) for name, columns in own.fields_.items()} == {"c": 4, "a": 2}


def test_later_batches_have_rows(matrix) -> None:
    fitted = FactorizationMachineClassifier(max_iter=1).partial_fit(matrix[:10], np.arange(10) % 2)
    with pytest.raises(ValueError, match="0 sample"):
        fitted.partial_fit(matrix[:0], np.zeros(0))


def test_bad_labels(matrix) -> None:
    with pytest.raises(ValueError, match="2 of 4 rows have no query"):
        FactorizationMachineClassifier(loss="bpr").fit(matrix[:4], [0, 1, 0, 1], query=["a", None, "a", None])
    with pytest.raises(ValueError, match="needs counts"):
        FactorizationMachineRegressor(loss="poisson").fit(matrix[:3], [1.0, -1.0, 2.0])
    with pytest.raises(ValueError, match="non-zero"):
        FactorizationMachineRegressor().fit(matrix[:3], [1.0, -1.0, 2.0], sample_weight=[0, 0, 0])
    with pytest.raises(ValueError, match="posterior draws"):
        FactorizationMachineRegressor().fit(matrix[:3], [1.0, -1.0, 2.0]).predict(matrix[:3], return_std=True)


def test_noise_labels_are_at_chance(matrix) -> None:
    rng = np.random.default_rng(4)
    y = rng.integers(0, 2, N)
    model = FactorizationMachineClassifier(n_factors=8, random_state=0).fit(matrix[TRAIN], y[TRAIN])
    assert abs(roc_auc_score(y[TEST], model.decision_function(matrix[TEST])) - 0.5) < 0.02


@pytest.mark.parametrize("kind", [bool, int])
def test_labels_in_a_column_of_objects(kind: type) -> None:
    X = np.random.default_rng(0).normal(size=(200, 2))
    y = (X[:, 0] > 0).astype(kind)
    model = FactorizationMachineClassifier(max_iter=2, random_state=0).fit(X, y.astype(object))
    assert model.classes_.dtype == y.dtype
    assert model.classes_.tolist() == [0, 1]


@pytest.mark.parametrize("solver", ["adagrad", "sgd"])
def test_the_scale_of_weights_says_nothing(solver: str) -> None:
    X = np.random.default_rng(0).normal(size=(400, 3))
    y = X[:, 0] + X[:, 1] * X[:, 2]
    model = FactorizationMachineRegressor(solver=solver, max_iter=3, random_state=0)
    plain = model.fit(X, y).predict(X)
    for scale in (2.0**-20, 2.0**13):
        np.testing.assert_allclose(model.fit(X, y, sample_weight=np.full(400, scale)).predict(X), plain)


@pytest.mark.parametrize("rows", [np.asarray, sparse.csr_matrix])
@pytest.mark.parametrize("name", ["categorical", "exclude"])
@pytest.mark.parametrize(
    "machine", [FactorizationMachineClassifier(), FactorizationMachineRegressor(), MultiTaskFactorizationMachine()]
)
def test_names_of_columns_that_an_array_does_not_have_are_refused(machine: Any, name: str, rows: Any) -> None:
    X = np.random.default_rng(0).normal(size=(50, 2))
    with pytest.raises(RoleError, match=name):
        clone(machine).set_params(**{name: ["item"]}).fit(rows(X), (X[:, 0] > 0) * 1.0)


def test_a_name_in_place_of_groups_is_refused() -> None:
    X = np.random.default_rng(0).normal(size=(50, 2))
    with pytest.raises(TypeError, match="query must be an array"):
        FactorizationMachineClassifier(loss="bpr").fit(X, X[:, 0] > 0, query="user")
