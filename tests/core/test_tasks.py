"""Tasks: what may be asked for, how kinds are guessed, and in which order a funnel is fitted."""

from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from scipy.sparse import csr_matrix

from mtl_classic import LabelError, Task, TaskError, infer_tasks
from mtl_classic._core.targets import encode_targets
from mtl_classic._core.tasks import fitting_order, label_frame, resolve_tasks


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("", "binary"), "non-empty string"),
        (("buy", "clicks"), "unknown kind 'clicks'; expected one of binary, multiclass"),
        (("buy", "binary", {"loss": "poisson"}), "allows log_loss, kl"),
        (("buy", "count", {"positive": 1}), "positive= is for binary tasks only"),
        (("rank", "ranking"), "needs query="),
        (("buy", "binary", {"given": "buy"}), "itself as its parent"),
    ],
)
def test_a_task_that_makes_no_sense_is_refused(arguments: tuple, says: str) -> None:
    *names, options = arguments if isinstance(arguments[-1], dict) else (*arguments, {})
    with pytest.raises(TaskError, match=says):
        Task(*names, **options)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([True, False, True], "binary"),
        ([0, 1, None], "binary"),
        (["no", "yes", None], "binary"),
        ([3, 8, 3], "binary"),
        ([0, 0, 0], "binary"),
        (["a", "b", "c"], "multiclass"),
        (pd.Categorical([1, 2, 3]), "multiclass"),
        ([0.5, 1.0, 2.5], "regression"),
        (pd.array([True, None, False], dtype="boolean"), "binary"),
    ],
)
def test_kinds_are_inferred(values: object, kind: str) -> None:
    assert [task.kind for task in infer_tasks(pd.DataFrame({"y": values}))] == [kind]


