"""The table of evaluate: every task and kind, masks, slices, clusters, baselines, forms of scores, wrong input."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.metrics import log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from mtl_classic import Task
from mtl_classic import metrics as mc
from mtl_classic._core.base import MultiTaskEstimator
from mtl_classic.metrics import _significance

COLUMNS = ["value", "low", "high"]
PAIRED = ["baseline", "difference", "difference_low", "difference_high", "p_value", "verdict"]
TASKS = [
    Task("click", "binary"),
    Task("buy", "binary", given="click"),
    Task("spend", "regression", given="buy"),
    Task("items", "count", given="buy"),
    Task("color", "multiclass"),
    Task("grade", "ranking", query="query"),
]


class Oracle(MultiTaskEstimator):
    """Knows the truth of `shop`, but for noise."""

    def __init__(self, tasks=None, *, noise=0.0, user=None):
        self.tasks = tasks
        self.noise = noise
        self.user = user

    def fit(self, X, Y):
        self._start_fit(X, Y)
        return self

    def _scores(self, X, space):
        random = np.random.default_rng(7)
        p = np.clip(X["p"].to_numpy() + self.noise * random.uniform(-1, 1, len(X)), 0.01, 0.99)
        buy = 0.5 if space == "conditional" else 0.5 * p
        scores = {
            "click": p,
            "buy": np.full(len(X), 0.5) if space == "conditional" else 0.5 * p,
            "spend": 10 * buy * np.ones(len(X)),
            "items": 2 * buy * np.ones(len(X)),
            "color": np.column_stack([p, (1 - p) / 2, (1 - p) / 2]),
            "grade": p,
        }
        return {task.name: scores[task.name] for task in self.tasks_}


def shop(n=1500, seed=0):
    random = np.random.default_rng(seed)
    p = random.beta(1, 2, n)
    click = random.random(n) < p
    buy = click & (random.random(n) < 0.5)
    X = pd.DataFrame({"p": p, "user": random.integers(0, 60, n), "shop": random.choice(["north", "south"], n)})
    X["query"] = X["user"] * 3 + random.integers(0, 3, n)
    Y = pd.DataFrame({"click": click.astype(float), "buy": buy.astype(float)})
    Y["spend"] = np.where(buy, random.gamma(2, 5, n), 0.0)
    Y["items"] = np.where(buy, 1 + random.poisson(1.0, n), 0.0)
    color = np.where(random.random(n) < p, "blue", np.where(random.random(n) < 0.5, "green", "red"))
    Y["color"] = pd.Series(color).where(random.random(n) < 0.8, None)
    Y["grade"] = np.where(random.random(n) < p, random.integers(1, 4, n), 0).astype(float)
    Y.loc[random.random(n) < 0.1, ["click", "buy", "spend", "items"]] = np.nan
    X.index = Y.index = pd.RangeIndex(100, 100 + n)
    return X, Y


@pytest.fixture(scope="module")
def fitted():
    X, Y = shop()
    return Oracle(TASKS, user="user").fit(X, Y), Oracle(TASKS, noise=0.5, user="user").fit(X, Y), X, Y


def test_a_row_for_every_task_and_metric(fitted):
    model, _, X, Y = fitted
    table = mc.evaluate(model, X, Y)
    assert list(table.columns) == COLUMNS
    assert table.index.names == ["task", "metric"]
    for task in TASKS:
        assert tuple(table.loc[task.name].index) == mc.DEFAULT_METRICS[task.kind]
    assert (table["low"] <= table["value"]).all()
    assert (table["value"] <= table["high"]).all()


def test_values_are_those_of_the_metrics(fitted):
    model, _, X, Y = fitted
    table, scores = mc.evaluate(model, X, Y)["value"], model.predict_scores(X)
    assert table["buy", "loss"] == pytest.approx(mc.log_loss(Y["buy"], scores["buy"]), rel=1e-12)
    assert table["buy", "roc_auc"] == mc.roc_auc(Y["buy"], scores["buy"])
    assert table["spend", "r2"] == pytest.approx(mc.r2(Y["spend"], scores["spend"]), rel=1e-12)
    assert table["items", "loss"] == pytest.approx(mc.poisson_deviance(Y["items"], scores["items"]), rel=1e-12)
    classes = ["blue", "green", "red"]
    p = scores[[f"color={c}" for c in classes]].to_numpy()
    assert table["color", "loss"] == pytest.approx(mc.log_loss(Y["color"], p, classes=classes), rel=1e-12)
    called = np.array(classes)[p.argmax(1)]
    assert table["color", "macro_f1"] == pytest.approx(mc.macro_f1(Y["color"], called), rel=1e-12)
    assert table["grade", "ndcg@10"] == pytest.approx(mc.ndcg(Y["grade"], scores["grade"], X["query"], k=10), rel=1e-12)


def test_against_a_baseline(fitted):
    model, noisy, X, Y = fitted
    table = mc.evaluate(model, X, Y, baseline=noisy)
    assert list(table.columns) == COLUMNS + PAIRED
    assert (table.loc[["click", "grade"], "verdict"] == "better").all()
    np.testing.assert_allclose(table["difference"], table["value"] - table["baseline"])
    turned = mc.evaluate(noisy, X, Y, baseline=model)
    assert (turned.loc[["click", "grade"], "verdict"] == "worse").all()
    frame = mc.evaluate(model, X, Y, baseline=noisy.predict_scores(X))
    pd.testing.assert_frame_equal(frame, table)
    itself = mc.evaluate(model, X, Y, baseline=model)
    assert (itself["verdict"] == "same").all()
    assert (itself["difference"] == 0).all()


def test_a_baseline_may_lack_tasks(fitted):
    model, noisy, X, Y = fitted
    table = mc.evaluate(model, X, Y, baseline=noisy.predict_scores(X)[["click"]])
    assert table.loc["click", "verdict"].notna().all()
    assert table.drop(index="click")[PAIRED].isna().all(axis=None)
    assert table["value"].notna().all()


def test_the_conditional_space(fitted):
    model, _, X, Y = fitted
    table = mc.evaluate(model, X, Y, space="conditional", metrics=["observed", "predicted"])
    clicked = Y["click"] == 1
    assert table.loc[("buy", "observed"), "value"] == pytest.approx(Y["buy"][clicked].mean())
    assert table.loc[("buy", "predicted"), "value"] == pytest.approx(0.5)
    assert table.loc[("click", "observed"), "value"] == pytest.approx(Y["click"].mean())


def test_by_a_column(fitted):
    model, noisy, X, Y = fitted
    table = mc.evaluate(model, X, Y, baseline=noisy, by="shop")
    assert table.index.names == ["shop", "task", "metric"]
    assert list(table.index.get_level_values(0).unique()) == ["north", "south"]
    north = (X["shop"] == "north").to_numpy()
    alone = mc.evaluate(model, X[north], Y[north])
    np.testing.assert_allclose(table.loc["north", "value"], alone["value"], rtol=1e-9)


def test_slices_with_one_class_or_no_label_are_nan():
    by = np.repeat(["some", "ones", "none"], 40)
    y = np.r_[np.tile([0.0, 1], 20), np.ones(40), np.full(40, np.nan)]
    scores = np.random.default_rng(0).random(120)
    table = mc.evaluate_scores(y, scores, tasks={"t": "binary"}, by=by, baseline=scores[::-1])
    assert table.index.names == ["by", "task", "metric"]
    assert table.loc["some"].notna().all(axis=None)
    assert np.isnan(table.loc[("ones", "t", "roc_auc"), "value"])
    assert table.loc[("ones", "t", "loss"), "value"] > 0
    assert table.loc["none"].isna().all(axis=None)


def test_missing_values_of_by_are_a_slice():
    by = pd.Series(["b", None, "a", None] * 10, name="ad")
    table = mc.evaluate_scores(np.arange(40.0), np.arange(40.0), tasks={"t": "regression"}, by=by, metrics="mae")
    assert table.index.get_level_values("ad").tolist()[:2] == ["a", "b"]
    assert pd.isna(table.index.get_level_values("ad")[2])
    assert table["value"].tolist() == [0, 0, 0]


def test_by_several_columns_every_combination_is_a_slice(fitted):
    model, noisy, X, Y = fitted
    X = X.assign(ad=np.where(X["user"] % 3 == 0, None, X["user"] % 3))
    table = mc.evaluate(model, X, Y, baseline=noisy, by=["shop", "ad"])
    assert table.index.names == ["shop", "ad", "task", "metric"]
    slices = table.index.droplevel(["task", "metric"]).unique().tolist()
    slices = [(shop, 0 if pd.isna(ad) else ad) for shop, ad in slices]
    assert slices == [(shop, ad) for shop in ("north", "south") for ad in (1, 2, 0)]
    some = ((X["shop"] == "south") & (X["ad"] == 2)).to_numpy()
    alone = mc.evaluate(model, X[some], Y[some])
    value = table["value"].xs("south", level="shop").xs(2, level="ad")
    np.testing.assert_allclose(value, alone["value"], rtol=1e-9)
    by = pl.DataFrame({"shop": X["shop"].tolist(), "ad": X["ad"].tolist()})
    again = mc.evaluate(model, X, Y, baseline=noisy, by=by)
    np.testing.assert_array_equal(again["value"], table["value"])
    again = mc.evaluate(model, X, Y, baseline=noisy, by=X[["shop", "ad"]].to_numpy())
    np.testing.assert_array_equal(again["value"], table["value"])


def test_batches_change_nothing(fitted, monkeypatch):
    model, noisy, X, Y = fitted
    whole = mc.evaluate(model, X, Y, baseline=noisy, by="shop")
    monkeypatch.setattr(_significance, "BATCH_SIZE", 100)
    pd.testing.assert_frame_equal(mc.evaluate(model, X, Y, baseline=noisy, by="shop"), whole, check_exact=True)


@pytest.mark.parametrize("scale", [2.0**-900, 2.0**600])
def test_the_scale_of_weights_does_not_matter(scale):
    random = np.random.default_rng(0)
    y, scores, weight = random.integers(0, 2, 200).astype(float), random.random(200), random.random(200)
    names = ["loss", "roc_auc", "average_precision", "f1", "calibration_error"]
    own, other = (
        mc.evaluate_scores(y, scores, tasks={"t": "binary"}, metrics=names, sample_weight=w, n_replicates=100)
        for w in (weight, weight * scale)
    )
    pd.testing.assert_frame_equal(own, other, check_exact=True)
    assert mc.roc_auc(y, scores, sample_weight=weight * scale) == mc.roc_auc(y, scores, sample_weight=weight)


def test_an_unlabelled_task_is_nan():
    Y = pd.DataFrame({"a": [0, 1, 0, 1], "b": [None] * 4, "c": [np.nan] * 4})
    tasks = {"a": "binary", "b": "multiclass", "c": "count"}
    scores = {"a": [0.1, 0.9, 0.2, 0.8], "b": np.zeros((4, 0)), "c": np.ones(4)}
    table = mc.evaluate_scores(Y, scores, tasks=tasks)
    assert table.loc["a", "value"].notna().all()
    assert table.loc[["b", "c"]].isna().all(axis=None)


def test_no_rows():
    table = mc.evaluate_scores(pd.DataFrame({"a": []}), {"a": []}, tasks={"a": "binary"}, baseline={"a": []})
    assert table.isna().all(axis=None)


def test_masked_rows_do_not_count(fitted):
    model, _, X, Y = fitted
    hidden = Y.copy()
    rows = np.arange(len(Y)) % 4 == 0
    hidden.loc[rows, "click"] = np.nan
    scores = model.predict_scores(X)
    scores.loc[rows, "click"] = np.nan
    task = [Task("click", "binary")]
    table = mc.evaluate_scores(hidden[["click"]], scores, tasks=task, clusters=X["user"])
    kept = mc.evaluate_scores(Y[["click"]][~rows], scores[~rows], tasks=task, clusters=X["user"][~rows])
    weighted = mc.evaluate_scores(
        Y[["click"]], scores.fillna(0.5), tasks=task, clusters=X["user"], sample_weight=(~rows).astype(float)
    )
    np.testing.assert_allclose(table["value"], kept["value"], rtol=1e-12)
    np.testing.assert_allclose(table, weighted, rtol=1e-12)


def test_weights_of_tasks(fitted):
    model, _, X, Y = fitted
    weights = pd.DataFrame(1.0, index=Y.index, columns=[t.name for t in TASKS])
    weights["spend"] = np.random.default_rng(0).random(len(Y))
    table = mc.evaluate(model, X, Y, sample_weight=weights)
    plain = mc.evaluate(model, X, Y)
    expected = mc.mae(Y["spend"], model.predict_scores(X)["spend"], sample_weight=weights["spend"])
    assert table.loc[("spend", "mae"), "value"] == pytest.approx(expected)
    pd.testing.assert_frame_equal(table.drop(index="spend"), plain.drop(index="spend"))


def test_the_model_says_who_is_drawn(fitted):
    model, _, X, Y = fitted
    by_user = mc.evaluate(model, X, Y)
    pd.testing.assert_frame_equal(by_user, mc.evaluate(model, X, Y, clusters="user"))
    pd.testing.assert_frame_equal(by_user, mc.evaluate(model, X, Y, clusters=X["user"].to_numpy()))
    by_row = mc.evaluate(Oracle(TASKS[:5]).fit(X, Y), X, Y)
    assert (by_row["low"] != by_user.loc[by_row.index, "low"]).all()
    by_query = mc.evaluate(Oracle(TASKS).fit(X, Y), X, Y)
    pd.testing.assert_frame_equal(by_query, mc.evaluate(model, X, Y, clusters="query"))


def test_queries_that_span_users_are_drawn_themselves(fitted):
    model, _, X, Y = fitted
    X = X.assign(query=np.arange(len(X)) // 10)
    table = mc.evaluate(model, X, Y)
    pd.testing.assert_frame_equal(table.loc[["grade"]], mc.evaluate(model, X, Y, clusters="query").loc[["grade"]])
    pd.testing.assert_frame_equal(table.loc[["buy"]], mc.evaluate(model, X, Y, clusters="user").loc[["buy"]])


def test_deterministic(fitted):
    model, noisy, X, Y = fitted
    tables = [mc.evaluate(model, X, Y, baseline=noisy, random_state=seed, n_replicates=200) for seed in (0, 0, 1)]
    pd.testing.assert_frame_equal(tables[0], tables[1])
    assert (tables[0]["low"] != tables[2]["low"]).any()


def test_without_replicates_there_are_values_only(fitted):
    model, noisy, X, Y = fitted
    table = mc.evaluate(model, X, Y, baseline=noisy, n_replicates=0)
    full = mc.evaluate(model, X, Y, baseline=noisy)
    columns = ["value", "baseline", "difference"]
    pd.testing.assert_frame_equal(table[columns], full[columns])
    assert table.drop(columns=columns).isna().all(axis=None)


def test_a_pipeline_and_a_search(fitted):
    model, noisy, X, Y = fitted
    pipe = make_pipeline(FunctionTransformer(), Oracle(TASKS, user="user")).fit(X, Y)
    pd.testing.assert_frame_equal(mc.evaluate(pipe, X, Y, baseline=noisy), mc.evaluate(model, X, Y, baseline=noisy))

    class Search:
        best_estimator_ = pipe

    pd.testing.assert_frame_equal(mc.evaluate(Search(), X, Y), mc.evaluate(model, X, Y))


def test_metrics_by_name_and_by_task(fitted):
    model, _, X, Y = fitted
    some = mc.evaluate(model, X, Y, metrics=["brier", "ndcg@3", "ratio"])
    assert list(some.loc["buy"].index) == ["brier", "ratio"]
    assert list(some.loc["grade"].index) == ["ndcg@3"]
    assert "color" in some.index
    one = mc.evaluate(model, X, Y, metrics={"buy": ["calibration_error"]})
    assert list(one.loc["buy"].index) == ["calibration_error"]
    assert len(one.loc["spend"]) == 4
    own = Oracle([Task("click", "binary", metric="f1")]).fit(X, Y)
    assert list(mc.evaluate(own, X, Y).loc["click"].index) == ["loss", "f1", "roc_auc", "average_precision"]


def test_rates_have_no_verdict(fitted):
    model, noisy, X, Y = fitted
    table = mc.evaluate(model, X, Y, baseline=noisy, metrics=["predicted"])
    assert table["verdict"].isna().all()
    assert table["difference"].notna().all()


def test_forms_of_scores():
    Y = np.array([[0, 1.5], [1, 2.0], [np.nan, 0.5], [1, np.nan]])
    tasks = {"a": "binary", "b": "regression"}
    array = np.array([[0.2, 1.0], [0.7, 2.0], [0.5, 1.0], [0.6, 1.0]])
    expected = mc.evaluate_scores(Y, array, tasks=tasks)
    for scores in (pd.DataFrame(array, columns=["a", "b"])[["b", "a"]], {"a": array[:, 0], "b": array[:, 1]}):
        pd.testing.assert_frame_equal(mc.evaluate_scores(Y, scores, tasks=tasks), expected)
    single = mc.evaluate_scores(Y[:, 0], array[:, 0], tasks={"a": "binary"})
    np.testing.assert_allclose(single["value"], expected.loc["a", "value"])
    inferred = mc.evaluate_scores(
        pd.DataFrame(Y, columns=["a", "b"]), pd.DataFrame(array, columns=["a", "b"]), tasks=None
    )
    np.testing.assert_allclose(inferred["value"], expected["value"])


def test_classes_come_from_the_columns_of_the_scores():
    Y = pd.DataFrame({"c": [2, 1, None, 2]})
    p = np.array([[0.1, 0.2, 0.7], [0.2, 0.5, 0.3], [1, 0, 0], [0.2, 0.2, 0.6]])
    scores = pd.DataFrame(p, columns=["c=7", "c=1", "c=2"])
    table = mc.evaluate_scores(Y, scores, tasks={"c": "multiclass"})
    assert table.loc[("c", "loss"), "value"] == pytest.approx(-np.log([0.7, 0.5, 0.6]).mean())
    assert table.loc[("c", "accuracy"), "value"] == 1


def test_frames_of_polars_are_matched_by_name(fitted):
    Y = pd.DataFrame({"a": [0.0, 1, np.nan, 1], "b": [1.5, 2.0, 0.5, np.nan]}, index=[3, 2, 1, 0])
    tasks = {"a": "binary", "b": "regression"}
    scores = pd.DataFrame({"b": [1.0, 2.0, 1.0, 1.0], "a": [0.2, 0.7, 0.5, 0.6]}, index=Y.index)
    expected = mc.evaluate_scores(Y, scores, tasks=tasks, by=pd.Series(list("xyxy"), name="by"), n_replicates=0)
    swapped = pl.from_pandas(Y[["b", "a"]])
    for labels in (Y, swapped):
        got = mc.evaluate_scores(
            labels, pl.from_pandas(scores), tasks=tasks, by=pl.Series("by", list("xyxy")), n_replicates=0
        )
        pd.testing.assert_frame_equal(got, expected)
    model, noisy, X, Y = fitted
    frame = noisy.predict_scores(X)
    got, expected = (mc.evaluate(model, X, Y, baseline=b, n_replicates=0) for b in (pl.from_pandas(frame), frame))
    pd.testing.assert_frame_equal(got, expected)


def test_texts_that_look_like_one_number_are_different_classes():
    rng = np.random.default_rng(0)
    Y = pd.DataFrame({"c": rng.choice(["1", "1.0", "w"], 60)})
    p = pd.DataFrame(rng.dirichlet([1, 1, 1], 60), columns=["c=1", "c=1.0", "c=w"])
    expected = mc.log_loss(Y["c"], p.to_numpy(), classes=["1", "1.0", "w"])
    for classes in (None, {"c": np.array(["1", "1.0", "w"], dtype=object)}):
        table = mc.evaluate_scores(Y, p, tasks={"c": "multiclass"}, classes=classes, n_replicates=0)
        assert table.loc[("c", "loss"), "value"] == pytest.approx(expected)


def test_words_as_labels():
    y = pd.Series(["no", "yes", None, "yes"], name="t")
    table = mc.evaluate_scores(y, [0.1, 0.9, 0.5, 0.8], tasks={"t": "binary"}, metrics=["accuracy"])
    assert table["value"].tolist() == [1.0]


def test_soft_labels():
    y = np.array([0.2, 0.9, np.nan, 0.5])
    table = mc.evaluate_scores(y, [0.1, 0.9, 0.5, 0.6], tasks=[Task("t", "binary", loss="kl")])
    assert table["value"].between(0, 1).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": {"b": [0.1, 0.2]}}, "no scores for the task 'a'"),
        ({"scores": [0.1, 0.2, 0.3]}, "scores of task 'a': 3 rows, but Y has 2"),
        ({"scores": [[0.1, 0.2], [0.3, 0.4]]}, "have 2 columns, but there are 1 tasks"),
        ({"scores": pd.DataFrame({"b": [0.1, 0.2]})}, "scores lack the columns a; they have b"),
        ({"scores": [0.1, np.nan]}, "scores of task 'a': .* NaN in 1 of 2 labelled rows"),
        ({"scores": [-2.0, 2.0]}, "scores of task 'a': .* margins"),
        ({"baseline": [-2.0, 2.0]}, "baseline of task 'a': .* margins"),
        ({"scores": pd.DataFrame({"a": [0.1, 0.2]}, index=[1, 0])}, "another order; sort them alike"),
        ({"metrics": ["auc"]}, "Unknown metric 'auc'; expected one of loss, log_loss"),
        ({"metrics": ["rmse"]}, "judges regression, count tasks; there is none"),
        ({"metrics": {"a": ["rmse"]}}, "judges regression, count tasks; 'a' is binary"),
        ({"metrics": {"b": ["loss"]}}, "names tasks that there are not: b; there are a"),
        ({"metrics": ["grouped_auc"]}, "needs groups="),
        ({"by": [1]}, "by values have 1 rows"),
        ({"clusters": [1]}, "clusters have 1 rows"),
        ({"space": "other"}, "space must be"),
        ({"tasks": [Task("a", "ranking", query="q")]}, "ranking tasks a need groups="),
        (
            {"tasks": [Task("a", "ranking", query="q")], "groups": ["x", None]},
            "query of the ranking task 'a' is missing in 1",
        ),
        ({"tasks": {"a": "multiclass"}}, "must be a frame with task=class columns"),
    ],
)
def test_wrong_input_is_refused(change, message):
    arguments = {"Y": pd.DataFrame({"a": [0, 1]}), "scores": [0.2, 0.7], "tasks": {"a": "binary"}} | change
    if arguments["tasks"] == {"a": "multiclass"}:
        arguments |= {"Y": pd.DataFrame({"a": [0, 1], "b": [1, 0]}), "tasks": {"a": "multiclass", "b": "binary"}}
    with pytest.raises(ValueError, match=message):
        mc.evaluate_scores(**arguments)


def test_an_unfitted_model_and_an_array_without_columns_are_refused(fitted):
    model, _, X, Y = fitted
    with pytest.raises(TypeError, match="has no tasks_; fit it first"):
        mc.evaluate(Oracle(TASKS), X, Y)
    with pytest.raises(ValueError, match="by column 'town' is needed, but there is no such column"):
        mc.evaluate(model, X, Y, by="town")


def test_get_metric():
    assert mc.get_metric("loss").greater_is_better is False
    assert mc.get_metric("ndcg@3").direction == 1
    y, p = [0, 1, None], [0.2, 0.7, 0.5]
    for name in ("accuracy", "precision", "recall", "f1"):
        assert mc.get_metric(name)("binary", y, p) == 1
    assert mc.get_metric("ratio")("binary", y, p) == pytest.approx(0.9)
    for wrong in ("ndcg@", "ndcg@0", "rmse@3", "x"):
        with pytest.raises(ValueError, match="Unknown metric"):
            mc.get_metric(wrong)
    with pytest.raises(ValueError, match="not binary"):
        mc.get_metric("rmse")("binary", y, p)
    with pytest.raises(ValueError, match="for a multiclass task"):
        mc.get_metric("accuracy")("multiclass", [0, 1], [0.2, 0.7])
    with pytest.raises(ValueError, match="Class codes must be"):
        mc.get_metric("accuracy")("multiclass", [0, 2], [[0.2, 0.8], [0.7, 0.3]])


def test_infinite_scores_are_refused_where_their_size_counts() -> None:
    y, scores = np.arange(30.0), np.r_[np.inf, np.arange(29.0)]
    with pytest.raises(ValueError, match="1 scores of task 'z' are infinite"):
        mc.evaluate_scores(y, scores, tasks={"z": "regression"}, n_replicates=0)
    with pytest.raises(ValueError, match="1 baseline of task 'z' are infinite"):
        mc.evaluate_scores(y, y, baseline=scores, tasks={"z": "regression"}, n_replicates=0)
    queries = np.arange(30) // 10
    ranked = [Task("z", "ranking", query="list")]
    table = mc.evaluate_scores(y % 3, scores, tasks=ranked, groups=queries, n_replicates=0)
    assert table["value"].notna().all()


def test_the_truth_wins_where_few_children_are_labelled() -> None:
    rng = np.random.default_rng(0)
    n, p_click, p_buy = 6000, 0.5, 0.4
    click = rng.random(n) < p_click
    buy = np.where(click, rng.random(n) < p_buy, 0.0)
    tasks = [Task("click", "binary"), Task("buy", "binary", given="click")]
    few = np.where(~click | (rng.random(n) < 0.1), buy, np.nan)  # zeros are known wherever nobody clicked
    truth = {"click": np.full(n, p_click), "buy": np.full(n, p_click * p_buy)}
    rarer = truth | {"buy": np.full(n, few[~np.isnan(few)].mean())}
    for labels, share in ((buy, 1.0), (few, 0.1)):
        report = mc.evaluate_scores(
            pd.DataFrame({"click": click * 1, "buy": labels}), truth, tasks=tasks, baseline=rarer
        )
        assert report.loc[("buy", "loss"), "verdict"] == "better"
        known, weight = ~np.isnan(labels), np.where(click, 1.0, share)
        assert np.average(labels[known], weights=weight[known]) == pytest.approx(0.2, abs=0.03)
        expected = log_loss(labels[known], truth["buy"][known], sample_weight=weight[known])
        assert report.loc[("buy", "loss"), "value"] == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("weighted", [False, True])
def test_a_slice_is_judged_as_if_it_were_the_table(weighted):
    random = np.random.default_rng(0)
    n = 600
    shop = random.choice(["a", "b", "c"], n)
    click = random.random(n) < 0.5
    told = random.random(n) < np.select([shop == "a", shop == "b"], [1.0, 0.2], 0.6)  # which purchases are known
    buy = np.where(click, np.where(told, random.random(n) < 0.4, np.nan), 0.0)
    Y = pd.DataFrame({"click": click * 1.0, "buy": buy})
    scores = pd.DataFrame({"click": np.full(n, 0.5), "buy": random.uniform(0.1, 0.3, n)})
    weight = random.random(n) if weighted else None
    asked = {
        "tasks": [Task("click", "binary"), Task("buy", "binary", given="click")],
        "metrics": ["loss", "observed"],
        "n_replicates": 0,
    }
    report = mc.evaluate_scores(Y, scores, by=shop, sample_weight=weight, **asked)
    for name in "abc":
        rows = shop == name
        own = None if weight is None else weight[rows]
        alone = mc.evaluate_scores(Y[rows], scores[rows], sample_weight=own, **asked)
        pd.testing.assert_frame_equal(report.loc[name], alone, check_index_type=False)


@pytest.mark.parametrize("what", ["by", "clusters"])
def test_slices_and_clusters_in_another_order_are_refused(what):
    X, Y = (frame.add_prefix("r", axis=0) for frame in shop(200))
    model = Oracle([Task("click", "binary")]).fit(X, Y)
    mc.evaluate(model, X, Y, n_replicates=0, **{what: X["shop"]})
    with pytest.raises(ValueError, match=f"The rows of {what} are those of X in another order"):
        mc.evaluate(model, X, Y, n_replicates=0, **{what: X["shop"][::-1]})


def test_slices_may_be_tuples():
    keys = pd.Series([(1,), (1, 2), ("a", 3)] * 20)
    table = mc.evaluate_scores([0, 1, 1, 0] * 15, np.full(60, 0.5), tasks={"y": "binary"}, by=keys, n_replicates=0)
    assert set(table.index.get_level_values(0)) == set(keys)
