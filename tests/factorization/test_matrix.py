import pickle
import sys
import warnings
from types import FrameType
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy.special import expit
from sklearn.base import clone
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from threadpoolctl import threadpool_limits

from mtl_classic._core.exceptions import LabelError, RoleError, TaskError
from mtl_classic._core.tasks import Task
from mtl_classic.events import EventLog
from mtl_classic.factorization import LatentFeatures, MatrixFactorization, Segments
from mtl_classic.factorization._matrix_columns import largest
from mtl_classic.model_selection import make_folds

MODELS = ("als", "bpr", "logistic", "explicit")


def world(n: int = 15_000, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame, np.ndarray]:
    """Rows of 200 users × 120 items whose taste has 3 dimensions, in 100 days; the true affinity."""
    rng = np.random.default_rng(seed)
    P, Q = rng.normal(size=(200, 3)), rng.normal(size=(120, 3))
    X = pd.DataFrame({"user": rng.integers(0, 200, n), "item": rng.integers(0, 120, n), "day": rng.integers(0, 100, n)})
    affinity = (P[X["user"]] * Q[X["item"]]).sum(axis=1)
    buy = (rng.random(n) < expit(2 * affinity - 2)).astype(float)
    Y = pd.DataFrame({"buy": buy, "rating": np.round(3 + affinity + 0.5 * rng.normal(size=n), 3)})
    return X, Y, affinity


TASKS = [Task("buy", "binary"), Task("rating", "regression")]


def log_of(X: pd.DataFrame, Y: pd.DataFrame) -> EventLog:
    """An event per positive row, on the row's day, with the rating as value."""
    events = X.assign(type="buy", stars=Y["rating"])[Y["buy"] == 1]
    return EventLog(events, user="user", item="item", time="day", event="type", value="stars")


def make(model: str, **arguments) -> MatrixFactorization:
    defaults = {"user": "user", "item": "item", "n_factors": 4, "tasks": TASKS, "random_state": 0}
    if model == "explicit":
        defaults["max_iter"] = 40
    return MatrixFactorization(model, **(defaults | arguments))


@pytest.mark.parametrize("model", MODELS)
def test_planted_tastes_are_recovered(model: str) -> None:
    X, Y, affinity = world()
    train = np.arange(12_000)
    test = np.setdiff1d(np.arange(len(X)), train)
    fitted = make(model).fit(X.iloc[train], Y.iloc[train])
    assert fitted.task_ == ("rating" if model == "explicit" else "buy")
    score = fitted.transform(X.iloc[test])[f"{model}__score"]
    floor = {"als": 0.8, "bpr": 0.8, "logistic": 0.75, "explicit": 0.95}[model]
    assert roc_auc_score(affinity[test] > 1, score) > floor
    if model == "explicit":
        assert np.sqrt(np.mean((score - 3 - affinity[test]) ** 2)) < 0.35


@pytest.mark.parametrize("model", MODELS)
def test_columns_names_and_form(model: str) -> None:
    X, Y, _ = world(2000)
    X.index = X.index + 500
    before = X.copy()
    fitted = make(model, output="both").fit(X, Y.set_axis(X.index))
    out = fitted.transform(X)
    assert list(out.columns) == list(fitted.get_feature_names_out())
    numbered = make(model, max_iter=2).fit(X.assign(extra=0).rename(columns={"extra": 7}), Y.set_axis(X.index))
    assert len(numbered.get_feature_names_out()) == 4 + 3
    assert list(out.columns[3:6]) == [f"{model}__score", f"{model}__user_norm", f"{model}__item_norm"]
    assert out.shape == (2000, 3 + 3 + 8)
    assert out.index.equals(X.index)
    pd.testing.assert_frame_equal(X, before)
    assert (out.iloc[:, 3:].dtypes == np.float32).all()
    user = out.filter(regex="__user_[0-9]").to_numpy()
    seen = X["user"].isin(fitted.users_)
    np.testing.assert_allclose(np.linalg.norm(user, axis=1)[seen], out[f"{model}__user_norm"][seen], rtol=1e-5)
    assert (out[f"{model}__user_norm"][~seen] == 0).all()
    if model == "als":
        item = out.filter(regex="__item_[0-9]").to_numpy()
        np.testing.assert_allclose((user * item).sum(axis=1), out["als__score"], rtol=1e-4, atol=1e-5)
    scores = clone(fitted).set_params(output="scores").fit(X, Y).transform(X)
    pd.testing.assert_frame_equal(scores, out[scores.columns])
    assert clone(fitted).set_params(output="vectors").fit(X, Y).transform(X).shape == (2000, 11)


