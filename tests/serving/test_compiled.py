"""A compiled model says of one row what the model says of a table."""

import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import pandas as pd
import pytest
from sklearn import config_context
from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor
from sklearn.linear_model import LogisticRegression, Ridge

from mtl_classic import (
    Aggregate,
    AveragingEnsemble,
    CalibratedModel,
    FactorizationMachineClassifier,
    FactorizationMachineRegressor,
    FunnelModel,
    HistoryFeatures,
    LatentFeatures,
    LightGBMLearner,
    MatrixFactorization,
    MultiTaskFactorizationMachine,
    MultiTaskModel,
    PerTaskModel,
    Segments,
    SharedTreesModel,
    SklearnLearner,
    StackingEnsemble,
    TargetStatistics,
    Task,
    TaskGraphModel,
    average_over_seeds,
    load_model,
    make_funnel,
    save_model,
)
from mtl_classic._core.exceptions import ConstantTaskWarning
from mtl_classic.learners._flat_trees import FlatTrees, can_flatten
from mtl_classic.serving._row_steps import OfFrames, OfHistory, OfMachineRow, OfMemberFrame, OfPairs, OfStatistics
from mtl_classic.serving._row_values import Row

SHOP = make_funnel(3000, n_users=150, n_items=60, n_days=30, random_state=0)
PLAIN = ["user", "item", "category", "device", "price"]
AGGREGATES = [
    Aggregate("user", "count"),
    Aggregate(("user", "item"), "recency"),
    Aggregate("item", "rate", where="buy", per="view"),
]


def fitted(**options: Any) -> MultiTaskModel:
    model = MultiTaskModel(SHOP.tasks, **SHOP.roles, random_state=0, **({"latent": None} | options))
    return model.fit(SHOP.X, SHOP.Y, events=SHOP.events)


def machine(kind: type = FactorizationMachineClassifier, **options: Any) -> Any:
    return kind(
        categorical=["user", "item"], exclude=["time", "day"], n_factors=4, max_iter=3, random_state=0, **options
    )


def latent(*models: Any) -> dict[str, Any]:
    named = [(f"m{k}", model) for k, model in enumerate(models)]
    return {"latent": LatentFeatures(named, cv=2, random_state=0), "aggregates": AGGREGATES}


FINALS = {"view": LogisticRegression(), "spend": Ridge()}


def stack(**options: Any) -> StackingEnsemble:
    trees = SklearnLearner(ExtraTreesClassifier(20, min_samples_leaf=5), ExtraTreesRegressor(20, min_samples_leaf=5))
    learners = {
        "a": FunnelModel(SHOP.tasks, learner=LightGBMLearner(max_iter=20)),
        "b": PerTaskModel(SHOP.tasks, learner=trees),
    }
    return StackingEnsemble(list(learners.items()), cv=2, random_state=0, **options)


