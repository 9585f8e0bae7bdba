"""The door: tables, roles, weights."""

import datetime as dt
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import sparse
from sklearn.base import BaseEstimator, clone

from mtl_classic import (
    EventLog,
    FactorizationMachineRegressor,
    FieldEncoder,
    HistoryFeatures,
    PerTaskModel,
    RoleError,
    TargetStatistics,
    Task,
    TaskError,
    make_folds,
)
from mtl_classic._core.targets import encode_targets
from mtl_classic._core.task_weights import check_task_weights
from mtl_classic._core.time import time_dtype, to_time
from mtl_classic._core.validation import (
    align_columns,
    as_table,
    check_labels_of,
    check_sample_weight,
    find_role,
    register_columns,
    resolve_roles,
    take_rows,
    with_index_of,
)

TASKS = [Task("a", "binary"), Task("b", "regression")]


def test_tables_of_any_sort() -> None:
    frame = pd.DataFrame({"x": [1.0, np.nan], "shop": ["u", None]})
    assert as_table(frame) is frame
    pd.testing.assert_frame_equal(as_table(pl.from_pandas(frame[["x"]])), frame[["x"]])
    assert as_table([[1, 2], [3, 4]]).tolist() == [[1, 2], [3, 4]]
    for made in (sparse.coo_array(np.eye(2)), sparse.csc_matrix(np.eye(2)), sparse.csr_array(np.eye(2))):
        assert isinstance(as_table(made), sparse.csr_matrix)


@pytest.mark.parametrize("reads", [
    as_table, PerTaskModel({"x": "binary"}).fit, FieldEncoder().fit, HistoryFeatures(user="x", time="x").fit,
    lambda table, _: EventLog(table, user="x", item="x", time="x"), FactorizationMachineRegressor().fit,
])  # fmt: skip
@pytest.mark.filterwarnings("ignore:Determining the column names:polars.exceptions.PerformanceWarning")
def test_a_lazy_frame_is_to_be_collected(reads: Any) -> None:
    lazy = pl.DataFrame({"x": [0, 1]}).lazy()
    with pytest.raises(TypeError, match=r"A LazyFrame has no rows yet; .* collect it, as by \.collect"):
        reads(lazy) if reads is as_table else reads(lazy, [0, 1])


def test_types_of_arrow_become_those_of_pandas() -> None:
    pa = pytest.importorskip("pyarrow")
    dates = pd.Series(pd.to_datetime(["2024-01-01 06:00", None]))
    frame = pd.DataFrame({"n": [1.5, None], "at": dates, "zone": dates.dt.tz_localize("Asia/Tokyo")})
    frame["day"] = pd.Series(dates.dt.date, dtype=pd.ArrowDtype(pa.date32()))
    frame["gap"] = dates - pd.Timestamp("2024-01-01")
    frame["text"] = pd.Series(["a", None], dtype=pd.ArrowDtype(pa.string()))
    frame["kind"] = pd.Series(["a", None], dtype=pd.ArrowDtype(pa.dictionary(pa.int32(), pa.string())))
    frame["price"] = pd.Series(["1.5", None]).astype(pd.ArrowDtype(pa.decimal128(6, 2)))
    frame["count"], frame["new"] = pd.array([3, None], "UInt8"), pd.array([True, None], "boolean")
    arrow = frame.convert_dtypes(dtype_backend="pyarrow")
    before = arrow.copy()
    table = as_table(arrow)
    pd.testing.assert_frame_equal(arrow, before)
    assert [table[name].dtype.kind for name in ("at", "zone", "day", "gap", "price")] == list("MMMmf")
    assert [str(table[name].dtype) for name in ("n", "count", "new")] == ["float64", "UInt8", "boolean"]
    assert isinstance(table["text"].dtype, pd.StringDtype)
    assert isinstance(table["kind"].dtype, pd.CategoricalDtype)
    for name in ("at", "zone", "gap"):
        pd.testing.assert_series_equal(table[name], frame[name], check_dtype=False)
    assert table["day"][0] == pd.Timestamp("2024-01-01")
    assert to_time(arrow["zone"][:1]).tolist() == to_time(frame["zone"][:1]).tolist()
    assert time_dtype(arrow["zone"]).tz is not None