@pytest.mark.parametrize("model", MODELS)
def test_what_was_never_seen_has_the_mean_vector(model: str) -> None:
    X, Y, _ = world(3000)
    fitted = make(model).fit(X, Y)
    new = pd.DataFrame({"user": [0, 9999, 0, 9999, None], "item": [5, 5, 9999, 9999, None], "day": 0})
    out = fitted.transform(new)
    assert np.isfinite(out.iloc[:, 3:].to_numpy()).all()
    assert out[f"{model}__user_norm"].tolist()[1::2] == [0, 0]
    assert out[f"{model}__item_norm"].tolist()[2:] == [0, 0, 0]
    everyone = pd.DataFrame({"user": fitted.users_, "item": 5, "day": 0})
    mean = fitted.transform(everyone)[f"{model}__score"].mean()
    assert out[f"{model}__score"][1] == pytest.approx(mean, abs=0.2 if model == "explicit" else 1e-3)


@pytest.mark.parametrize("model", MODELS)
def test_fit_transform_does_not_see_the_rows_own_label(model: str) -> None:
    X, Y, _ = world(2500)
    columns = make(model).fit_transform(X, Y)
    for row in (0, 77):
        flipped = Y.copy()
        flipped.loc[row] = [1 - Y.loc[row, "buy"], 6 - Y.loc[row, "rating"]]
        plan = make_folds(4, np.zeros(len(X)), random_state=0)
        a = make(model).fit_transform(X, Y, plan=plan)
        b = make(model).fit_transform(X, flipped, plan=plan)
        np.testing.assert_array_equal(a.iloc[row], b.iloc[row])
        same = plan.fold == plan.fold[row]
        np.testing.assert_array_equal(a[same], b[same])
        assert not np.array_equal(a[~same], b[~same])
    assert columns.notna().all().all()


@pytest.mark.parametrize("model", ["als", "bpr", "explicit"])
def test_a_noise_label_stays_noise(model: str) -> None:
    rng = np.random.default_rng(1)
    n = 20_000
    X = pd.DataFrame({"user": rng.integers(0, 400, n), "item": rng.integers(0, 200, n)})
    noise = rng.integers(0, 2, n).astype(float)
    Y = pd.DataFrame({"buy": noise, "rating": noise + 0.01 * rng.normal(size=n)})
    plan = make_folds(4, Y, random_state=0)
    score = make(model).fit_transform(X, Y, plan=plan)[f"{model}__score"].to_numpy()
    aucs = [roc_auc_score(noise[plan.fold == k], score[plan.fold == k]) for k in range(4)]
    assert np.mean(aucs) == pytest.approx(0.5, abs=0.02)
    in_sample = make(model).fit(X, Y).transform(X)[f"{model}__score"]
    assert roc_auc_score(noise, in_sample) > 0.55  # what fit_transform must never give


@pytest.mark.parametrize("model", ["als", "explicit"])
def test_with_a_log_only_the_past_counts(model: str) -> None:
    X, Y, affinity = world()
    log = log_of(X, Y)
    fitted = make(model, user=None, item=None)
    columns = fitted.fit_transform(X, events=log)
    score = columns[f"{model}__score"]
    first = X["day"] < X["day"][score.notna()].min()
    assert 0.1 < first.mean() < 0.25  # nothing was known before the first block
    assert score[~first].notna().all()
    late = X["day"] > 70
    assert roc_auc_score(affinity[late] > 1, score[late]) > 0.7
    day = 60
    changed = log.to_frame()
    later = changed["day"] >= day
    rng = np.random.default_rng(0)
    changed.loc[later, "item"] = rng.permutation(changed.loc[later, "item"])
    changed.loc[later, "stars"] = rng.normal(size=later.sum())
    other = make(model, user=None, item=None)
    past = other.fit_transform(X, events=EventLog(changed, **log.roles))
    pd.testing.assert_frame_equal(columns[X["day"] <= day], past[X["day"] <= day])
    assert not np.allclose(score[late], past[f"{model}__score"][late])
    # The full fit stops before the last row.
    ahead = log.append(changed.assign(day=99 + rng.integers(0, 50, len(changed))))
    again = make(model, user=None, item=None).fit(X, events=ahead)
    pd.testing.assert_frame_equal(again.transform(X), fitted.transform(X))


