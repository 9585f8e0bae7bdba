"""Labels as numbers: classes, refusals, and both views of the funnel row by row."""

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtl_classic import FunnelConflictError, LabelError, LeakedLabelWarning, PerTaskModel, RoleError, Task, TaskError
from mtl_classic._core.base import group_codes
from mtl_classic._core.targets import condition_holds, decode_targets, encode_targets, spell_out

NAN = np.nan
CLICK = Task("click", "binary")


def both_views(child: Task, parent: Any, label: Any, **options: Any) -> tuple[float, float]:
    """Entire and conditional view of a child in one row; a second row keeps both tasks labelled."""
    known = "a" if child.kind == "multiclass" else 1
    Y = pd.DataFrame({"click": [parent, 1], child.name: [label, known]}, dtype=object)
    targets = encode_targets(Y, [CLICK, child], **options)
    return targets.view(child.name)[0], targets.view(child.name, "conditional")[0]


@pytest.mark.parametrize(
    ("parent", "label", "entire", "conditional"),
    [
        (1, 1, 1, 1),
        (1, 0, 0, 0),
        (1, None, NAN, NAN),
        (0, 0, 0, NAN),
        (0, None, 0, NAN),
        (None, 0, 0, NAN),
        (None, 1, 1, 1),
        (None, None, NAN, NAN),
    ],
)
@pytest.mark.parametrize("kind", ["binary", "count", "regression"])
def test_the_two_views_of_a_funnel_child(kind: str, parent: Any, label: Any, entire: float, conditional: float) -> None:
    np.testing.assert_equal(both_views(Task("buy", kind, given="click"), parent, label), (entire, conditional))


@pytest.mark.parametrize(
    ("parent", "label", "code"),
    [(1, "a", 0), (1, "b", 1), (1, None, NAN), (0, None, NAN), (None, "a", 0), (None, "b", 1), (None, None, NAN)],
)
def test_a_multiclass_child_is_conditional_everywhere(parent: Any, label: Any, code: float) -> None:
    Y = pd.DataFrame({"click": [parent, 1, 1], "way": [label, "a", "b"]}, dtype=object)
    targets = encode_targets(Y, [CLICK, Task("way", "multiclass", given="click")])
    for space in ("entire", "conditional"):
        np.testing.assert_equal(targets.view("way", space)[0], code)


@pytest.mark.parametrize(
    ("reason", "label", "entire", "conditional"),
    [
        ("size", 1, 1, 1),
        ("size", 0, 0, 0),
        ("colour", 0, 0, NAN),
        ("colour", None, 0, NAN),
        (None, 1, 1, 1),
        (None, 0, 0, NAN),
        (None, None, NAN, NAN),
    ],
)
def test_a_child_under_a_class_of_a_multiclass_parent(
    reason: Any, label: Any, entire: float, conditional: float
) -> None:
    tasks = [Task("reason", "multiclass"), Task("exchange", "binary", given=("reason", "size"))]
    Y = pd.DataFrame({"reason": [reason, "size", "colour"], "exchange": [label, 1, 0]}, dtype=object)
    targets = encode_targets(Y, tasks)
    assert targets.classes["reason"].tolist() == ["colour", "size"]
    np.testing.assert_equal(targets.entire[0, 1], entire)
    np.testing.assert_equal(targets.conditional[0, 1], conditional)
    with pytest.raises(TaskError, match=r"class 'fit' of 'reason', whose classes are \['colour', 'size'\]"):
        encode_targets(Y, [tasks[0], Task("exchange", "binary", given=("reason", "fit"))])


