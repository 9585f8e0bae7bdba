import datetime as dt
import pickle
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from mtl_classic import MultiTaskFactorizationMachine
from mtl_classic.learners._columns import FeatureColumns
from mtl_classic.preprocessing import FieldEncoder, TargetStatistics


def table(n: int = 200, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    price = rng.normal(5, 3, n)
    price[::7] = np.nan
    shop = pd.Series(rng.choice(["a", "b", "c", None], n), dtype=object)
    return pd.DataFrame(
        {
            "user": rng.integers(0, 30, n),
            "shop": shop,
            "size": pd.Categorical(rng.choice(["s", "m"], n), categories=["s", "m", "l"]),
            "member": rng.random(n) < 0.5,
            "price": price,
            "day": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 50, n), unit="D"),
        }
    )


# The matrix as the definition says it, a row and a field at a time; it knows nothing of codes or slots.
def slow_encode(encoder: FieldEncoder, train: pd.DataFrame, X: pd.DataFrame) -> np.ndarray:
    names = {name: j for j, name in enumerate(encoder.get_feature_names_out())}
    out = np.zeros((len(X), len(names)))
    for field, kind in encoder.kinds_.items():
        for i, value in enumerate(X[field]):
            if kind == "number" and pd.isna(value):
                out[i, names[f"{field}=(missing)"]] = 1
            elif kind == "number":
                out[i, names[field]] = (value - train[field].mean()) / train[field].std(ddof=0)
            else:
                text = "(missing)" if pd.isna(value) else str(value)
                out[i, names.get(f"{field}={text}", names[f"{field}=(other)"])] = 1
    return out


def test_equals_the_slow_definition() -> None:
    train, X = table(), table(seed=1)
    encoder = FieldEncoder(categorical=["user"], clip=None).fit(train)
    np.testing.assert_allclose(encoder.transform(X).toarray(), slow_encode(encoder, train, X), rtol=1e-5, atol=1e-6)
    assert encoder.kinds_ == dict.fromkeys(["user", "shop", "size", "member"], "onehot") | {
        "price": "number",
        "day": "number",
    }


def test_a_constant_has_no_scale() -> None:
    X = pd.DataFrame({"x": np.full(1000, 0.1)})
    assert np.abs(FieldEncoder(clip=None).fit(X).transform(X + 0.5).toarray()).max() < 1


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
def test_a_missing_number_in_a_column_of_objects(missing: object) -> None:
    X = table()
    encoder = FieldEncoder().fit(X)
    row = X.iloc[[0]].assign(price=pd.Series([missing], dtype=object))
    expected = encoder.transform(X.iloc[[0]].assign(price=np.nan))
    np.testing.assert_array_equal(encoder.transform(row).toarray(), expected.toarray())
    rows = X.iloc[:3].assign(price=pd.Series([missing, 1.5, 2], dtype=object))
    assert encoder.transform(rows).shape[0] == 3


def test_text_in_place_of_numbers_is_refused() -> None:
    X = table()
    encoder = FieldEncoder(categorical=["user"]).fit(X)
    with pytest.raises(TypeError, match="'user' held numbers when it was learnt; it holds text now"):
        encoder.transform(X.assign(user=X["user"].astype(str)))
    with pytest.raises(TypeError, match="'shop' held text when it was learnt; it holds numbers now"):
        encoder.transform(X.assign(shop=1))
    assert encoder.transform(X.assign(user=10**6, shop=None)).shape[0] == len(X)


def test_agrees_with_scikit_learn() -> None:
    X = table().dropna()
    matrix = FieldEncoder(categorical=["user"]).fit_transform(X)
    encoder = FieldEncoder(categorical=["user"]).fit(X)
    onehot = OneHotEncoder().fit_transform(X[["user"]]).toarray()
    np.testing.assert_array_equal(matrix[:, encoder.fields_["user"][1:]].toarray(), onehot)
    scaled = StandardScaler().fit_transform(X[["price"]])
    np.testing.assert_allclose(matrix[:, encoder.fields_["price"][:1]].toarray(), scaled, rtol=1e-5)


def test_form_of_the_matrix() -> None:
    X = table()
    before = X.copy(deep=True)
    encoder = FieldEncoder(categorical=["user"])
    matrix = encoder.fit_transform(X)
    assert isinstance(matrix, sparse.csr_matrix)
    assert matrix.dtype == np.float32
    assert matrix.has_canonical_format
    assert (np.diff(matrix.indptr) == X.shape[1]).all()
    assert (matrix != encoder.transform(X)).nnz == 0
    blocks = np.concatenate(list(encoder.fields_.values()))
    np.testing.assert_array_equal(blocks, np.arange(encoder.n_columns_))
    assert list(encoder.fields_) == list(X.columns)
    assert len(set(encoder.get_feature_names_out())) == matrix.shape[1]
    pd.testing.assert_frame_equal(X, before)