@pytest.mark.parametrize("model", MODELS)
def test_new_users_are_folded_in(model: str) -> None:
    X, Y, affinity = world(20_000)
    X, Y = X.assign(user="u" + X["user"].astype(str)), Y
    newcomer = X["user"].str.endswith("7")
    shown = pd.Series(np.random.default_rng(0).random(len(X)) < 0.5)
    log = log_of(X[~newcomer], Y[~newcomer])
    fitted = make(model, user=None, item=None).fit(X.drop(columns="day"), events=log)
    test = X[newcomer & ~shown].drop(columns="day")
    truth = affinity[newcomer & ~shown] > 1
    cold = fitted.transform(test)
    known = X[~newcomer].drop(columns="day")
    before = fitted.transform(known)
    assert fitted.as_of_ == log.last_time
    new = log_of(X[newcomer & shown], Y[newcomer & shown])
    fitted.observe(new.to_frame())
    assert fitted.as_of_ == max(log.last_time, new.last_time)
    pd.testing.assert_frame_equal(before, fitted.transform(known))
    warm = fitted.transform(test)
    assert (warm[f"{model}__user_norm"] > 0).mean() > 0.95
    assert np.isfinite(warm[f"{model}__score"]).all()
    gain = roc_auc_score(truth, warm[f"{model}__score"]) - roc_auc_score(truth, cold[f"{model}__score"])
    assert gain > {"als": 0.08, "bpr": 0.03, "logistic": 0.03, "explicit": 0.1}[model]
    strange = pd.DataFrame({"user": ["zz"], "item": [10**6], "day": [1], "type": ["buy"], "stars": [3.0]})
    fitted.observe(strange)
    alone = fitted.transform(pd.DataFrame({"user": ["zz"], "item": [3]}))
    assert np.isfinite(alone.iloc[:, 2:].to_numpy()).all()


def test_als_fold_in_of_known_pairs_changes_nothing() -> None:
    X, Y, _ = world(4000)
    log = log_of(X, Y)
    fitted = make("als", user=None, item=None).fit(X.drop(columns="day"), events=log)
    before = fitted.user_factors_.copy()
    fitted.observe(log.before(0))
    np.testing.assert_array_equal(fitted.user_factors_, before)
    fitted.observe(log)
    assert not np.allclose(fitted.user_factors_, before)
    doubled = make("als", user=None, item=None, weight={"buy": 2.0}).fit(X.drop(columns="day"), events=log)
    assert np.corrcoef(fitted.transform(X)["als__score"], doubled.transform(X)["als__score"])[0, 1] > 0.85


def test_vectors_of_users_who_are_folded_in_have_the_scale_of_those_of_the_fit() -> None:
    X, Y, _ = world(3000)
    hundred = Y.assign(rating=100 * Y["rating"])  # scores a hundred times as large: vectors ten times as long
    lengths = {}
    for name, labels in (("ones", Y), ("hundreds", hundred)):
        fitted = make("explicit").fit(X.assign(day=99), events=log_of(X, labels))
        fitted.observe(log_of(X.assign(user=X["user"] + 1000, day=100), labels))
        lengths[name] = np.linalg.norm(fitted.user_factors_, axis=1)
    np.testing.assert_allclose(lengths["hundreds"], 10 * lengths["ones"], rtol=0.01)