SIDES = {"user": ["user", "device"], "item": ["item", "category"]}
MODELS: dict[str, Callable[[], MultiTaskModel]] = {
    "funnel": lambda: fitted(),
    "routes": lambda: fitted(structure=FunnelModel(mode={"cart": "average", "buy": "direct"}), aggregates=AGGREGATES),
    "per task": lambda: fitted(structure="parallel"),
    "best": lambda: fitted(preset="best", cv=2, aggregates=AGGREGATES, time_budget=1),
    "seeds": lambda: fitted(structure=average_over_seeds(FunnelModel(SHOP.tasks), 2, 0), aggregates=AGGREGATES),
    "average": lambda: fitted(
        structure=AveragingEnsemble(
            [("a", FunnelModel(SHOP.tasks)), ("b", PerTaskModel(SHOP.tasks, learner="linear"))], weights=[1, 3]
        ),
        aggregates=AGGREGATES,
    ),
    "calibrated": lambda: fitted(structure=CalibratedModel(FunnelModel(SHOP.tasks), cv=2), aggregates=AGGREGATES),
    "matrix": lambda: fitted(**latent(MatrixFactorization(n_factors=4, random_state=0), MatrixFactorization("bpr"))),
    "ratings": lambda: fitted(**latent(MatrixFactorization("explicit", n_factors=2, max_iter=5, random_state=0))),
    "machines": lambda: fitted(**latent(machine(), machine(groups=SIDES, interactions=[("user", "item")]))),
    "gibbs": lambda: fitted(**latent(machine(FactorizationMachineRegressor, solver="gibbs", n_members=2))),
    "numbers": lambda: fitted(
        **latent(machine().set_params(categorical=[], exclude=["user", "item", "category", "device", "time", "day"]))
    ),
    "vectors": lambda: fitted(latent=LatentFeatures([("m", machine())], cv=2, output="both"), aggregates=AGGREGATES),
    "lag": lambda: fitted(aggregates=HistoryFeatures(AGGREGATES, **SHOP.roles, lag="2D")),
    "xgboost": lambda: fitted(learner="xgboost", aggregates=AGGREGATES),
    "linear": lambda: fitted(learner="linear", aggregates=AGGREGATES),
    "mixed": lambda: fitted(learner={"view": "hist", "cart": "lightgbm", "buy": "linear", "spend": "lightgbm"}),
    "forest": lambda: fitted(learner="forest", aggregates=AGGREGATES),
    "extra trees": lambda: fitted(learner="extra_trees", aggregates=AGGREGATES, structure="parallel"),
    "forest of all": lambda: fitted(structure=SharedTreesModel(trees="extra"), aggregates=AGGREGATES),
    "boosters of all": lambda: fitted(structure=SharedTreesModel(max_iter=20), aggregates=AGGREGATES),
    "machine of all": lambda: fitted(
        structure=MultiTaskFactorizationMachine(SHOP.tasks, categorical=["user", "item"], exclude=["time"], max_iter=3)
    ),
    "stacked": lambda: fitted(structure=stack(), aggregates=AGGREGATES),
    "stacked on columns": lambda: fitted(structure=stack(passthrough=True), aggregates=AGGREGATES),
    "stacked by a learner": lambda: fitted(structure=stack(final_estimator=FINALS), aggregates=AGGREGATES),
    "graph": lambda: fitted(structure=TaskGraphModel(cv=2), aggregates=AGGREGATES),
    "segments": lambda: fitted(latent=Segments(user="user", item="item", n_segments=3, random_state=0)),
    "no history": lambda: fitted(aggregates=None),
    "own log": lambda: MultiTaskModel(SHOP.tasks, **SHOP.roles, latent=None, random_state=0).fit(SHOP.X, SHOP.Y),
    "no time": lambda: MultiTaskModel(SHOP.tasks, user="user", item="item", latent=None, random_state=0).fit(
        SHOP.X[PLAIN], SHOP.Y
    ),
    "pairs": lambda: MultiTaskModel(
        SHOP.tasks, aggregates=TargetStatistics(["user", ("user", "device")]), latent=None, random_state=0
    ).fit(SHOP.X[PLAIN], SHOP.Y),
}


@cache
def model_of(name: str) -> MultiTaskModel:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return MODELS[name]()