def test_layout_depends_on_neither_row_order_nor_column_order_at_prediction() -> None:
    X = table()
    encoder, shuffled = FieldEncoder().fit(X), FieldEncoder().fit(X.sample(frac=1, random_state=0))
    assert encoder.get_feature_names_out().tolist() == shuffled.get_feature_names_out().tolist()
    assert (encoder.transform(X) != encoder.transform(X[X.columns[::-1]])).nnz == 0
    assert (encoder.transform(X)[5] != encoder.transform(X.iloc[[5]])).nnz == 0


@pytest.mark.parametrize("dtype", [object, pd.Series(["x"]).dtype, "string", "category"])  # the second is pandas' own
def test_the_dtype_that_holds_text_does_not_matter(dtype: object) -> None:
    plain = pd.DataFrame({"c": pd.Series(["x", "y", None, "x"], dtype=object)})
    new = pd.DataFrame({"c": pd.Series(["y", "z", None], dtype=object)})
    expected = FieldEncoder().fit(plain).transform(new).toarray()
    np.testing.assert_array_equal(FieldEncoder().fit(plain.astype(dtype)).transform(new).toarray(), expected)
    np.testing.assert_array_equal(FieldEncoder().fit(plain).transform(new.astype(dtype)).toarray(), expected)
    assert expected.tolist() == [[0, 0, 0, 1], [1, 0, 0, 0], [0, 1, 0, 0]]


def test_ids_that_become_floats_through_missing_values_are_the_same_ids() -> None:
    for options in ({}, {"hash_above": 0, "n_hash": 64}):
        encoder = FieldEncoder(categorical=["id"], **options).fit(pd.DataFrame({"id": [1, 2, 3]}))
        whole = encoder.transform(pd.DataFrame({"id": [2, 3]})).toarray()
        with_gap = encoder.transform(pd.DataFrame({"id": [2.0, np.nan, 3.0]})).toarray()
        np.testing.assert_array_equal(with_gap[[0, 2]], whole)
        assert with_gap[1].argmax() == 0  # missing was not seen at fit: other


@pytest.mark.parametrize("later", ["UInt64", "uint64", "Int64"])
@pytest.mark.parametrize("first", ["Int64", "int64", "UInt64"])
def test_long_ids_stay_apart_whatever_holds_them(first: str, later: str) -> None:
    known, asked = [2**60, 2**60 + 1, 2**60 + 2], [2**60 + 1, 2**60 + 3, 2**60]
    encoder = FieldEncoder(categorical=["id"]).fit(pd.DataFrame({"id": pd.array(known, dtype=first)}))
    rows = pd.DataFrame({"id": pd.array(asked, dtype=later)})
    assert encoder.transform(rows).indices.tolist() == [2, 0, 1]
    assert encoder.partial_fit(rows).transform(rows).indices.tolist() == [2, 4, 1]


def test_rare_values_share_the_other_column() -> None:
    X = pd.DataFrame({"c": list("aaabbc")})
    encoder = FieldEncoder(min_count=2).fit(X)
    assert encoder.get_feature_names_out().tolist() == ["c=(other)", "c=a", "c=b"]
    assert encoder.transform(X).indices.tolist() == [1, 1, 1, 2, 2, 0]


def test_partial_fit_grows_without_moving_a_column() -> None:
    first = pd.DataFrame({"c": ["b", "a"], "d": ["u", "v"], "x": [0.0, 2.0]})
    second = pd.DataFrame({"c": ["c", "a"], "d": ["u", "w"], "x": [9.0, 9.0]})
    encoder = FieldEncoder().fit(first)
    names, before = encoder.get_feature_names_out().tolist(), encoder.transform(first)
    encoder.partial_fit(second)
    after = encoder.transform(first)
    assert encoder.get_feature_names_out().tolist() == [*names, "c=c", "d=w"]
    np.testing.assert_array_equal(after.toarray()[:, : len(names)], before.toarray())
    assert not after.toarray()[:, len(names) :].any()
    assert encoder.transform(second).has_sorted_indices
    assert encoder.fields_["c"].tolist() == [0, 1, 2, 8]