@pytest.mark.parametrize("model", MODELS)
def test_whom_nobody_has_seen_is_like_the_users_of_the_fit_whatever_was_told(model: str) -> None:
    X, Y, _ = world(400)
    fitted = make(model, output="both", max_iter=3).fit(X.assign(day=99), events=log_of(X, Y))
    row = pd.DataFrame({"user": [5000, None], "item": [3, 4], "day": [99, 120]})
    before = fitted.transform(row)
    fitted.observe(log_of(X.assign(user=X["user"] * 7 % 300, item=X["item"] // 4, day=110), Y))
    pd.testing.assert_frame_equal(fitted.transform(row), before)


@pytest.mark.parametrize("model", ["als", "explicit"])
def test_users_of_items_that_nobody_knows_stay_unseen(model: str) -> None:
    X, Y, _ = world(2000)
    fitted = make(model, output="both").fit(X.assign(day=99), events=log_of(X, Y))
    row = pd.DataFrame({"user": [5000], "item": [3], "day": [101]})
    before = fitted.transform(row)
    events = pd.DataFrame({"user": [5000], "item": [900], "day": [100], "type": ["buy"], "stars": [1.0]})
    assert fitted.observe(events).as_of_ == 100
    pd.testing.assert_frame_equal(fitted.transform(row), before)
    assert before[f"{model}__user_norm"].tolist() == [0.0]


@pytest.mark.parametrize("given", ["model", "latent", "segments"])
def test_the_time_of_rows_may_have_another_name_than_that_of_the_log(given: str) -> None:
    X, Y, _ = world(500)
    rows = X.assign(day=99).rename(columns={"day": "rows__when"})
    model = make("als", output="both", time="when" if given == "model" else None)
    if given == "latent":
        model = LatentFeatures([("als", model)], output="both", time="when")
    elif given == "segments":
        model = Segments(n_segments=20, model=model, time="when", random_state=0)
    fitted = model.fit(rows, events=log_of(X, Y))
    before = fitted.transform(rows)
    fitted.observe(log_of(X.assign(item=X["item"] * 7 % 120, day=100), Y))
    pd.testing.assert_frame_equal(fitted.transform(rows), before)
    assert not fitted.transform(rows.assign(rows__when=101)).iloc[:, 3:].equals(before.iloc[:, 3:])


def test_types_and_weights_of_events() -> None:
    X, Y, _ = world(4000)
    frame = log_of(X, Y).to_frame()
    noise = frame.assign(type="view", item=np.random.default_rng(0).permutation(frame["item"]), amount=5.0)
    log = EventLog(
        pd.concat([frame.assign(amount=2.0), noise]), user="user", item="item", time="day", event="type", value="stars"
    )
    plain = make("als", weight="amount").fit(X, events=EventLog(frame.assign(amount=2.0), **log.roles))
    for arguments in ({"event": "buy", "weight": "amount"}, {"weight": {"buy": 2.0}}, {"event": ["buy"], "alpha": 2.0}):
        other = make("als", **arguments).fit(X, events=log)
        pd.testing.assert_frame_equal(plain.transform(X), other.transform(X), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="no events of the types"):
        make("als", event="click").fit(X, events=log)
    with pytest.raises(ValueError, match="no events of the types"):
        make("als", event=["buy", "click"]).fit_transform(X, events=log)
    for wrong in (-1.0, np.inf):
        with pytest.raises(ValueError, match="'weight' has [1-9][0-9]* such values"):
            make("als", weight={"buy": 2.0, "view": wrong}).fit(X, events=log)


@pytest.mark.parametrize("counted", [{"event": "buy"}, {"event": ["buy", "return"]}, {"weight": {"buy": 2.0}}])
def test_events_of_a_type_may_begin_late_and_be_absent_later(counted: dict) -> None:
    X, Y, _ = world(1000)
    frame = log_of(X, Y).to_frame()
    late, never_bought = frame["day"] >= 30, pd.DataFrame({"user": [1], "item": [1], "day": [99], "type": ["view"]})
    frame["type"] = np.where(late, np.where(frame.index % 9 == 0, "return", "buy"), "view")
    log = EventLog(frame, user="user", item="item", time="day", event="type")
    fitted = make("als", max_iter=3, **counted)
    score = fitted.fit_transform(X, events=log)["als__score"]
    assert score[X["day"] < 30].isna().all()
    assert score[X["day"] > 50].notna().all()
    vectors = fitted.user_factors_
    assert fitted.observe(never_bought).as_of_ == 99
    np.testing.assert_array_equal(fitted.user_factors_, vectors)


def test_bpr_reads_which_pairs_happened_and_not_their_weights() -> None:
    X, Y, _ = world(500)
    X["amount"] = 1.0 + X["user"] % 2
    light, heavy = (make("bpr", max_iter=2, weight=weight).fit(X, Y) for weight in (None, "amount"))
    np.testing.assert_array_equal(light.item_factors_, heavy.item_factors_)


def test_als_users_are_the_minimum_of_the_objective_that_is_told() -> None:
    rng = np.random.default_rng(0)
    X = pd.DataFrame(
        {"user": rng.integers(0, 30, 600), "item": rng.integers(0, 20, 600), "amount": rng.random(600) + 1}
    )
    buy, sample_weight = rng.random(600) < 0.5, rng.random(600)
    fitted = make("als", weight="amount", alpha=3.0, reg_factors=0.7, tasks={"buy": "binary"}).fit(
        X, buy.astype(float), sample_weight=sample_weight
    )
    happened = np.zeros((len(fitted.users_), len(fitted.items_)))
    pairs = fitted.users_.get_indexer(X["user"])[buy], fitted.items_.get_indexer(X["item"])[buy]
    np.add.at(happened, pairs, (X["amount"] * sample_weight)[buy])
    confidence, Q = np.where(happened > 0, 3.0 * happened, 1.0), fitted.item_factors_.astype(np.float64)
    for u, vector in enumerate(fitted.user_factors_):
        left = Q.T @ (confidence[u][:, None] * Q) + 0.7 * np.eye(4)
        expected = np.linalg.solve(left, Q.T @ (confidence[u] * (happened[u] > 0)))
        np.testing.assert_allclose(vector, expected, atol=1e-5)


def test_rows_weights_and_missing_labels() -> None:
    X, Y, _ = world(3000)
    X = X.assign(w=np.where(np.arange(3000) < 1500, 0.0, 1.0))
    half = Y.copy()
    half.loc[:1499] = np.nan
    by_label = make("als").fit(X, half).transform(X)
    by_weight = make("als", weight="w").fit(X, Y).transform(X)
    by_sample = make("als").fit(X, Y, sample_weight=X["w"]).transform(X)
    pd.testing.assert_frame_equal(by_label, by_weight)
    pd.testing.assert_frame_equal(by_label, by_sample)


@pytest.mark.parametrize("model", MODELS)
def test_seeds_threads_batches_and_pickles(model: str) -> None:
    X, Y, _ = world(2000)
    fitted = make(model).fit(X, Y)
    out = fitted.transform(X)
    pd.testing.assert_frame_equal(out, make(model, n_jobs=2).fit(X, Y).transform(X))
    pd.testing.assert_frame_equal(out, pickle.loads(pickle.dumps(fitted)).transform(X))
    one = pd.concat([fitted.transform(X.iloc[[i]]) for i in range(40)])
    pd.testing.assert_frame_equal(one, out.iloc[:40], rtol=1e-5)
    shuffled = fitted.transform(X.iloc[::-1]).iloc[::-1]
    pd.testing.assert_frame_equal(shuffled, out, rtol=1e-5)
    assert not np.allclose(out.iloc[:, 3], make(model, random_state=1).fit(X, Y).transform(X).iloc[:, 3])
    copy = clone(fitted)
    assert copy.get_params() == fitted.get_params()
    assert not hasattr(copy, "_factors")


@pytest.mark.parametrize("model", ["als", "bpr", "logistic"])
def test_no_warnings_whatever_the_threads_of_blas(model: str) -> None:
    import implicit.utils

    X, Y, _ = world(500)
    with threadpool_limits(2), warnings.catch_warnings():
        warnings.simplefilter("error")
        implicit.utils._checked_blas_config = False
        make(model).fit(X, Y).transform(X)


def test_neighbours() -> None:
    n = 4000
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"user": rng.integers(0, 60, n), "item": rng.integers(0, 40, n)})
    buy = pd.DataFrame({"buy": (X["user"] % 2 == X["item"] % 2).astype(float)})
    fitted = MatrixFactorization(user="user", item="item", n_factors=4, random_state=0).fit(X, buy)
    near = fitted.similar_items([3, 4, 999], n=5)
    assert near["item"].tolist() == [3] * 5 + [4] * 5
    assert (near["similar"] % 2 == near["item"] % 2).all()
    assert (near["cosine"].diff()[1:5] <= 0).all()
    assert (fitted.similar_users([7])["similar"] % 2 == 1).all()


def test_the_largest_are_those_of_a_stable_sort() -> None:
    rng = np.random.default_rng(0)
    for size in range(1, 40):
        values = rng.integers(-3, 3, size).astype(np.float32)
        values[rng.integers(size)] = -np.inf
        for count in range(size):
            assert largest(values, count).tolist() == np.argsort(-values, kind="stable")[:count].tolist()


def test_neighbours_and_scores_part_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    X, Y, _ = world(2000)
    fitted = make("als", max_iter=3).fit(X, Y)
    asked, scores = fitted.items_[:60].tolist(), fitted.transform(X)
    units = fitted.item_factors_ / np.linalg.norm(fitted.item_factors_, axis=1, keepdims=True)
    cosines = np.where(np.eye(len(units)) > 0, -np.inf, units @ units.T)[fitted.items_.get_indexer(asked)]
    expected = np.argsort(-cosines, axis=1, kind="stable")
    monkeypatch.setattr("mtl_classic.factorization._matrix_columns.COSINES_AT_ONCE", 7 * len(units))
    monkeypatch.setattr("mtl_classic.factorization._implicit.ROWS_AT_ONCE", 7)
    for n in (0, 1, 12):
        near = fitted.similar_items(asked, n=n)
        assert near["similar"].tolist() == fitted.items_[expected[:, :n].ravel()].tolist()
    assert len(fitted.similar_items(asked, n=10**6)) == len(asked) * (len(units) - 1)
    pd.testing.assert_frame_equal(fitted.transform(X), scores)


def test_in_a_pipeline_and_from_polars() -> None:
    X, Y, _ = world(2000)
    step = make("als")
    pipe = make_pipeline(step, "passthrough")
    trained = pipe.fit_transform(X, Y)
    pd.testing.assert_frame_equal(trained, make("als").fit_transform(X, Y))
    pd.testing.assert_frame_equal(pipe.transform(X), make("als").fit(X, Y).transform(X))
    other = make("als").fit(pl.from_pandas(X), Y)
    np.testing.assert_allclose(other.transform(pl.from_pandas(X)), pipe.transform(X), rtol=1e-5)
    prefixed = X.rename(columns={"user": "ids__user"})
    np.testing.assert_allclose(make("als").fit(prefixed, Y).transform(prefixed), pipe.transform(X), rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"model": "svd"}, ValueError, 'model must be "als", "bpr"'),
        ({"n_factors": 0}, ValueError, "n_factors"),
        ({"output": "norms"}, ValueError, "output"),
        ({"max_iter": 0}, ValueError, "max_iter"),
        ({"alpha": 0}, ValueError, "alpha must be a positive finite number, got 0"),
        ({"alpha": np.inf}, ValueError, "alpha must be a positive finite number, got inf"),
        ({"n_factors": True}, TypeError, "n_factors must be an integer of at least 1, got True"),
        ({"max_iter": 2.5}, TypeError, "max_iter must be an integer of at least 1 or None, got 2.5"),
        ({"reg_factors": -1.0}, ValueError, "reg_factors must be a finite number of at least 0 or None, got -1.0"),
        ({"learning_rate": np.nan}, ValueError, "learning_rate must be a positive finite number or None, got nan"),
        ({"task": "zz"}, TaskError, "the tasks are"),
        ({"user": None}, RoleError, "user column is needed"),
        ({"user": "customer"}, RoleError, "customer"),
        ({"weight": {"buy": 1.0}}, ValueError, "need events"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict, error: type, message: str) -> None:
    X, Y, _ = world(100)
    model = MatrixFactorization(**({"user": "user", "item": "item", "tasks": TASKS} | arguments))
    with pytest.raises(error, match=message):
        model.fit(X, Y)