def rows(n: int = 25) -> pd.DataFrame:
    """Rows of all sorts: unseen ids, missing values, times before, within and after the log."""
    X = SHOP.X.iloc[:: len(SHOP.X) // n].head(n).copy()
    X["device"] = X["device"].astype(object)
    X.iloc[0, X.columns.get_loc("user")] = 99_999
    X.iloc[1, X.columns.get_loc("item")] = 77_777
    X.iloc[2, X.columns.get_loc("price")] = np.nan
    X.iloc[3, X.columns.get_loc("device")] = None
    X.iloc[4, X.columns.get_loc("device")] = "watch"
    X["time"] += pd.to_timedelta(np.arange(len(X)) % 5 * 20 - 40, unit="D")
    return X


@pytest.mark.parametrize("name", MODELS)
def test_a_row_has_the_scores_of_the_table(name: str) -> None:
    model, X = model_of(name), rows(10)
    compiled = model.compile_for_serving()
    for space in ("entire", "conditional"):
        expected = model.predict_scores(X, space=space)
        own = pd.DataFrame([compiled.predict_scores(row, space) for row in X.to_dict("records")], index=X.index)
        pd.testing.assert_frame_equal(own, expected, rtol=1e-12, atol=0.0)


@pytest.mark.parametrize("name", ["funnel", "per task", "seeds", "matrix", "machines", "no time", "forest", "xgboost"])
def test_boosters_agree_to_the_bit(name: str) -> None:
    model, X = model_of(name), rows(60)
    compiled = model.compile_for_serving()
    own = pd.DataFrame([compiled.predict_scores(row) for row in X.to_dict("records")], index=X.index)
    assert (own == model.predict_scores(X)).all(axis=None)


@pytest.mark.parametrize(("name", "kinds"), [
    ("matrix", [OfHistory, OfPairs, OfPairs]), ("machines", [OfHistory, OfMachineRow, OfMachineRow]),
    ("no time", [OfStatistics]), ("pairs", [OfFrames]),
])  # fmt: skip
def test_known_steps_are_read_from_arrays(name: str, kinds: list[type]) -> None:
    assert [type(step) for step in model_of(name).compile_for_serving()._steps] == kinds


@pytest.mark.parametrize("name", ["matrix", "machines", "numbers", "gibbs", "vectors", "lag", "no time"])
def test_a_row_gets_the_columns_of_the_table(name: str) -> None:
    model = model_of(name)
    X = rows() if "time" in model.feature_names_in_ else rows()[PLAIN]
    expected = model.pipeline_[:-1].transform(X).drop(columns=X.columns).to_numpy(float)
    compiled = model.compile_for_serving()
    for k, values in enumerate(X.to_dict("records")):
        row = Row(values)
        for step in compiled._steps:
            step.apply(row)
        np.testing.assert_allclose(np.concatenate(row.blocks), expected[k], rtol=1e-5, atol=1e-7)


def test_series_further_columns_and_order_do_not_matter() -> None:
    model, X = model_of("funnel"), rows()
    compiled = model.compile_for_serving()
    row = X.iloc[7].to_dict()
    expected = compiled.predict_scores(row)
    assert compiled.predict_scores(X.iloc[7]) == expected
    assert compiled.predict_scores({"more": object(), **dict(reversed(row.items()))}) == expected
    assert list(expected) == ["view", "cart", "buy", "spend"]


@pytest.mark.parametrize("name", ["segments", "boosters of all"])
def test_scores_do_not_depend_on_the_frames_that_scikit_learn_is_set_to(name: str) -> None:
    model, X = model_of(name), rows()
    expected = model.predict_scores(X)
    with config_context(transform_output="polars"):
        assert np.array_equal(model.predict_scores(X), expected)
        row = model.compile_for_serving().predict_scores({**X.iloc[2]})
    assert list(row.values()) == pytest.approx(expected.iloc[2].tolist(), rel=1e-5)


def test_it_is_of_the_log_when_compiled() -> None:
    model = fitted()
    before = model.compile_for_serving()
    row = SHOP.X.iloc[-1].to_dict() | {"time": pd.Timestamp("2024-06-01")}
    scores = before.predict_scores(row)
    new = SHOP.events.to_frame().query("user == @row['user']").assign(time=pd.Timestamp("2024-05-30"))
    model.observe(new)
    assert before.predict_scores(row) == scores
    assert before.as_of_ == SHOP.events.last_time
    after = model.compile_for_serving()
    assert after.as_of_ == pd.Timestamp("2024-05-30")
    expected = model.predict_scores(pd.DataFrame([row]))["view"].iloc[0]
    assert after.predict_scores(row)["view"] == expected != scores["view"]


@pytest.mark.parametrize("name", ["funnel", "matrix", "ratings", "vectors", "lag", "segments", "stacked", "no history"])
def test_it_observes_as_the_model_does(name: str) -> None:
    model, X = deepcopy(model_of(name)), rows(12)
    X["time"] = pd.Timestamp("2024-06-01") + pd.to_timedelta(np.arange(len(X)), unit="D")
    compiled, before, records = model.compile_for_serving(), model.predict_scores(X), X.to_dict("records")
    first = [compiled.predict_scores(row) for row in records]
    new = SHOP.events.to_frame().tail(400)
    for shift in (70, 100):
        later = new.assign(time=new["time"] + pd.Timedelta(days=shift), user=new["user"] + shift)
        assert compiled.observe(later) is compiled
        pd.testing.assert_frame_equal(model.predict_scores(X), before)  # of another's events a model knows nothing
        model.observe(later)
        assert compiled.as_of_ == model.as_of_
        before = model.predict_scores(X)
        own = pd.DataFrame([compiled.predict_scores(row) for row in records], index=X.index)
        pd.testing.assert_frame_equal(own, before, rtol=1e-12, atol=0.0)
    if name not in ("segments", "no history"):
        assert [compiled.predict_scores(row) for row in records] != first


def test_it_stays_where_it_is_while_its_model_observes() -> None:
    model, X = deepcopy(model_of("funnel")), rows(12)
    X["time"] = pd.Timestamp("2024-06-01") + pd.to_timedelta(np.arange(len(X)), unit="D")
    compiled, later = model.compile_for_serving(), SHOP.events.to_frame().tail(400)
    later["time"] += pd.Timedelta(days=70)
    model.observe(later)
    compiled.observe(later)
    own = pd.DataFrame([compiled.predict_scores(row) for row in X.to_dict("records")], index=X.index)
    pd.testing.assert_frame_equal(own, model.predict_scores(X), rtol=1e-12, atol=0.0)


def test_requests_go_on_while_it_observes() -> None:
    model, X = deepcopy(model_of("funnel")), rows(20)
    compiled, records = model.compile_for_serving(), X.to_dict("records")
    new = SHOP.events.to_frame().tail(200)
    new["time"] += pd.Timedelta(days=1) + new["time"].max() - new["time"].min()
    states = [[compiled.predict_scores(row) for row in records]]
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(lambda: [compiled.predict_scores(row) for row in records]) for _ in range(30)]
        compiled.observe(new)
        states.append([compiled.predict_scores(row) for row in records])
        for answers in asked:
            for k, answer in enumerate(answers.result()):
                assert answer in (states[0][k], states[1][k])