@pytest.mark.parametrize("on_conflict", ["raise", "lift", "drop"])
def test_a_class_that_no_row_has_is_refused_only_where_its_child_happened(on_conflict: Any) -> None:
    tasks = [Task("reason", "multiclass"), Task("refund", "regression", given=("reason", "size"))]
    Y = pd.DataFrame({"reason": ["fit", "colour", None, None], "refund": [None, 0.0, 4.0, 0.0]})
    targets = encode_targets(Y, tasks, on_conflict=on_conflict)
    np.testing.assert_equal(targets.view("refund"), [0, 0, 4, 0])
    np.testing.assert_equal(targets.view("refund", "conditional"), [NAN, NAN, 4, NAN])
    Y.loc[1, "refund"] = 2.0
    with pytest.raises(TaskError, match=r"'refund' is given the class 'size' of 'reason', .* \['colour', 'fit'\]"):
        encode_targets(Y, tasks, on_conflict=on_conflict)
    Y.loc[1, "reason"] = "size"  # later rows, where it is a class that the fit did not see
    later = encode_targets(Y, tasks, classes=targets.classes, on_conflict=on_conflict)
    np.testing.assert_equal(later.view("refund", "conditional"), [NAN, 2, 4, NAN])


def test_a_multiclass_parent_that_is_itself_a_child() -> None:
    tasks = [
        Task("return", "binary"),
        Task("reason", "multiclass", given="return"),
        Task("refund", "regression", given=("reason", "size")),
    ]
    Y = pd.DataFrame(
        {
            "return": [1, 1, 0, 0, None],
            "reason": ["size", "fit", None, None, "size"],
            "refund": [9.0, 0.0, 0.0, None, 4.0],
        }
    )
    targets = encode_targets(Y, tasks)
    np.testing.assert_equal(targets.view("refund"), [9, 0, 0, 0, 4])
    np.testing.assert_equal(targets.view("refund", "conditional"), [9, NAN, NAN, NAN, 4])
    np.testing.assert_equal(condition_holds(targets, tasks[2]), [1, 0, 0, 0, 1])


CHAIN = [CLICK, Task("cart", "binary", given="click"), Task("spend", "regression", given="cart")]


@pytest.mark.parametrize(
    ("row", "lifted", "dropped"),
    [
        ((0, 1, 0.0), (1, 1, 0), (0, NAN, 0)),
        ((1, 0, 5.0), (1, 1, 5), (1, 0, NAN)),
        ((0, 0, 5.0), (1, 1, 5), (0, 0, NAN)),
        ((0, None, 5.0), (1, NAN, 5), (0, 0, NAN)),  # the one between is unlabelled: the grandparent counts
        ((0, 1, 5.0), (1, 1, 5), (0, NAN, NAN)),
        ((0, 1, None), (1, 1, NAN), (0, NAN, NAN)),
    ],
)
def test_conflicts_along_a_chain(row: tuple, lifted: tuple, dropped: tuple) -> None:
    Y = pd.DataFrame([(1, 1, 2.0), row], columns=["click", "cart", "spend"], index=["fine", "odd"])
    with pytest.raises(
        FunnelConflictError, match=r"1 rows have .* although .*'odd'.* give the model, .*\"lift\".*\"drop\""
    ):
        encode_targets(Y, CHAIN)
    np.testing.assert_equal(encode_targets(Y, CHAIN, on_conflict="lift").entire[1], lifted)
    np.testing.assert_equal(encode_targets(Y, CHAIN, on_conflict="drop").entire[1], dropped)
    with pytest.raises(ValueError, match='on_conflict must be "raise", "lift" or "drop"'):
        encode_targets(Y, CHAIN, on_conflict="keep")  # type: ignore[arg-type]


def test_a_parent_is_not_lifted_to_two_classes() -> None:
    tasks = [Task("reason", "multiclass"), *(Task(c, "binary", given=("reason", c)) for c in ("fit", "size"))]
    Y = pd.DataFrame({"reason": ["fit", "size", "fit"], "fit": [1, 0, 0], "size": [0, 1, 1]})
    assert encode_targets(Y, tasks, on_conflict="lift").view("reason").tolist() == [0, 1, 1]
    Y.loc[2, "fit"] = 1
    for order in (tasks, tasks[::-1]):
        with pytest.raises(FunnelConflictError, match=r"1 rows have '(fit|size)' non-zero .* another of its classes"):
            encode_targets(Y, order, on_conflict="lift")