def test_partial_fit_counts_over_calls() -> None:
    encoder = FieldEncoder(min_count=3)
    for _ in range(2):
        encoder.partial_fit(pd.DataFrame({"c": ["a", "a", "b"]}))
    assert encoder.get_feature_names_out().tolist() == ["c=(other)", "c=a"]
    encoder.partial_fit(pd.DataFrame({"c": ["b"]}))
    assert encoder.get_feature_names_out().tolist() == ["c=(other)", "c=a", "c=b"]


def test_hashed_fields() -> None:
    X = pd.DataFrame({"id": [f"u{i}" for i in range(500)], "shop": ["a", "b"] * 250})
    encoder = FieldEncoder(hash_above=100, n_hash=50).fit(X)
    assert encoder.kinds_ == {"id": "hashed", "shop": "onehot"}
    assert len(encoder.fields_["id"]) == 51
    slots = encoder.transform(X).indices.reshape(-1, 2)[:, 0]
    assert slots.min() >= 1
    assert np.bincount(slots, minlength=51)[1:].std() < 10  # 10 rows a bucket: spread like chance
    same = FieldEncoder(hash_above=100, n_hash=50).fit(X.iloc[::-1]).transform(X)
    assert (same != encoder.transform(X)).nnz == 0
    unseen = encoder.transform(pd.DataFrame({"id": ["new", None], "shop": ["a", "a"]}))
    assert unseen.indices.reshape(-1, 2)[0, 0] > 0
    assert unseen.indices.reshape(-1, 2)[1, 0] == 0


def test_numbers() -> None:
    X = pd.DataFrame({"x": [1.0, 3.0, np.nan], "constant": [4, 4, 4], "empty": [np.nan] * 3})
    encoder = FieldEncoder().fit(X)
    expected = [[-1, 0, 0, 0, 0, 1], [1, 0, 0, 0, 0, 1], [0, 1, 0, 0, 0, 1]]
    np.testing.assert_array_equal(encoder.transform(X).toarray(), expected)
    outlier = encoder.transform(pd.DataFrame({"x": [1e9], "constant": [4], "empty": [1.0]}))
    assert outlier[0, 0] == 10
    assert outlier.toarray()[0, 4:].tolist() == [0, 1]  # nothing is known of it: as missing as at fit
    assert FieldEncoder(scale=None).fit_transform(X)[1, 0] == 3


@pytest.mark.parametrize("huge", [1e39, 1e155, 1.7e308])
def test_huge_numbers_are_held_finite(huge: float) -> None:
    X = pd.DataFrame({"x": [huge, -huge, 0.0, np.nan]})
    root = np.sqrt(1.5)
    np.testing.assert_allclose(FieldEncoder().fit_transform(X).toarray()[:, 0], [root, -root, 0, 0], rtol=1e-6)
    np.testing.assert_allclose(FieldEncoder(scale=None).fit_transform(X).toarray()[:2, 0], [1e30, -1e30], rtol=1e-6)


def test_numbers_that_come_later_are_scaled_when_they_come() -> None:
    nothing, something = pd.DataFrame({"x": [None, np.nan]}), pd.DataFrame({"x": [300.0, 400.0, np.nan]})
    encoder = FieldEncoder().fit(nothing)
    before = pickle.loads(pickle.dumps(encoder))
    assert encoder.partial_fit(nothing).partial_fit(something).transform(something).toarray().tolist() == [
        [-1, 0], [1, 0], [0, 1]
    ]  # fmt: skip
    assert encoder.partial_fit(something * 9).transform(something)[1, 0] == 1
    assert before.transform(something)[:, 0].nnz == 0


def test_dates_and_durations_are_numbers() -> None:
    days = pd.Series(pd.to_datetime(["2024-01-01", "2024-01-03", None]))
    X = pd.DataFrame({"day": days, "zone": days.dt.tz_localize("UTC"), "age": days - days[0]})
    matrix = FieldEncoder().fit_transform(X).toarray()
    np.testing.assert_allclose(matrix[:, ::2], [[-1] * 3, [1] * 3, [0] * 3], atol=1e-6)
    np.testing.assert_array_equal(matrix[:, 1::2], [[0] * 3, [0] * 3, [1] * 3])


ZONES = [dt.timezone(dt.timedelta(hours=hours)) for hours in (1, 2)]