def test_threads_that_observe_lose_no_events() -> None:
    model = deepcopy(model_of("funnel"))
    compiled, day = model.compile_for_serving(), SHOP.events.to_frame().tail(50)
    day["time"] += pd.Timedelta(days=70)
    for told in (model, compiled):
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda k, told=told: told.observe(day.assign(user=day["user"] + k)), range(12)))
    history = next(step for _, step in model.pipeline_.steps if isinstance(step, HistoryFeatures))
    own = next(step for step in compiled._made_of if isinstance(step, HistoryFeatures))
    assert history.log_.n_events == own.log_.n_events == SHOP.events.n_events + 600


@pytest.mark.parametrize("learner", ["forest", "extra_trees"])
def test_forests_of_all_kinds(learner: str) -> None:
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(600, 3)), columns=list("abc")).mask(rng.random((600, 3)) < 0.1)
    X["a"] = X["a"].where(rng.random(600) < 0.9, 1e-36)
    kind = np.where(np.arange(600) < 590, rng.choice(["p", "q"], 600), "r")
    Y = pd.DataFrame({"kind": kind, "n": rng.poisson(1, 600), "y": rng.normal(size=600), "up": rng.random(600) < 0.3})
    tasks = {"kind": "multiclass", "n": "count", "y": "regression", "up": "binary"}
    model = MultiTaskModel(tasks, structure="parallel", latent=None, learner=learner, random_state=0).fit(X, Y)
    compiled, few = model.compile_for_serving(), X.head(50)
    own = pd.DataFrame([compiled.predict_scores(row) for row in few.to_dict("records")])
    assert (own == model.predict_scores(few)).all(axis=None)


@pytest.mark.parametrize("max_onehot", [100, 2])
def test_forests_of_all_tasks(max_onehot: int) -> None:
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(600, 3)), columns=list("abc")).mask(rng.random((600, 3)) < 0.1)
    X = X.assign(shape=rng.choice(["round", "square", "flat"], 600), size=rng.choice(["S", "M"], 600))
    Y = pd.DataFrame({"kind": rng.choice(["p", "q", "r"], 600), "n": rng.poisson(1, 600), "y": rng.normal(size=600)})
    Y = Y.assign(up=(rng.random(600) < 0.3).astype(float), never=0.0).mask(rng.random((600, 5)) < 0.2)
    tasks = {"kind": "multiclass", "n": "count", "y": "regression", "up": "binary", "never": "binary"}
    forest = SharedTreesModel(tasks, trees="extra", n_trees=20, max_onehot=max_onehot)
    with pytest.warns(ConstantTaskWarning):
        model = MultiTaskModel(tasks, structure=forest, latent=None, random_state=0).fit(X, Y)
    compiled, few = model.compile_for_serving(), X.head(50)
    own = pd.DataFrame([compiled.predict_scores(row) for row in few.to_dict("records")])
    assert (own == model.predict_scores(few)).all(axis=None)


def test_threads_share_it() -> None:
    model, X = model_of("seeds"), rows(60)
    compiled = model.compile_for_serving()
    records = X.to_dict("records") * 10
    with ThreadPoolExecutor(8) as pool:
        shared = list(pool.map(compiled.predict_scores, records))
    assert shared == [compiled.predict_scores(row) for row in records]