def test_what_is_unlabelled_below_a_dropped_label_stays_so_when_written_out() -> None:
    Y = pd.DataFrame({"click": [0, 1, 0], "cart": [1, 1, None], "spend": [None, 2.0, None]})
    targets = encode_targets(Y, CHAIN, on_conflict="drop")
    again = encode_targets(decode_targets(targets), CHAIN, classes=targets.classes)
    np.testing.assert_equal(targets.entire[:, 2], [NAN, 2, 0])
    weights = targets.weigh(None)
    assert weights is not None
    np.testing.assert_equal(np.where(weights > 0, again.entire, NAN), targets.entire)


labels = st.sampled_from([0.0, 1.0, NAN])


@given(st.lists(st.tuples(labels, labels, st.sampled_from([0.0, 3.5, NAN])), min_size=1, max_size=30))
def test_lifted_and_dropped_labels_hold_no_contradiction(rows: list) -> None:
    Y = pd.DataFrame([(1.0, 1.0, 1.0), *rows], columns=["click", "cart", "spend"])
    for way in ("lift", "drop"):
        targets = encode_targets(Y, CHAIN, on_conflict=way)  # type: ignore[arg-type]
        entire = dict(zip(Y.columns, targets.entire.T, strict=True))
        assert not ((entire["click"] == 0) & (np.nan_to_num(entire["cart"]) > 0)).any()
        assert not ((entire["cart"] == 0) & (np.nan_to_num(entire["spend"]) > 0)).any()
        again = encode_targets(decode_targets(targets), CHAIN)
        unlabelled = np.isnan(targets.entire)
        np.testing.assert_equal(again.entire[~unlabelled], targets.entire[~unlabelled])
        labelled = ~np.isnan(targets.conditional)
        np.testing.assert_equal(targets.conditional[labelled], targets.entire[labelled])


@pytest.mark.parametrize(
    ("task", "values", "says"),
    [
        (Task("y", "binary"), [0, 1, 2], r"3 different labels \(0, 1, 2 …\); expected two"),
        (Task("y", "binary", positive="yes"), ["a", "b"], r"positive='yes' of task 'y' is none of its labels"),
        (Task("y", "binary", loss="kl"), [0.2, 1.5], r"probabilities in \[0, 1\]; 1 labels are not, the first is 1.5"),
        (Task("y", "binary", loss="kl"), [-0.1, 0.5], r"probabilities in \[0, 1\]"),
        (Task("y", "regression"), ["tall", 1.0], "needs numbers; 1 labels are not, the first is 'tall'"),
        (Task("y", "regression"), pd.to_datetime(["2024-01-01", "2024-01-02"]), "needs numbers, got datetime64"),
        (Task("y", "regression"), [1.0, np.inf], "1 infinite labels; expected finite numbers, or NaN"),
        (Task("y", "count"), [1, -2], "non-negative integers; 1 labels are not, the first is -2"),
        (Task("y", "count"), [1, 0.5], "non-negative integers; 1 labels are not, the first is 0.5"),
        (Task("y", "ranking", query="q"), [0, 1.5], "non-negative integers"),
        (Task("y", "ranking", query="q"), [0, 1000], "grades up to 60"),
        (Task("y", "count"), [None, None], "no label in 2 rows; leave the task out, or check its column"),
        (Task("y", "multiclass"), [None, None], "no label in 2 rows"),
        (Task("y", "binary"), [None, None], "no label in 2 rows"),
    ],
)
def test_labels_that_a_kind_does_not_allow(task: Task, values: Any, says: str) -> None:
    with pytest.raises(LabelError, match=says):
        encode_targets(pd.DataFrame({"y": values}), [task])