@pytest.mark.parametrize("kind", ["list", "struct"])
def test_nested_columns_of_arrow_are_no_texts(kind: str) -> None:
    pa = pytest.importorskip("pyarrow")
    lists, structs = (pa.list_(pa.string()), ["a"]), (pa.struct([("a", pa.string())]), {"a": "b"})
    nested, value = {"list": lists, "struct": structs}[kind]
    X = pd.DataFrame({"x": range(40), "tags": pd.Series([value, None] * 20, dtype=pd.ArrowDtype(nested))})
    for reads in (PerTaskModel().fit, FieldEncoder().fit, TargetStatistics(["tags"], cv=2).fit):
        with pytest.raises(TypeError, match="'tags' holds values that cannot be compared"):
            reads(X, pd.Series([0, 0, 1, 1] * 10, name="y"))


def test_times_and_bytes_of_arrow_are_categories() -> None:
    pa = pytest.importorskip("pyarrow")
    objects = pd.DataFrame({"at": [dt.time(5), None, dt.time(6)] * 20, "key": [b"a", b"b", None] * 20})
    held = objects.astype({"at": pd.ArrowDtype(pa.time64("us")), "key": pd.ArrowDtype(pa.binary())})
    y = pd.Series([0, 1, 1] * 20, name="y")
    scores = [PerTaskModel(learner="linear").fit(X, y).predict_scores(X) for X in (objects, held)]
    pd.testing.assert_frame_equal(*scores)


