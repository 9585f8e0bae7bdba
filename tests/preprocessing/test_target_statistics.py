import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.base import clone
from sklearn.linear_model import LinearRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import TargetEncoder
from sklearn.utils.estimator_checks import parametrize_with_checks

from mtl_classic._core.exceptions import FoldError, RoleError
from mtl_classic._core.tasks import Task
from mtl_classic.model_selection import Temporal, make_folds
from mtl_classic.preprocessing import TargetStatistics

TASKS = [
    Task("buy", "binary"),
    Task("spend", "regression", given="buy"),
    Task("reason", "multiclass"),
    Task("visits", "count"),
]


def table(n: int = 300, seed: int = 0, categories: int = 12) -> tuple[pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(seed)
    X = pd.DataFrame(
        {
            "user": rng.integers(0, categories, n),
            "shop": pd.Series(rng.choice(["a", "b", None], n), dtype=object),
            "price": rng.normal(size=n),
            "day": rng.integers(0, 30, n),
        }
    )
    buy = (rng.random(n) < 0.2 + 0.4 * (X["user"] % 2)).astype(float)
    Y = pd.DataFrame(
        {
            "buy": buy,
            "spend": np.where(buy == 1, rng.gamma(2, 10, n), 0.0),
            "reason": pd.Series(rng.choice(["x", "y", "z"], n), dtype=object),
            "visits": rng.poisson(2, n).astype(float),
        }
    )
    return X, Y.mask(rng.random(Y.shape) < 0.2).assign(buy=buy)


def slow_mean(mine: np.ndarray, y: np.ndarray, w: np.ndarray, m: float) -> float:
    """The formula of the docstring: one category, one label column."""
    known = ~np.isnan(y)
    prior = np.average(y[known], weights=w[known])
    rows = known & mine
    return (np.sum(w[rows] * y[rows]) + m * prior) / (w[rows].sum() + m)


@pytest.mark.parametrize("weighted", [False, True])
def test_equals_the_slow_definition(weighted: bool) -> None:
    X, Y = table()
    weight = np.random.default_rng(1).uniform(0.05, 0.2, Y.shape) if weighted else None  # small ones count as they are
    w = np.ones(Y.shape) if weight is None else weight
    statistics = TargetStatistics(["user", ("user", "shop")], tasks=TASKS, smooth=3.0, counts=not weighted)
    out = statistics.fit(X, Y, sample_weight=weight).transform(X)
    assert list(out.columns) == list(statistics.get_feature_names_out())
    labels = {"buy": Y["buy"], "spend": Y["spend"].where(Y["buy"] == 1, 0.0), "visits": Y["visits"]}
    labels |= {f"reason={k}": (Y["reason"] == k).astype(float).where(Y["reason"].notna()) for k in "xyz"}
    owner = {"buy": 0, "spend": 1, "visits": 3, "reason=x": 2, "reason=y": 2, "reason=z": 2}
    text = X["shop"].fillna("?")
    for i in (0, 7, 100):
        user, both = X["user"] == X["user"][i], (X["user"] == X["user"][i]) & (text == text[i])
        for name, y in labels.items():
            for key, mine in (("user", user), ("user_shop", both)):
                expected = slow_mean(mine.to_numpy(), y.to_numpy(), w[:, owner[name]], 3.0)
                assert out[f"{key}__{name}__mean"][i] == pytest.approx(expected, rel=1e-10)
                if not weighted:
                    assert out[f"{key}__{name}__count"][i] == (y[mine].notna()).sum()


@pytest.mark.parametrize(("kind", "label"), [("binary", "buy"), ("regression", "spend"), ("multiclass", "reason")])
def test_agrees_with_scikit_learn_where_the_definitions_coincide(kind: str, label: str) -> None:
    X, Y = table()
    y = Y[label].fillna("x" if kind == "multiclass" else 0.0).to_numpy()
    cv = KFold(5, shuffle=True, random_state=0)
    peer = TargetEncoder(smooth=7.0, cv=cv, target_type="continuous" if kind == "regression" else kind)
    ours = TargetStatistics(["user"], tasks={"y0": kind}, smooth=7.0, cv=cv)
    np.testing.assert_allclose(
        ours.fit(X, y).transform(X).iloc[:, 4:], peer.fit(X[["user"]], y).transform(X[["user"]]), rtol=1e-10
    )
    np.testing.assert_allclose(ours.fit_transform(X, y).iloc[:, 4:], peer.fit_transform(X[["user"]], y), rtol=1e-10)


def test_automatic_smoothing_recovers_the_variance_ratio() -> None:
    rng = np.random.default_rng(0)
    user = rng.integers(0, 2000, 60_000)
    y = 1e6 + rng.normal(0, 1, 2000)[user] + rng.normal(0, 4, 60_000)
    noise = rng.random(60_000)
    Y = np.column_stack([y, noise])
    fitted = TargetStatistics(["user"], tasks={"y0": "regression", "y1": "regression"})
    fitted.fit(pd.DataFrame({"user": user}), Y)
    assert fitted.smooth_[0, 0] == pytest.approx(16, rel=0.15)
    assert fitted.smooth_[0, 1] > 300


@pytest.mark.parametrize("weight", [None, [0.01] * 6 + [9.0]])
def test_automatic_smoothing_is_by_the_analysis_of_variance(weight: list | None) -> None:
    X, Y = pd.DataFrame({"c": list("aaabbcd")}), pd.DataFrame({"y": [0, 2, 1, 5, 7, 3, np.nan]})
    fitted = TargetStatistics(["c"], tasks={"y": "regression"}).fit(X, Y, sample_weight=weight)
    within, between, size = 4 / 3, 30 / 2, (6 - 14 / 6) / 2  # of categories of 3, 2 and 1 rows; d has no label
    assert fitted.smooth_.item() == pytest.approx(within / ((between - within) / size))


def test_automatic_smoothing_at_the_edges() -> None:
    y = np.array([0.0, 1.0, 1.0, 0.0])
    X = pd.DataFrame({"c": list("abcd")})
    assert TargetStatistics(["c"], tasks={"y0": "binary"}).fit(X, y).transform(X)["c__y0__mean"].tolist() == [0.5] * 4
    exact = TargetStatistics(["c"], tasks={"y0": "binary"}).fit(pd.DataFrame({"c": list("abba")}), y)
    assert exact.transform(pd.DataFrame({"c": ["a", "b", "c"]}))["c__y0__mean"].tolist() == [0, 1, 0.5]


def test_form_of_the_output() -> None:
    X, Y = table()
    X.index = X.index + 1000
    Y.index = X.index
    before, labels = X.copy(deep=True), Y.copy(deep=True)
    statistics = TargetStatistics(tasks=TASKS, random_state=0)
    out = statistics.fit_transform(X, Y)
    assert statistics.keys_ == [("shop",)]
    pd.testing.assert_frame_equal(out[X.columns], X)
    assert out.columns[4:].tolist() == [
        f"shop__{t}__mean" for t in ["buy", "spend", "reason=x", "reason=y", "reason=z", "visits"]
    ]
    assert not out.iloc[:, 4:].isna().any(axis=None)
    pd.testing.assert_frame_equal(X, before)
    pd.testing.assert_frame_equal(Y, labels)
    shuffled = X.sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(statistics.transform(shuffled[X.columns[::-1]]).sort_index(), statistics.transform(X))
    pd.testing.assert_frame_equal(statistics.transform(X.iloc[[5]]), statistics.transform(X).iloc[[5]])
    assert statistics.transform(X.iloc[:0]).shape == (0, 10)


def test_unseen_and_missing_categories() -> None:
    X, Y = table()
    statistics = TargetStatistics(["shop", ("user", "shop")], tasks=TASKS, counts=True).fit(X, Y)
    out = statistics.transform(pd.DataFrame({"user": [0, 99, 0], "shop": ["new", "a", None], "price": 0.0, "day": 0}))
    np.testing.assert_allclose(out.filter(regex="^shop__.*mean").iloc[0], statistics.priors_)
    np.testing.assert_allclose(out.filter(regex="^user_shop__.*mean").iloc[:2], np.tile(statistics.priors_, (2, 1)))
    assert out["shop__buy__count"].tolist() == [0, (X["shop"] == "a").sum(), X["shop"].isna().sum()]
    only_a = X[X["shop"] == "a"]
    no_gap = TargetStatistics(["shop"], tasks=TASKS).fit(only_a, Y.loc[only_a.index])
    assert no_gap.transform(X[X["shop"].isna()])["shop__buy__mean"].nunique() == 1


def fold_auc(values: np.ndarray, y: np.ndarray, fold: np.ndarray) -> float:
    """Mean of the folds' AUCs: pooling folds of different means is biased."""
    return float(np.mean([roc_auc_score(y[fold == k], values[fold == k]) for k in range(fold.max() + 1)]))


@pytest.mark.parametrize("smooth", ["auto", 0.0, 10.0])
def test_a_noise_label_stays_at_chance(smooth: float | str) -> None:
    rng = np.random.default_rng(0)
    n = 40_000
    X = pd.DataFrame({"user": rng.integers(0, 4000, n), "item": rng.integers(0, 50, n)})
    y = rng.permutation(n) % 2
    plan = make_folds(5, y, random_state=0)
    statistics = TargetStatistics(["user", "item"], tasks={"y0": "binary"}, smooth=smooth)
    out = statistics.fit_transform(X, y, plan=plan)
    for column in ("user__y0__mean", "item__y0__mean"):
        assert abs(fold_auc(out[column].to_numpy(), y, plan.fold) - 0.5) < 0.02
    if smooth == 10.0:  # what the cross-fitting is for
        assert roc_auc_score(y, statistics.transform(X)["user__y0__mean"]) > 0.6


def test_a_noise_label_that_repeats_within_user_stays_at_chance_when_users_are_not_split() -> None:
    rng = np.random.default_rng(0)
    n = 40_000
    X = pd.DataFrame({"user": rng.integers(0, 4000, n), "item": rng.integers(0, 2000, n)})
    y = (rng.permutation(4000) % 2)[X["user"]]
    plan = make_folds(5, y, groups=X["user"], random_state=0)
    out = TargetStatistics(["user", "item"], tasks={"y0": "binary"}, smooth=5.0).fit_transform(X, y, plan=plan)
    for column in ("user__y0__mean", "item__y0__mean"):
        assert abs(fold_auc(out[column].to_numpy(), y, plan.fold) - 0.5) < 0.02


@settings(max_examples=15)
@given(row=st.integers(0, 79), seed=st.integers(0, 5), smooth=st.sampled_from(["auto", 2.0]))
def test_a_row_never_sees_its_own_label(row: int, seed: int, smooth: float | str) -> None:
    X, Y = table(80, seed)
    Y = Y[["buy", "visits"]]
    tasks = {"buy": "binary", "visits": "regression"}
    plan = make_folds(4, Y, random_state=seed)
    statistics = TargetStatistics(["user", "shop"], tasks=tasks, smooth=smooth)
    changed = Y.copy()
    changed.loc[row] = [1 - Y["buy"][row], 1000.0]
    before, after = (statistics.fit_transform(X, labels, plan=plan).iloc[:, 4:].to_numpy() for labels in (Y, changed))
    mates = plan.fold == plan.fold[row]  # nor do the rows of its fold see it
    np.testing.assert_array_equal(before[mates], after[mates])
    assert (before[~mates] != after[~mates]).any()


@settings(max_examples=15)
@given(day=st.integers(1, 29), seed=st.integers(0, 5))
def test_in_time_no_row_sees_a_later_label(day: int, seed: int) -> None:
    X, Y = table(200, seed)
    Y = Y[["buy"]]
    statistics = TargetStatistics(["user", "shop"], tasks={"buy": "binary"}, time="day", cv=Temporal(4))
    changed = Y.where(X["day"] < day, 1 - Y)
    before, after = (statistics.fit_transform(X, labels).iloc[:, 4:].to_numpy() for labels in (Y, changed))
    fold = make_folds(Temporal(4), Y, time=X["day"]).fold
    earlier = np.array(X["day"] <= day)
    earlier[fold == -1] &= X["day"].to_numpy()[fold == -1].max() < day  # the first block has one value, its own mean
    np.testing.assert_array_equal(before[earlier], after[earlier])


@pytest.mark.parametrize("cv", [4, Temporal(4), Temporal(4, 1)])
@settings(max_examples=5)
@given(block=st.integers(0, 3), seed=st.integers(0, 5))
def test_in_time_no_row_sees_a_label_that_was_not_known(cv: object, block: int, seed: int) -> None:
    X, Y = table(200, seed)
    tasks = [Task("buy", "binary", delay=3), Task("visits", "count")]
    fold = make_folds(Temporal(4), Y, time=X["day"]).fold
    rows = fold == block
    unknown = X["day"] + 3 >= X["day"][rows].min()
    changed = Y.assign(buy=Y["buy"].where(~unknown, 1 - Y["buy"]))
    statistics = TargetStatistics(["user", "shop"], tasks=tasks, time="day", cv=cv, random_state=0)
    before, after = (statistics.fit_transform(X, labels).iloc[:, 4:].to_numpy()[rows] for labels in (Y, changed))
    np.testing.assert_array_equal(before, after)


def test_a_time_is_the_name_of_a_column() -> None:
    rows = np.arange(8.0)[:, None] % 2
    with pytest.raises(RoleError, match="X must be a frame with named columns, got ndarray"):
        TargetStatistics([0], time="when").fit_transform(rows, rows[:, 0] > 0)


def test_delays_need_a_time() -> None:
    X, Y = table()
    with pytest.raises(RoleError, match=r"'buy' \(7\)"):
        TargetStatistics(["user"], tasks=[Task("buy", "binary", delay=7)]).fit_transform(X, Y)


def test_rows_that_no_fold_predicts_get_the_first_mean() -> None:
    X, Y = table()
    statistics = TargetStatistics(["user", "shop"], tasks={"buy": "binary"}, time="day", cv=3, counts=True)
    out = statistics.fit_transform(X, Y[["buy"]])
    plan = make_folds(3, Y[["buy"]], time=X["day"])
    first = out[plan.fold == -1]
    for key in ("user", "shop"):
        assert first[f"{key}__buy__count"].eq(0).all()
        np.testing.assert_allclose(first[f"{key}__buy__mean"], Y["buy"].iloc[plan.splits[0][0]].mean())


@pytest.mark.parametrize("weight", [None, 0.5])
def test_a_fold_without_labels_of_a_task_is_no_hole(weight: float | None) -> None:
    X, Y = table()
    late = Y[["buy", "visits"]].mask(X["day"] < 25)
    statistics = TargetStatistics(["user"], tasks={"buy": "binary", "visits": "count"}, time="day", cv=3)
    out = statistics.fit_transform(X, late, sample_weight=None if weight is None else np.full(len(X), weight))
    assert not out.isna().iloc[:, 4:].any(axis=None)


def test_a_weight_of_two_is_a_row_seen_twice_and_small_weights_lose_nothing() -> None:
    X, Y = table()
    twice = np.random.default_rng(0).integers(0, 3, len(X))
    statistics = TargetStatistics(["user"], tasks=TASKS)
    repeated = statistics.fit(X.loc[np.repeat(X.index, twice)], Y.loc[np.repeat(Y.index, twice)]).transform(X)
    pd.testing.assert_frame_equal(statistics.fit(X, Y, sample_weight=twice).transform(X), repeated)
    small = np.full(len(X), 1e-6)
    pd.testing.assert_frame_equal(
        statistics.fit(X, Y, sample_weight=small).transform(X), statistics.fit(X, Y).transform(X)
    )


def test_labels_of_rows_without_weight_deal_no_folds() -> None:
    X, Y = table()
    off = np.arange(len(X)) % 3 == 0
    other = pd.concat([Y[off].sample(frac=1.0, random_state=0).set_axis(Y.index[off]), Y[~off]]).sort_index()
    statistics = TargetStatistics(["user"], tasks=TASKS, random_state=0)
    columns = [statistics.fit_transform(X, labels, sample_weight=1.0 - off) for labels in (Y, other)]
    pd.testing.assert_frame_equal(*columns)
    weight, buy = np.where(off, 0.0, 0.5), Y[["buy"]]
    statistics = TargetStatistics(["user"], tasks={"buy": "binary"}, random_state=0)
    plan = make_folds(5, buy.mask(off[:, None]), random_state=0)
    pd.testing.assert_frame_equal(
        statistics.fit_transform(X, buy, sample_weight=weight),
        statistics.fit_transform(X, buy, sample_weight=weight, plan=plan),
    )


def test_without_smoothing_a_category_without_labels_has_the_mean() -> None:
    X, Y = pd.DataFrame({"c": list("aab")}), pd.DataFrame({"y": [1.0, 4.0, None]})
    statistics = TargetStatistics(["c"], tasks={"y": "regression"}, smooth=0).fit(X, Y)
    assert statistics.transform(X)["c__y__mean"].tolist() == [2.5, 2.5, 2.5]


def test_without_smoothing_a_category_of_one_row_has_its_label_and_the_mean_needs_no_weight_of_one() -> None:
    X, y = pd.DataFrame({"c": list("aab")}), pd.DataFrame({"y": [1.0, 4.0, 7.0]})
    statistics = TargetStatistics(["c"], tasks={"y": "regression"}, smooth=0)
    for weight in (None, [0.1, 0.1, 0.1]):
        statistics.fit(X, y, sample_weight=weight)
        assert statistics.transform(pd.DataFrame({"c": list("abz")}))["c__y__mean"].tolist() == pytest.approx(
            [2.5, 7, 4]
        )


def test_an_uninformative_key_is_the_mean_and_nothing_to_encode_is_no_error() -> None:
    X, Y = table()
    one = TargetStatistics(["c"], tasks=TASKS).fit(X.assign(c="same"), Y)
    assert np.isinf(one.smooth_).all()
    numbers = X[["price", "day"]].assign(since=pd.Timestamp("2024-01-01").date())
    pd.testing.assert_frame_equal(TargetStatistics(tasks=TASKS).fit_transform(numbers, Y), numbers)


def test_other_tables() -> None:
    X, Y = table()
    statistics = TargetStatistics(["user", "shop"], tasks=TASKS, random_state=0)
    expected = statistics.fit_transform(X, Y)
    np.testing.assert_allclose(
        statistics.fit_transform(pl.from_pandas(X), pl.from_pandas(Y)).iloc[:, 4:], expected.iloc[:, 4:]
    )
    by_position = TargetStatistics([0, 1], tasks=TASKS, random_state=0)
    array = by_position.fit_transform(X.to_numpy(dtype=object), Y)
    np.testing.assert_allclose(array[:, 4:].astype(float), expected.iloc[:, 4:])
    assert by_position.get_feature_names_out()[:5].tolist() == ["x0", "x1", "x2", "x3", "0__buy__mean"]
    prefixed = statistics.fit_transform(X.add_prefix("ids__"), Y)
    assert prefixed.columns[4] == "ids__user__buy__mean"


def test_a_million_categories() -> None:
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"user": rng.permutation(1_000_000)})
    Y = pd.DataFrame({"a": rng.random(1_000_000), "b": rng.random(1_000_000) < 0.1})
    statistics = TargetStatistics(["user"], tasks={"a": "regression", "b": "binary"}, smooth=1.0).fit(X, Y)
    out = statistics.transform(X)
    np.testing.assert_allclose(out["user__a__mean"], (Y["a"] + Y["a"].mean()) / 2)