def test_columns_are_matched_by_name_in_frames_and_by_position_in_arrays() -> None:
    tasks = [Task("a", "binary"), Task("b", "regression")]
    wanted = [[0, 2.5], [1, 0.5]]
    frame = pd.DataFrame({"b": [2.5, 0.5], "further": ["x", "y"], "a": [0, 1]})
    assert encode_targets(frame, tasks).entire.tolist() == wanted
    assert encode_targets(pl.from_pandas(frame), tasks).entire.tolist() == wanted
    assert encode_targets(np.array(wanted), tasks).entire.tolist() == wanted
    with pytest.raises(TaskError, match="lacks the columns of the tasks a; its columns are b, further"):
        encode_targets(frame[["b", "further"]], tasks)
    with pytest.raises(TaskError, match=r"Y has 3 columns, but there are 2 tasks \(a, b\)"):
        encode_targets(np.zeros((2, 3)), tasks)


@pytest.mark.parametrize(
    ("positive", "values", "classes", "encoded"),
    [
        (None, ["no", "yes", None], ["no", "yes"], [0, 1, NAN]),
        ("no", ["no", "yes", None], ["yes", "no"], [1, 0, NAN]),
        (None, [False, True, False], [False, True], [0, 1, 0]),
        (None, [7, 3, 7], [3, 7], [1, 0, 1]),
        (None, [0, 0], [0, 1], [0, 0]),
        (None, [True, True], [False, True], [1, 1]),
        (None, [True, None], [False, True], [1, NAN]),
        (None, ["yes", "yes"], ["yes"], [1, 1]),
        ("positive", ["no", "no"], ["no", "positive"], [0, 0]),
        (None, pd.array([1, 0, None], dtype="Int64"), [0, 1], [1, 0, NAN]),
        (None, pd.Categorical(["u", "v", None]), ["u", "v"], [0, 1, NAN]),
    ],
)
def test_binary_labels_of_any_sort(positive: Any, values: Any, classes: list, encoded: list) -> None:
    targets = encode_targets(pd.DataFrame({"y": values}), [Task("y", "binary", positive=positive)])
    assert list(map(repr, targets.classes["y"].tolist())) == list(map(repr, classes))  # False is not 0
    np.testing.assert_equal(targets.view("y"), encoded)


@pytest.mark.parametrize("labels", [[("a", 1), ("b", 2)], [("a", 1), (None, 2)]])
def test_tuples_are_labels(labels: list) -> None:
    Y = pd.DataFrame({"pair": pd.Series([*labels, None], dtype=object)})
    for task in (Task("pair", "binary", positive=labels[0]), *spell_out({"pair": "binary"}, Y)):
        targets = encode_targets(Y, [task])
        assert targets.classes["pair"].tolist()[1] == task.positive
        np.testing.assert_equal(targets.view("pair"), [labels[0] == task.positive, labels[1] == task.positive, NAN])
    alone = encode_targets(Y[1:], [Task("pair", "binary", positive=labels[0])])
    assert alone.classes["pair"].tolist() == labels[::-1]


@pytest.mark.parametrize("kind", ["binary", "multiclass"])
def test_half_precision_labels(kind: str) -> None:
    Y = pd.DataFrame({"label": np.array([0, 1, NAN, 1], dtype=np.float16)})
    np.testing.assert_equal(encode_targets(Y, [Task("label", kind)]).view("label"), [0, 1, NAN, 1])


def test_soft_labels_may_be_certain() -> None:
    targets = encode_targets(pd.DataFrame({"y": [0.0, 1.0, 0.3]}), [Task("y", "binary", loss="kl")])
    assert targets.view("y").tolist() == [0.0, 1.0, 0.3]


