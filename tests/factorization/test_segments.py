import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.metrics import adjusted_rand_score, roc_auc_score

from mtl_classic.events import EventLog
from mtl_classic.factorization import MatrixFactorization, Segments


def world(n: int = 8000, seed: int = 0, tastes: int = 4) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Users and items in groups; a group buys its own items."""
    rng = np.random.default_rng(seed)
    X = pd.DataFrame({"user": rng.integers(0, 120, n), "item": rng.integers(0, 80, n), "day": rng.integers(0, 50, n)})
    match = X["user"] % tastes == X["item"] % tastes
    return X, pd.DataFrame({"buy": (rng.random(n) < np.where(match, 0.8, 0.05)).astype(float)})


def make(**arguments) -> Segments:
    return Segments(**({"user": "user", "item": "item", "random_state": 0} | arguments))


@pytest.mark.parametrize("of", ["user", "item"])
def test_planted_groups_are_recovered(of: str) -> None:
    X, Y = world()
    fitted = make(of=of).fit(X, Y)
    assert fitted.n_segments_ == 4
    assert max(fitted.silhouettes_, key=lambda k: fitted.silhouettes_[k]) == 4
    assert adjusted_rand_score(fitted.segments_.index % 4, fitted.segments_) == 1.0
    column = fitted.transform(X)[f"{of}_segment"]
    assert isinstance(column.dtype, pd.CategoricalDtype)
    assert column.tolist() == fitted.segments_[X[of]].tolist()


def test_training_rows_have_segments_of_their_fold() -> None:
    X, Y = world()
    fitted = make(n_segments=4)
    out = fitted.fit_transform(X, Y)
    assert list(out.columns) == list(fitted.get_feature_names_out()) == [*X.columns, "user_segment"]
    assert (out["user_segment"] == fitted.transform(X)["user_segment"]).mean() > 0.98
    noise = pd.DataFrame({"buy": np.random.default_rng(0).integers(0, 2, 20_000).astype(float)})
    rows = pd.DataFrame(np.random.default_rng(1).integers(0, 700, (20_000, 2)), columns=["user", "item"])
    segment = make(n_segments=8).fit_transform(rows, noise)["user_segment"].astype(int)
    half = np.arange(20_000) < 10_000
    rates = noise["buy"][half].groupby(segment[half]).mean()
    assert roc_auc_score(noise["buy"][~half], segment[~half].map(rates)) == pytest.approx(0.5, abs=0.02)


def test_frames_of_the_kind_that_scikit_learn_is_set_to() -> None:
    X, Y = world(600)
    fitted = make(n_segments=3).fit(X, Y)
    with config_context(transform_output="polars"):
        out = fitted.transform(X)
    assert isinstance(out, pl.DataFrame)
    assert out["user_segment"].cast(pl.Int64).to_list() == fitted.transform(X)["user_segment"].tolist()


def test_with_a_log() -> None:
    X, Y = world()
    log = EventLog(X[Y["buy"] == 1], user="user", item="item", time="day")
    fitted = Segments("item", random_state=0)
    out = fitted.fit_transform(X, events=log)["item_segment"]
    assert fitted.n_segments_ == 4
    assert X["day"][out.isna()].max() < X["day"][out.notna()].min()
    known = out.notna() & (X["day"] > 25)
    assert (out[known] == fitted.transform(X)["item_segment"][known]).mean() > 0.9
    users = Segments("user", random_state=0).fit(X, events=log)
    newcomer = pd.DataFrame({"user": [10**6] * 10, "item": np.arange(3, 43, 4), "day": 50})
    users.observe(newcomer)
    assert users.as_of_ == 50
    assert users.transform(newcomer.assign(day=51))["user_segment"][0] == users.segments_[3]


def test_edges() -> None:
    X, Y = world(600)
    assert make(n_segments=1).fit(X, Y).segments_.nunique() == 1
    assert make(n_segments=10_000).fit(X, Y).n_segments_ <= 120
    unseen = (
        make(n_segments=3).fit(X, Y).transform(pd.DataFrame({"user": [10**6, None], "item": [1, 2], "day": [0, 0]}))
    )
    assert unseen["user_segment"].notna().all()
    few = X[X["user"] < 2].assign(user=lambda rows: rows["user"])
    assert make().fit(few, Y.loc[few.index]).n_segments_ <= 2


def test_conventions() -> None:
    X, Y = world(2000)
    X.index = Y.index = X.index + 7
    fitted = make(model=MatrixFactorization("bpr", user="user", item="item", n_factors=8, max_iter=20, random_state=0))
    before = X.copy()
    out = fitted.fit_transform(X, Y)
    pd.testing.assert_frame_equal(X, before)
    assert out.index.equals(X.index)
    pd.testing.assert_frame_equal(out, clone(fitted).fit_transform(X, Y))
    served = fitted.transform(X)
    pd.testing.assert_frame_equal(served, pickle.loads(pickle.dumps(fitted)).transform(X))
    one = pd.concat([fitted.transform(X.iloc[[i]]) for i in range(20)])
    assert one["user_segment"].tolist() == served["user_segment"][:20].tolist()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"of": "basket"}, ValueError, "of must be"),
        ({"n_segments": 0}, ValueError, "n_segments"),
        ({"n_segments": "many"}, ValueError, "n_segments"),
        ({"model": "als"}, TypeError, "MatrixFactorization"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict, error: type, message: str) -> None:
    X, Y = world(100)
    with pytest.raises(error, match=message):
        make(**arguments).fit(X, Y)
    with pytest.raises(ValueError, match="Segments learns from events=, or from labels; both are None"):
        make().fit(X)
