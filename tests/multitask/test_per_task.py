"""PerTaskModel: options, shapes of what it returns, and bad input."""

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.base import clone
from sklearn.model_selection import cross_val_predict

from mtl_classic import (
    ConstantTaskWarning,
    FoldError,
    LightGBMLearner,
    PerTaskModel,
    RoleError,
    SharedTreesModel,
    Task,
    TaskError,
    UnusedColumnsWarning,
    evaluate,
    make_folds,
)
from mtl_classic._core.exceptions import LabelError
from mtl_classic.model_selection import FoldPlan

N = 400
rng = np.random.default_rng(0)
X = pd.DataFrame({"x": rng.normal(size=N), "z": rng.normal(size=N), "day": np.arange(N) // 10, "q": np.arange(N) % 40})
Y = pd.DataFrame(
    {
        "buy": np.where(X["x"] + rng.normal(size=N) > 0, "yes", "no"),
        "way": np.array(["app", "shop", "web"])[np.clip((X["z"] + 1.5).astype(int), 0, 2)],
        "spend": X["x"] + rng.normal(size=N),
        "grade": rng.integers(0, 3, N),
    }
)
TASKS = [
    Task("buy", "binary"),
    Task("way", "multiclass"),
    Task("spend", "regression"),
    Task("grade", "ranking", query="q"),
]
SMALL = LightGBMLearner(max_iter=20)


def model(tasks: Any = TASKS, **options: Any) -> PerTaskModel:
    return PerTaskModel(tasks, **({"learner": SMALL, "random_state": 0} | options))


def test_what_predictions_look_like() -> None:
    index = pd.Index(range(100, 100 + N))
    fitted = model().fit(X.set_axis(index), Y)
    labels = fitted.predict(X.set_axis(index))
    assert list(labels) == list(Y)
    assert labels.index.equals(index)
    assert set(labels["buy"]) == {"no", "yes"}
    assert [p.shape for p in fitted.predict_proba(X)] == [(N, 2), (N, 3)]
    scores = fitted.predict_scores(X.set_axis(index))
    assert list(scores) == ["buy", "way=app", "way=shop", "way=web", "spend", "grade"]
    assert scores.index.equals(index)
    assert (scores.dtypes == np.float64).all()
    pd.testing.assert_frame_equal(fitted.decision_function(X.set_axis(index)), scores)
    array = model([*TASKS[:3]]).fit(X, Y.iloc[:, :3].to_numpy(dtype=object)).predict(X)
    assert array.dtype == object
    assert array.shape == (N, 3)


def test_one_dimensional_labels_give_the_single_output_form() -> None:
    fitted = model({"y": "binary"}).fit(X, Y["buy"])
    assert fitted.predict(X).shape == (N,)
    assert fitted.predict_proba(X).shape == (N, 2)
    assert fitted.decision_function(X).shape == (N,)
    assert fitted.classes_.tolist() == ["no", "yes"]
    assert fitted.predict_scores(X).shape == (N, 1)
    fitted.fit(X, Y["spend"].to_numpy() > 0)
    assert fitted.predict(X).dtype == bool
    assert not hasattr(model([TASKS[2]]), "predict_proba")
    with pytest.raises(AttributeError, match="has no attribute 'predict_proba'"):
        model([TASKS[2]]).fit(X, Y).predict_proba(X)


def test_refitting_leaves_nothing_of_the_fit_before() -> None:
    fitted = model(None).fit(X, Y["buy"])
    fitted.fit(X.to_numpy(), Y[["buy", "way"]])
    assert not hasattr(fitted, "feature_names_in_")
    assert list(fitted.fits_) == ["buy", "way"]
    assert [list(classes) for classes in fitted.classes_] == [["no", "yes"], ["app", "shop", "web"]]
    fitted.set_params(tasks=TASKS[:3]).fit(X, Y)
    assert not hasattr(fitted, "classes_")


def test_probabilities_of_several_tasks_are_cross_validated_by_scikit_learn() -> None:
    plain = PerTaskModel([*TASKS[:2]], learner="linear")
    crossed = cross_val_predict(plain, X[["x", "z"]], Y[["buy", "way"]], cv=2, method="predict_proba")
    assert [p.shape for p in crossed] == [(N, 2), (N, 3)]
    only = cross_val_predict(PerTaskModel(learner="linear"), X[["x", "z"]], Y[["buy"]], cv=2, method="predict_proba")
    np.testing.assert_allclose(only[0], crossed[0])


def test_polars_frames() -> None:
    Xp, Yp = pl.from_pandas(X[["x", "z"]]), pl.from_pandas(Y[["way", "buy"]])
    ours, theirs = model(None).fit(X[["x", "z"]], Y[["way", "buy"]]), model(None).fit(Xp, Yp)
    pd.testing.assert_frame_equal(ours.predict_scores(X), theirs.predict_scores(Xp))
    assert list(theirs.predict(Xp)) == ["way", "buy"]
    explicit = model([TASKS[0], TASKS[1]]).fit(Xp, Yp)  # matched by name
    assert list(explicit.predict(Xp)) == ["buy", "way"]


def test_thirty_tasks_half_of_whose_labels_are_missing() -> None:
    many = pd.DataFrame({f"t{j}": (X["x"] + rng.normal(size=N) > 0.1 * j).astype(float) for j in range(29)})
    many["rare"] = (X["x"] > 2.2).astype(float)
    many = many.where(rng.random(many.shape) < 0.5)
    scores = model(None, learner=LightGBMLearner(max_iter=5)).fit(X, many).predict_scores(X)
    assert scores.shape == (N, 30)
    assert scores.notna().all(axis=None)


def first_tree(fitted: PerTaskModel) -> str:
    text = fitted.fits_["spend"].booster.model_to_string()
    end = "Tree=1" if "Tree=1" in text else "end of trees"
    return text[text.index("Tree=0") : text.index(end)]


def test_early_stopping_uses_the_last_fold_of_the_plan() -> None:
    plan = make_folds(4, Y, random_state=0)
    train, valid = plan.last
    kept = model([TASKS[2]], refit=False).fit(X, Y, plan=plan)
    for rows, same in ((train, False), (valid, True)):
        changed = Y.assign(spend=Y["spend"].mask(np.isin(np.arange(N), rows), Y["spend"] ** 2))
        assert (first_tree(model([TASKS[2]], refit=False).fit(X, changed, plan=plan)) == first_tree(kept)) == same
    refitted = model([TASKS[2]]).fit(X, Y, plan=plan)
    assert refitted.fits_["spend"].n_rounds == kept.fits_["spend"].n_rounds
    assert first_tree(refitted) != first_tree(kept)
    with pytest.raises(FoldError, match="plan is for 10 rows, but X has 400"):
        model([TASKS[2]]).fit(X, Y, plan=make_folds(2, np.zeros(10), random_state=0))


def test_a_query_split_over_the_last_fold_is_refused() -> None:
    with pytest.raises(FoldError, match=r"splits 40 queries between training and validation; make it with make_folds"):
        model([TASKS[3]]).fit(X, Y, plan=make_folds(2, Y[["grade"]], random_state=0))
    plan = make_folds(2, Y[["grade"]], groups=X["q"], random_state=0)
    assert model([TASKS[3]]).fit(X, Y, plan=plan).predict_scores(X).shape == (N, 1)


def test_ranking_does_not_depend_on_how_queries_lie_in_the_table() -> None:
    fixed = LightGBMLearner(max_iter=20, params={"lambdarank_truncation_level": 100})
    task = [TASKS[3]]
    apart = model(task, learner=fixed, early_stopping=False).fit(X, Y)
    order = np.argsort(X["q"].to_numpy(), kind="stable")
    together = model(task, learner=fixed, early_stopping=False).fit(X.iloc[order], Y.iloc[order])
    pd.testing.assert_frame_equal(apart.predict_scores(X), together.predict_scores(X))


def test_rankings_with_different_queries_are_refused() -> None:
    other = Task("other", "ranking", query="day")
    with pytest.raises(TaskError, match="share their query; got .*Use one model for each"):
        model([TASKS[3], other]).fit(X, Y.assign(other=Y["grade"]))


def test_roles_are_no_features() -> None:
    fitted = model([TASKS[0]], time="day", query="q", exclude=["z"]).fit(X, Y)
    assert fitted.columns_.names_ == ("x",)
    assert model([TASKS[3]]).fit(X, Y).columns_.names_ == ("x", "z", "day")
    prefixed = X.rename(columns={"day": "remainder__day"})
    assert "remainder__day" not in model([TASKS[0]], time="day").fit(prefixed, Y).columns_.names_


@pytest.mark.parametrize(
    ("options", "X_", "Y_", "error", "says"),
    [
        ({}, X, Y.drop(columns="buy"), TaskError, "lacks the columns of the tasks buy; its columns are way, spend"),
        ({}, X, Y.iloc[:10], ValueError, "X has 400 rows, but Y has 10"),
        ({}, X, Y.assign(spend=np.nan), ValueError, "'spend' has no label in 400 rows; leave the task out"),
        ({}, X, Y.assign(spend="much"), ValueError, "'spend' needs numbers; 400 labels are not, the first is 'much'"),
        ({}, X, Y.assign(spend=np.inf), ValueError, "400 infinite labels"),
        ({}, X.assign(x=np.inf), Y, ValueError, "Infinite values .* columns x"),
        ({}, X.iloc[:0], Y.iloc[:0], ValueError, r"0 sample\(s\)|no label in 0 rows|nothing to fit"),
        ({}, X.drop(columns="q"), Y, RoleError, "the columns are x, z, day"),
        ({"user": "id"}, X, Y, RoleError, "user column 'id' is needed, but there is no such column"),
        ({"exclude": "z"}, X, Y, TypeError, "exclude must be a list of column names, got 'z'"),
        (
            {"validation_fraction": 2},
            X,
            Y,
            ValueError,
            "validation_fraction must be a number above 0 .*, got 2",
        ),
        ({"random_state": -1}, X, Y, ValueError, "non-negative integer, got -1"),
        ({"tasks": [Task("buy", "binary"), Task("buy", "count")]}, X, Y, TaskError, "unique; repeated: buy"),
    ],
)
def test_bad_input_at_fit(options: dict, X_: Any, Y_: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        model(**options).fit(X_, Y_)


def test_duplicated_column_names() -> None:
    twice = pd.concat([X, X[["x"]]], axis=1)
    with pytest.raises(ValueError, match="unique; repeated: x"):
        model().fit(twice, Y)
    with pytest.raises(TaskError, match="unique names; repeated: buy"):
        model().fit(X, pd.concat([Y, Y[["buy"]]], axis=1))


def test_bad_input_at_prediction() -> None:
    fitted = model(time="day").fit(X, Y)
    with pytest.raises(ValueError, match="lacks columns that PerTaskModel was fitted with: day; it has x, z, q"):
        fitted.predict(X.drop(columns="day"))
    with pytest.raises(ValueError, match="space must be .*, got 'all'"):
        fitted.predict_scores(X, space="all")
    with pytest.raises(ValueError, match="X has 400 rows, but Y has 4; expected the same number"):
        fitted.score(X, Y[:4])
    pd.testing.assert_frame_equal(fitted.predict_scores(X[X.columns[::-1]].assign(more=1)), fitted.predict_scores(X))


def test_a_column_that_holds_no_numbers_any_more_is_named() -> None:
    fitted = model().fit(X, Y)
    with pytest.raises(TypeError, match="Column 'x' held numbers at fit; now it does not: .*'cheap'"):
        fitted.predict(X.assign(x="cheap"))
    with pytest.raises(ValueError, match="Infinite values in the column 'x'"):
        fitted.predict(X.assign(x=pd.Series([np.inf] * N, dtype=object)))
    with pytest.raises(TypeError, match=r"Column 'x' holds values that cannot be compared: .*'list'.*; leave it out"):
        model().fit(X.assign(x=[[1]] * N), Y)


def test_settings_that_name_nothing_are_refused() -> None:
    with pytest.raises(RoleError, match="exclude= names columns that X does not have: zz; it has"):
        model(exclude=["zz"]).fit(X, Y)
    with pytest.raises(RoleError, match="exclude=.* names columns, so X must be a frame, got ndarray"):
        model([TASKS[0]], exclude=np.array(["z", "x"])).fit(X[["x"]].to_numpy(), Y[["buy"]])
    prefixed = model(exclude=["z"]).fit(X.rename(columns={"z": "cat__z"}), Y)
    assert "cat__z" not in prefixed.columns_.names_
    with pytest.raises(TypeError, match="plan must be a FoldPlan, got int; make one with make_folds"):
        model().fit(X, Y, plan=5)


def test_rankings_need_every_labelled_query() -> None:
    rank = Task("rank", "ranking", query="q")
    labels = pd.DataFrame({"rank": np.arange(N) % 3}, dtype=float)
    holes = X.assign(q=X["q"].where(np.arange(N) >= 4).astype(float))
    with pytest.raises(LabelError, match="The query of the ranking task 'rank' is missing in 4 rows; fill it in"):
        model([rank]).fit(holes, labels)
    labels.loc[:3, "rank"] = None
    assert model([rank]).fit(holes, labels).predict_scores(holes)["rank"].notna().all()


def test_nothing_and_one_row() -> None:
    fitted = model().fit(X, Y)
    assert fitted.predict(X.iloc[:0]).shape == (0, 4)
    assert fitted.predict_scores(X.iloc[:0]).shape == (0, 6)
    assert [p.shape for p in fitted.predict_proba(X.iloc[:0])] == [(0, 2), (0, 3)]
    with pytest.warns(ConstantTaskWarning, match="'buy' has 1 labelled rows, all with the same label"):
        one = model([TASKS[0]]).fit(X.iloc[:1], pd.DataFrame({"buy": [True]}))
    assert one.predict(X)["buy"].all()


def test_weights_of_the_rows_in_another_order_are_refused() -> None:
    rows, labels = X.set_axis(X.index + 7), Y[["spend"]].set_axis(X.index + 7)
    weight = pd.Series(np.arange(N) + 1.0, rows.index)
    fitted = model([TASKS[2]], learner="linear").fit(rows, labels, sample_weight=weight)
    for use in (fitted.fit, fitted.score):
        with pytest.raises(ValueError, match="rows of sample_weight are those of X in another order"):
            use(rows, labels, sample_weight=weight[::-1])
        use(rows, labels, sample_weight=weight[::-1].reset_index(drop=True))


def test_a_task_whose_labels_all_weigh_nothing() -> None:
    weight = pd.DataFrame({"buy": np.zeros(N), "spend": np.ones(N)})
    with pytest.warns(ConstantTaskWarning, match="'buy' has no row to learn from: none with a label and a weight"):
        fitted = model([TASKS[0], TASKS[2]]).fit(X, Y, sample_weight=weight)
    assert (fitted.predict_scores(X)["buy"] == 0).all()


@pytest.mark.parametrize("learner", ["lightgbm", "xgboost", "linear", "shared"])
def test_weights_without_a_scale_of_their_own(learner: str) -> None:
    options = {"exclude": ["day", "q"], "random_state": 0}
    tasks = [TASKS[0], TASKS[2]]
    empty = SharedTreesModel(tasks, **options) if learner == "shared" else model(tasks, learner=learner, **options)
    weight = pd.DataFrame({"buy": np.full(N, 1e-6), "spend": rng.uniform(1, 2, N)})
    plain = clone(empty).fit(X, Y, sample_weight=weight.assign(buy=1.0)).predict_scores(X)
    pd.testing.assert_frame_equal(clone(empty).fit(X, Y, sample_weight=weight).predict_scores(X), plain)
    shares = weight.assign(spend=weight["spend"] / weight["spend"].sum())
    again = [clone(empty).fit(X, Y, sample_weight=shares * scale).predict_scores(X) for scale in (1.0, 0.5)]
    pd.testing.assert_frame_equal(*again)
    assert again[0]["spend"].std() > 0.5 * plain["spend"].std()


def test_a_million_categories() -> None:
    ids = pd.DataFrame({"id": np.arange(1_000_000).astype(str), "x": rng.normal(size=1_000_000)})
    few = model({"up": "binary"}, learner=LightGBMLearner(max_iter=2), early_stopping=False)
    with pytest.warns(UnusedColumnsWarning, match=r"'id' \(1000000 values\)"):
        fitted = few.fit(ids, ids["x"] > 0)
    assert fitted.columns_.left_out_ == {"id": 1_000_000}
    assert fitted.score(ids.iloc[:1000], ids["x"].iloc[:1000] > 0) > 0


def test_scores_of_folds_without_labels_do_not_count() -> None:
    fitted = model([TASKS[0], TASKS[2]]).fit(X, Y)
    assert fitted.score(X, Y.assign(buy=np.nan)) == model([TASKS[2]]).fit(X, Y).score(X, Y)
    assert np.isnan(fitted.score(X, Y.assign(buy=np.nan, spend=np.nan)))


def test_an_undefined_task_does_not_count() -> None:
    fitted = model([TASKS[2], TASKS[3]]).fit(X, Y)
    alone = fitted.score(X, Y.assign(grade=np.nan))
    assert fitted.score(X, Y.assign(grade=0)) == alone  # no query has a relevant row
    weight = pd.DataFrame({"spend": np.ones(N), "grade": np.zeros(N)})
    assert fitted.score(X, Y, sample_weight=weight) == alone


def test_queries_weigh_as_in_the_report() -> None:
    fitted, weight = model([TASKS[3]]).fit(X, Y), rng.choice([0.0, 1.0, 5.0], N)
    table = evaluate(fitted, X, Y, sample_weight=weight, baseline=fitted.predict_scores(X) * 0, n_replicates=0)
    loss = table.loc[("grade", "loss")]
    assert fitted.score(X, Y, sample_weight=weight) == pytest.approx(1 - loss["value"] / loss["baseline"])


@pytest.mark.parametrize("kind", ["binary", "regression", "count"])
@pytest.mark.filterwarnings("ignore::mtl_classic.ConstantTaskWarning")
def test_a_constant_that_is_predicted_is_perfect(kind: str) -> None:
    y = pd.DataFrame({"y": np.zeros(N)})
    fitted = model({"y": kind}).fit(X, y)
    assert fitted.score(X, y) == 1
    assert fitted.score(X, y.assign(y=1)) <= 0


def test_scores_of_one_name_are_refused() -> None:
    mixed = pd.Series([1, "1"] * (N // 2), dtype=object)
    with pytest.raises(TaskError, match="have the name 'way=1'"):
        model([TASKS[1]]).fit(X, Y.assign(way=mixed))
    with pytest.raises(TaskError, match="have the name 'way=app'"):
        model([TASKS[1], Task("way=app", "binary")]).fit(X, Y.assign(**{"way=app": Y["way"] == "app"}))


def test_soft_labels_are_as_good_as_their_expectation() -> None:
    p = 1 / (1 + np.exp(-2 * X["x"].to_numpy()))
    soft = PerTaskModel([Task("p", "binary", loss="kl")], random_state=0).fit(X, pd.DataFrame({"p": p}))
    assert np.abs(soft.predict_scores(X)["p"] - p).mean() < 0.05
    assert soft.predict(X)["p"].between(0, 1).all()


@pytest.mark.parametrize(("kind", "query"), [("multiclass", None), ("ranking", "q")])
@pytest.mark.parametrize("learner", ["lightgbm", "xgboost"])
def test_rare_classes_and_grades_do_not_stop_a_booster(kind: str, query: str | None, learner: str) -> None:
    y = np.zeros(N)
    y[:300:60] = [1, 2, 1, 2, 1]
    train, valid = (
        np.arange(300),
        np.arange(320, N),
    )  # by which every round would seem better than the one before, or none
    data = {"X": X.assign(q=np.arange(N) // 20), "Y": pd.DataFrame({"y": y}), "plan": FoldPlan(((train, valid),), N)}
    fitted = PerTaskModel([Task("y", kind, query=query)], learner=learner, random_state=0).fit(**data)
    assert 20 <= fitted.fits_["y"].n_rounds <= 60