def test_classes_of_the_fit_hold_afterwards() -> None:
    tasks = [Task("buy", "binary"), Task("way", "multiclass")]
    fitted = encode_targets(pd.DataFrame({"buy": ["no", "yes"], "way": ["a", "b"]}), tasks)
    later = encode_targets(pd.DataFrame({"buy": ["yes"], "way": ["new"]}), tasks, classes=fitted.classes)
    assert later.entire.tolist() == [[1, -1]]
    with pytest.raises(LabelError, match=r"label 'perhaps' \(1 rows\); at fit its labels were \['no', 'yes'\]"):
        encode_targets(pd.DataFrame({"buy": ["perhaps"], "way": ["a"]}), tasks, classes=fitted.classes)


def test_classes_of_another_type_and_infinite_ones_are_refused() -> None:
    for kind in ("binary", "multiclass"):
        with pytest.raises(LabelError, match="'y' has infinite labels"):
            encode_targets(pd.DataFrame({"y": [0.0, np.inf]}), [Task("y", kind)])
    tasks = [Task("y", "multiclass")]
    fitted = encode_targets(pd.DataFrame({"y": [1, 2, 3]}), tasks)
    with pytest.raises(LabelError, match="'y' were numbers at fit .*; these are text"):
        encode_targets(pd.DataFrame({"y": ["1", "2", None]}), tasks, classes=fitted.classes)


def test_mixed_classes_that_cannot_be_compared() -> None:
    targets = encode_targets(pd.DataFrame({"y": ["b", 1, None, "a"]}, dtype=object), [Task("y", "multiclass")])
    assert targets.classes["y"].tolist() == [1, "a", "b"]
    np.testing.assert_equal(targets.view("y"), [2, 0, NAN, 1])


def test_spelling_out_makes_the_positive_class_explicit() -> None:
    tasks = spell_out(None, pd.DataFrame({"buy": ["no", "yes"], "ok": [True, False], "way": ["a", "a"]}))
    assert [(task.name, task.positive) for task in tasks] == [("buy", "yes"), ("ok", True), ("way", None)]
    only_no = encode_targets(pd.DataFrame({"buy": ["no", "no"]}), tasks[:1])
    assert only_no.view("buy").tolist() == [0, 0]


def test_decoded_labels_are_encoded_alike() -> None:
    Y = pd.DataFrame(
        {
            "text": ["y", "n", None, "y"],
            "positive": ["n", "p", "p", None],
            "alone": [7, 7, np.nan, 7],
            "none": [0, 0, 0, 0],
            "soft": [0.3, 0.7, np.nan, 1.0],
            "way": ["x", None, "z", "y"],
            "way_alone": ["q", "q", None, "q"],
            "visits": [0, 2, 5, np.nan],
            "child": ["b", None, "a", "a"],
        }
    )
    tasks = [Task(name, "binary") for name in ("text", "alone", "none")]
    tasks += [Task("positive", "binary", positive="n"), Task("soft", "binary", loss="kl"), Task("visits", "count")]
    tasks += [Task("way", "multiclass"), Task("way_alone", "multiclass"), Task("child", "binary", given="text")]
    targets = encode_targets(Y, tasks)
    for again in (
        encode_targets(decode_targets(targets), tasks, classes=targets.classes),
        encode_targets(decode_targets(targets), tasks),
    ):
        np.testing.assert_equal(again.entire, targets.entire)
        np.testing.assert_equal(again.conditional, targets.conditional)
    decoded = decode_targets(targets)
    assert decoded["text"].tolist()[:2] == ["y", "n"]
    assert decoded["alone"].tolist()[:2] == [7, 7]
    assert decoded["way"].isna().tolist() == [False, True, False, False]
    unseen = encode_targets(Y.assign(way="new"), tasks, classes=targets.classes)
    assert decode_targets(unseen)["way"].isna().all()


def test_targets_know_their_place() -> None:
    Y = pd.DataFrame({"a": [0, 1, 1], "b": [1.0, 2.0, 3.0]})
    targets = encode_targets(Y, [Task("b", "regression"), Task("a", "binary")])
    assert targets.position("a") == 1
    assert targets.take(np.array([2, 0])).view("b").tolist() == [3.0, 1.0]
    assert targets.form.is_frame
    assert encode_targets([0, 1], [Task("a", "binary")]).form.is_1d
    with pytest.raises(ValueError, match='space must be "entire" or "conditional"'):
        targets.view("a", "whole")