def test_multiclass_counts_and_rankings() -> None:
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"query": rng.integers(0, 60, 900), "a": rng.normal(size=900), "b": rng.choice(list("xyz"), 900)})
    Y = pd.DataFrame(
        {"kind": rng.choice(["p", "q", "r"], 900), "n": rng.poisson(2, 900), "rank": rng.integers(0, 3, 900)}
    )
    tasks = [Task("kind", "multiclass"), Task("n", "count"), Task("rank", "ranking", query="query")]
    model = MultiTaskModel(tasks, query="query", latent=None, random_state=0).fit(X, Y)
    compiled = model.compile_for_serving()
    own = pd.DataFrame([compiled.predict_scores(row) for row in X.head(50).to_dict("records")])
    pd.testing.assert_frame_equal(own, model.predict_scores(X.head(50)), rtol=1e-12, atol=0.0)


def test_a_machine_of_three_classes_is_asked_by_a_frame() -> None:
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"user": rng.integers(0, 30, 500), "size": rng.normal(size=500)})
    Y = pd.DataFrame({"kind": rng.choice(list("abc"), 500)})
    machines = latent(FactorizationMachineClassifier(categorical=["user"], n_factors=2, max_iter=2, random_state=0))
    tasks = {"kind": "multiclass"}
    model = MultiTaskModel(tasks, **machines | {"aggregates": None}, learner="linear", random_state=0).fit(X, Y)
    row = model.compile_for_serving().predict_scores({**X.iloc[3]})
    assert row == pytest.approx(model.predict_scores(X.iloc[[3]]).iloc[0].to_dict(), rel=1e-6)


def test_dates_durations_and_flags_are_numbers() -> None:
    rng = np.random.default_rng(0)
    since = pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 900, 600), unit="h")
    X = pd.DataFrame(
        {"since": since, "kept": pd.to_timedelta(rng.integers(0, 99, 600), unit="D"), "new": rng.random(600) < 0.5}
    )
    X.loc[::7, ["since", "kept"]] = pd.NaT
    y = (X["since"].dt.day.fillna(0) + X["kept"].dt.days.fillna(0) + 9 * X["new"] > 50).astype(float)
    model = MultiTaskModel({"y": "binary"}, latent=None, random_state=0).fit(X, y)
    compiled = model.compile_for_serving()
    expected = model.predict_scores(X.head(40))["y"].to_numpy()
    for row, score in zip(X.head(40).to_dict("records"), expected, strict=True):
        plain = {name: None if value is pd.NaT else value for name, value in row.items()}
        others = plain | {
            name: getattr(plain[name], f"to_py{kind}")()
            for name, kind in (("since", "datetime"), ("kept", "timedelta")) if plain[name] is not None
        }  # fmt: skip
        arrays = plain | {name: plain[name].asm8 for name in ("since", "kept") if plain[name] is not None}
        assert all(compiled.predict_scores(same)["y"] == score for same in (row, plain, others, arrays))


@pytest.mark.parametrize("learner", ["lightgbm", "linear"])
def test_texts_of_dates_and_ordered_categories(learner: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    day, names = rng.integers(0, 400, 600), ["small", "medium", "large", "huge"]
    size = pd.Categorical.from_codes(rng.integers(0, 3, 600), names, ordered=True)
    dates = pd.Timestamp("2024-01-01") + pd.to_timedelta(day, unit="D")
    X = pd.DataFrame({"day": dates.strftime("%Y-%m-%d").astype(object), "size": size})
    X.loc[::7, "day"] = None
    y = (day > 200) ^ (size.codes > 1) ^ (rng.random(600) < 0.1)
    model = MultiTaskModel({"y": "binary"}, latent=None, learner=learner, random_state=0).fit(X, y.astype(float))
    save_model(model, tmp_path / "model.zip")
    told = X.head(40).assign(size=X["size"].head(40).astype(object))
    told.loc[1, "size"] = "huge"
    expected = model.predict_scores(told)["y"].to_numpy()
    np.testing.assert_array_equal(load_model(tmp_path / "model.zip").predict_scores(told)["y"], expected)
    compiled = model.compile_for_serving()
    for row, score in zip(told.to_dict("records"), expected, strict=True):
        assert compiled.predict_scores(row)["y"] == pytest.approx(score, rel=1e-9)
    with pytest.raises(ValueError, match=r"'day' held dates at fit.*'31/12/2024' is no date"):
        compiled.predict_scores({"day": "31/12/2024", "size": "small"})


def test_epochs_decimals_and_dates_as_objects() -> None:
    rng = np.random.default_rng(0)
    minutes = rng.integers(0, 1440, 600)
    days = pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 300, 600), unit="D")
    X = pd.DataFrame(
        {
            "epoch": 1_700_000_000_000 + 60_000 * minutes,
            "price": pd.Series([Decimal(int(cents)) / 100 for cents in rng.integers(1, 9999, 600)], dtype=object),
            "since": pd.Series(list(days.date), dtype=object),
            "month": days.to_period("M"),
        }
    )
    y = (minutes % 720 > 360).astype(float)
    for learner in ("lightgbm", "linear"):
        model = MultiTaskModel({"y": "binary"}, latent=None, learner=learner, random_state=0).fit(X, y)
        compiled, expected = model.compile_for_serving(), model.predict_scores(X.head(40))["y"]
        scores = [compiled.predict_scores(row)["y"] for row in X.head(40).to_dict("records")]
        np.testing.assert_allclose(scores, expected, rtol=1e-12 if learner == "linear" else 0)
        assert learner == "linear" or model.score(X, y) > 0.8


