"""Options as users write them: what each may be, said once, and refused by its name."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np

__all__ = [
    "COLUMN", "COLUMNS", "COUNT", "COUNT_OR_0", "FINITE", "FINITE_POSITIVE", "FOLDS", "FUNCTION", "INTEGER", "MAPPING",
    "METRIC", "NOT_NEGATIVE", "NUMBER", "POSITIVE", "SECONDS", "SHARE", "SHARE_OR_0", "SHARE_OR_ALL", "TASK", "TRUTH",
    "TWO_OR_MORE", "Kind", "Option", "check_option", "check_options", "list_of",
]  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """Values of an option: in words, by their type, and by what holds for those that are allowed."""

    words: str
    is_type: Callable[[Any], bool]
    holds: Callable[[Any], bool] = lambda value: True


Option = Kind | str | None | tuple[Kind | str | None, ...]  # a text and None stand for themselves


def _is(kind: Any, *, but: Any = ()) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, kind) and not isinstance(value, but)


def _is_list(value: Any) -> bool:
    return isinstance(value, Collection) and not isinstance(value, str | bytes | Mapping)


def _is_folds(value: Any) -> bool:
    return _is_integer(value) or _is_list(value) or isinstance(value, Iterator) or _is_splitter(value)


def _is_splitter(value: Any) -> bool:
    return not isinstance(value, str | bytes) and (hasattr(value, "split") or hasattr(value, "n_splits"))


_is_integer, _is_number = _is(Integral, but=bool), _is(Real, but=bool)  # truth values are no numbers


def list_of(what: str) -> Kind:
    """A list, tuple, set or array of such values."""
    return Kind(f"a list of {what}", _is_list)


INTEGER = Kind("an integer", _is_integer)
TRUTH = Kind("True or False", _is(bool | np.bool_))
COUNT_OR_0 = Kind("an integer of at least 0", _is_integer, lambda value: value >= 0)
COUNT = Kind("an integer of at least 1", _is_integer, lambda value: value >= 1)
TWO_OR_MORE = Kind("an integer of at least 2", _is_integer, lambda value: value >= 2)
NUMBER = Kind("a number", _is_number, lambda value: value == value)
NOT_NEGATIVE = Kind("a number of at least 0", _is_number, lambda value: value >= 0)
SECONDS = Kind("a number of seconds of at least 0", _is_number, lambda value: value >= 0)
POSITIVE = Kind("a positive number", _is_number, lambda value: value > 0)
FINITE = Kind("a finite number of at least 0", _is_number, lambda value: 0 <= value < np.inf)
FINITE_POSITIVE = Kind("a positive finite number", _is_number, lambda value: 0 < value < np.inf)
SHARE = Kind("a number above 0 and below 1", _is_number, lambda value: 0 < value < 1)
SHARE_OR_0 = Kind("a number of at least 0 and below 1", _is_number, lambda value: 0 <= value < 1)
SHARE_OR_ALL = Kind("a number above 0 and of at most 1", _is_number, lambda value: 0 < value <= 1)
MAPPING = Kind("a dict", _is(Mapping))
COLUMN = Kind("the name of a column", _is(str))
COLUMNS = list_of("column names")
METRIC = Kind("the name of a metric", _is(str))
TASK = Kind("the name of a task", _is(str))
FUNCTION = Kind("a function", callable)
FOLDS = Kind("an int, a splitter, Temporal(...), a list of (train, test) pairs or an array of fold numbers", _is_folds)


def check_option(name: str, value: Any, allowed: Option) -> None:
    """Refuse a value that an option does not take.

    Raises
    ------
    TypeError
        If no kind that is allowed has values of its type.
    ValueError
        If it is of a right type, but out of range or an unknown text.
    """
    ways = allowed if isinstance(allowed, tuple) else (allowed,)
    kinds = [way for way in ways if isinstance(way, Kind)]
    right = [kind for kind in kinds if kind.is_type(value)]
    texts = [way for way in ways if isinstance(way, str)]
    is_text = isinstance(value, str)
    if any(kind.holds(value) for kind in right) or (value is None and None in ways) or (is_text and value in texts):
        return
    *others, last = [way.words if isinstance(way, Kind) else f'"{way}"' if way else "None" for way in ways]
    words = f"{', '.join(others)} or {last}" if others else last
    error = ValueError if right or (texts and is_text) else TypeError
    raise error(f"{name} must be {words}, got {value!r}.")


def check_options(owner: Any) -> None:
    """Refuse the options of an estimator that are not what it and its bases say in ``_options``: name -> `Option`."""
    allowed = ChainMap(*(vars(base).get("_options", {}) for base in type(owner).__mro__))
    for name, ways in allowed.items():
        if name in vars(owner):  # a role may also be a property: that of a member
            check_option(name, vars(owner)[name], ways)
