"""Changing any event or label that is not yet known at a row's time changes none of its features, not by one bit."""

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from mtl_classic import Task
from mtl_classic.events import Aggregate, EventLog, HistoryFeatures

TYPES = ["view", "buy"]
KEYS = ["user", "item", ("user", "item"), ()]
STATS = [
    {"stat": "count"},
    {"stat": "count", "where": "buy", "window": 4},
    {"stat": "sum", "window": 3},
    {"stat": "mean", "where": {"type": "view"}},
    {"stat": "rate", "where": "buy", "per": "view"},
    {"stat": "rate", "value": "price", "window": 5},
    {"stat": "recency", "window": 6},
    {"stat": "gap"},
    {"stat": "decayed", "value": "price", "half_life": 2.0, "window": 7},
]
AGGREGATES = [Aggregate(keys, **stat) for keys in KEYS for stat in STATS]

ids = st.integers(0, 2)
times = st.integers(0, 12)
event = st.tuples(ids, ids, times, st.sampled_from(TYPES), st.floats(-5, 5) | st.just(np.nan))
row = st.tuples(ids, ids, times)


def log_of(events):
    frame = pd.DataFrame(events, columns=["user", "item", "time", "type", "price"])
    anchors = pd.DataFrame({"user": -1, "item": -1, "time": -5, "type": TYPES, "price": 1.0})  # so that all types exist
    return EventLog(
        pd.concat([anchors, frame.astype(anchors.dtypes.to_dict())], ignore_index=True),
        user="user", item="item", time="time", event="type", value="price",
    )  # fmt: skip


@given(
    events=st.lists(event, max_size=25),
    others=st.lists(event, max_size=25),
    rows=st.lists(row, min_size=1, max_size=8),
    lag=st.sampled_from([None, 0, 2, 2.5]),
)
def test_events_from_the_cut_on_do_not_matter(events, others, rows, lag):
    X = pd.DataFrame(rows, columns=["user", "item", "time"])
    features = HistoryFeatures(AGGREGATES, lag=lag).fit_transform(X, events=log_of(events))
    for k in range(len(X)):
        cut = X["time"][k] - (lag or 0)
        rewritten = [e for e in events if e[2] < cut] + [e for e in others if e[2] >= cut]
        again = HistoryFeatures(AGGREGATES, lag=lag).fit_transform(X, events=log_of(rewritten))
        np.testing.assert_array_equal(again.iloc[k].to_numpy(), features.iloc[k].to_numpy())


TASKS = [Task("click", "binary", delay=3), Task("buy", "binary", given="click", delay=1), Task("spend", "regression")]
OWN = [
    Aggregate(keys, stat, **options)
    for keys in ("user", ("user", "item"))
    for stat, options in [
        ("count", {}),
        ("rate", {"where": "click"}),
        ("rate", {"where": "buy", "window": 6}),
        ("sum", {"where": "buy"}),
        ("mean", {"where": "spend"}),
        ("decayed", {"where": "spend", "half_life": 2}),
        ("recency", {"where": "click"}),
    ]
]
label = st.tuples(st.sampled_from([0.0, 1.0, np.nan]), st.sampled_from([0.0, 1.0, np.nan]), st.floats(-3, 3))


def labels_of(values):
    Y = pd.DataFrame(values, columns=["click", "buy", "spend"])
    Y.loc[Y["click"] == 0, "buy"] = 0.0
    return pd.concat([Y, pd.DataFrame([[1.0, 1.0, 1.0]], columns=Y.columns)], ignore_index=True)


@given(
    data=st.lists(st.tuples(row, label, label), min_size=1, max_size=12),
    lag=st.sampled_from([None, 2]),
)
def test_labels_that_are_not_yet_known_do_not_matter(data, lag):
    X = pd.DataFrame([d[0] for d in data] + [(9, 9, 0)], columns=["user", "item", "time"])
    Y, other = labels_of([d[1] for d in data]), labels_of([d[2] for d in data])
    features = HistoryFeatures(OWN, time="time", tasks=TASKS, lag=lag).fit_transform(X, Y)
    delays = {"click": 3, "buy": 3, "spend": 0}  # a child is known no sooner than its parent
    for k in range(len(X)):
        cut = X["time"][k] - (lag or 0)
        rewritten = Y.copy()
        unknown = {
            name: (X["time"] + delay >= cut).to_numpy() & (X["user"] != 9).to_numpy() for name, delay in delays.items()
        }
        for name, rows in unknown.items():
            rewritten.loc[rows, name] = other.loc[rows, name]
        again = HistoryFeatures(OWN, time="time", tasks=TASKS, lag=lag).fit_transform(X, rewritten)
        np.testing.assert_array_equal(again.iloc[k].to_numpy(), features.iloc[k].to_numpy())


@given(data=st.lists(st.tuples(row, label), min_size=2, max_size=12))
def test_later_rows_do_not_matter(data):
    X = pd.DataFrame([d[0] for d in data] + [(9, 9, 0)], columns=["user", "item", "time"])
    Y = labels_of([d[1] for d in data])
    model = HistoryFeatures(OWN, time="time", tasks=TASKS)
    features = model.fit_transform(X, Y)
    for k in range(len(X)):
        known = (X["time"] < X["time"][k]).to_numpy() | (np.arange(len(X)) == len(X) - 1)
        again = model.fit(X[known], Y[known]).transform(X.iloc[[k]])
        np.testing.assert_array_equal(again.to_numpy()[0], features.iloc[k].to_numpy())
