"""Functions and methods refuse what an option does not take by the name of the parameter."""

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mtl_classic import (
    Aggregate,
    BaggingEnsemble,
    ConformalModel,
    EventLog,
    HistoryFeatures,
    MatrixFactorization,
    MultiTaskModel,
    PerTaskModel,
    Task,
    Temporal,
    average_over_seeds,
    cross_fit,
    evaluate,
    evaluate_scores,
    label_from_events,
    load_complete_journey,
    load_model,
    make_folds,
    make_funnel,
    monitor,
    monitor_reference,
    multitask_scorer,
    permutation_importance,
    plot_affinity,
    plot_importance,
    plot_task_graph,
    predict_scores_in_chunks,
    save_model,
    task_affinity,
    top_k,
    write_scores,
)
from mtl_classic.metrics import (
    brier,
    calibration_table,
    compare,
    correct_sampling,
    ctr,
    cvr,
    expected_calibration_error,
    f1,
    get_metric,
    grouped_auc,
    log_loss,
    mean_average_precision,
    ndcg,
    prior_scores,
    sampling_weights,
    task_loss,
)

NAN = float("nan")
KINDS = {"up": "binary", "amount": "regression"}
X = pd.DataFrame(np.random.default_rng(0).normal(size=(100, 2)), columns=["a", "b"])
Y = pd.DataFrame({"up": (X["a"] > 0) * 1.0, "amount": X["b"]})
MODEL = PerTaskModel(KINDS, learner="linear").fit(X, Y)
SCORES = MODEL.predict_scores(X)
LABELS, CHANCES, QUERIES = np.tile([0.0, 1.0], 50), np.tile([0.2, 0.7], 50), np.repeat(np.arange(25), 4)
SHOP = make_funnel(200, n_users=20, n_items=10, n_days=10, history_days=5, random_state=0)

# What is called, and, of each parameter, what it must not be.
NO_COUNT: list[Any] = ["no", 1.5, 0, -1, True, NAN, []]
NO_SHARE: list[Any] = ["no", -1, 1.5, NAN, True, None, []]
NO_DURATION: list[Any] = ["no", "3M", -1, True, NAN, [], {}, np.timedelta64(-1, "D")]
NO_DATES: list[Any] = [*NO_DURATION, 1.5]
NO_LIST: list[Any] = ["up", 1.5, True, {}]
Calls = list[tuple[Callable[..., Any], dict[str, list[Any]]]]


def swept(calls: Calls) -> list[Any]:
    return [
        pytest.param(call, name, value, id=f"{getattr(call, 'func', call).__name__}-{name}-{value!r:.12}")
        for call, wrong in calls
        for name, values in wrong.items()
        for value in values
    ]


def refuses(call: Callable[..., Any], name: str, value: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=rf"\b{name}\b"):
        call(**{name: value})


BOOTSTRAP: dict[str, list[Any]] = {"n_replicates": ["no", 150.5, 99, -1, True, NAN, None, []], "level": NO_SHARE}
JUDGED: dict[str, list[Any]] = {
    **BOOTSTRAP, "metrics": [1.5, True, {"up": 1.5}, {"up": None}], "clusters": [1.5, True], "by": [1.5, True],
}  # fmt: skip
METRICS: Calls = [
    (partial(evaluate, MODEL, X, Y), JUDGED | {"baseline": ["no", 1.5, []], "space": ["no", 1]}),
    (
        partial(evaluate_scores, Y, SCORES, tasks=KINDS),
        JUDGED | {"baseline": [1.5, {"up": 0.5}], "classes": ["no", 1.5], "groups": [1.5], "space": ["no", 1]},
    ),
    (partial(compare, {"a": LABELS}, {"a": CHANCES}), BOOTSTRAP | {"clusters": [1.5]}),
    (partial(ndcg, LABELS, CHANCES, QUERIES), {"k": NO_COUNT, "gain": ["no", 1, None], "average": ["no", 1]}),
    (partial(ndcg, LABELS, CHANCES), {"groups": [1.5, None]}),
    (partial(mean_average_precision, LABELS, CHANCES, QUERIES), {"k": NO_COUNT}),
    (partial(grouped_auc, LABELS, CHANCES, QUERIES), {"average": ["no", 1]}),
    (partial(calibration_table, LABELS, CHANCES), {"n_bins": NO_COUNT, "strategy": ["no", 1, None]}),
    (partial(expected_calibration_error, LABELS, CHANCES), {"n_bins": NO_COUNT}),
    (partial(ctr, LABELS, CHANCES), {"n_bins": NO_COUNT}),
    (partial(cvr, LABELS, CHANCES, LABELS), {"n_bins": NO_COUNT}),
    (partial(f1, LABELS, CHANCES), {"threshold": ["no", True, NAN, None, []]}),
    (
        partial(log_loss, ["a", "b"], [[0.5, 0.5], [0.1, 0.9]]),
        {"classes": ["ab", 1.5, [], ["a"], ["a", "b", "c"], {"a": 0, "b": 1}]},
    ),
    (partial(brier, ["a", "b"], [[0.5, 0.5], [0.1, 0.9]]), {"classes": ["ab", [], ["a"]]}),
    (lambda kind: task_loss(kind, LABELS, CHANCES), {"kind": ["no", 1, None]}),
    (lambda kind: prior_scores(kind, LABELS), {"kind": ["no", 1, None]}),
    (partial(prior_scores, "multiclass", LABELS), {"n_classes": ["no", 1.5, -1, None]}),
    (lambda metric: get_metric(metric), {"metric": [1.5, None, []]}),
    (partial(correct_sampling, CHANCES), {"sampling_rate": ["no", 2, NAN, None, {}]}),
    (partial(correct_sampling, SCORES[["up"]], 0.1, sampled_by="up"), {"descendants": NO_LIST}),
    (partial(sampling_weights, LABELS), {"sampling_rate": ["no", 0, NAN, {}]}),
]