def test_wrong_data_are_refused() -> None:
    X, Y, _ = world(100)
    with pytest.raises(LabelError, match="no positive"):
        make("als").fit(X, Y.assign(buy=0.0))
    with pytest.raises(TypeError, match="must be a frame"):
        make("als").fit(X.to_numpy(), Y)
    with pytest.raises(ValueError, match="0 sample"):
        make("als").fit(X[:0], Y[:0])
    with pytest.raises(ValueError, match="X has 100 rows, but Y has 99"):
        make("als").fit(X, Y[:-1])
    with pytest.raises(ValueError, match="events="):
        make("als").fit(X)
    with pytest.raises(TypeError, match="EventLog"):
        make("als").fit(X, events=X)
    with pytest.raises(TypeError, match="give an EventLog"):
        make("als").fit(X, Y).observe(X)
    assert make("als").fit(X, Y).as_of_ is None


def test_ids_of_another_type_are_refused() -> None:
    X, Y, _ = world(300)
    model = make("als", max_iter=2).fit(X[:200], events=log_of(X, Y).before(100))
    text = X.assign(user=X["user"].astype(str))
    with pytest.raises(TypeError, match="'user' held numbers when it was learnt; it holds text now"):
        model.transform(text)
    with pytest.raises(TypeError, match="held numbers"):
        model.observe(log_of(text.assign(day=100), Y))
    with pytest.raises(TypeError, match="held numbers"):
        model.similar_items(["7"])
    assert len(model.users_) == len(model.user_factors_)
    assert model.transform(X.assign(user=None))["als__score"].notna().all()  # nobody is of no type


