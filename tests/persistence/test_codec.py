"""Values travel unchanged, types included; what cannot travel is refused with the place where it is."""

import datetime as dt
import io
import json
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import lightgbm as lgb
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import sparse
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.tree import DecisionTreeRegressor

from mtl_classic import EventLog, Task
from mtl_classic.learners._text_booster import TextBooster
from mtl_classic.persistence import ModelFileError, _decode
from mtl_classic.persistence._booster_text import check_booster
from mtl_classic.persistence._decode import Decoder
from mtl_classic.persistence._encode import Encoder
from mtl_classic.persistence._members import array_from_bytes, array_to_bytes, read_header


def travel(value: Any) -> Any:
    encoder = Encoder(keep_events=True)
    root = encoder.value(value, "value")
    graph = json.loads(json.dumps({"nodes": encoder.nodes, "root": root}, allow_nan=False))
    return Decoder(encoder.finish()).run(graph["nodes"], graph["root"])


def equal(one: Any, other: Any) -> bool:
    """Equal in type, shape, order of memory and every bit."""
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray):
        flags = ("c_contiguous", "writeable") if one.flags.c_contiguous else ("f_contiguous", "writeable")
        alike = one.dtype == other.dtype and one.shape == other.shape
        alike = alike and all(getattr(one.flags, flag) == getattr(other.flags, flag) for flag in flags)
        if one.dtype == object:
            return alike and all(equal(a, b) for a, b in zip(one.ravel(), other.ravel(), strict=True))
        return alike and one.tobytes() == other.tobytes()
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(equal(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, dict):
        return equal(list(one), list(other)) and equal(list(one.values()), list(other.values()))
    if type(one) in (float, complex):
        return repr(one) == repr(other)  # every bit, but whichever NaN it is
    if isinstance(one, float | np.generic) and not isinstance(one, np.str_ | np.bytes_):
        return np.asarray(one).tobytes() == np.asarray(other).tobytes()
    if isinstance(one, pd.Index | pd.Series | pd.DataFrame):
        tester = {pd.Series: pd.testing.assert_series_equal, pd.DataFrame: pd.testing.assert_frame_equal}
        tester.get(type(one), pd.testing.assert_index_equal)(one, other)  # type: ignore[operator]
        return True
    return one is other or one == other


plain = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.complex_numbers(),
    st.text(),
    st.binary(max_size=30),
    st.dates(),
    st.timedeltas(),
    st.datetimes(),
    st.slices(10),
    hnp.from_dtype(np.dtype("float32")),
    hnp.from_dtype(np.dtype("int16")),
    hnp.from_dtype(np.dtype("M8[ns]")),
    hnp.arrays(
        st.sampled_from(["f8", "f4", "i8", "u1", "?", "U3", "M8[us]", "c16", ">i4"]),
        hnp.array_shapes(min_dims=0, max_dims=3, min_side=0),
    ),
)
hashable = st.one_of(st.none(), st.booleans(), st.integers(), st.text(), st.tuples(st.text(), st.integers()))
values = st.recursive(
    plain,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.tuples(inner, inner), st.dictionaries(hashable, inner, max_size=4)
    ),
    max_leaves=12,
)


@given(values)
def test_values_travel_unchanged(value: Any) -> None:
    assert equal(travel(value), value)