@pytest.mark.parametrize(("call", "name", "value"), swept(METRICS))
def test_metrics(call: Callable[..., Any], name: str, value: Any) -> None:
    refuses(call, name, value)


def test_metrics_take_numbers_of_numpy() -> None:
    table = evaluate(MODEL, X, Y, metrics={"up": "roc_auc", "amount": ["r2"]}, n_replicates=np.int64(0))
    assert list(table.index) == [("up", "roc_auc"), ("amount", "r2")]
    assert len(evaluate(MODEL, X, Y, metrics="rmse", n_replicates=np.int32(100), level=np.float32(0.9))) == 1
    assert ndcg(LABELS, CHANCES, QUERIES, k=np.uint8(2)) == 1
    assert f1(LABELS, CHANCES, threshold=np.float32(0.5)) == f1(LABELS, CHANCES, threshold=0.5) == 1
    assert len(calibration_table(LABELS, CHANCES, n_bins=np.int16(2))) == 2


IMPORTANCE = pd.DataFrame(
    {"importance": [0.1], "verdict": ["same"]}, index=pd.MultiIndex.from_tuples([("up", "a")], names=["task", "column"])
)
INSPECTION: Calls = [
    (partial(permutation_importance, MODEL, X, Y), BOOTSTRAP | {"n_repeats": [*NO_COUNT, None]}),
    (partial(permutation_importance, MODEL, X, Y), {"columns": ["a", 1.5, {"both": "ab"}, {"both": 1.5}]}),
    (
        partial(monitor, MODEL, X, reference=monitor_reference(MODEL, X)),
        {"alpha": NO_SHARE, "tolerance": ["no", -1, NAN, True, None, []]},
    ),
    (partial(monitor, MODEL, X, reference=monitor_reference(MODEL, X)), {"max_age": NO_DURATION}),
    (partial(monitor_reference, MODEL, X), {"exclude": ["a", 1.5, True, None, {}]}),
    (partial(plot_importance, IMPORTANCE), {"n_columns": NO_COUNT, "ax": ["no", 1]}),
    (lambda importance: plot_importance(importance), {"importance": ["no", None, np.ones((2, 2))]}),
    (lambda affinity: plot_affinity(affinity), {"affinity": ["no", None]}),
    (lambda TaskGraphModel: plot_task_graph(TaskGraphModel), {"TaskGraphModel": ["no", None, MODEL]}),
]


@pytest.mark.parametrize(("call", "name", "value"), swept(INSPECTION))
def test_inspection(call: Callable[..., Any], name: str, value: Any) -> None:
    refuses(call, name, value)


def test_inspection_takes_numbers_of_numpy() -> None:
    found = permutation_importance(
        MODEL, X, Y, n_repeats=np.int64(1), n_replicates=0, columns={"both": np.array(["a"])}
    )
    assert len(found) == 2
    reference = monitor_reference(MODEL, X, exclude=np.array(["b"]))
    assert list(reference.columns) == ["a"]
    assert len(monitor(MODEL, X, reference=reference, alpha=np.float32(0.01), tolerance=np.int64(0)))


def history(**options: Any) -> HistoryFeatures:
    return HistoryFeatures([Aggregate("user", **options)], **SHOP.roles).fit(SHOP.X, SHOP.Y, events=SHOP.events)