@pytest.mark.parametrize("model", ["als", "explicit"])
def test_rows_are_scored_at_any_moment_of_an_observation(model: str) -> None:
    """As another thread may: a row has its old columns, or its new ones."""
    X, Y, _ = world(300)
    fitted = make(model, max_iter=2).fit(X.assign(day=99), events=log_of(X, Y))
    rows = pd.DataFrame({"user": [*fitted.users_[:3], *range(1000, 1020)], "item": fitted.items_[0], "day": 101})
    told = rows.assign(day=100, type="buy", stars=3.0)
    seen = [fitted.transform(rows)]

    def score(frame: FrameType, event: str, argument: object) -> Any:
        if frame.f_code is not MatrixFactorization.observe.__code__:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            seen.append(fitted.transform(rows))
        return score

    before = sys.gettrace()
    sys._getframe().f_trace_opcodes = True  # some releases of Python 3.12 trace opcodes only if asked before
    sys.settrace(score)
    try:
        fitted.observe(told)
    finally:
        sys.settrace(before)
    old, new = seen[0].iloc[:, 3:], fitted.transform(rows).iloc[:, 3:]
    assert (old != new).any(axis=1).all()
    assert len(seen) > 20
    for columns in seen:
        assert ((columns[list(old)] == old).all(axis=1) | (columns[list(old)] == new).all(axis=1)).all()


