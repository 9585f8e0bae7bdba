"""What a fitted MultiTaskModel does in production."""

from copy import copy
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.base import clone

from mtl_classic import (
    Aggregate,
    FactorizationMachineClassifier,
    LatentFeatures,
    MatrixFactorization,
    MultiTaskFactorizationMachine,
    MultiTaskModel,
    make_funnel,
    top_k,
)
from mtl_classic.serving._factors import find_factors, seen_pairs
from mtl_classic.serving._recommend import _best

SHOP = make_funnel(4000, n_users=150, n_items=60, n_days=30, random_state=0)
USERS = SHOP.X.drop_duplicates("user")[["user", "device", "day"]].reset_index(drop=True)
ITEMS = SHOP.X.drop_duplicates("item")[["item", "category", "price"]].reset_index(drop=True)
AGGREGATES = [Aggregate("user", "count"), Aggregate("item", "rate", where="buy", per="view")]
SIDES = {"user": ["user", "device"], "item": ["item", "category"]}
MACHINE = FactorizationMachineClassifier(
    groups=SIDES, interactions=[("user", "item")], categorical=["user", "item"], max_iter=5, random_state=0,
    exclude=["time", "day", "price", *(aggregate.name for aggregate in AGGREGATES)],
)  # fmt: skip
FACTORS: dict[str, Any] = {
    "log": None,
    "matrix": MatrixFactorization(n_factors=4, random_state=0),
    "bpr": MatrixFactorization("bpr", n_factors=4, max_iter=20, random_state=0),
    "ratings": MatrixFactorization("explicit", n_factors=2, max_iter=5, random_state=0),
    "machine": MACHINE,
    "machine of two members": clone(MACHINE).set_params(n_members=2),
    "machine of draws": clone(MACHINE).set_params(n_members=2, solver="gibbs", loss="probit"),
}


@cache
def model_of(name: str) -> MultiTaskModel:
    latent = None if FACTORS[name] is None else LatentFeatures([("m", FACTORS[name])], cv=2, random_state=0)
    model = MultiTaskModel(SHOP.tasks, **SHOP.roles, aggregates=AGGREGATES, latent=latent, random_state=0)
    return model.fit(SHOP.X, SHOP.Y, events=SHOP.events)


def test_top_k_is_the_function() -> None:
    model = model_of("log")
    pd.testing.assert_frame_equal(model.top_k(SHOP.X, "buy", 3), top_k(model, SHOP.X, by="buy", k=3))
    whole = model.top_k(SHOP.X, lambda scores, rows: scores["spend"] * rows["price"], 2, per=None, columns=["item"])
    assert list(whole.columns) == ["item", "score", "rank"]


def test_as_of_follows_the_log() -> None:
    shop = make_funnel(300, n_users=30, n_items=20, n_days=5, random_state=1)
    model = MultiTaskModel(shop.tasks, **shop.roles, aggregates=AGGREGATES, latent=None, random_state=0)
    model.fit(shop.X, shop.Y, events=shop.events)
    assert model.as_of_ == shop.events.last_time
    new = shop.events.to_frame().tail(5).assign(time=pd.Timestamp("2024-09-01"))
    assert model.observe(new) is model
    assert model.as_of_ == pd.Timestamp("2024-09-01")
    plain = MultiTaskModel(shop.tasks, aggregates=None, latent=None, random_state=0).fit(shop.X[["price"]], shop.Y)
    assert plain.as_of_ is None


@pytest.mark.parametrize("name", FACTORS)
def test_recommended_is_the_best_of_what_is_left(name: str) -> None:
    model = model_of(name)
    found = model.recommend(USERS.head(8), 5, by="buy", items=ITEMS, n_candidates=len(ITEMS))
    seen = set(zip(*(SHOP.events.column(column) for column in ("user", "item")), strict=True))
    rows = USERS.head(8).merge(ITEMS, how="cross").assign(time=SHOP.events.last_time + pd.Timedelta(1, "ns"))
    rows = rows[[pair not in seen for pair in zip(rows["user"], rows["item"], strict=True)]]
    expected = model.top_k(rows, "buy", 5)
    key = ["user", "rank"]
    pd.testing.assert_frame_equal(
        found.sort_values(key)[[*key, "score"]].reset_index(drop=True),
        expected.sort_values(key)[[*key, "score"]].reset_index(drop=True),
    )
    assert all(pair not in seen for pair in zip(found["user"], found["item"], strict=True))


