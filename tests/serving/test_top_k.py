import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from mtl_classic import PerTaskModel, RoleError, make_funnel, top_k
from tests.serving.fake import Known, candidates

COLUMNS = ["user", "item", "margin"]


def slowly(rows: pd.DataFrame, score: Any, k: int, per: list[str]) -> pd.DataFrame:
    """The definition: sort each group, stable, and take the first k."""
    rows = rows[COLUMNS].assign(score=np.asarray(score)).reset_index(drop=True)
    groups = [rows] if not per else [group for _, group in rows.groupby(per, sort=False, dropna=False)]
    best = [group.sort_values("score", ascending=False, kind="stable").head(k) for group in groups]
    return pd.concat([group.assign(rank=np.arange(1, len(group) + 1)) for group in best], ignore_index=True)


@pytest.mark.parametrize("chunk_size", [7, 100, 10_000])
@pytest.mark.parametrize("per", [None, "user", ["user", "item"]])
def test_it_is_what_sorting_everything_gives(chunk_size: int, per: Any) -> None:
    rows = candidates(1500)
    best = top_k(Known(), rows, by="buy", k=3, per=per, columns=COLUMNS, chunk_size=chunk_size)
    groups = [] if per is None else [per] if isinstance(per, str) else per
    pd.testing.assert_frame_equal(best, slowly(rows, rows["score_buy"], 3, groups), check_dtype=False)


@given(
    users=st.lists(st.one_of(st.none(), st.sampled_from("abc")), min_size=1, max_size=60),
    k=st.integers(1, 4),
    chunk_size=st.integers(1, 20),
    seed=st.integers(0, 99),
)
def test_any_stream(users: list[Any], k: int, chunk_size: int, seed: int) -> None:
    rows = candidates(len(users), seed).assign(user=pd.Series(users, dtype=object).to_numpy())
    best = top_k(Known(), rows, by="buy", k=k, columns=COLUMNS, chunk_size=chunk_size)
    pd.testing.assert_frame_equal(best, slowly(rows, rows["score_buy"], k, ["user"]), check_dtype=False)


def test_a_function_of_scores_and_rows_and_what_it_leaves_out() -> None:
    rows = candidates(800)

    def margin(scores: pd.DataFrame, chunk: pd.DataFrame) -> Any:
        return np.where(chunk["margin"] > 0.3, scores["spend"] * chunk["margin"], -np.inf)

    best = top_k(Known(), rows, by=margin, k=2, columns=COLUMNS, chunk_size=90)
    able = rows[rows["margin"] > 0.3]
    expected = slowly(able, able["score_spend"] * able["margin"], 2, ["user"])
    pd.testing.assert_frame_equal(
        best.sort_values(["user", "rank"], ignore_index=True),
        expected.sort_values(["user", "rank"], ignore_index=True),
        check_dtype=False,
    )
    assert len(top_k(Known(), rows, by=lambda s, r: np.full(len(r), -np.inf))) == 0


def test_every_source_gives_the_same(tmp_path: Path) -> None:
    rows = candidates(1000).reset_index(drop=True)
    (tmp_path / "parts").mkdir()
    rows.to_parquet(tmp_path / "all.parquet", row_group_size=170)
    rows.iloc[:400].to_parquet(tmp_path / "parts" / "a.parquet")
    rows.iloc[400:].to_parquet(tmp_path / "parts" / "b.parquet")

    def stream() -> Iterator[pd.DataFrame]:
        for start in range(0, 1000, 300):
            yield rows.iloc[start : start + 300]

    expected = top_k(Known(), rows, by="spend", k=4)
    sources = [
        tmp_path / "all.parquet", str(tmp_path / "all.parquet"), tmp_path / "parts",
        [tmp_path / "parts" / "a.parquet", tmp_path / "parts" / "b.parquet"], stream(), list(stream()),
        pl.DataFrame(rows),
    ]  # fmt: skip
    for source in sources:
        model = Known()
        pd.testing.assert_frame_equal(
            top_k(model, source, by="spend", k=4, chunk_size=128), expected, check_dtype=False
        )
        assert model.largest <= 128
        assert model.n_rows == 1000