def test_decoded_labels_keep_the_names_of_their_rows() -> None:
    X = pd.DataFrame({"x": [0, 1, 2]}, index=["c", "a", "b"])
    targets = encode_targets([1, 0, 1], [CLICK]).of_rows(X)
    assert decode_targets(targets).index.tolist() == ["c", "a", "b"]
    assert decode_targets(targets.take(np.array([2, 0]))).index.tolist() == ["b", "c"]
    assert decode_targets(encode_targets([1, 0, 1], [CLICK])).index.tolist() == [0, 1, 2]


def test_messages_show_numbers_as_they_are_written() -> None:
    targets = encode_targets(pd.DataFrame({"y": [0, 1]}), (Task("y", "binary"),))
    with pytest.raises(LabelError, match=r"has the label 7 \(1 rows\)"):
        encode_targets(pd.DataFrame({"y": [0, 7]}), (Task("y", "binary"),), classes=targets.classes)
    with pytest.raises(LabelError, match=r"the first is -1 \(row 12\)"):
        encode_targets(pd.DataFrame({"y": [0, -1]}, index=[3, 12]), (Task("y", "count"),))


def test_a_query_that_is_not_there_is_told_as_a_query() -> None:
    with pytest.raises(RoleError, match="The query column 'list' is needed"):
        group_codes(pd.DataFrame({"x": [1.0]}), Task("y", "ranking", query=("x", "list")))


@pytest.mark.parametrize("label", [
    pd.Series([0, 1, 0, 1] * 10), pd.Series([True, False, True, False] * 10), pd.Series([1.5, 2.5, 0.0, np.nan] * 10),
    pd.Series(["a", "b", "c", None] * 10), pd.Series(["a", "b", "c", None] * 10, dtype="category"),
    pd.Series([0, 1, None, 1] * 10, dtype="Int64"),
])  # fmt: skip
def test_a_label_among_the_features_is_told(label: pd.Series) -> None:
    table = pd.DataFrame({"x": np.arange(40), "buy": label})
    model = PerTaskModel(learner="linear")
    with pytest.warns(LeakedLabelWarning, match=r"'buy'.*X.drop\(columns=\['buy'\]\)"):
        model.fit(table, table[["buy"]])
    other = table["x"] % 3 / 2 if label.dtype == float else label.sample(frac=1, random_state=0, ignore_index=True)
    for X in (table[["x"]], table.assign(buy=other), table.rename(columns={"buy": "cart"})):
        model.fit(X, table[["buy"]])


def test_equal_labels_are_held_once() -> None:
    tasks = [Task("buy", "binary"), Task("spend", "regression", given="buy")]
    Y = pd.DataFrame({"buy": [0.0, 1.0, 1.0, np.nan], "spend": [np.nan, 2.0, np.nan, np.nan]})
    first = encode_targets(Y, tasks)
    assert encode_targets(Y.copy(), tasks).shared_with(first) is first
    others = (
        encode_targets(Y.assign(spend=[np.nan, 3.0, np.nan, np.nan]), tasks),
        encode_targets(Y[["buy"]], tasks[:1]),
        encode_targets(Y.to_numpy(), tasks),
        encode_targets(Y.set_axis(list("abcd")), tasks),
        encode_targets(Y[:3], tasks),
    )
    for other in others:
        assert other.shared_with(first) is other
    texts = pd.DataFrame({"buy": ["b", "a"]})
    named = [encode_targets(texts.replace(old), [Task("buy", "multiclass")]) for old in ({}, {"b": "c"})]
    assert named[1].shared_with(named[0]) is named[1]  # the same codes of other classes