@pytest.mark.filterwarnings("ignore::mtl_classic.FallbackWarning")
@pytest.mark.parametrize("structure", ["parallel", "machine"])
def test_dates_and_flags_of_another_type_are_refused_as_in_a_table(structure: str) -> None:
    rng = np.random.default_rng(0)
    since = pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 300, 300), unit="D")
    X = pd.DataFrame({"since": since, "size": rng.random(300), "new": pd.Categorical(rng.random(300) < 0.5)})
    y = pd.DataFrame({"a": X["size"] > 0.5, "b": since.day > 15}).astype(float)
    chosen = MultiTaskFactorizationMachine(max_iter=1) if structure == "machine" else structure
    options: dict[str, Any] = {"latent": None, "learner": "linear", "random_state": 0}
    model = MultiTaskModel({"a": "binary", "b": "binary"}, structure=chosen, **options).fit(X, y)
    compiled, row = model.compile_for_serving(), X.iloc[0].to_dict()
    for name, wrong in (("since", 1_704_067_200_000), ("size", since[0]), ("new", 1), ("new", "True")):
        with pytest.raises(TypeError, match=f"'{name}' held"):
            model.predict_scores(X.iloc[[0]].assign(**{name: [wrong]}))
        with pytest.raises(TypeError, match=f"'{name}' held"):
            compiled.predict_scores(row | {name: wrong})
    for name in row:
        scores = model.predict_scores(X.iloc[[0]].assign(**{name: [None]})).iloc[0].to_dict()
        assert compiled.predict_scores(row | {name: None}) == pytest.approx(scores, rel=1e-6)


@pytest.mark.parametrize("learner", ["lightgbm", "linear"])
def test_a_model_that_reads_no_column(learner: str) -> None:
    X = pd.DataFrame({"user": [f"u{k}" for k in range(300)]})  # too many to be a feature
    model = MultiTaskModel({"y": "binary"}, user="user", aggregates=None, latent=None, learner=learner, random_state=0)
    compiled = model.fit(X, np.arange(300) % 3 == 0).compile_for_serving()
    assert compiled.predict_scores({"user": "u3"})["y"] == pytest.approx(1 / 3, abs=0.01)


@pytest.mark.parametrize("form", [pd.DataFrame, lambda rows: rows.to_dict("records"), lambda rows: rows.to_numpy()])
def test_what_is_no_row_is_told(form: Any) -> None:
    shop = make_funnel(300, n_users=20, n_items=10, random_state=0)
    X = shop.X.drop(columns=["time", "day"])
    model = MultiTaskModel(shop.tasks, user="user", item="item", learner=LightGBMLearner(max_iter=3))
    serving = model.fit(X, shop.Y).compile_for_serving()
    with pytest.raises(TypeError, match="A row maps columns to values, as a dict or a Series does; got"):
        serving.predict_scores(form(X[:1]))
    assert serving.predict_scores(X.iloc[0]) == serving.predict_scores({**X.iloc[0]})