@pytest.mark.parametrize(
    "value",
    [
        float("nan"), float("-inf"), -0.0, 10**400, "x" * 5000, "\ud800", b"\x00" * 9, {1, 2, "a"},
        frozenset({("a", 1)}), range(3, 9, 2), slice(None, 4), np.float64, object, np.dtype("<f4"), np.dtype(object),
        np.str_("é"), pd.NA, pd.NaT,
        pd.Timestamp("2024-02-29 12:00:00.123456789"), pd.Timestamp("2024-07-01", tz="Europe/Paris"),
        pd.Timestamp("1970-01-01", tz="UTC").as_unit("s"), pd.Timedelta("3D"),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.arange(100_000),
        np.array(["a", None, 3, 2.5, np.nan], dtype=object),
        np.array([["a", 1], [None, pd.Timestamp("2024-01-01")]], dtype=object), np.array(7.5),
        np.zeros(3, dtype=[("a", "<i8"), ("b", "u1")]), Task("buy", "binary", given="click", delay="7D"),
        pd.RangeIndex(2, 9, 3, name="r"),
        pd.MultiIndex.from_tuples([("a", 1), ("a", 2), ("b", 1)], names=["x", None]),
        pd.Index([1, 5], name=("a", 1)), pd.Index(["b", None, "a"]),
        pd.Index([1.5, np.nan]), pd.Index(["a", 1, None], dtype=object),
        pd.DatetimeIndex(["2024-01-01", None], tz="Asia/Tokyo"),
        pd.to_timedelta(["1D", None]), pd.CategoricalIndex(["x", "y", None], ordered=True), pd.Index([True, False]),
        pd.interval_range(0, 3, closed="left", name="ages"), pd.IntervalIndex.from_tuples([(0, 1), None, (2.5, 3)]),
        pd.CategoricalDtype(pd.interval_range(pd.Timestamp("2024-01-01"), periods=3)), pd.Interval(0, 1.5, "both"),
        pd.period_range("2024-01", periods=3, freq="M", name="month"), pd.PeriodIndex(["2024Q1", None], freq="Q"),
        pd.Period("2024-01-01 12:00", "15min"), Decimal("1.10"), Decimal("-Infinity"), pd.Index([Decimal("1.5"), "a"]),
        pd.Index([1, None], dtype="Int64"), pd.CategoricalDtype(["b", "a"]), pd.DatetimeTZDtype("us", "UTC"),
        pd.StringDtype("python"), pd.Float32Dtype(), pd.BooleanDtype(),
        pd.Series([1.5, 2.5], index=["x", "y"], name="s"), pd.Series(["a", None]), pd.Series([1, None], dtype="Int8"),
        pd.DataFrame({"a": [1, 2], "b": ["x", None], "c": pd.Categorical(["u", "v"])}, index=[5, 6]), pd.DataFrame(),
    ],
    ids=lambda value: type(value).__name__ + ("" if isinstance(value, set | frozenset) else f"-{value!s:.20}"),
)  # fmt: skip
def test_one_of_each(value: Any) -> None:
    assert equal(travel([value])[0], value)


whole = st.tuples(
    st.sampled_from(["i8", "u8", "i4", "u4", "i2", "M8[ns]", "m8[s]"]),
    st.lists(st.integers(0, 3000), min_size=70, max_size=90),
    st.sampled_from([1, 2, 1000, 10**9, 2**40]),
    st.integers(-(2**63), 2**64),
    st.booleans(),
)


@given(whole)
def test_whole_numbers_travel_in_fewer_bytes(drawn: Any) -> None:
    dtype, numbers, step, least, in_order = drawn
    bits = 8 * np.dtype(dtype).itemsize
    wrapped = np.array([(number * step + least) % 2**bits for number in numbers], dtype=f"u{bits // 8}")
    array = wrapped.view(dtype)
    array = np.sort(array) if in_order else array.reshape(2, -1, order="F") if len(array) % 2 == 0 else array
    assert equal(travel([array])[0], array)


def test_dates_and_codes_take_less_room() -> None:
    times = np.datetime64("2024-01-01", "ns") + np.arange(0, 90_000, 9).astype("m8[s]")
    codes = np.arange(10_000) % 7
    for array, size in ((times, 10_000), (codes, 10_000), (codes.astype(np.uint8), 10_000), (codes * 1.5, 80_000)):
        encoder = Encoder(keep_events=True)
        encoder.value(array, "array")
        assert sum(map(len, encoder.finish().values())) in (size, size + 128)


@pytest.mark.parametrize("text", ["@", "@@", "@3", "@@3", "a@b", "@" * 3000])
def test_texts_that_look_like_references(text: str) -> None:
    assert travel([text, {text: text}]) == [text, {text: text}]


def test_read_only_arrays_stay_read_only() -> None:
    array = np.arange(3)
    array.flags.writeable = False
    assert equal(travel(array), array)


@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array, sparse.csc_array])
def test_sparse_matrices(kind: Any) -> None:
    matrix = kind(np.eye(3)[[0, 2]])
    came = travel(matrix)
    assert type(came) is type(matrix)
    assert (came.toarray() == matrix.toarray()).all()