def test_in_a_pipeline() -> None:
    X, Y = table()
    y = Y["buy"].to_numpy()
    plan = make_folds(3, y, random_state=0)
    steps = make_pipeline(TargetStatistics([0], tasks={"y0": "regression"}, smooth=0.0), LinearRegression())
    steps.fit(X[["user", "price"]].to_numpy(), y, targetstatistics__plan=plan)
    assert steps.predict(X[["user", "price"]].to_numpy()).shape == y.shape


def test_clone_pickle_and_seed() -> None:
    X, Y = table()
    statistics = TargetStatistics(["user", ("user", "shop")], tasks=TASKS, random_state=3)
    out = statistics.fit_transform(X, Y)
    pd.testing.assert_frame_equal(clone(statistics).fit_transform(X, Y), out)
    pd.testing.assert_frame_equal(pickle.loads(pickle.dumps(statistics)).transform(X), statistics.transform(X))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"smooth": -1.0}, ValueError, "smooth must be"),
        ({"smooth": "high"}, ValueError, "smooth must be"),
        ({"columns": "user"}, TypeError, "list of names"),
        ({"columns": ["nobody"]}, RoleError, "nobody"),
        ({"columns": [17]}, RoleError, "17"),
        ({"columns": ["user", "user"]}, ValueError, "distinct"),
        ({"columns": [()]}, ValueError, "not empty"),
    ],
)
def test_bad_parameters(options: dict, error: type, message: str) -> None:
    X, Y = table(20)
    with pytest.raises(error, match=message):
        TargetStatistics(**{"tasks": TASKS, **options}).fit(X, Y)