DURATIONS: Calls = [
    (partial(Task, "a", "binary"), {"delay": NO_DURATION, "metric": [1.5, True, []], "query": [1.5, True, {}]}),
    (partial(Task, "a", "binary"), {"given": [1.5, True, [], ["b", 1], (), ("b",), (1, "b")]}),
    (partial(Task, "a", "ranking"), {"query": [1.5, (), [], None]}),
    (Temporal, {"gap": NO_DURATION}),
    (lambda gap: make_folds(Temporal(2, gap), LABELS, time=range(100)), {"gap": ["1D"]}),
    (lambda gap: make_folds(Temporal(2, gap), LABELS, time=pd.date_range("2024", periods=100)), {"gap": [1.5]}),
    (partial(Aggregate, stat="count"), {"keys": [1.5, True, None, {}]}),
    (partial(Aggregate, "user", "rate", where="view"), {"smoothing": ["no", -1, NAN, True, None, []]}),
    (partial(Aggregate, "user", "sum"), {"value": [1.5, True, []], "window": NO_DURATION}),
    (partial(Aggregate, "user", "decayed"), {"half_life": NO_DURATION}),
    (partial(history, stat="count"), {"window": NO_DATES}),
    (partial(history, stat="decayed"), {"half_life": NO_DATES}),
    (partial(label_from_events, SHOP.X, SHOP.events, SHOP.tasks), {"horizon": [*NO_DATES, None, 0]}),
    (partial(label_from_events, SHOP.X, SHOP.events, SHOP.tasks, "1D"), {"user": ["", "no", [], 1.5], "time": [0]}),
    (partial(label_from_events, SHOP.X, SHOP.events, SHOP.tasks, "1D"), {"as_of": ["no", 1.5, -1, True, NAN, []]}),
    (lambda delay: label_from_events(SHOP.X, SHOP.events, [Task("buy", "binary", delay=delay)], "1D"), {"delay": [2]}),
    (partial(make_funnel, 50), {"delay": NO_DATES}),
]


@pytest.mark.parametrize(("call", "name", "value"), swept(DURATIONS))
def test_durations(call: Callable[..., Any], name: str, value: Any) -> None:
    refuses(call, name, value)


@pytest.mark.parametrize("week", ["7D", "1w", pd.Timedelta(7, "D"), timedelta(7), np.timedelta64(7, "D")])
def test_durations_of_dates(week: Any) -> None:
    assert Task("buy", "binary", delay=week).delay == Temporal(2, week).gap == week
    assert Aggregate("user", "count", window=week).name in ("user__count__1w", "user__count__7D")


@pytest.mark.parametrize("number", [7, 7.0, np.int64(7), np.float32(7)])
def test_durations_of_numbers(number: Any) -> None:
    assert Task("buy", "binary", delay=number).delay == Temporal(2, number).gap == 7
    assert Aggregate("user", "count", window=number).name == "user__count__7"


FOLDS = make_folds(2, Y, random_state=0)
FITS: Calls = [
    (
        partial(cross_fit, MODEL, X, Y, FOLDS),
        {"method": ["no", 1.5, True, []], "score": ["no", 1, None, []], "fit_params": ["no", 1.5, []]},
    ),
    (partial(cross_fit, MODEL, X, Y, FOLDS), {"n_jobs": ["no", 1.5, 0, True]}),
    (partial(make_folds, 2, Y), {"groups": ["no", 1.5, True]}),
    (multitask_scorer, {"metric": [1.5, True, []], "task": [1.5, True, []]}),
    (partial(task_affinity, X, Y), {"model": ["no", 1.5, [], MODEL]}),
]


@pytest.mark.parametrize(("call", "name", "value"), swept(FITS))
def test_folds(call: Callable[..., Any], name: str, value: Any) -> None:
    refuses(call, name, value)


BAGS = BaggingEnsemble(MODEL, 2, random_state=0).fit(X, Y)
NO_TRUTH: list[Any] = ["no", 1, 0.0, None, []]
ENSEMBLES: Calls = [
    (partial(average_over_seeds, MODEL), {"n_seeds": [*NO_COUNT, None]}),
    (partial(BAGS.predict, X), {"return_std": NO_TRUTH}),
    (partial(BAGS.predict_scores, X), {"return_std": NO_TRUTH}),
    (partial(ConformalModel(MODEL, method="split").fit(X, Y).predict_interval, X), {"coverage": NO_SHARE}),
]


@pytest.mark.parametrize(("call", "name", "value"), swept(ENSEMBLES))
def test_ensembles(call: Callable[..., Any], name: str, value: Any) -> None:
    refuses(call, name, value)


def test_ensembles_take_numbers_of_numpy() -> None:
    assert len(average_over_seeds(MODEL, np.int64(2)).estimators) == 2
    labels, _ = BAGS.predict(X, return_std=np.bool_(True))
    pd.testing.assert_frame_equal(labels, BAGS.predict(X))