@pytest.mark.parametrize(
    ("X", "says"),
    [
        (pd.DataFrame([[1, 2]], columns=["x", "x"]), "unique; repeated: x"),
        (pd.DataFrame([[1, 2]], columns=["1", 1]), "unique; repeated: 1"),
        (
            pd.DataFrame({"x": [1.0, np.inf], "z": [1, 2]}),
            "Infinite .* columns x; expected finite numbers, or NaN",
        ),
        (pd.DataFrame({"x": pd.array([1.0, np.inf], dtype="Float64")}), "columns x"),
        (pd.DataFrame({"x": [1j]}), "Complex data not supported: columns x"),
        (np.array([[1.0, np.inf]]), "infinity"),
        (np.zeros(3), "Expected 2D array"),
        (np.zeros((2, 0)), r"0 feature\(s\)"),
    ],
)
def test_tables_that_are_refused(X: object, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        as_table(X)


@pytest.mark.parametrize("X", [None, "rows.parquet", {"x": [1, 2]}, 3])
def test_what_is_no_table_is_refused(X: Any) -> None:
    with pytest.raises(TypeError, match=f"Expected a frame, an array .* got {type(X).__name__}"):
        as_table(X)


def test_columns_come_back_in_the_order_of_the_fit() -> None:
    fitted = BaseEstimator()
    register_columns(fitted, pd.DataFrame({"x": [1], "z": [2]}))
    other = pd.DataFrame({"more": [0], "z": [2], "x": [1]})
    assert list(align_columns(fitted, other)) == ["x", "z"]
    assert align_columns(fitted, np.array([[1, 2]])).to_dict("list") == {"x": [1], "z": [2]}
    with pytest.raises(ValueError, match="lacks columns that BaseEstimator was fitted with: z; it has x"):
        align_columns(fitted, other[["x"]])
    with pytest.raises(ValueError, match="X has 3 features, but BaseEstimator is expecting 2 features"):
        align_columns(fitted, np.zeros((1, 3)))
    register_columns(fitted, np.zeros((1, 3)))
    assert not hasattr(fitted, "feature_names_in_")


def test_roles() -> None:
    assert find_role(["user", "ids__user"], "user", "user") == "user"
    assert find_role(["num__price", "ids__user"], "user", "user") == "ids__user"
    assert find_role(["x"], None, "user") is None
    with pytest.raises(RoleError, match="user column 'user' is needed, but there is no such column; .* are x, y"):
        find_role(["x", "y"], "user", "user")
    with pytest.raises(RoleError, match="several columns end in it: a__user, b__user"):
        find_role(["a__user", "b__user"], "user", "user")
    with pytest.raises(RoleError, match="The roles user are column names, so X must be a frame .* got ndarray"):
        resolve_roles(np.zeros((1, 1)), user="user", item=None)


def test_a_role_in_the_index_is_told_how_to_become_a_column() -> None:
    X = pd.DataFrame({"x": [1.0]}, index=pd.DatetimeIndex(["2024-01-01"], name="time"))
    for ask in (
        lambda: resolve_roles(X, time="time"),
        lambda: EventLog(X.assign(user=1, item=1), user="user", item="item", time="time"),
    ):
        with pytest.raises(
            RoleError, match=r"'time' is needed, but .* the index; reset_index\(\) makes a column of it"
        ):
            ask()


@pytest.mark.parametrize(
    ("X_index", "Y_index", "refused"),
    [
        (["a", "b", "c"], ["b", "a", "c"], True),
        ([5, 3, 4], [3, 4, 5], True),
        ([2, 0, 1], [1, 0, 2], True),
        ([2, 0, 1], [0, 1, 2], False),  # Y was numbered anew
        ([0, 1, 2], [2, 0, 1], False),
        ([5, 3, 4], [5, 3, 4], False),
        (["a", "b", "c"], ["d", "e", "f"], False),
        (["a", "a", "b"], ["a", "b", "a"], False),
    ],
)
def test_labels_in_another_order_are_refused(X_index: list, Y_index: list, refused: bool) -> None:
    X, y = pd.DataFrame({"x": range(3)}, index=X_index), pd.Series([0, 1, 2], index=Y_index)
    for labels in (y, y.to_frame("y"), encode_targets(y.to_frame("y"), [Task("y", "regression")])):
        if refused:
            with pytest.raises(ValueError, match=r"in another order, .* sort them alike: Y.loc\[X.index\]"):
                check_labels_of(X, labels)
        else:
            check_labels_of(X, labels)
    check_labels_of(X.to_numpy(), y)
    check_labels_of(X, y.tolist())
    if not refused:
        assert with_index_of(X, y).index.tolist() == X_index


def test_weights() -> None:
    assert check_sample_weight(None, TASKS, 2) is None
    assert check_sample_weight([1, 2], TASKS, 2).tolist() == [[1, 1], [2, 2]]
    per_task = pd.DataFrame({"b": [3, 4], "a": [1, 2]})
    for given in (per_task, pl.from_pandas(per_task), [[1, 3], [2, 4]]):
        assert check_sample_weight(given, TASKS, 2).tolist() == [[1, 3], [2, 4]]


@pytest.mark.parametrize(
    ("weight", "says"),
    [
        ([1, -1], "finite and not negative; 1 weights are not"),
        ([1, np.nan], "finite and not negative; 1 weights are not"),
        ([1, 2, 3], r"the shape \(3,\); expected \(2,\) or \(2, 2\)"),
        (np.ones((2, 3)), r"the shape \(2, 3\)"),
        (["a", "b"], "must hold numbers, one per row or per row and task: could not convert .*'a'"),
        ([0, 0], "zero everywhere; at least one row needs a positive weight"),
        (pd.DataFrame({"a": [1, 1]}), "lacks the columns of the tasks b; it has a"),
    ],
)
def test_weights_that_are_refused(weight: object, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        check_sample_weight(weight, TASKS, 2)


def test_task_weights() -> None:
    assert check_task_weights(None, TASKS).tolist() == [1, 1]
    assert check_task_weights({"a": 3}, TASKS).tolist() == [1.5, 0.5]
    with pytest.raises(TaskError, match="unknown tasks: c; the tasks are a, b"):
        check_task_weights({"c": 1}, TASKS)
    for wrong in ({"a": -1}, {"a": np.inf}, {"a": 0, "b": 0}):
        with pytest.raises(TaskError, match="finite, non-negative and not all zero"):
            check_task_weights(wrong, TASKS)
    with pytest.raises(TypeError, match="None, a dict name -> weight, or a name .*got 'cv'"):
        check_task_weights("cv", TASKS)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["int64", "uint64"])
def test_long_ids_stay_apart_beside_missing_ones(kind: str) -> None:
    ids = [2**60, 2**60 + 1, 2**60 + 2, 5, None]
    of_polars = pl.DataFrame(
        {"id": pl.Series(ids, dtype={"int64": pl.Int64, "uint64": pl.UInt64}[kind]), "n": [1, None] * 2 + [3]}
    )
    of_arrow = pd.DataFrame({"id": pd.array(ids * 3, dtype=f"{kind}[pyarrow]")})
    for table, times in ((of_polars, 1), (of_arrow, 3)):
        column = as_table(table)["id"]
        assert column.isna().tolist() == [False, False, False, False, True] * times
        assert column.dropna().tolist() == ids[:4] * times
    assert as_table(of_polars)["n"].dtype == np.float64


@pytest.mark.parametrize("kind", ["float16", "longdouble"])
def test_halves_and_long_doubles_are_the_same_numbers(kind: str) -> None:
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"user": rng.integers(9, size=60), "x": rng.integers(9, size=60) / 4, "day": np.arange(60)})
    Y, tasks = pd.DataFrame({"buy": rng.integers(2, size=60)}), [Task("buy", "binary")]
    other = X.astype({"user": kind, "x": kind})
    assert as_table(X.to_numpy(kind)).dtype in (np.float32, np.float64)
    history = HistoryFeatures(user="user", time="day").fit(other)
    pd.testing.assert_frame_equal(history.transform(X), history.transform(other), check_dtype=False)
    for part in (PerTaskModel(tasks, user="user", random_state=0), TargetStatistics(["user"], tasks=tasks, cv=2)):
        for fitted in (clone(part).fit(X, Y), clone(part).fit(other, Y)):
            if isinstance(part, TargetStatistics):
                found = [fitted.transform(table).iloc[:, 3:] for table in (X, other)]
            else:
                found = [fitted.predict_scores(table) for table in (X, other)]
            pd.testing.assert_frame_equal(*found)
    encoded = [FieldEncoder(categorical=["user"]).fit(X).transform(table).toarray() for table in (X, other)]
    np.testing.assert_array_equal(*encoded)


