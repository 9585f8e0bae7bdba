"""A LightGBM booster that is still text: LightGBM reads it when it is first asked for, and not before."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from threading import Lock
from typing import Any

import lightgbm as lgb

__all__ = ["TextBooster", "tree_sizes"]

_SIZES = re.compile(r"\ntree_sizes=([0-9 ]*)\n\n")
_READING = Lock()
_TEXT, _CHECK = "_text", "_check"


def tree_sizes(text: str) -> list[int] | None:
    """Characters of each tree, if the text is laid out as its head says; None if not, or if that can't be told.

    Cost: a look at the beginning of each tree.
    """
    found = _SIZES.search(text)
    if found is None or not text.isascii():
        return None
    sizes, at = [int(size) for size in found[1].split()], found.end()
    for k, size in enumerate(sizes):
        if not text.startswith(f"Tree={k}\n", at):
            return None
        at += size
    return sizes if text.startswith("end of trees\n", at) else None


def _checked(state: dict[str, Any]) -> str | None:
    """The text of a booster, None once LightGBM has read it."""
    text = state.get(_TEXT)
    check = None if text is None else state.get(_CHECK)
    if check is not None:
        check(text)
        state.pop(_CHECK, None)
    return text


class TextBooster(lgb.Booster):  # type: ignore[misc, unused-ignore]
    """A booster whose trees wait as text; the first method that needs them makes it an ordinary `lightgbm.Booster`.

    Predictions from flat arrays never do (`mtl_classic.learners._flat_trees`), so a model file is loaded without
    parsing its trees. Threads may share it: it is read once.

    Parameters
    ----------
    text : str
        Such that `tree_sizes` is a list.
    attributes : mapping
        What else Python keeps of a booster.
    check : callable, default=None
        Raises an error if the text is not to be followed; called with it before it is first read.
    """

    def __init__(self, text: str, attributes: Mapping[str, Any], check: Callable[[str], None] | None = None) -> None:
        self.__dict__.update(attributes, **{_TEXT: text} | ({} if check is None else {_CHECK: check}))

    def __getattr__(self, name: str) -> Any:
        if name != "_handle":  # the one attribute that is missing while the trees are text
            raise AttributeError(f"A Booster has no attribute {name!r}.")
        with _READING:
            text = _checked(self.__dict__)
            if text is not None:
                lgb.Booster.__setstate__(self, {"_handle": text})
                self.__class__ = lgb.Booster
                del self.__dict__[_TEXT]
        return self.__dict__["_handle"]

    def __del__(self) -> None:
        if _TEXT not in self.__dict__:
            super().__del__()

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        text = state.pop(_TEXT, None)
        return super().__getstate__() if text is None else state | {"_handle": text}

    def __setstate__(self, state: dict[str, Any]) -> None:
        attributes = dict(state)
        self.__dict__.update({_TEXT: attributes.pop("_handle")}, **attributes)

    def num_trees(self) -> int:
        """The number of trees, of all rounds and classes."""
        text = self.__dict__.get(_TEXT)
        return int(super().num_trees()) if text is None else len(tree_sizes(text) or ())

    def model_to_string(
        self, num_iteration: int | None = None, start_iteration: int = 0, importance_type: str = "split"
    ) -> str:
        """The text; where all of it is asked for, as it is."""
        text = _checked(self.__dict__)
        if text is not None and (num_iteration, start_iteration, importance_type) == (-1, 0, "split"):
            return text
        return str(super().model_to_string(num_iteration, start_iteration, importance_type))