def test_roles_of_the_model_name_groups_and_columns() -> None:
    rows = candidates(300).rename(columns={"user": "customer"})
    best = top_k(Known({"user": "customer", "item": "item"}), rows, by="buy", k=2)
    assert list(best.columns) == ["customer", "item", "score", "rank"]
    assert list(top_k(Known(), rows, by="buy", k=2, per="customer").columns) == [*rows.columns, "score", "rank"]
    with pytest.raises(RoleError, match="Give per= a column, or None for one list of all rows"):
        top_k(Known(), rows, by="buy")


def test_scores_and_ranks_of_the_candidates_give_way_to_those_of_the_result() -> None:
    rows = candidates(50)
    with_others = top_k(Known(), rows.assign(score=-1.0, rank=0), by="buy", k=2, per="user", columns=None)
    assert list(with_others.columns[-2:]) == ["score", "rank"]
    pd.testing.assert_frame_equal(
        with_others[[*COLUMNS, "score", "rank"]], top_k(Known(), rows, by="buy", k=2, columns=COLUMNS)
    )


def test_progress_and_memory() -> None:
    n, told = 400_000, []

    def stream() -> Iterator[pd.DataFrame]:
        for seed in range(n // 20_000):
            yield candidates(20_000, seed)

    tracemalloc.start()
    top_k(Known(), stream(), by="buy", k=5, progress=lambda done, total: told.append((done, total)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert told[-1] == (n, None)
    assert len(told) == 20
    assert peak < 30e6  # all candidates would take more than 40 MB, without their texts


def test_a_real_model_ranks_as_it_scores() -> None:
    shop = make_funnel(1500, n_users=40, n_items=40, random_state=0)
    model = PerTaskModel(shop.tasks, **shop.roles, random_state=0).fit(shop.X, shop.Y)
    best = top_k(model, shop.X, by="cart", k=1, chunk_size=333)
    scores = model.predict_scores(shop.X)["cart"].groupby(shop.X["user"]).max()
    assert best.set_index("user")["score"].sort_index().to_dict() == scores.sort_index().to_dict()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"by": "no"}, "no score of the model"),
        ({"by": lambda s, r: np.full(len(r), np.nan)}, "gave NaN"),
        ({"by": lambda s, r: np.zeros((len(r), 2))}, "shape"),
        ({"by": "buy", "k": 0}, "k must be"),
        ({"by": "buy", "k": True}, "k must be"),
        ({"by": "buy", "k": 2.5}, "k must be"),
        ({"by": "buy", "chunk_size": 0}, "chunk_size"),
        ({"by": "buy", "columns": ["nothing"]}, "nothing"),
        ({"by": "buy", "per": "score"}, "rename"),
        ({"by": "buy", "columns": ["item", "rank"]}, "rename"),
    ],
)
def test_what_is_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        top_k(Known(), candidates(50).assign(score=1.0, rank=1), **options)
    with pytest.raises(FileNotFoundError, match="no Parquet file"):
        top_k(Known(), "nowhere.parquet", by="buy")


def test_a_file_that_is_no_parquet_is_named(tmp_path: Path) -> None:
    candidates(50).to_csv(tmp_path / "rows.csv")
    with pytest.raises(ValueError, match=r"rows\.csv is no Parquet file, or damaged"):
        top_k(Known(), tmp_path / "rows.csv", by="buy")


@pytest.mark.parametrize("model", ["no", LogisticRegression()])
def test_what_has_no_scores_is_refused(model: Any) -> None:
    with pytest.raises(
        TypeError, match=f"multi-task estimator, got {type(model).__name__}, which has no predict_scores"
    ):
        top_k(model, candidates(50), by="buy")


def test_rows_without_names_are_refused() -> None:
    class Mean:
        def predict_scores(self, X: Any, space: str) -> pd.DataFrame:
            return pd.DataFrame({"y": X.mean(axis=1)})

    with pytest.raises(TypeError, match="must have named columns"):
        top_k(Mean(), np.zeros((3, 2)), by="y")