def test_bad_input() -> None:
    X, Y = table(40)
    statistics = TargetStatistics(["user"], tasks=TASKS)
    with pytest.raises(ValueError, match="requires y"):
        statistics.fit(X, None)
    with pytest.raises(ValueError, match="40 rows, but Y has 39"):
        statistics.fit(X, Y.iloc[:-1])
    with pytest.raises(ValueError, match="0 sample"):
        statistics.fit(X.iloc[:0], Y.iloc[:0])
    with pytest.raises(TypeError, match="sparse"):
        statistics.fit(sparse.csr_matrix((40, 2)), Y)
    with pytest.raises(ValueError, match="would be appended: user__buy__mean"):
        statistics.fit(X.assign(user__buy__mean=0.0), Y)
    with pytest.raises(FoldError, match="39 rows"):
        statistics.fit_transform(X, Y, plan=make_folds(2, Y.iloc[:-1]))
    with pytest.raises(ValueError, match="lacks columns"):
        statistics.fit(X, Y).transform(X[["user"]])


EXPECTED_FAILURES = {
    "check_transformer_general": "cross-fitted: fit(X, Y).transform(X) is not fit_transform(X, Y)",
    "check_sample_weight_equivalence_on_dense_data": "passes the labels as y=; several labels are called Y here",
    "check_transformer_data_not_an_array": "cross-fitted: fit(X, Y).transform(X) is not fit_transform(X, Y)",
}


@parametrize_with_checks(
    [TargetStatistics([0], tasks={"y0": "regression"}, random_state=0)],
    expected_failed_checks=lambda _: EXPECTED_FAILURES,
)
def test_scikit_learn_checks(estimator: TargetStatistics, check: object) -> None:
    check(estimator)  # type: ignore[operator]


def test_labels_that_begin_late_tell_earlier_rows_nothing_of_the_last_ones() -> None:
    X = pd.DataFrame({"shop": list("ab") * 20, "day": np.arange(40)})
    late = np.where(X["day"] < 20, np.nan, X["day"] % 3 == 0)
    statistics = TargetStatistics(["shop"], tasks={"late": "binary", "all": "binary"}, time="day", cv=4)

    def column(late: np.ndarray) -> np.ndarray:
        Y = pd.DataFrame({"late": late, "all": X["day"] // 2 % 2})
        return statistics.fit_transform(X, Y)["shop__late__mean"].to_numpy()

    before = column(late)
    assert not np.isnan(before).any()
    np.testing.assert_array_equal(column(np.where(X["day"] < 35, late, 1.0))[:35], before[:35])
