"""What a reference keeps of columns, by hand."""

import numpy as np
import pandas as pd
import pytest

from mtl_classic import PerTaskModel, RoleError, Task, monitor, monitor_reference


def shown(n: int = 200) -> pd.DataFrame:
    """Rows of 200 units of time in mixed order; a tenth of the users and prices is missing."""
    time = np.random.default_rng(0).permutation(n)
    late = time >= 180
    return pd.DataFrame(
        {
            "user": np.where(time % 10 == 9, np.nan, np.where(late & (time % 3 == 0), 1000 + time, time % 40)),
            "time": time,
            "price": np.where(time % 10 == 0, np.nan, 2.0 * (time * 7 % n)),
            "fifty": [f"v{k}" for k in time % 50],
            "more": [f"v{k}" for k in time % 51],
            "falls": -time + np.random.default_rng(1).normal(0, 30, n),
            "drifts": time + np.random.default_rng(1).normal(0, 60, n),
            "constant": 1.0,
            "rare": np.where(np.isin(time, (3, 150)), time, np.nan),
        }
    )


def test_what_a_reference_keeps() -> None:
    X = shown()
    model = PerTaskModel(user="user", time="time", learner="linear", random_state=0).fit(X, X["time"] % 3 == 0)
    reference = monitor_reference(model, X, exclude=["drifts"])
    columns = reference.columns
    assert monitor_reference(model, X).columns["drifts"].kind == "number"
    assert {name: column.kind for name, column in columns.items()} == {
        "user": "id", "price": "number", "fifty": "category", "more": "id", "falls": "clock", "constant": "number",
        "rare": "number",
    }  # fmt: skip
    assert {name: column.missing for name, column in columns.items()} == {
        "user": 0.1, "price": 0.1, "fifty": 0.0, "more": 0.0, "falls": 0.0, "constant": 0.0,
        "rare": 0.99,
    }  # fmt: skip
    prices = X["price"].dropna()
    np.testing.assert_allclose(columns["price"].edges, prices.quantile(np.arange(1, 10) / 10))
    np.testing.assert_array_equal(columns["price"].counts, np.full(10, 18.0))
    assert set(columns["fifty"].values) == set(X["fifty"])
    np.testing.assert_array_equal(columns["fifty"].counts, [4.0] * 50 + [0.0])
    assert len(columns["user"].ids) == X["user"].nunique()
    assert columns["user"].unseen == 6 / 18  # of the rows with a user in the latest tenth
    assert columns["more"].unseen == 0.0
    np.testing.assert_array_equal(columns["price"].count(X["price"].clip(upper=10)), [180.0] + [0.0] * 9)
    at_edges = columns["price"].count(pd.Series(columns["price"].edges))  # each is in the bin that it ends
    np.testing.assert_array_equal(at_edges, [1.0] * 9 + [0.0])
    np.testing.assert_array_equal(columns["fifty"].count(pd.Series(["new", None, "newer"])), [0.0] * 50 + [2.0])
    assert reference.n_rows == 200
    assert reference.n_effective == 200**2 / ((X["user"].value_counts() ** 2).sum() + 20)  # a missing user is alone
    (score,) = reference.scores.values()
    np.testing.assert_array_equal(score.counts, np.full(10, 20.0))


def test_new_ids_are_as_frequent_as_those_of_one_row_where_there_is_no_time() -> None:
    X = shown().drop(columns="time")
    model = PerTaskModel(user="user", learner="linear", random_state=0).fit(X, X["price"] > 200)
    columns = monitor_reference(model, X).columns
    assert columns["user"].unseen == (X["user"].value_counts() == 1).sum() / X["user"].count()
    assert columns["falls"].kind == "number"
    void = monitor_reference(model, X.assign(user=np.nan, price=np.nan)).columns
    assert (void["user"].missing, void["user"].unseen, len(void["user"].ids)) == (1.0, 0.0, 0)
    assert (void["price"].missing, void["price"].counts.tolist()) == (1.0, [0.0])


def test_columns_whose_values_cannot_be_compared_are_named() -> None:
    X = pd.DataFrame({"a": np.arange(40) % 5, "tags": [["x"], ["y", "z"]] * 20})
    model = PerTaskModel({"y0": "binary"}, learner="linear").fit(X[["a"]], X["a"] > 2)
    with pytest.raises(TypeError, match="Column 'tags' holds values that cannot be compared: .*; name it in exclude="):
        monitor_reference(model, X)
    assert list(monitor_reference(model, X, exclude=["tags"]).columns) == ["a"]


def test_excluded_columns_that_are_not_there_are_refused() -> None:
    X = pd.DataFrame({"a": np.arange(50.0), "b": np.arange(50.0) % 7})
    model = PerTaskModel({"y": "regression"}, learner="linear").fit(X, X["a"].to_frame("y"))
    assert list(monitor_reference(model, X, exclude=["a"]).columns) == ["b"]
    with pytest.raises(RoleError, match="The excluded column 'c' is needed"):
        monitor_reference(model, X, exclude=["c"])


def test_roles_are_no_numbers_and_scores_are_watched_although_they_move_with_time() -> None:
    day = np.arange(200)
    X = pd.DataFrame({"shopper": day % 9, "thing": day % 7, "day": day, "list": day // 4, "price": day * 37 % 200})
    roles = {"user": "shopper", "item": "thing", "time": "day", "query": "list"}
    model = PerTaskModel({"y": "regression"}, **roles, learner="linear").fit(
        X.assign(trend=day), X["price"] + 9.0 * day
    )
    reference = monitor_reference(model, X.assign(trend=day))
    kinds = {name: column.kind for name, column in reference.columns.items()}
    assert kinds == {"shopper": "id", "thing": "id", "price": "number", "trend": "clock"}
    assert {name: column.kind for name, column in reference.scores.items()} == {"y": "number"}


def test_new_queries_of_a_ranking_are_no_drift() -> None:
    X = pd.DataFrame({"session": np.arange(2000) // 10, "price": np.random.default_rng(0).random(2000)})
    Y, tasks = pd.DataFrame({"click": X["price"].gt(0.5) * 1}), [Task("click", "ranking", query="session")]
    model = PerTaskModel(tasks, learner="linear", random_state=0).fit(X[:1000], Y[:1000])
    reference = monitor_reference(model, X[:1000])
    assert list(reference.columns) == ["price"]
    assert set(monitor(model, X[1000:], reference=reference)["verdict"]) == {"ok"}
    of_users = PerTaskModel(tasks, user="session", learner="linear", random_state=0).fit(X, Y)
    assert list(monitor_reference(of_users, X).columns) == ["session", "price"]