@pytest.mark.parametrize("given", ["model", "latent", "segments"])
def test_rows_on_another_axis_of_time_than_the_log_are_refused(given: str) -> None:
    X, Y, _ = world(300)
    dates = pd.Timestamp("2024-01-01") + pd.to_timedelta(X["day"], unit="D")
    zoned = dates.dt.tz_localize("America/New_York")
    model: Any = make("als", max_iter=2, time="day")
    if given != "model":
        model = LatentFeatures([("als", model)]) if given == "latent" else Segments(n_segments=2, model=model)
    for rows, events, kinds in (
        (zoned, dates, r"are dates, those of the rows \('day'\) dates with a time zone"),
        (dates, zoned, r"are dates with a time zone, those of the rows \('day'\) dates"),
        (dates, X["day"], r"are numbers, those of the rows \('day'\) dates"),
        (X["day"], dates, r"are dates, those of the rows \('day'\) numbers"),
    ):
        with pytest.raises(TypeError, match=f"The times of the log {kinds}; convert one"):
            clone(model).fit(X.assign(day=rows), Y, events=log_of(X.assign(day=events), Y))
    clone(model).fit(X.assign(day=dates.astype(str)), Y, events=log_of(X.assign(day=dates), Y))


def test_events_on_another_axis_of_time_are_refused_and_move_nobody() -> None:
    X, Y, _ = world(300)
    model = make("als", max_iter=2).fit(X.assign(day=99), events=log_of(X, Y))
    before, users = model.user_factors_, model.users_
    dated = log_of(X.assign(user=X["user"] + 1000, day=pd.Timestamp("2024-01-01")), Y)
    with pytest.raises(TypeError, match="of the events so far are numbers, those of the new ones dates"):
        model.observe(dated)
    assert model.user_factors_ is before
    assert model.users_ is users