def test_other_integers_are_refused_with_the_choices() -> None:
    with pytest.raises(TaskError, match=r'integer labels stars, n: they could be .*tasks=."stars": "count"'):
        infer_tasks(pd.DataFrame({"stars": [1, 2, 3], "n": [0, 4, 9], "buy": [0, 1, 0]}))


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (pd.date_range("2024", periods=3), "'y' holds datetime64.* is no label"),
        (pd.to_timedelta([1, 2, 3], unit="D"), "'y' holds timedelta64"),
        (pd.period_range("2024", periods=3, freq="M"), "'y' holds period"),
        ([[1], [2], [3]], "'y' holds lists"),
    ],
)
def test_what_is_no_label_is_called_by_its_name(values: object, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        infer_tasks(pd.DataFrame({"y": values}))
    with pytest.raises(TaskError, match="Y has no columns"):
        infer_tasks(pd.DataFrame(index=[0, 1]))


def test_labels_of_arrow_types_are_those_of_pandas() -> None:
    numbers = [Decimal("1.50"), None, Decimal("3.00"), Decimal("2.25")]
    prices = pd.array(numbers, dtype=pd.ArrowDtype(pa.decimal128(5, 2)))
    words = pd.array(["a", "b", None, "c"], dtype=pd.ArrowDtype(pa.dictionary(pa.int8(), pa.string())))
    frame = pd.DataFrame({"price": prices, "word": words})
    tasks = infer_tasks(frame)
    assert [task.kind for task in tasks] == ["regression", "multiclass"]
    targets = encode_targets(frame, tasks)
    np.testing.assert_array_equal(targets.view("price"), [1.5, np.nan, 3, 2.25])
    np.testing.assert_array_equal(targets.view("word"), [0, 1, np.nan, 2])


def test_a_task_without_any_label_is_refused_by_name() -> None:
    with pytest.raises(TaskError, match="'buy' has no label at all; leave it out"):
        infer_tasks(pd.DataFrame({"buy": [None, np.nan, None]}))


def test_labels_become_a_frame_whatever_they_come_in() -> None:
    assert list(label_frame(np.zeros((3, 2)))) == ["y0", "y1"]
    assert list(label_frame([0, 1])) == ["y0"]
    assert list(label_frame(pd.Series([0, 1], name="buy"))) == ["buy"]
    assert list(label_frame(pl.DataFrame({"buy": [0, 1]}))) == ["buy"]
    assert list(label_frame(pd.DataFrame({3: [0], 7: [1]}))) == ["3", "7"]
    with pytest.raises(ValueError, match="1-D or 2-D"):
        label_frame(np.zeros((2, 2, 2)))
    with pytest.raises(TaskError, match="unique names; repeated: buy"):
        label_frame(pd.DataFrame([[0, 1]], columns=["buy", "buy"]))


@pytest.mark.parametrize(
    ("labels", "says"),
    [({"a": [0, 1]}, "a dict"), (csr_matrix([[0, 1]]), "a csr_matrix"), (np.zeros((2, 2, 2)), "3 dimensions")],
)
def test_labels_that_are_no_table_are_called_what_they_are(labels: object, says: str) -> None:
    with pytest.raises(ValueError, match=f"1-D or 2-D array.*got {says}"):
        label_frame(labels)


def test_resolving_checks_the_whole() -> None:
    a, b = Task("a", "binary"), Task("b", "binary", given="a")
    assert resolve_tasks([a, b], None) == (a, b)
    assert resolve_tasks({"a": "binary"}, None) == (a,)
    with pytest.raises(TaskError, match="unique; repeated: a"):
        resolve_tasks([a, a], None)
    with pytest.raises(TaskError, match="given 'a', which is none of the tasks: b"):
        resolve_tasks([b], None)
    with pytest.raises(TaskError, match="tasks is empty"):
        resolve_tasks([], None)
    with pytest.raises(TypeError, match="must hold Task objects or be a dict name -> kind, got str"):
        resolve_tasks(["a"], None)  # type: ignore[list-item]
    with pytest.raises(TypeError, match=r"a dict gives names their kinds, got a Task for 'a'; put Tasks into a list"):
        resolve_tasks({"a": a}, None)  # type: ignore[dict-item]
    with pytest.raises(TypeError, match="got the single one 'a'; put it into a list"):
        resolve_tasks(a, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("parent", "given", "says"),
    [
        (Task("p", "multiclass"), "p", r"say under which class: given=\('p', class\)"),
        (Task("p", "regression"), "p", "a parent is binary or multiclass"),
        (Task("p", "binary"), ("p", 1), "write given='p'"),
        (Task("p", "binary", loss="kl"), "p", "a parent needs hard labels"),
    ],
)
def test_parents_that_have_no_positive_class_are_refused(parent: Task, given: object, says: str) -> None:
    with pytest.raises(TaskError, match=says):
        fitting_order([parent, Task("c", "binary", given=given)])  # type: ignore[arg-type]


def test_parents_come_before_children_and_cycles_are_refused() -> None:
    chain = [Task("c", "count", given="b"), Task("b", "binary", given="a"), Task("z", "binary"), Task("a", "binary")]
    assert [task.name for task in fitting_order(chain)] == ["z", "a", "b", "c"]
    with pytest.raises(TaskError, match="form a cycle among: a, b"):
        fitting_order([Task("a", "binary", given="b"), Task("b", "binary", given="a")])


def test_missing_labels_of_a_list_with_text_stay_missing() -> None:
    labels = ["a", np.nan, "b", "a", None]
    assert label_frame(labels)["y0"].isna().tolist() == [False, True, False, False, True]
    two = label_frame([["a", 0.3], ["b", 1.25], [np.nan, 7.5]])
    assert [task.kind for task in infer_tasks(two)] == ["binary", "regression"]
    with pytest.raises(LabelError, match="2 labels 'nan'.*dtype=object"):
        label_frame(np.array(["a", np.nan, "b", np.nan]))


def test_a_series_without_a_name_is_y0() -> None:
    assert list(label_frame(pd.Series([0, 1], name="")).columns) == ["y0"]
    assert list(label_frame(pl.Series([0, 1])).columns) == ["y0"]


@pytest.mark.parametrize(
    ("labels", "positive"),
    [
        (pd.Categorical(["small", "large"], ["small", "large"], ordered=True), "large"),
        (pd.Categorical(["small", "large"], ["large", "small", "none"], ordered=True), "small"),
        (pd.Categorical(["small", "large"], ["small", "large"]), None),
        (pl.Series(["small", "large"], dtype=pl.Enum(["small", "large"])), "large"),
    ],
)
def test_the_later_of_two_ordered_categories_is_positive(labels: Any, positive: Any) -> None:
    frame = pl.DataFrame({"buy": labels}) if isinstance(labels, pl.Series) else pd.DataFrame({"buy": labels})
    one = labels if isinstance(labels, pl.Series) else pd.Series(labels, name="another")
    tasks: list[Any] = [None, {"buy": "binary"}, [Task("buy", "binary")]]
    assert [resolve_tasks(given, frame)[0].positive for given in tasks] == [positive] * 3
    assert resolve_tasks({"buy": "binary"}, one)[0].positive == positive
    assert resolve_tasks([Task("buy", "binary", positive="small")], frame)[0].positive == "small"