SIZES = ("n_rows", "n_users", "n_items", "n_factors", "n_categories", "n_days")
DATASETS: Calls = [
    (make_funnel, {size: [*NO_COUNT, None] for size in SIZES}),
    (make_funnel, {"history_days": ["no", 1.5, -1, True, None], "strength": ["no", -1, NAN, np.inf, True, None]}),
    (make_funnel, {"rates": ["no", 0.5, None, (0.1, 0.2), (0.1, 0.2, 1), (0.1, 0.2, NAN), (0.1, 0.2, "no")]}),
    (make_funnel, {"missing": ["no", -1, 1, NAN, True, False, [], {"cart": "no"}, {"cart": None}]}),
    (load_complete_journey, {"table": NO_TRUTH, "n_households": NO_COUNT}),
    (load_complete_journey, {"label_weeks": ["no", 34, None, (34,), (34.5, 40), (40, 34), (5, 40)]}),
]


@pytest.mark.parametrize(("call", "name", "value"), swept(DATASETS))
def test_datasets(call: Callable[..., Any], name: str, value: Any) -> None:
    refuses(call, name, value)


def test_datasets_take_numbers_of_numpy() -> None:
    rates = np.array([0.3, 0.3, 0.3], np.float32)
    shop = make_funnel(
        np.int32(50),
        n_days=np.uint8(9),
        history_days=np.int32(2),
        rates=rates,
        strength=np.float32(1),
        missing=np.float64(0.5),
    )
    assert len(shop.X) == 50


OF_SHOP = MultiTaskModel(SHOP.tasks, learner="linear", latent=None, random_state=0, **SHOP.roles).fit(
    SHOP.X, SHOP.Y, events=SHOP.events
)
FACTORS = MatrixFactorization(n_factors=2, max_iter=1, **SHOP.roles).fit(SHOP.X, events=SHOP.events)
SERVING: Calls = [
    (
        partial(top_k, OF_SHOP, SHOP.X, by="buy"),
        {
            "k": NO_COUNT,
            "per": [1.5, True],
            "columns": ["user", 1.5, {}],
            "chunk_size": NO_COUNT,
            "progress": ["no", 1],
        },
    ),
    (partial(top_k, OF_SHOP, SHOP.X), {"by": ["no", 1.5, None, [], {}]}),
    (lambda **options: list(predict_scores_in_chunks(MODEL, X, **options)), {"progress": ["no", 1], "chunk_size": [0]}),
    (
        partial(write_scores, MODEL, X, "scores.parquet"),
        {"keep": ["ab", 1.5, None, {}], "progress": ["no", 1], "space": ["no", 1, Path], "memory_limit": ["no", 1.5]},
    ),
    (partial(OF_SHOP.recommend, [1, 2]), {"k": NO_COUNT, "exclude_seen": NO_TRUTH, "n_candidates": NO_COUNT}),
    (partial(OF_SHOP.similar_items, [1]), {"n": ["no", 1.5, -1, True, None]}),
    (partial(FACTORS.similar_users, [1]), {"n": ["no", 1.5, -1, True, None]}),
    (partial(OF_SHOP.refresh, SHOP.X, SHOP.Y), {"how": ["no", 1, None], "decay": ["no", -1, 1.5, NAN, True, None]}),
    (partial(save_model, MODEL, "model.zip"), {"include_events": NO_TRUTH, "compress": NO_TRUTH}),
    (partial(load_model, "model.zip"), {"mmap": NO_TRUTH}),
    (lambda frame: EventLog(frame, **SHOP.roles), {"frame": ["no", 1.5, None, []]}),
    (lambda frame: OF_SHOP.observe(frame), {"frame": ["no", 1.5, None, []]}),
]


@pytest.mark.parametrize(("call", "name", "value"), swept(SERVING))
def test_serving(
    call: Callable[..., Any], name: str, value: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refuses(call, name, value)
    assert not list(tmp_path.iterdir())


def test_serving_takes_numbers_of_numpy(tmp_path: Path) -> None:
    best = top_k(OF_SHOP, SHOP.X, by="buy", k=np.int64(2), columns=pd.Index(["user"]))
    assert best["rank"].max() == 2
    assert len(FACTORS.similar_items([1], np.int32(3))) == 3
    assert OF_SHOP.refresh(SHOP.X, SHOP.Y, decay=np.float32(0.5)).refreshed_ is not None
    save_model(MODEL, tmp_path / "model.zip", compress=np.bool_(False))
    assert load_model(tmp_path / "model.zip", mmap=np.bool_(True)).predict(X).shape == (100, 2)