def test_what_is_wrong_is_told() -> None:
    compiled = model_of("funnel").compile_for_serving()
    row = rows().iloc[7].to_dict()
    with pytest.raises(ValueError, match="lacks the columns price"):
        compiled.predict_scores({name: value for name, value in row.items() if name != "price"})
    with pytest.raises(ValueError, match="Infinite"):
        compiled.predict_scores(row | {"price": np.inf})
    with pytest.raises(TypeError, match="'price' held numbers"):
        compiled.predict_scores(row | {"price": "dear"})
    with pytest.raises(TypeError, match="'user' held numbers"):
        compiled.predict_scores(row | {"user": "7"})
    with pytest.raises(TypeError, match="times of the log are dates"):
        compiled.predict_scores(row | {"time": 7})
    with pytest.raises(ValueError, match="missing"):
        compiled.predict_scores(row | {"time": None})
    with pytest.raises(ValueError, match="space"):
        compiled.predict_scores(row, space="all")
    with pytest.raises(ValueError, match="fitted on a frame"):
        MultiTaskModel(random_state=0).fit(np.zeros((50, 1)), np.arange(50) % 2).compile_for_serving()


FACTORS = LatentFeatures([("mf", MatrixFactorization(n_factors=4, max_iter=2, random_state=0))], cv=2)


@pytest.mark.parametrize("options", [
    {"aggregates": AGGREGATES}, {"aggregates": None, "latent": FACTORS}, {"time": None},
], ids=["history", "factors", "statistics"])  # fmt: skip
def test_other_kinds_of_ids_are_refused_or_unseen_as_in_a_table(options: dict[str, Any]) -> None:
    rows = SHOP.X if "time" not in options else SHOP.X.drop(columns=["time", "day"])
    model = MultiTaskModel(
        SHOP.tasks, **({"latent": None, "learner": "linear", "random_state": 0} | SHOP.roles | options)
    )
    model.fit(rows, SHOP.Y, events=None if "time" in options else SHOP.events)
    serving, row = model.compile_for_serving(), rows.iloc[[0]]
    for value in ("3", 3.0, 3.5, True, None):
        asked = row.assign(item=[value])
        try:
            scores = model.predict_scores(asked).iloc[0].to_dict()
        except TypeError:
            with pytest.raises(TypeError, match="'item'"):
                serving.predict_scores({**row.iloc[0], "item": value})
            assert value in ("3", True)
        else:
            assert serving.predict_scores({**row.iloc[0], "item": value}) == pytest.approx(scores, rel=1e-12)
            assert value not in ("3", True)


def test_a_machine_tells_text_from_numbers_and_knows_what_is_missing() -> None:
    roles = {"user": "user", "item": "item"}
    factors = FactorizationMachineClassifier(categorical=["user", "item"], n_factors=4, max_iter=3, random_state=0)
    options = {"aggregates": None, "latent": LatentFeatures([("m", factors)], cv=2, random_state=0)}
    model = MultiTaskModel(SHOP.tasks, **roles, **options, random_state=0).fit(SHOP.X[PLAIN], SHOP.Y)
    compiled, row = model.compile_for_serving(), SHOP.X[PLAIN].iloc[7].to_dict()
    for name, wrong in (("user", "7"), ("device", 3), ("price", "3.5"), ("price", np.True_)):
        with pytest.raises(TypeError, match=f"'{name}' held"):
            model.predict_scores(pd.DataFrame([row | {name: wrong}]))
        with pytest.raises(TypeError, match=f"'{name}' held"):
            compiled.predict_scores(row | {name: wrong})
    for nothing in (None, np.nan, pd.NA, np.float32("nan"), np.datetime64("NaT", "ns")):
        expected = model.predict_scores(pd.DataFrame([row | {"device": None}]))["view"].iloc[0]
        assert compiled.predict_scores(row | {"device": nothing})["view"] == expected


def test_a_machine_that_learnt_nothing_of_a_column_takes_its_numbers_as_missing() -> None:
    factors = FactorizationMachineClassifier(categorical=["user", "item"], n_factors=4, max_iter=3, random_state=0)
    options: dict[str, Any] = {"aggregates": None, "latent": LatentFeatures([("m", factors)], cv=2, random_state=0)}
    X = SHOP.X[PLAIN].assign(late=np.nan)
    compiled = MultiTaskModel(SHOP.tasks, **options, random_state=0).fit(X, SHOP.Y).compile_for_serving()
    row = X.iloc[7].to_dict()
    assert compiled.predict_scores(row | {"late": 350.0}) == compiled.predict_scores(row)