@pytest.mark.parametrize("name", FACTORS)
def test_candidates_are_the_best_of_the_factors(name: str) -> None:
    factors = find_factors(model_of(name))
    users = pd.concat([USERS.head(6), USERS.head(1).assign(user=9999)], ignore_index=True)
    scores = factors.scores(users, ITEMS)
    assert scores.shape == (7, len(ITEMS))
    if name.startswith("machine"):
        pairs = users.merge(ITEMS, how="cross")
        known = factors.model.decision_function(pairs.reindex(columns=factors.model.feature_names_in_))
        known = known.reshape(scores.shape)
    else:
        pairs = users[["user"]].merge(ITEMS[["item"]], how="cross").assign(time=0, extra=0.0)
        columns = factors.model._score_columns(pairs[["user", "item"]])
        known = columns["score"].to_numpy().reshape(scores.shape)
    apart = known - scores  # may differ by what does not depend on the item
    np.testing.assert_allclose(apart, np.broadcast_to(apart[:, :1], apart.shape), atol=1e-5)


@pytest.mark.parametrize(
    "machine",
    [
        clone(MACHINE).set_params(categorical=()),
        MultiTaskFactorizationMachine(
            SHOP.tasks, groups=SIDES, interactions=[("user", "item")], categorical=["user", "item"],
            exclude=MACHINE.exclude, max_iter=1, random_state=0,
        ),
    ],
    ids=["ids that are numbers", "several tasks"],
)  # fmt: skip
def test_a_machine_without_a_vector_of_each_item_leaves_it_to_the_log(machine: Any) -> None:
    latent = LatentFeatures([("m", machine)], cv=2, random_state=0)
    model = MultiTaskModel(SHOP.tasks, **SHOP.roles, aggregates=AGGREGATES, latent=latent, random_state=0)
    model.fit(SHOP.X, SHOP.Y, events=SHOP.events)
    pd.testing.assert_frame_equal(model.similar_items([3], 5), model_of("log").similar_items([3], 5))


def test_few_candidates_come_from_the_factors() -> None:
    model = model_of("matrix")
    found = model.recommend(USERS.head(5), 3, items=ITEMS, n_candidates=3, exclude_seen=False)
    scores = find_factors(model).scores(USERS.head(5), ITEMS)
    best = ITEMS["item"].to_numpy()[np.argsort(-scores, axis=1, kind="stable")[:, :3]]
    for user, items in zip(USERS["user"].head(5), best, strict=True):
        assert set(found.loc[found["user"] == user, "item"]) == set(items)


def test_ids_alone_where_the_model_reads_no_more() -> None:
    X = SHOP.X[["user", "item", "time"]]
    model = MultiTaskModel(SHOP.tasks, **SHOP.roles, aggregates=AGGREGATES, latent=None, random_state=0)
    model.fit(X, SHOP.Y, events=SHOP.events)
    found = model.recommend([3, 5, 9999], 4)
    assert found.groupby("user").size().to_dict() == {3: 4, 5: 4, 9999: 4}
    some = model.recommend([3], 2, items=[1, 2, 3, 4, 5, 6], exclude_seen=False)
    assert set(some["item"]) <= {1, 2, 3, 4, 5, 6}


@pytest.mark.parametrize("form", [pa.array, lambda ids: pa.chunked_array([ids[:1], ids[1:]]), pd.Index, np.array])
def test_ids_in_other_forms_than_a_list(form: Any) -> None:
    model = model_of("log")
    items = model.similar_items([3, 4], 5)
    pd.testing.assert_frame_equal(model.similar_items(form([3, 4]), 5), items)
    plain = MultiTaskModel(SHOP.tasks, **SHOP.roles, aggregates=AGGREGATES, latent=None, random_state=0)
    plain.fit(SHOP.X[["user", "item", "time"]].head(500), SHOP.Y.head(500), events=SHOP.events)
    best = plain.recommend([3, 5], 2, items=[1, 2, 4])
    pd.testing.assert_frame_equal(plain.recommend(form([3, 5]), 2, items=form([1, 2, 4])), best)


def test_a_user_who_is_named_twice_gets_every_item_once() -> None:
    model = model_of("matrix")
    users = USERS.head(3)
    once = model.recommend(users, 4, items=ITEMS)
    twice = model.recommend(pd.concat([users, users.tail(2).assign(device="tablet")]), 4, items=ITEMS)
    pd.testing.assert_frame_equal(twice, once)


def test_the_largest_of_each_row_as_a_stable_sort_has_them() -> None:
    rng = np.random.default_rng(0)
    for n_columns, n in [(0, 2), (1, 2), (5, 2), (5, 5), (40, 7)]:
        scores = rng.integers(0, 4, (30, n_columns)).astype(float)  # many ties
        scores[rng.random(scores.shape) < 0.3] = -np.inf
        scores[:2] = -np.inf
        order = np.argsort(-scores, axis=1, kind="stable")[:, :n]
        expected = [(i, j) for i, columns in enumerate(order) for j in columns if np.isfinite(scores[i, j])]
        assert list(zip(*_best(scores, n), strict=True)) == expected