def test_generators_go_on_where_they_were() -> None:
    for state in (np.random.RandomState(3), np.random.default_rng(3), np.random.Generator(np.random.MT19937(3))):
        state.normal(size=3)
        came = travel(state)
        assert (came.normal(size=5) == state.normal(size=5)).all()


def test_an_event_log() -> None:
    frame = pd.DataFrame(
        {"u": ["b", "a", None], "i": [1, 2, 1], "t": pd.date_range("2024-01-01", periods=3, tz="Asia/Tokyo")}
    )
    log = EventLog(frame, user="u", item="i", time="t")
    came = travel(log)
    assert came.hash == log.hash
    pd.testing.assert_frame_equal(came.to_frame(), log.to_frame())


def test_shared_objects_are_one_object() -> None:
    inner = [1.5]
    one, other = travel((inner, {"again": inner}))
    assert one is other["again"]


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({"a": [lambda: 0]}, r"value\['a'\]\[0\] is a builtins.function"),
        ([open], "not saved"),
        ([np.random], "not saved"),
        ([int], None),
        ([dict], "is the type dict"),
        ([type("Own", (), {})()], "not saved"),
        ([type("Sub", (Task,), {})("a", "binary")], "not saved"),
        ([np.matrix([[1]])], "only numpy.ndarray"),
        ([sparse.coo_matrix(np.eye(2))], "of sparse matrices"),
        ([pd.Series(pd.interval_range(0, 3))], "dtype interval"),
        ([dt.datetime(2024, 1, 1, tzinfo=dt.UTC)], "with a zone"),
    ],
)
def test_what_cannot_travel_is_refused(value: Any, told: str | None) -> None:
    if told is None:
        assert travel(value) == value
        return
    with pytest.raises(TypeError, match=told):
        travel(value)


def test_circles_and_depths_are_refused() -> None:
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(TypeError, match="holds itself"):
        travel(circle)
    deep: list[Any] = []
    for _ in range(500):
        deep = [deep]
    with pytest.raises(TypeError, match="levels deep"):
        travel(deep)


INTEGERS = {"t": "integers", "at": 0, "as": "u1", "least": 0, "step": 1, "grows": False, "d": "<i8", "shape": [8]}


def test_whole_numbers_as_they_are_written_are_read() -> None:
    assert Decoder({"arrays/small.bin": bytes(range(8))}).run([INTEGERS], "@0").tolist() == list(range(8))


@pytest.mark.parametrize(
    "nodes",
    [
        [{"t": "list", "v": ["@0"]}],
        [{"t": "list", "v": ["@-1"]}],
        [{"t": "list", "v": ["@"]}],
        [{"t": "list", "v": ["@1_0"]}],
        [{"t": "list", "v": ["@99999999999999"]}],
        [{"t": "list", "v": [{"@": 0}]}],
        [{"t": "list", "v": [[1]]}],
        [{"t": "unheard of"}],
        [{"t": "object", "c": "os.system", "s": {}}],
        [{"t": "object", "c": "sklearn.Unknown", "s": {}}],
        [{"t": "object", "c": ["mtl_classic.Task"], "s": {}}],
        [{"t": "object", "c": "mtl_classic.PerTaskModel", "s": {"predict": 1}}],
        [{"t": "object", "c": "mtl_classic.PerTaskModel", "s": {"__class__": 1}}],
        [{"t": "array", "m": "arrays/9.npy"}],
        [{"t": "small", "d": "O", "shape": [1], "at": 0}],
        [{"t": "small", "d": "<f8", "shape": [-1], "at": 0}],
        [{"t": "small", "d": "<f8", "shape": [10**18], "at": 0}],
        [INTEGERS | {"as": "u8"}],
        [INTEGERS | {"as": "f4"}],
        [INTEGERS | {"d": "<f8"}],
        [INTEGERS | {"d": "O"}],
        [INTEGERS | {"shape": [9]}],
        [INTEGERS | {"shape": [10**18]}],
        [INTEGERS | {"at": -1}],
        [INTEGERS | {"step": 1.5}],
        [INTEGERS | {"least": "0"}],
        [{"t": "zoned", "unit": "ns", "zone": "../../etc/passwd"}],
        [{"t": "type", "v": "builtins.eval"}],
        [{"t": "generator", "v": "PCG64"}],
    ],
)
def test_hostile_nodes_are_refused(nodes: list[Any]) -> None:
    with pytest.raises((ModelFileError, KeyError, TypeError, ValueError)):
        Decoder({"arrays/small.bin": bytes(8)}).run(nodes, "@0")