@pytest.mark.parametrize("values", [
    [dt.date(2024, 1, 1), dt.date(2024, 1, 3)],
    [pd.Timestamp("2024-01-01"), dt.datetime(2024, 1, 3)],
    [dt.datetime(2024, 1, 1, 1, tzinfo=ZONES[0]), dt.datetime(2024, 1, 3, 2, tzinfo=ZONES[1])],
    [pd.Period("2024-01-01"), pd.Period("2024-01-03")],
    [dt.timedelta(1), pd.Timedelta("3D")],
])  # fmt: skip
def test_dates_and_durations_may_come_as_objects(values: list[object]) -> None:
    objects = pd.DataFrame({"d": pd.Series([*values, None], dtype=object)})
    typed = objects.assign(d=pd.to_datetime(["2024-01-01", "2024-01-03", None]))
    if isinstance(values[0], dt.timedelta):
        typed = typed - pd.Timestamp("2023-12-31")
    for encoder in (FieldEncoder().fit(objects), FieldEncoder().fit(typed)):
        for X in (objects, typed):
            np.testing.assert_allclose(encoder.transform(X).toarray(), [[-1, 0], [1, 0], [0, 1]], atol=1e-6)
    assert FieldEncoder().fit(objects.astype("category")).kinds_ == {"d": "onehot"}


def test_roles_and_exclusion_find_prefixed_names() -> None:
    X = table().add_prefix("rest__")
    encoder = FieldEncoder(categorical=["user"], exclude=["day"]).fit(X)
    assert encoder.kinds_["rest__user"] == "onehot"
    assert "rest__day" not in encoder.fields_
    with pytest.raises(ValueError, match="No column is left"):
        FieldEncoder(exclude=list(X.columns)).fit(X)


def test_polars_and_arrays() -> None:
    X = table().drop(columns=["size"])
    expected = FieldEncoder(categorical=["user"]).fit_transform(X)
    assert (FieldEncoder(categorical=["user"]).fit_transform(pl.from_pandas(X)) != expected).nnz == 0
    numbers = np.array([[1.0, 2.0], [3.0, np.nan]])
    np.testing.assert_array_equal(FieldEncoder().fit_transform(numbers).toarray(), [[-1, 0, 0, 0], [1, 0, 0, 1]])
    mixed = np.array([["a", 1.0], ["b", 3.0]], dtype=object)
    assert FieldEncoder().fit(mixed).kinds_ == {0: "onehot", 1: "number"}


def test_mixed_types_in_one_column() -> None:
    X = pd.DataFrame({"c": pd.Series([1, "1", 2.5, ("t",), None], dtype=object)})
    matrix = FieldEncoder().fit_transform(X).toarray()
    assert matrix.sum() == 5
    assert len(set(matrix.argmax(axis=1))) == 5
    np.testing.assert_array_equal(FieldEncoder().fit(X.iloc[::-1]).transform(X).toarray(), matrix)


def test_values_that_cannot_be_compared_are_refused_by_name() -> None:
    lists = pd.DataFrame({"c": [[1], [2]]})
    for refuse in (FieldEncoder().fit, FieldEncoder().fit(pd.DataFrame({"c": ["a"]})).transform):
        with pytest.raises(TypeError, match="Column 'c' holds values that cannot be compared: unhashable type"):
            refuse(lists)


def test_a_million_categories() -> None:
    X = pd.DataFrame({"id": np.random.default_rng(0).permutation(1_000_000)})
    encoder = FieldEncoder(categorical=["id"]).fit(X)
    assert encoder.n_columns_ == 1_000_001
    assert encoder.transform(X.iloc[:3]).indices.tolist() == (X["id"][:3] + 1).tolist()


def test_zero_rows() -> None:
    X = table()
    with pytest.raises(ValueError, match="0 sample"):
        FieldEncoder().fit(X.iloc[:0])
    encoder = FieldEncoder().fit(X)
    assert encoder.transform(X.iloc[:0]).shape == (0, encoder.n_columns_)


