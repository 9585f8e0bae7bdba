"""Progress of a fit, told to scikit-learn's callbacks: ``estimator.set_callbacks(ProgressBar())``.

A fit is a tree of tasks. Its leaves are fits of other estimators; where one of those supports callbacks, its own tree
takes the leaf's place. Without callbacks nothing is told, pickled or timed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from copy import copy
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from sklearn.base import clone
from sklearn.callback import CallbackSupportMixin
from sklearn.callback import with_callbacks as untyped_with_callbacks

__all__ = ["SILENT", "Progress", "Tracked", "settings_of", "tell", "with_callbacks"]

Fit = TypeVar("Fit", bound=Callable[..., Any])


def with_callbacks(fit: Fit) -> Fit:
    """scikit-learn's decorator, with the types that it lacks."""
    return cast("Fit", untyped_with_callbacks(fit))


class Tracked(CallbackSupportMixin):
    """Base of estimators whose ``fit``, decorated by ``with_callbacks``, tells callbacks how far it is."""

    def _begin(self, n_parts: int | None, X: Any, Y: Any) -> Progress:
        """The whole fit, of so many parts (None: not known before); its last line is ``progress.end(X, Y)``."""
        if not getattr(self, "_skl_callbacks", None):
            return SILENT
        root = self._init_callback_context(max_subtasks=n_parts)
        root.call_on_fit_task_begin(estimator=self, X=X, y=Y)
        return Progress(self, root)


@dataclass(frozen=True)
class Progress:
    """A task of an estimator's fit; it can be sent to other processes.

    Attributes
    ----------
    owner : estimator or None
    context : CallbackContext or None
        None where there is nobody to tell.
    """

    owner: Any
    context: Any

    def end(self, X: Any, Y: Any) -> None:
        """The whole fit is done."""
        if self.context is not None:
            self.context.call_on_fit_task_end(estimator=self.owner, X=X, y=Y)

    @contextmanager
    def part(self, name: str, n_steps: int) -> Iterator[Progress]:
        """The next part of a fit, of so many steps in any order: begun on entering, ended on leaving."""
        if self.context is None:
            yield self
            return
        context = self.context.subcontext(name, max_subtasks=n_steps, sequential_subtasks=False)
        context.call_on_fit_task_begin(estimator=self.owner)
        yield Progress(self.owner, context)
        context.call_on_fit_task_end(estimator=self.owner)

    def steps(self, numbers: Iterable[int], name: str = "fit") -> list[Progress]:
        """Steps of a part, by their numbers."""
        if self.context is None:
            return [self for _ in numbers]
        return [Progress(self.owner, self.context.subcontext(name, task_id=k)) for k in numbers]

    @contextmanager
    def fitting(self, model: Any = None) -> Iterator[None]:
        """A step, the fit of a model: told of begin and end, by the model itself where it supports callbacks."""
        if self.context is None:
            yield
            return
        with ExitStack() as stack:
            if hasattr(model, "set_callbacks"):
                stack.enter_context(self.context.propagate_callback_context(model))
            self.context.call_on_fit_task_begin(estimator=self.owner)
            yield
        self.context.call_on_fit_task_end(estimator=self.owner)

    def __getstate__(self) -> dict[str, Any]:
        """What a worker needs: the way to the root, without what lies beside it."""
        if self.context is None:
            return {"owner": None, "context": None}
        own = copy(self.owner)
        for name in ("_callback_fit_ctx", "_skl_callbacks_to_teardown"):
            own.__dict__.pop(name, None)
        return {"owner": own, "context": _alone(self.context)}


SILENT = Progress(None, None)


def tell(progress: Progress, fit: Callable[..., Any], *args: Any) -> Any:
    """Call a cached function, whose last argument is ``progress``: it makes a step of it unless its result is kept."""
    if progress.context is not None and fit.check_call_in_cache(*args, progress):  # type: ignore[attr-defined]
        with progress.fitting():
            return fit(*args, progress)
    return fit(*args, progress)


def _alone(context: Any) -> Any:
    """A copy of a task and its ancestors, without their other children."""
    own = copy(context)
    own._children_map = {}
    own.parent = None if context.parent is None else _alone(context.parent)
    return own


def settings_of(estimator: Any) -> Any:
    """A clone to be hashed: callbacks and numbers of threads, which change no result, are not in it."""
    model = clone(estimator)
    parts: Sequence[Any] = [model, *model.get_params(deep=True).values()]
    for part in parts:
        if hasattr(part, "set_callbacks") and not isinstance(part, type):
            part.set_callbacks()
    return model.set_params(**{name: None for name in model.get_params() if name.split("__")[-1] == "n_jobs"})
