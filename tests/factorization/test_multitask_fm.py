"""The multi-task factorization machine, as its users see it."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.metrics import roc_auc_score

from mtl_classic import Task, TaskError, make_folds
from mtl_classic._core.exceptions import ConstantTaskWarning, FallbackWarning, FoldError
from mtl_classic.factorization import FactorizationMachineClassifier, MultiTaskFactorizationMachine

N = 40_000
TRAIN, TEST = slice(0, 30_000), slice(30_000, N)
SETTINGS = {"n_factors": 8, "init_scale": 0.1, "reg_factors": 0.01, "n_iter_no_change": 3, "random_state": 0}
TASKS = {"click": "binary", "stars": "regression", "visits": "count", "mood": "multiclass"}


@pytest.fixture(scope="module", name="X")
def make_rows() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame({"user": rng.integers(0, 200, N), "item": rng.integers(0, 150, N)})


@pytest.fixture(scope="module")
def score(X) -> np.ndarray:
    rng = np.random.default_rng(1)
    U, V = rng.normal(size=(200, 3)), rng.normal(size=(150, 3))
    return (U[X["user"]] * V[X["item"]]).sum(axis=1)


@pytest.fixture(scope="module")
def truth(score) -> pd.DataFrame:
    rng = np.random.default_rng(2)
    return pd.DataFrame(
        {
            "click": (score + rng.logistic(size=N) > 0).astype(float),
            "stars": 3 + score + 2 * rng.normal(size=N),
            "visits": rng.poisson(np.exp(0.4 * score - 0.5)).astype(float),
            "mood": np.array(["bad", "so so", "good"])[np.digitize(score + rng.normal(size=N), [-1, 1])],
        }
    )


@pytest.fixture(scope="module", name="Y")
def make_labels(truth) -> pd.DataFrame:
    """The labels, most clicks missing."""
    Y = truth.copy()
    Y.loc[np.random.default_rng(3).random(N) < 0.9, "click"] = np.nan
    return Y


def machine(tasks=TASKS, **changes) -> MultiTaskFactorizationMachine:
    return MultiTaskFactorizationMachine(tasks, categorical=["user", "item"], **(SETTINGS | changes))


def fit_quietly(model: MultiTaskFactorizationMachine, *args, **kwargs) -> MultiTaskFactorizationMachine:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FallbackWarning)
        return model.fit(*args, **kwargs)


@pytest.fixture(scope="module")
def fitted(X, Y) -> MultiTaskFactorizationMachine:
    return fit_quietly(machine(), X[TRAIN], Y[TRAIN])


def test_a_task_with_few_labels_learns_from_the_others(fitted, X, Y, truth) -> None:
    labelled = np.flatnonzero(Y["click"].notna()[TRAIN])
    alone = FactorizationMachineClassifier(categorical=["user", "item"], **SETTINGS)
    alone.fit(X.iloc[labelled], Y["click"].iloc[labelled])
    separate = roc_auc_score(truth["click"][TEST], alone.decision_function(X[TEST]))
    joint = roc_auc_score(truth["click"][TEST], fitted.predict_scores(X[TEST])["click"])
    assert joint > separate + 0.1
    assert joint > 0.78
    assert "click" not in fitted.fallbacks_


def test_every_task_is_learnt(fitted, X, truth, score) -> None:
    scores = fitted.predict_scores(X[TEST])
    assert scores.columns.tolist() == ["click", "stars", "visits", "mood=bad", "mood=good", "mood=so so"]
    assert np.corrcoef(scores["stars"], score[TEST])[0, 1] > 0.9
    assert np.corrcoef(scores["visits"], np.exp(0.4 * score[TEST] - 0.5))[0, 1] > 0.8
    assert (fitted.predict(X[TEST])["mood"] == truth["mood"][TEST]).mean() > 0.6
    np.testing.assert_allclose(scores.filter(like="mood").sum(axis=1), 1, rtol=1e-6)
    assert fitted.interaction_weights_["click"].shape == (8,)
    assert fitted.interaction_weights_["mood"].shape == (3, 8)
    assert set(fitted.best_iter_) == set(TASKS)
    assert len(set(fitted.best_iter_.values())) > 1  # checkpoints differ


def test_a_task_that_sharing_harms_falls_back_and_says_so(X, truth) -> None:
    rng = np.random.default_rng(5)
    other = (rng.normal(size=(200, 8))[X["user"]] * rng.normal(size=(150, 8))[X["item"]]).sum(axis=1)
    Y = pd.DataFrame({"other": other, "click": truth["click"]})
    tasks = {"other": "regression", "click": "binary"}
    model = machine(tasks, task_weights={"other": 0.01, "click": 2.0})
    with pytest.warns(FallbackWarning, match="other: the joint fit's validation loss"):
        model.fit(X[TRAIN], Y[TRAIN])
    assert list(model.fallbacks_) == ["other"]
    assert "that of the task alone" in model.fallbacks_["other"]
    joint_only = machine(tasks, task_weights={"other": 0.01, "click": 2.0}, fallback=False).fit(X[TRAIN], Y[TRAIN])
    errors = [np.mean((m.predict_scores(X[TEST])["other"] - Y["other"][TEST]) ** 2) for m in (model, joint_only)]
    assert errors[0] < errors[1]
    pd.testing.assert_series_equal(model.predict_scores(X[TEST])["click"], joint_only.predict_scores(X[TEST])["click"])


def test_the_level_says_how_sure_harm_must_be(X, truth) -> None:
    rng = np.random.default_rng(5)
    other = (rng.normal(size=(200, 8))[X["user"]] * rng.normal(size=(150, 8))[X["item"]]).sum(axis=1)
    Y = pd.DataFrame({"other": other, "click": truth["click"]})
    tasks, weights = {"other": "regression", "click": "binary"}, {"other": 0.01, "click": 2.0}
    fallbacks = []
    for level in (0.5, 0.999999):  # of the mean of 64 rows
        model = machine(tasks, task_weights=weights, fallback_level=level, validation_fraction=0.002)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FallbackWarning)
            model.fit(X[TRAIN], Y[TRAIN])
        fallbacks.append(list(model.fallbacks_))
    assert set(fallbacks[1]) < set(fallbacks[0])
    with pytest.raises(ValueError, match="fallback_level must be a number above 0"):
        model.set_params(fallback_level=1.0).fit(X[TRAIN], Y[TRAIN])


@pytest.mark.parametrize("interactions", ["all", [("user", "item")]])
def test_a_task_with_few_labels_learns_what_is_popular_from_the_others(X, interactions) -> None:
    rng = np.random.default_rng(7)
    popular = rng.normal(size=150)[X["item"]] + rng.normal(size=200)[X["user"]]
    Y = pd.DataFrame({"stars": popular + rng.normal(size=N), "hate": (rng.logistic(size=N) > 2 * popular) * 1.0})
    few = Y.assign(hate=Y["hate"].where(rng.random(N) < 0.02))
    aucs = {}
    for shared in (True, False):
        tasks = {"stars": "regression", "hate": "binary"}
        model = machine(tasks, shared_linear=shared, interactions=interactions, init_scale=0.01)
        fit_quietly(model, X[TRAIN], few[TRAIN])
        aucs[shared] = roc_auc_score(Y["hate"][TEST], model.predict_scores(X[TEST])["hate"])
        assert model.linear_shares_["hate"].shape == ((1,) if shared else (0,))
    assert aucs[True] > aucs[False] + 0.05
    assert aucs[True] > 0.8
    assert model.interaction_weights_["stars"].tolist() == [1.0] * 8  # most labels: the scale is theirs


@pytest.mark.parametrize("task_weights", ["uncertainty", "dynamic", {"click": 5.0}])
def test_task_weights(X, Y, truth, task_weights) -> None:
    model = fit_quietly(machine(task_weights=task_weights, n_private=8), X[TRAIN], Y[TRAIN])
    assert roc_auc_score(truth["click"][TEST], model.predict_scores(X[TEST])["click"]) > 0.75


def test_missing_labels_move_nothing(X, Y) -> None:
    X, Y = X[:3000], Y[:3000]
    settings = {"early_stopping": False, "max_iter": 3}
    first = machine(**settings).fit(X, Y).predict_scores(X)
    weights = np.ones((3000, 4))
    filled = Y.copy()
    missing = Y["click"].isna().to_numpy()
    filled.loc[missing, "click"] = 1.0
    weights[missing, 0] = 0
    second = machine(**settings).fit(X, filled, sample_weight=weights).predict_scores(X)
    # Class counts differ, and so does nothing else.
    pd.testing.assert_frame_equal(first, second, rtol=1e-6)
    filled["stars"], weights[:, 1] = Y["stars"].where(np.arange(3000) < 2000, 1e6), np.arange(3000) < 2000
    Y = Y.assign(stars=Y["stars"].where(np.arange(3000) < 2000))
    first = machine(**settings).fit(X, Y).predict_scores(X)
    second = machine(**settings).fit(X, filled, sample_weight=weights).predict_scores(X)
    pd.testing.assert_frame_equal(first, second, rtol=1e-6)


@pytest.mark.parametrize("planned", [False, True])
def test_rows_without_any_label_are_as_if_they_were_not_there(X, Y, planned: bool) -> None:
    X, Y = X[:3000], Y[:3000]
    rows = np.sort(np.random.default_rng(0).permutation(3000)[:600])
    unlabelled = Y.where(pd.Series(np.isin(np.arange(3000), rows)), axis=0)
    encoded = pd.get_dummies(X.astype(str), dtype=float)  # the same columns for both
    plans = [None, None]
    if planned:
        fold = np.arange(3000) % 3
        plans = [make_folds(fold, Y), make_folds(fold[rows], Y.iloc[rows])]
    settings = {"scale": False, "max_iter": 4, "fallback": False}
    many = machine(**settings).set_params(categorical=()).fit(encoded, unlabelled, plan=plans[0])
    few = machine(**settings).set_params(categorical=()).fit(encoded.iloc[rows], Y.iloc[rows], plan=plans[1])
    assert many.best_iter_ == few.best_iter_
    pd.testing.assert_frame_equal(many.predict_scores(encoded), few.predict_scores(encoded), rtol=1e-6)


def test_columns_and_rows_in_any_order(fitted, X) -> None:
    batch = fitted.predict_scores(X[TEST])
    order = np.random.default_rng(0).permutation(len(batch))
    again = fitted.predict_scores(X[TEST].iloc[order][["item", "user"]])
    pd.testing.assert_frame_equal(again, batch.iloc[order], rtol=1e-5)
    one = fitted.predict_scores(X[TEST].iloc[[7]])
    np.testing.assert_allclose(one.to_numpy(), batch.iloc[[7]].to_numpy(), rtol=1e-5)


def test_tasks_in_any_order(fitted, X, Y) -> None:
    other = fit_quietly(machine(dict(reversed(TASKS.items()))), X[TRAIN], Y[TRAIN])
    ours, theirs = fitted.predict_scores(X[TEST]), other.predict_scores(X[TEST])
    assert other.best_iter_ == fitted.best_iter_
    np.testing.assert_allclose(theirs[ours.columns], ours, rtol=0.02, atol=0.02)  # float32 sums in another order


def test_same_seed_same_bits_and_copies(X, Y) -> None:
    fits = [fit_quietly(machine(max_iter=3), X[:5000], Y[:5000]) for _ in range(2)]
    pd.testing.assert_frame_equal(fits[0].predict_scores(X), fits[1].predict_scores(X), rtol=0, atol=0)
    copy = pickle.loads(pickle.dumps(fits[0]))
    pd.testing.assert_frame_equal(copy.predict_scores(X), fits[0].predict_scores(X), rtol=0, atol=0)
    assert not hasattr(clone(fits[0]), "tasks_")


def test_a_funnel_child_is_never_above_its_parent(X, score) -> None:
    rng = np.random.default_rng(6)
    click = (score + rng.logistic(size=N) > 1).astype(float)
    buy = click * (rng.random(N) < 0.8)
    spend = buy * np.exp(rng.normal(size=N))
    Y = pd.DataFrame({"click": click, "buy": buy, "spend": spend})
    tasks = [Task("click", "binary"), Task("buy", "binary", given="click"), Task("spend", "regression", given="buy")]
    model = fit_quietly(machine(tasks), X[TRAIN], Y[TRAIN])
    entire, conditional = (model.predict_scores(X[TEST], space=space) for space in ("entire", "conditional"))
    assert (entire["buy"] <= entire["click"]).all()
    assert (conditional["buy"] <= 1).all()
    np.testing.assert_allclose(conditional["buy"] * entire["click"], entire["buy"], rtol=1e-6)


def test_numbers_with_missing_values_in_arrays() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(4000, 4))
    y = np.column_stack([X[:, 0] * X[:, 1], X[:, 0] + X[:, 2]]) + 0.1 * rng.normal(size=(4000, 2))
    X[rng.random(X.shape) < 0.05] = np.nan
    model = fit_quietly(MultiTaskFactorizationMachine(init_scale=0.1, random_state=0), X, y)
    assert model.score(X, y) > 0.6
    assert model.predict(X).shape == (4000, 2)
    assert np.isfinite(model.predict(X)).all()


def test_sparse_rows_and_a_plan(X, Y) -> None:
    columns = np.column_stack([X["user"], 200 + X["item"]])[:6000]
    matrix = sparse.csr_matrix((np.ones(12_000), columns.ravel(), np.arange(0, 12_001, 2)), shape=(6000, 350))
    plan = make_folds(5, Y[:6000], random_state=0)
    model = fit_quietly(MultiTaskFactorizationMachine(TASKS, **SETTINGS), matrix, Y[:6000], plan=plan)
    assert len(model.validation_losses_) >= 3
    assert np.isfinite(model.predict_scores(matrix).to_numpy()).all()


def test_sparse_rows_are_their_numbers_however_they_are_stored() -> None:
    rng = np.random.default_rng(0)
    dense = (rng.random((600, 6)) < 0.4) * rng.integers(1, 4, 6)
    Y = np.column_stack([dense[:, 0] * dense[:, 1], dense[:, 2] > 0]) + 0.0
    X = sparse.csr_matrix(dense)
    halves = sparse.csr_matrix((np.repeat(X.data / 2, 2), np.repeat(X.indices, 2), 2 * X.indptr), shape=X.shape)
    zeros = sparse.csr_matrix((dense.ravel(), np.tile(np.arange(6), 600), np.arange(0, 3601, 6)), shape=X.shape)
    settings = {"tasks": {"y0": "regression", "y1": "binary"}, "max_iter": 2, "random_state": 0}
    model = fit_quietly(MultiTaskFactorizationMachine(**settings), X, Y)
    for stored in (halves, zeros):
        n_stored = stored.nnz
        again = fit_quietly(MultiTaskFactorizationMachine(**settings), stored, Y)
        pd.testing.assert_frame_equal(again.predict_scores(X), model.predict_scores(stored))
        assert stored.nnz == n_stored


@pytest.mark.parametrize("labelled", ["last", "others"])
def test_a_plan_that_leaves_no_labels_on_one_side_learns_from_all_rows(X, Y, labelled: str) -> None:
    X, Y = X[:1000], Y[["stars", "visits"]][:1000]
    plan = make_folds(2, Y, random_state=0)
    Y = Y.where(pd.Series((plan.fold == 1) == (labelled == "last"), index=Y.index), np.nan, axis=0)
    tasks = {"stars": "regression", "visits": "count"}
    planned = machine(tasks, max_iter=3).fit(X, Y, plan=plan)
    known = Y["stars"].notna()
    pd.testing.assert_frame_equal(
        planned.predict_scores(X),
        machine(tasks, max_iter=3, early_stopping=False).fit(X, Y).predict_scores(X),
    )
    assert planned.best_iter_ == {"stars": 3, "visits": 3}
    assert planned.predict_scores(X[known])["stars"].std() > 0.05


def test_fields_of_arrays_are_numbers_and_sparse_rows_hold_numbers() -> None:
    rng = np.random.default_rng(0)
    X, y = np.eye(6)[rng.integers(0, 6, 500)], rng.random(500) < 0.5
    for fields in ({"a": [0, 1, 2], "b": [3, 4, 5]}, {"a": slice(0, 3), "b": slice(3, 6)}):
        for rows in (X, pd.DataFrame(X), sparse.csr_matrix(X)):
            fitted = machine({"y": "binary"}, fields=fields, max_iter=2).set_params(categorical=()).fit(rows, y)
            columns = fitted._design.fields()
            assert list(columns) == ["a", "b"]
            assert len(columns["a"]) == len(columns["b"])
            assert len(np.union1d(columns["a"], columns["b"])) == fitted._design.n_columns
    holes = sparse.csr_matrix(np.where(X == 1, np.nan, 0))
    with pytest.raises(ValueError, match="must not hold NaN"):
        fitted.predict_scores(holes)
    with pytest.raises(ValueError, match="must not hold NaN"):
        fitted.fit(holes, y)


def test_two_hundred_tasks() -> None:
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"user": rng.integers(0, 30, 600), "item": rng.integers(0, 20, 600)})
    Y = rng.normal(size=(30, 200))[X["user"]] + rng.normal(size=(600, 200))
    model = MultiTaskFactorizationMachine(
        categorical=["user", "item"], fallback=False, max_iter=20, random_state=0, n_factors=8
    ).fit(X, Y)
    assert model.predict(X).shape == (600, 200)
    assert model.score(X, Y) > 0.1


def test_bad_input(X, Y) -> None:
    few = X[:200], Y[:200]
    with pytest.raises(ValueError, match="'adagrad'|fits one task|cannot do"):
        machine(solver="als").fit(*few)
    with pytest.raises(ValueError, match="task_weights must be"):
        machine(task_weights="equal").fit(*few)
    ranked = X[:200].assign(q=np.arange(200) // 10)
    with pytest.raises(TaskError, match=r"does not learn.*bpr"):
        machine([Task("stars", "ranking", query="q")]).fit(ranked, pd.DataFrame({"stars": np.arange(200) % 3}))
    with pytest.raises(ValueError, match="n_factors"):
        machine(n_factors=0).fit(*few)


def test_constant_tasks_are_their_constants() -> None:
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"user": rng.integers(0, 20, 400), "item": rng.integers(0, 20, 400)})
    y = rng.normal(size=400)
    Y = pd.DataFrame({"always": 1.0, "stars": 3.5, "mood": "good", "click": y > 0, "late": y})
    kinds = {"always": "binary", "stars": "regression", "mood": "multiclass", "click": "binary", "late": "regression"}
    for names in (list(kinds), list(kinds)[:3]):
        with pytest.warns(ConstantTaskWarning, match="constant is trained"):
            model = machine({name: kinds[name] for name in names}, max_iter=2).fit(X, Y[names])
        assert list(model.constants_) == list(kinds)[:3]
        assert not set(model.fallbacks_) & set(model.constants_)
        scores = model.predict_scores(X)
        assert (scores[["always", "stars", "mood=good"]] == [1, 3.5, 1]).all().all()
        assert scores.shape == (400, len(names))
        assert scores.notna().all().all()
    alone = fit_quietly(machine({"click": "binary", "late": "regression"}, max_iter=2), X, Y[["click", "late"]])
    with pytest.warns(ConstantTaskWarning):
        beside = machine(kinds, max_iter=2).fit(X, Y, sample_weight=np.full(400, 1e-6))
    columns = ["click", "late"]
    assert beside.predict_scores(X)[columns].equals(alone.predict_scores(X)[columns])


@pytest.mark.parametrize("solver", ["adagrad", "ftrl"])
def test_tasks_whose_labels_are_all_validated_on_start_from_their_mean(X, Y, truth, solver: str) -> None:
    rare = (truth["click"] > 0) & (X.index % 9 == 0)
    late = truth.assign(click=rare * 1.0)[:2000]
    late.loc[: 2000 * 4 // 5 - 1, ["click", "visits", "mood"]] = [np.nan, np.nan, None]
    plan = make_folds(np.arange(2000) * 5 // 2000, late)
    model = fit_quietly(machine(solver=solver, max_iter=2), X[:2000], late, plan=plan)
    scores = model.predict_scores(X[:2000]).mean()
    assert scores["click"] == pytest.approx(late["click"].mean(), rel=0.2)
    assert scores["visits"] == pytest.approx(late["visits"].mean(), rel=0.2)
    assert scores["mood=good"] == pytest.approx((late["mood"].dropna() == "good").mean(), rel=0.2)


def test_plans_of_other_rows_are_refused(X, Y) -> None:
    with pytest.raises(FoldError, match="for 999 rows, but X has 1000"):
        machine().fit(X[:1000], Y[:1000], plan=make_folds(3, Y[:999]))
    with pytest.raises(TypeError, match="FoldPlan"):
        machine().fit(X[:1000], Y[:1000], plan=3)