@pytest.mark.parametrize(
    ("options", "X", "error", "message"),
    [
        ({"min_count": 0}, table(), ValueError, "min_count must be an integer of at least 1"),
        ({"n_hash": 0, "hash_above": 1}, table(), ValueError, "n_hash must be an integer of at least 1"),
        ({"scale": "minmax"}, table(), ValueError, '"standard" or None'),
        ({"clip": -1.0}, table(), ValueError, "clip must be a positive number or None"),
        ({"categorical": ["nobody"]}, table(), ValueError, "nobody"),
        ({}, sparse.csr_matrix(np.eye(3)), TypeError, "sparse already"),
        ({}, pd.DataFrame({"x": [np.inf]}), ValueError, "Infinite"),
    ],
)
def test_bad_input_at_fit(options: dict, X: object, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        FieldEncoder(**options).fit(X)


@pytest.mark.parametrize(
    "values",
    [
        [3, 1, 2, 1],
        [2.5, 1, 2, 1],
        [Decimal("2.5"), Decimal(1), Decimal(2), Decimal(1)],
        [Decimal("2.5"), 1, np.float32(2), np.int64(1)],
    ],
)
def test_numbers_may_come_as_objects(values: list[object]) -> None:
    objects = pd.DataFrame({"x": pd.Series([*values, None], dtype=object), "c": list("ababa")})
    typed = objects.assign(x=[*map(float, values), np.nan])  # type: ignore[arg-type]
    one, other = FieldEncoder().fit(objects), FieldEncoder().fit(typed)
    assert one.kinds_ == other.kinds_ == {"x": "number", "c": "onehot"}
    for X in (objects, typed, objects.iloc[:1], objects.iloc[4:]):
        for encoder in (one, other):
            assert (encoder.transform(X) != other.transform(typed.loc[X.index])).nnz == 0
    learner = FeatureColumns()
    assert set(learner.fit(objects).categories_) == {"c"}
    statistics = TargetStatistics(tasks={"y": "binary"}).fit(objects, [0, 1, 0, 1, 1])
    assert statistics.keys_ == [("c",)]
    with pytest.raises(ValueError, match="Infinite values in the column 'x'"):
        FieldEncoder().fit(objects.assign(x=pd.Series([Decimal("Infinity"), 1, 2, 3, 4], dtype=object)))


@pytest.mark.parametrize("values", [["1", 2, 3], [1, 2, "x"], [Decimal(1), "x", 2], [True, False, True], [1, True, 2]])
def test_mixed_objects_stay_categories(values: list[object]) -> None:
    X = pd.DataFrame({"x": pd.Series(values, dtype=object)})
    assert FieldEncoder().fit(X).kinds_ == {"x": "onehot"}


def test_tuples_of_any_lengths_and_types_are_categories() -> None:
    values = [(1,), (1, 2), ("a", 1), (1, 2, 3)]
    X = pd.DataFrame({"x": pd.Series(values * 5)})
    assert FieldEncoder().fit_transform(X).sum(axis=0).tolist() == [[0, 5, 5, 5, 5]]
    encoded = FeatureColumns().fit(X).transform(X).values[:, 0]
    assert sorted(encoded[:4]) == [0, 1, 2, 3]
    assert TargetStatistics(tasks={"y": "binary"}).fit_transform(X, [0, 1, 0, 1] * 5).shape[0] == 20


def test_bad_input_at_transform() -> None:
    X = table()
    encoder = FieldEncoder().fit(X)
    with pytest.raises(ValueError, match="lacks columns.*price"):
        encoder.transform(X.drop(columns="price"))
    with pytest.raises(TypeError, match="'price' held numbers"):
        encoder.transform(X.assign(price="cheap"))


def test_clone_and_pickle() -> None:
    X = table()
    encoder = FieldEncoder(categorical=["user"]).fit(X)
    assert clone(encoder).get_params() == encoder.get_params()
    assert (pickle.loads(pickle.dumps(encoder)).transform(X) != encoder.transform(X)).nnz == 0


@parametrize_with_checks([FieldEncoder()])
def test_scikit_learn_checks(estimator: FieldEncoder, check: object) -> None:
    check(estimator)  # type: ignore[operator]


@pytest.mark.parametrize("numbered", [np.asarray, pd.DataFrame])
@pytest.mark.parametrize("part", [FieldEncoder(), TargetStatistics([1], cv=2), MultiTaskFactorizationMachine()])
def test_columns_of_an_array_are_found_by_position_in_a_frame(part: Any, numbered: Any) -> None:
    values = np.array([[1.0, 5.0], [2.0, 6.0], [3.0, 5.0], [4.0, 7.0]] * 5)
    named = pd.DataFrame(values, columns=["price", "shop"])
    fitted = clone(part).fit(numbered(values), np.tile([0, 1, 1, 1], 5))
    for X in (named, pl.from_pandas(named)):
        expected, found = (
            fitted.predict_scores(Z) if hasattr(fitted, "predict_scores") else fitted.transform(Z) for Z in (values, X)
        )
        dense = [Z.toarray() if sparse.issparse(Z) else np.asarray(Z) for Z in (expected, found)]
        np.testing.assert_array_equal(*dense)


def test_columns_of_other_names_are_told() -> None:
    encoder = FieldEncoder().fit(pd.DataFrame([[1.0, 5.0], [2.0, 6.0]], columns=[7, 8]))
    with pytest.raises(ValueError, match="X lacks the columns 7, 8 of the fit; it has 'price', 'shop'"):
        encoder.transform(pd.DataFrame([[1.0, 5.0]], columns=["price", "shop"]))