@pytest.mark.parametrize("options", [
    {"objective": "binary"}, {"objective": "binary", "sigmoid": 2.0}, {"objective": "binary", "zero_as_missing": True},
    {"objective": "binary", "use_missing": False}, {"objective": "cross_entropy"}, {"objective": "poisson"},
    {"objective": "regression"}, {"objective": "multiclass", "num_class": 3}, {"objective": "tweedie"},
    {"objective": "regression", "boosting": "dart", "drop_rate": 0.5}, {"objective": "regression", "num_leaves": 2},
    {"objective": "binary", "max_cat_to_onehot": 300},
], ids=str)  # fmt: skip
def test_flat_trees_are_the_booster(options: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(3000, 6)).astype(np.float32)
    X[:, 0], X[:, 1] = rng.integers(0, 200, 3000), rng.integers(0, 5, 3000)
    X[:, 2] *= rng.random(3000) < 0.5
    X[rng.random(X.shape) < 0.05] = np.nan
    signal = np.nan_to_num(X[:, 3]) + (X[:, 0] % 3 == 0) + np.nan_to_num(X[:, 2])
    y = signal if options["objective"] == "regression" else (np.digitize(signal, [0, 1]) % options.get("num_class", 2))
    data = lgb.Dataset(X, y, categorical_feature=[0, 1])
    booster = lgb.train({"verbosity": -1, "num_threads": 1, "seed": 0} | options, data, 30)
    assert can_flatten(booster)
    X[:50, 2], X[:20, 0], X[20:40, 0], X[40:60, 0] = 1e-36, -1, 1e9, 3.7
    trees = FlatTrees([(booster, 20), (booster, None)])
    for rounds, which in ((20, 0), (None, 1)):
        expected = booster.predict(X[:400], num_iteration=rounds, num_threads=1)
        np.testing.assert_array_equal([trees.predict(row)[which] for row in X[:400]], expected)


@pytest.mark.parametrize("options", [
    {"objective": "regression", "linear_tree": True}, {"objective": "regression", "reg_sqrt": True},
    {"objective": "binary", "boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5},
    {"objective": "multiclassova", "num_class": 3},
], ids=str)  # fmt: skip
def test_what_is_not_flattened_predicts_by_itself(options: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(500, 3))
    y = rng.integers(0, 3, 500) if "num_class" in options else (X[:, 0] > 0).astype(float)
    data = lgb.Dataset(X, y, params={"linear_tree": options.get("linear_tree", False), "verbosity": -1})
    assert not can_flatten(lgb.train({"verbosity": -1, "num_threads": 1} | options, data, 5))


def test_a_learner_with_parameters_of_its_own() -> None:
    learner = LightGBMLearner(params={"linear_tree": True})
    frame = SHOP.X[PLAIN]
    model = MultiTaskModel({"spend": "regression"}, latent=None, learner=learner, random_state=0).fit(
        frame, SHOP.Y["spend"]
    )
    compiled = model.compile_for_serving()
    own = [compiled.predict_scores(row)["spend"] for row in frame.head(20).to_dict("records")]
    np.testing.assert_array_equal(own, model.predict_scores(frame.head(20))["spend"])


def test_a_request_waits_for_no_events_of_other_users(monkeypatch: pytest.MonkeyPatch) -> None:
    shop = make_funnel(1500, n_users=60, n_items=30, random_state=0)
    latent = LatentFeatures([("als", MatrixFactorization(n_factors=4, random_state=0))], random_state=0)
    model = MultiTaskModel(shop.tasks, **shop.roles, latent=latent, random_state=0).fit(
        shop.X, shop.Y, events=shop.events
    )
    last, (mine, other) = shop.events.last_time, shop.X["user"].unique()[:2]
    row = shop.X.iloc[[-1]].assign(user=mine, time=last + pd.Timedelta("2h"))
    event = {**shop.events.to_frame().iloc[-1].to_dict(), "item": shop.X["item"].iloc[0], "event": "buy"}
    for user, hours, by_frame in ((other, 3, 0), (mine, 1, 0), (mine, 2, 1)):
        model.observe(pd.DataFrame([event | {"user": user, "time": last + pd.Timedelta(hours=hours)}]))
        compiled, frames = model.compile_for_serving(), []
        expected = model.predict_scores(row)
        with monkeypatch.context() as patch:
            made = OfMemberFrame.apply
            patch.setattr(OfMemberFrame, "apply", lambda *a, made=made, n=frames: (n.append(1), made(*a)))
            own = compiled.predict_scores(row.iloc[0].to_dict())
        assert pd.DataFrame([own], index=row.index).equals(expected[list(own)])
        assert len(frames) == by_frame