def test_numbers_in_another_byte_order_are_the_same_numbers() -> None:
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"user": rng.integers(9, size=60), "x": rng.normal(size=60), "day": np.arange(60)})
    Y = pd.DataFrame({"buy": X["x"] + rng.normal(size=60) > 0, "n": X["user"] % 3}).astype({"buy": float})
    other = {dtype: dtype.newbyteorder("S") for dtype in {*X.dtypes, *Y.dtypes}}
    swapped, labels = (frame.astype({name: other[kind] for name, kind in frame.dtypes.items()}) for frame in (X, Y))
    pd.testing.assert_frame_equal(as_table(swapped), X)
    assert as_table(swapped.to_numpy(other[X.dtypes["x"]])).dtype.isnative
    tasks = [Task("buy", "binary"), Task("n", "count")]
    for table, given in ((X, labels), (swapped, Y), (swapped, labels.to_numpy(other[X.dtypes["x"]]))):
        found = encode_targets(given, tasks)
        np.testing.assert_array_equal(found.entire, encode_targets(Y, tasks).entire)
        folds = make_folds(2, given, groups=table["user"].to_numpy(), random_state=0).fold
        np.testing.assert_array_equal(folds, make_folds(2, Y, groups=X["user"], random_state=0).fold)
    history = HistoryFeatures(user="user", time="day").fit(X)
    pd.testing.assert_frame_equal(history.transform(swapped), history.transform(X))


def test_consecutive_rows_of_a_frame_are_not_copied() -> None:
    frame = pd.DataFrame({"a": np.arange(6.0), "b": list("uvwxyz")}, index=list("abcdef"))
    choices: list[Any] = [[1, 2, 3], [5], [], [1, 3], [3, 2, 1], [2, 2, 3], [0, 2, 1, 3], list(range(6))]
    for rows in choices:
        positions = np.array(rows, dtype=np.intp)
        taken = take_rows(frame, positions)
        pd.testing.assert_frame_equal(taken, frame.iloc[positions])
        consecutive = rows in ([1, 2, 3], [5], list(range(6)))
        assert np.shares_memory(taken["a"].to_numpy(), frame["a"].to_numpy()) == consecutive