FLOATS = {"t": "dtype", "v": "<f8"}
LONG = {"arrays/0.npy": array_to_bytes(np.zeros(300_000)), "arrays/small.bin": bytes(800)}
ONCE, PART = {"t": "array", "m": "arrays/0.npy"}, {"t": "small", "d": "<f8", "shape": [100], "at": 0}
ROWS, NAMES = ({"t": "range_index", "v": [0, n, 1], "name": None} for n in (300_000, 70))


@pytest.mark.parametrize("nodes", [
    [ONCE, ONCE], [ONCE, PART, PART], [ONCE, PART, {"t": "bytes", "m": "arrays/small.bin"}],
    [ONCE, PART, FLOATS, *[{"t": "index", "v": ["@2", "@0"], "name": None}] * 70],
    [ONCE, PART, FLOATS, ROWS, NAMES, {"t": "frame", "v": [["@2", "@0"]] * 70, "index": "@3", "columns": "@4"}],
])  # fmt: skip
def test_bytes_that_would_be_in_memory_many_times_are_refused(
    nodes: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    Decoder(LONG).run([ONCE, PART], "@0")
    monkeypatch.setattr(_decode, "_LEAST_ROOM", 0)
    with pytest.raises(ModelFileError, match="twice|over and over"):
        Decoder(LONG).run(nodes, "@0")


def test_a_tree_that_would_lead_outside_its_arrays_is_refused() -> None:

    tree = DecisionTreeRegressor(max_depth=2, random_state=0).fit(np.arange(8.0)[:, None], np.arange(8.0)).tree_
    for field, wrong in (("left_child", 99), ("right_child", 0), ("feature", 5), ("feature", -7)):
        encoder = Encoder(keep_events=True)
        root = encoder.value(tree, "tree")
        members = encoder.finish()
        decoder = Decoder(members)
        nodes = json.loads(json.dumps(encoder.nodes))
        (position,) = (k for k, node in enumerate(nodes) if node["t"] == "small" and isinstance(node["d"], list))
        dtype = tree.__getstate__()["nodes"].dtype
        small = bytearray(members["arrays/small.bin"])
        start = nodes[position]["at"]
        records = np.frombuffer(small, dtype, tree.node_count, start).copy()
        records[field][0] = wrong
        small[start : start + records.nbytes] = records.tobytes()
        decoder._members = {**members, "arrays/small.bin": bytes(small)}
        with pytest.raises(ModelFileError):
            decoder.run(nodes, root)


@pytest.mark.parametrize("model", [HistGradientBoostingRegressor(max_iter=3), RandomForestRegressor(3)], ids=str)
def test_trees_that_read_further_than_their_model_are_refused(model: Any) -> None:
    X = np.random.default_rng(0).normal(size=(90, 3))
    model.fit(X, X.sum(axis=1))
    assert (travel(model).predict(X) == model.predict(X)).all()
    model.n_features_in_ = 2
    with pytest.raises(ModelFileError, match="read columns"):
        travel(model)


CATEGORIES = {"objective": "multiclass", "num_class": 3, "max_cat_to_onehot": 1, "min_data_per_group": 5}
LINES = {"objective": "regression", "linear_tree": True}


def booster_text(options: dict[str, Any]) -> str:
    """The text of a small booster."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 3))
    X[:, 0] = rng.integers(0, 40, 600)
    categorical: Any = [] if "linear_tree" in options else [0]
    data = lgb.Dataset(X, (X[:, 0] + X[:, 1] > 20) * 1.0, categorical_feature=categorical, params={"verbosity": -1})
    options = {"verbosity": -1, "num_threads": 1, "num_leaves": 7} | options
    return str(lgb.train(options, data, 2).model_to_string(num_iteration=-1))


def with_line(text: str, name: str, change: Callable[[list[str]], list[str]]) -> str:
    """The text with another line in the first tree that has one of that name, and its size corrected."""
    found = re.search(rf"\n{name}=([^\n]+)", text)
    assert found is not None
    new = text[: found.start(1)] + " ".join(change(found[1].split(" "))) + text[found.end(1) :]
    trees = new.split("end of trees")[0].split("Tree=")[1:]
    sizes = " ".join(str(len(tree) + len("Tree=")) for tree in trees)
    return re.sub("tree_sizes=[0-9 ]*", f"tree_sizes={sizes}", new)


def put(value: Any, at: int = 0) -> Callable[[list[str]], list[str]]:
    return lambda numbers: [*numbers[:at], str(value), *numbers[at + 1 :]]


@pytest.mark.parametrize("options", [
    CATEGORIES, LINES, {"objective": "binary"}, {"objective": "multiclassova", "num_class": 3},
    {"objective": "regression", "boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5},
    {"objective": "regression", "min_data_in_leaf": 10_000}, {"objective": "poisson", "boosting": "dart"},
    {"objective": "quantile", "alpha": 0.9}, {"objective": "tweedie"}, {"objective": "regression", "reg_sqrt": True},
    {"objective": lambda scores, data: (scores - data.get_label(), np.full(600, 1e-9))},
], ids=lambda options: "own" if callable(options["objective"]) else str(options))  # fmt: skip
def test_texts_of_lightgbm_are_read(options: dict[str, Any]) -> None:
    check_booster(booster_text(options))


@pytest.mark.parametrize(("name", "change", "options"), [
    ("left_child", put(0), CATEGORIES), ("left_child", put(99), CATEGORIES), ("right_child", put(-8), CATEGORIES),
    ("right_child", put("1_0"), CATEGORIES), ("left_child", lambda numbers: numbers[1:], CATEGORIES),
    ("split_feature", put(3), CATEGORIES), ("split_feature", put(-1), CATEGORIES),
    ("num_leaves", put(2**31 - 1), CATEGORIES), ("num_leaves", put(0), CATEGORIES), ("num_cat", put(0), CATEGORIES),
    ("threshold", put(99), CATEGORIES), ("leaf_value", lambda numbers: numbers[1:], CATEGORIES),
    ("cat_boundaries", put(99, 1), CATEGORIES), ("cat_threshold", lambda numbers: [], CATEGORIES),
    ("decision_type", put(1), {"objective": "regression", "linear_tree": True}),
    ("leaf_coeff", put("1e-99999"), LINES), ("leaf_const", put("1e-400"), LINES),
    ("leaf_const", put("x"), LINES), ("leaf_const", put("1e308"), LINES),
    ("leaf_features", put(9), LINES), ("num_features", put(9), LINES), ("num_class", put(9), CATEGORIES),
    ("num_tree_per_iteration", put(4), CATEGORIES), ("max_feature_idx", put(0), CATEGORIES),
    ("leaf_value", put("x"), CATEGORIES), ("leaf_value", put("-"), CATEGORIES), ("threshold", put("g.5"), CATEGORIES),
    ("leaf_weight", lambda numbers: [*numbers[:-1], ""], CATEGORIES), ("leaf_weight", put("=1"), CATEGORIES),
    ("leaf_count", lambda numbers: numbers[1:], CATEGORIES), ("split_gain", put("x"), CATEGORIES),
    ("internal_value", put("0x1"), CATEGORIES), ("internal_weight", put("1 1"), CATEGORIES),
    ("internal_count", put("1 1"), CATEGORIES), ("shrinkage", put("y.05"), CATEGORIES),
    ("shrinkage", put("1\rother=2"), CATEGORIES), ("shrinkage", put("1\nother"), CATEGORIES),
    ("shrinkage", put("\n".join(["1", *(f"other{k}=1" for k in range(9))])), CATEGORIES),
    ("num_cat", put("1\n"), CATEGORIES), ("objective", put(""), LINES), ("objective", put("="), LINES),
])  # fmt: skip
def test_texts_that_would_lead_lightgbm_astray_are_refused(name: str, change: Any, options: dict[str, Any]) -> None:
    text = booster_text(options)
    with pytest.raises(ModelFileError, match="LightGBM"):
        check_booster(with_line(text, name, change))


def test_texts_whose_trees_are_not_where_they_should_be_are_refused() -> None:
    """LightGBM ends the process at such a text."""
    text = booster_text(CATEGORIES)
    check_booster(with_line(text, "shrinkage", put(1)))
    for wrong in (text.replace("shrinkage=1\n", "shrinkage=1.0\n", 1), text.replace("end of trees", "trees"),
                  text.replace("tree_sizes=", "tree_sizes=5 "), text.replace("tree_sizes", "sizes"),
                  text.replace("[seed: ", "[seed "), text.replace("end of parameters", "")):  # fmt: skip
        with pytest.raises(ModelFileError, match="LightGBM"):
            check_booster(wrong)


def test_headers_are_read_as_numpy_reads_them() -> None:
    record = np.zeros(3, dtype=[("a", "<f8"), ("b", "i1")])
    for array in (np.zeros(0), np.arange(6.0).reshape(2, 3), np.asfortranarray(np.ones((2, 3), np.int8)), np.array(3),
                  record, np.array(["x", "yy"]), np.zeros(2, "M8[ns]")):  # fmt: skip
        data = array_to_bytes(array)
        buffer = io.BytesIO(data)
        assert np.lib.format.read_magic(buffer) == (1, 0)
        shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(buffer)
        assert read_header(data) == (dtype, shape, is_fortran, buffer.tell())


ONE = "{'descr': %s, 'fortran_order': False, 'shape': (%s,), }"
STRANGE = [ONE % ("'<f8'", "1e9"), ONE % ("'|O'", "1"), ONE % ("[('a', '|O')]", "1"), "__import__('os')"]


@pytest.mark.parametrize("text", STRANGE)
def test_strange_headers_are_refused(text: str) -> None:
    body = (text + "\n").encode()
    with pytest.raises((ModelFileError, ValueError)):
        array_from_bytes(b"\x93NUMPY\x01\x00" + len(body).to_bytes(2, "little") + body + bytes(8))


def test_masked_arrays() -> None:
    array = np.ma.MaskedArray(np.array([1, "a", 2.0], dtype=object), mask=[False, True, False])
    loaded = travel(array)
    assert loaded.mask.tolist() == [False, True, False]
    assert loaded.data.tolist() == [1, "a", 2.0]


def test_boosters_are_as_lightgbm_makes_them() -> None:
    X, y = np.arange(300.0).reshape(100, 3), np.arange(100) % 3
    for n_classes in (1, 1, 3, 3):
        kept = {"objective": "multiclass", "num_class": 3} if n_classes == 3 else {"objective": "regression"}
        booster = lgb.train({"verbosity": -1, "num_threads": 1} | kept, lgb.Dataset(X, y), 3)
        loaded, made = travel([booster])[0], lgb.Booster(model_str=booster.model_to_string())
        assert loaded.num_feature() == 3  # which reads a text that waits
        own, expected = ({**one.__dict__, "_handle": None, "params": None} for one in (loaded, made))
        assert own == expected | {"best_iteration": booster.best_iteration}
        assert loaded.params == booster.params
        assert loaded.model_to_string() == made.model_to_string()
        assert own["best_score"] is not travel([booster])[0].best_score
        np.testing.assert_array_equal(loaded.predict(X), booster.predict(X))


def test_boosters_wait_as_text() -> None:
    X, y = np.arange(300.0).reshape(100, 3), np.arange(100) % 2
    booster = lgb.train({"verbosity": -1, "num_threads": 1, "objective": "binary"}, lgb.Dataset(X, y), 3)
    travel([booster])  # lends the attributes
    loaded = travel([booster])[0]
    assert type(loaded) is TextBooster
    again = travel([loaded])[0]
    assert type(loaded) is TextBooster  # saving needs no reading
    expected = booster.model_to_string(num_iteration=-1)
    assert again.model_to_string(num_iteration=-1) == loaded.model_to_string(num_iteration=-1) == expected
    np.testing.assert_array_equal(loaded.predict(X), booster.predict(X))
    assert travel([loaded])[0].model_to_string(num_iteration=-1) == expected  # nor does reading change the text


def test_trees_of_thousands_of_nodes() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(4000, 3)), rng.normal(size=4000)
    for model in (
        DecisionTreeRegressor(random_state=0),
        HistGradientBoostingRegressor(max_leaf_nodes=2000, max_iter=1),
    ):
        loaded = travel([model.fit(X, y)])[0]
        np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