def test_new_events_are_seen() -> None:
    model = MultiTaskModel(SHOP.tasks, **SHOP.roles, aggregates=AGGREGATES, latent=None, random_state=0)
    model.fit(SHOP.X[["user", "item", "time"]], SHOP.Y, events=SHOP.events)
    first = model.recommend([3], 1)["item"].iloc[0]
    new = SHOP.events.to_frame().tail(1).assign(user=3, item=first, time=pd.Timestamp("2024-09-01"))
    assert first not in set(model.observe(new).recommend([3], 60)["item"])


def test_events_that_were_told_in_part_are_told_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    model = copy(model_of("matrix"))
    rows, as_of = SHOP.X.tail(20).assign(time=pd.Timestamp("2024-09-02")), model.as_of_
    before = model.predict_scores(rows)
    new = SHOP.events.to_frame().tail(200).assign(time=pd.Timestamp("2024-09-01"))

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(LatentFeatures, "observe", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.observe(new)
    assert model.as_of_ == as_of
    pd.testing.assert_frame_equal(model.predict_scores(rows), before)


@pytest.mark.parametrize("name", ["log", "matrix", "machine", "machine of draws"])
def test_similar(name: str) -> None:
    model = model_of(name)
    items = model.similar_items([3, 9999, 4], 5)
    assert items["item"].tolist() == [3] * 5 + [4] * 5
    assert (items.groupby("item")["cosine"].diff().dropna() <= 1e-6).all()
    assert not (items["item"] == items["similar"]).any()
    assert items["cosine"].between(-1.001, 1.001).all()
    assert list(model.similar_users([5], 2).columns) == ["user", "similar", "cosine"]


def test_pairs_that_were_seen() -> None:
    users, items = pd.Series([3, 9999, 3, 5]), pd.Series([1, 8888, 2])
    pairs = set(zip(*(SHOP.events.column(column) for column in ("user", "item")), strict=True))
    expected = [[(user, item) in pairs for item in items] for user in users]
    assert seen_pairs(SHOP.events, users, items).tolist() == expected


def test_what_is_wrong_is_told() -> None:
    model = model_of("log")
    with pytest.raises(ValueError, match="reads the columns category, price"):
        model.recommend(USERS, 3)
    with pytest.raises(ValueError, match="both have the columns price"):
        model.recommend(USERS.assign(price=1.0), 3, items=ITEMS)
    with pytest.raises(ValueError, match="no column 'user'"):
        model.recommend(USERS[["device"]], 3, items=ITEMS)
    with pytest.raises(TypeError, match="list of ids"):
        model.recommend("3", 3, items=ITEMS)
    with pytest.raises(ValueError, match="k must be"):
        model.recommend(USERS, 0, items=ITEMS)
    with pytest.raises(ValueError, match="fewer than"):
        model.recommend(USERS, 5, items=ITEMS, n_candidates=4)
    rowwise = MultiTaskModel(SHOP.tasks, **SHOP.roles, latent=None, random_state=0).fit(SHOP.X, SHOP.Y)
    with pytest.raises(ValueError, match="no factors"):
        rowwise.recommend(USERS, 3, items=ITEMS)
    nobody = MultiTaskModel(SHOP.tasks, latent=None, random_state=0).fit(SHOP.X[["price"]], SHOP.Y)
    with pytest.raises(ValueError, match="users and items"):
        nobody.similar_items([1])


@pytest.mark.parametrize("aggregates", [None, "auto"])
def test_factors_of_labels_are_not_moved_by_rows(aggregates: Any) -> None:
    shop = make_funnel(1500, n_users=80, n_items=40, n_days=20, random_state=0)
    past = shop.X["day"] < 14
    latent = MatrixFactorization(user="user", item="item", n_factors=4, random_state=0)
    model = MultiTaskModel(shop.tasks, **shop.roles, aggregates=aggregates, latent=latent, random_state=0)
    model.fit(shop.X[past], shop.Y[past])
    step = model.pipeline_.named_steps["latent"]
    before = step.user_factors_.copy()
    told = (shop.events,) if aggregates is None else (shop.X[~past], shop.Y[~past])
    model.observe(*told)
    np.testing.assert_array_equal(step.user_factors_, before)
    assert set(model.refresh(shop.X[~past], shop.Y[~past]).refreshed_["outcome"]) == {"leaves"}