@pytest.mark.parametrize("model", ["als", "explicit"])
def test_events_that_are_interrupted_move_nobody(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    X, Y, _ = world(300)
    log = log_of(X, Y)
    fitted = make(model, max_iter=3).fit(X.assign(day=50), events=log)
    before, users = fitted.transform(X), fitted.users_
    solver = "_implicit.ImplicitFactors.solved" if model == "als" else "_explicit.ExplicitFactors._solve_user"

    def interrupted(*arguments) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"mtl_classic.factorization.{solver}", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fitted.observe(log_of(X.assign(user=X["user"] + 1000, day=100), Y))
    assert fitted.users_.equals(users)
    pd.testing.assert_frame_equal(fitted.transform(X), before)


def test_a_row_has_its_user_as_of_its_time_whatever_was_told_later() -> None:
    """Told of all days at once, rows of each day have the columns that they have when days are told one by one."""
    X, Y, _ = world(6000)
    X = X.assign(user=np.where(X["user"] % 9 == 0, 1000 + X["user"], X["user"]))
    old = (X["day"] < 70) & (X["user"] < 1000)  # newcomers from then on
    log, new = log_of(X[old], Y[old]), log_of(X[~old & (X["day"] >= 70)], Y[~old & (X["day"] >= 70)]).to_frame()
    fitted = make("als", user=None, item=None, output="both").fit(X[old], events=log)
    daily, parts = pickle.loads(pickle.dumps(fitted)), []
    rows = X[X["day"] >= 70].sort_values("day", kind="stable")
    for day, today in rows.groupby("day"):
        parts.append(daily.transform(today))
        daily.observe(new[new["day"] == day])
    at_once = fitted.observe(new[new["day"] >= 85]).observe(new[new["day"] < 85]).transform(rows)
    by_day = pd.concat(parts)
    seen = by_day["als__user_norm"] > 0
    assert 0.5 < seen.mean() < 1
    assert (by_day["als__user_norm"] == at_once["als__user_norm"]).all()
    pd.testing.assert_frame_equal(at_once, by_day, rtol=1e-4, atol=1e-5)
    pd.testing.assert_frame_equal(fitted.transform(rows[::-1]), at_once[::-1])  # no row minds the others
    later = fitted.transform(rows.assign(day=101))
    assert (later["als__score"] != at_once["als__score"]).mean() > 0.5
    unknown = rows.assign(day=np.where(rows["day"] < 85, np.nan, 101))
    pd.testing.assert_frame_equal(fitted.transform(unknown).drop(columns="day"), later.drop(columns="day"))


def test_a_lone_newcomer_is_known_as_of_the_rows_time() -> None:
    X, Y, _ = world(3000)
    start = pd.Timestamp("2024-01-01")
    X = X.assign(day=start + pd.to_timedelta(X["day"], unit="D"))
    fitted = make("als", user=None, item=None, max_iter=3).fit(
        X.assign(day=start + pd.Timedelta("100D")), events=log_of(X, Y)
    )
    days = start + pd.to_timedelta(np.arange(101, 107), unit="D")
    news = pd.DataFrame({"user": 5000, "item": np.arange(6), "day": days, "type": "buy", "stars": 1.0})
    early = pickle.loads(pickle.dumps(fitted)).observe(news[:3])
    fitted.observe(news)
    rows = news[["user", "item"]]
    expected = early.transform(rows.assign(day=days[3]))
    pd.testing.assert_frame_equal(fitted.transform(rows.assign(day=days[3])), expected, rtol=1e-5)
    latest = fitted.transform(rows.assign(day=days[5] + pd.Timedelta("1D"))).drop(columns="day")
    assert (latest["als__score"] != expected["als__score"]).all()
    other_axis = fitted.transform(rows.assign(day=104)).drop(columns="day")  # comes after all that was told
    pd.testing.assert_frame_equal(other_axis, latest)
