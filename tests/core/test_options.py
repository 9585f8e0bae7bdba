"""What an option may be: refused by its name, by type or by value."""

from typing import Any, ClassVar

import numpy as np
import pytest

from mtl_classic._core.options import (
    COLUMNS,
    COUNT,
    FINITE,
    FOLDS,
    NOT_NEGATIVE,
    SHARE_OR_ALL,
    TRUTH,
    Option,
    check_option,
    check_options,
)
from mtl_classic.model_selection import Temporal


@pytest.mark.parametrize(
    ("allowed", "value"),
    [
        (TRUTH, True), (TRUTH, np.bool_(False)), (COUNT, np.int64(3)), (COUNT, np.uint8(1)), ((COUNT, None), None),
        (FINITE, np.float32(0)), (FINITE, 0), (NOT_NEGATIVE, np.inf), (SHARE_OR_ALL, 1), (COLUMNS, ()),
        (COLUMNS, np.array(["a"])), (COLUMNS, {"a"}), (("a", "b"), "b"), ((TRUTH, "auto"), "auto"), (FOLDS, 5),
        (FOLDS, np.int64(5)), (FOLDS, Temporal(2)), (FOLDS, iter([])), (FOLDS, np.zeros(3)),
        ((FOLDS, "prefit"), "prefit"),
    ],
)  # fmt: skip
def test_what_is_allowed(allowed: Option, value: Any) -> None:
    check_option("it", value, allowed)


@pytest.mark.parametrize(
    ("allowed", "value", "error", "words"),
    [
        (TRUTH, "no", TypeError, "True or False, got 'no'"),
        (TRUTH, 1, TypeError, "True or False, got 1"),
        (TRUTH, None, TypeError, "True or False, got None"),
        (COUNT, 0, ValueError, "an integer of at least 1, got 0"),
        (COUNT, True, TypeError, "an integer of at least 1, got True"),
        (COUNT, 2.0, TypeError, "an integer of at least 1, got 2.0"),
        ((COUNT, None), "a", TypeError, "an integer of at least 1 or None, got 'a'"),
        ((COUNT, "auto"), "a", ValueError, "an integer of at least 1 or \"auto\", got 'a'"),
        (FINITE, np.nan, ValueError, "a finite number of at least 0, got nan"),
        (FINITE, np.inf, ValueError, "a finite number of at least 0, got inf"),
        (COLUMNS, "user", TypeError, "a list of column names, got 'user'"),
        (COLUMNS, None, TypeError, "a list of column names, got None"),
        (("a", "b", None), "c", ValueError, '"a", "b" or None, got \'c\''),
        (("a", "b"), np.arange(2), TypeError, '"a" or "b", got array'),
        (FOLDS, "x", TypeError, "an int, a splitter, .* got 'x'"),
        (FOLDS, 2.5, TypeError, "an int, a splitter, .* got 2.5"),
    ],
)
def test_what_is_refused(allowed: Option, value: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=f"^it must be {words}"):
        check_option("it", value, allowed)


def test_a_class_says_more_than_its_base_and_otherwise() -> None:
    class Base:
        _options: ClassVar[dict[str, Option]] = {"a": COUNT, "b": TRUTH, "absent": COUNT}

        def __init__(self) -> None:
            self.a: Any = "no"
            self.b: Any = True

    class Child(Base):
        _options: ClassVar[dict[str, Option]] = {"a": ("no",)}

    check_options(Child())
    with pytest.raises(TypeError, match="a must be an integer"):
        check_options(Base())
    child = Child()
    child.b = 3
    with pytest.raises(TypeError, match="b must be True or False, got 3"):
        check_options(child)
