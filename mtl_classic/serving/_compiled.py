"""A model for single requests: arrays and dictionaries in place of frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from mtl_classic._core.base import Scores
from mtl_classic.ensemble import AveragingEnsemble, CalibratedModel, StackingEnsemble
from mtl_classic.factorization import MultiTaskFactorizationMachine
from mtl_classic.learners._columns import Features
from mtl_classic.learners._flat_trees import FlatTrees, can_flatten
from mtl_classic.learners._flat_xgboost import FlatXGBoost, read_xgboost
from mtl_classic.learners._lightgbm import LightGBMFit
from mtl_classic.learners._protocol import ConstantFit
from mtl_classic.learners._xgboost import XGBoostFit
from mtl_classic.multitask import FunnelModel, PerTaskModel, SharedTreesModel
from mtl_classic.multitask._extra_forest import ExtraForest
from mtl_classic.serving._flat_forests import FlatExtraForest, FlatForests, is_flat_forest
from mtl_classic.serving._flat_linear import FlatLinear, is_flat_linear
from mtl_classic.serving._observe import OBSERVING, own_step, tell
from mtl_classic.serving._row_design import RowDesign
from mtl_classic.serving._row_steps import RowStep, compile_step
from mtl_classic.serving._row_values import Encoders, Row, Sources

__all__ = ["CompiledModel"]


class CompiledModel:
    """A fitted model as it was when compiled, for one row at a time; safe to share between threads.

    Made by `MultiTaskModel.compile_for_serving`. Trees of LightGBM, of XGBoost and of forests, linear models, history,
    and scores of factor models are read from arrays, averages, stacks and calibrations of them combined; learners,
    structures and steps of other kinds predict by themselves, from a frame of one row. `observe` tells it of new
    events.

    Parameters
    ----------
    model : MultiTaskModel
        Fitted on a frame.

    Attributes
    ----------
    as_of_ : time of the last event that it knows of, or None
    tasks_ : tuple of Task
    feature_names_in_ : ndarray of str
        What a row must have.

    Examples
    --------
    >>> from mtl_classic import MultiTaskModel, make_funnel
    >>> shop = make_funnel(2000, random_state=0)
    >>> model = MultiTaskModel(shop.tasks, **shop.roles, random_state=0).fit(shop.X, shop.Y, events=shop.events)
    >>> serving = model.compile_for_serving()
    >>> scores = serving.predict_scores({**shop.X.iloc[5]})
    >>> bool(scores["buy"] == model.predict_scores(shop.X.iloc[[5]])["buy"].iloc[0])
    True
    """

    def __init__(self, model: Any) -> None:
        names = getattr(model, "feature_names_in_", None)
        if names is None:
            raise ValueError("A row has names, so only a model that was fitted on a frame can be compiled for serving.")
        self.feature_names_in_ = names
        self.as_of_, self.tasks_ = model.as_of_, model.tasks_
        self._needed = frozenset(names)
        self._classes = model.classes_map_
        self._made_of = [own_step(step) for _, step in model.pipeline_.steps[:-1]]
        self._steps, sources = _compile_steps(self._made_of)
        self._scorer = _compile_scorer(model.pipeline_.steps[-1][1], Encoders(sources))

    def predict_scores(self, row: Mapping[str, Any], space: str = "entire") -> dict[str, float]:
        """Scores of all tasks for one row.

        Parameters
        ----------
        row : mapping of column to value
            Such as a dict, or a Series of a frame's row; further names are left out. None and NaN are missing.
        space : {"entire", "conditional"}, default="entire"

        Returns
        -------
        dict of task (``task=class`` for multiclass) to float
            Those of the model's ``predict_scores``.

        Raises
        ------
        TypeError
            If the row is none, but a frame or a list, or a value is of another type than at fit.
        ValueError
            If the row lacks a column, or a number is infinite.
        """
        if space not in ("entire", "conditional"):
            raise ValueError(f'space must be "entire" or "conditional", got {space!r}.')
        if not hasattr(row, "keys") or getattr(row, "ndim", 1) != 1:
            raise TypeError(
                f"A row maps columns to values, as a dict or a Series does; got {type(row).__name__}. "
                "Take one of a frame by {**frame.iloc[0]}; whole frames are for the model that was compiled."
            )
        if not self._needed.issubset(row.keys()):
            missing = [name for name in self.feature_names_in_ if name not in row]
            raise ValueError(f"The row lacks the columns {', '.join(missing)}; it has {', '.join(map(str, row))}.")
        state = Row(row)
        for step in self._steps:
            step.apply(state)
        return self._named(self._scorer.scores(state, space))

    def observe(self, events: Any, y: Any = None) -> Self:
        """Tell of new events: history and folded-in users move on, trees and everything else stay.

        The model that this was compiled from stays where it is; scores are those of that model after its own
        ``observe`` of the same events. Requests that run meanwhile in other threads see the old state or the new, never
        both; further calls wait.

        Parameters
        ----------
        events : EventLog or frame with the columns of the log
            As for the ``observe`` of the model.
        y : labels, default=None

        Returns
        -------
        self

        Notes
        -----
        Cost: a grouping of the whole log per key set, as in compiling (about a second per million events with the
        aggregates of "auto"); boosters are not read again. So tell it of many events at a time.
        """
        with OBSERVING:
            made_of = [own_step(step) for step in self._made_of]
            tell(made_of, events, y)
            steps, _ = _compile_steps(made_of)
            as_of = next((step.as_of_ for step in made_of if hasattr(step, "as_of_")), None)
            self._made_of, self._steps, self.as_of_ = made_of, steps, as_of  # all or nothing
        return self

    def _named(self, scores: Scores) -> dict[str, float]:
        named: dict[str, float] = {}
        for task in self.tasks_:
            values = scores[task.name]
            if task.kind != "multiclass":
                named[task.name] = float(values[0])
                continue
            for label, value in zip(self._classes[task.name], values[0], strict=True):
                named[f"{task.name}={label}"] = float(value)
        return named


def _compile_steps(steps: Sequence[Any]) -> tuple[list[RowStep], Sources]:
    """The steps for single rows, and where the columns that they add are."""
    sources: Sources = {}
    return [part for step in steps for part in compile_step(step, sources)], sources


class _Scorer(Protocol):
    def scores(self, row: Row, space: str) -> Scores: ...


def _compile_scorer(model: Any, encoders: Encoders) -> _Scorer:
    if type(model) in (PerTaskModel, FunnelModel) and model.columns_.all_names_ is not None:
        return _OfParts(model, encoders)
    if type(model) is SharedTreesModel and model.columns_.all_names_ is not None and _is_flat(model):
        return _OfExtraForest(model, encoders)
    if type(model) is MultiTaskFactorizationMachine and RowDesign.can_read(model._design.encoder):
        return _OfMachine(model, encoders)
    if type(model) is AveragingEnsemble:
        return _OfMembers(model, encoders)
    if type(model) is StackingEnsemble and model.passthrough_ is None:
        return _OfStack(model, encoders)
    if type(model) is CalibratedModel:
        return _Calibrated(model, encoders)
    return _OfFrame(model, encoders)


class _OfParts:
    """A structure of one fit per part over one encoding."""

    def __init__(self, model: Any, encoders: Encoders) -> None:
        self.model = model
        self.encoder = encoders.of(model.columns_)
        fits = model.fits_
        row = Features(np.zeros((1, 1), dtype=np.float32), ("x",), ())
        self.constant = {key: fit.predict(row) for key, fit in fits.items() if isinstance(fit, ConstantFit)}
        self.flat = [(keys, predict) for keys, predict in _flat_fits(fits) if keys]
        known = {*self.constant, *(key for keys, _ in self.flat for key in keys)}
        self.others = {key: fit for key, fit in fits.items() if key not in known}

    def scores(self, row: Row, space: str) -> Scores:
        values = self.encoder.encode(row)
        parts: dict[Any, npt.NDArray[np.float64]] = dict(self.constant)
        for keys, predict in self.flat:
            parts |= dict(zip(keys, predict(values), strict=True))
        if self.others:
            features = Features(values[None, :], self.encoder.names, self.encoder.categorical)
            parts |= {key: fit.predict(features, 1) for key, fit in self.others.items()}
        scores: Scores = self.model._combined({key: parts[key] for key in self.model.fits_}, space)
        return scores


def _flat_fits(fits: Mapping[Any, Any]) -> Iterator[tuple[list[Any], Callable[[Any], list[Any]]]]:
    """Of each family the keys of the fits that are read from arrays, and what gives their scores of a row."""
    by_lightgbm = [key for key, fit in fits.items() if type(fit) is LightGBMFit and can_flatten(fit.booster)]
    trees = FlatTrees([(fits[key].booster, fits[key].n_rounds) for key in by_lightgbm])
    yield by_lightgbm, lambda row: [np.array([score]) for score in trees.predict(row)]
    read = {key: read_xgboost(fit) for key, fit in fits.items() if type(fit) is XGBoostFit}
    by_xgboost = {key: found for key, found in read.items() if found is not None}
    yield list(by_xgboost), FlatXGBoost(list(by_xgboost.values())).predict
    forests = {key: fit for key, fit in fits.items() if is_flat_forest(fit)}
    yield list(forests), FlatForests(list(forests.values())).predict
    lines = {key: fit for key, fit in fits.items() if is_flat_linear(fit)}
    yield list(lines), FlatLinear(list(lines.values())).predict


def _is_flat(model: SharedTreesModel) -> bool:
    """Whether the trees are a forest that reads the features nearly as they are."""
    return isinstance(model.trees_, ExtraForest) and model.dense_.statistics_ is None


class _OfExtraForest:
    """A forest for all tasks, constants, and the tasks' own learners where they fell back to them."""

    def __init__(self, model: Any, encoders: Encoders) -> None:
        self.model = model
        self.encoder = encoders.of(model.columns_)
        self.forest = FlatExtraForest(model.trees_)

    def scores(self, row: Row, space: str) -> Scores:
        features = Features(self.encoder.encode(row)[None, :], self.encoder.names, self.encoder.categorical)
        matrix = np.asarray(self.model.dense_.transform(features), dtype=np.float32)
        parts = self.forest.predict(matrix[0])
        for fits in (self.model.constants_, self.model.fits_):
            parts |= {name: fit.predict(features, 1) for name, fit in fits.items()}
        scores: Scores = self.model._from_parts(parts, space)
        return scores


class _OfMachine:
    """A factorization machine of all tasks over the fields of a frame."""

    def __init__(self, model: Any, encoders: Encoders) -> None:
        self.model, self.design = model, RowDesign(model._design.encoder, encoders.sources)

    def scores(self, row: Row, space: str) -> Scores:
        scores: Scores = self.model._scores_of(self.design.matrix(row), space)
        return scores


class _OfMembers:
    """A weighted average."""

    def __init__(self, model: AveragingEnsemble, encoders: Encoders) -> None:
        self.model = model
        self.members = [_compile_scorer(member, encoders) for member in model.estimators_]
        self.weights = model._mixing()

    def scores(self, row: Row, space: str) -> Scores:
        return self.model._averaged([member.scores(row, "entire") for member in self.members], space, self.weights)


class _OfStack:
    """Combiners over the scores of members, without columns of the rows."""

    def __init__(self, model: StackingEnsemble, encoders: Encoders) -> None:
        self.model = model
        self.members = {name: _compile_scorer(member, encoders) for name, member in model.named_estimators_.items()}

    def scores(self, row: Row, space: str) -> Scores:
        members = {name: member.scores(row, "entire") for name, member in self.members.items()}
        return self.model._combined(members, None, space)


class _Calibrated:
    """Maps of the scores of another model."""

    def __init__(self, model: CalibratedModel, encoders: Encoders) -> None:
        self.model, self.inner = model, _compile_scorer(model.estimator_, encoders)

    def scores(self, row: Row, space: str) -> Scores:
        return self.model._mapped(lambda asked: self.inner.scores(row, asked), space)


class _OfFrame:
    """Any other model, by a frame of one row."""

    def __init__(self, model: Any, encoders: Encoders) -> None:
        self.model, self.sources = model, dict(encoders.sources)
        self.columns: Sequence[str] = list(model.feature_names_in_)

    def scores(self, row: Row, space: str) -> Scores:
        table = self.model._start_predict(row.frame(self.columns, self.sources))
        scores: Scores = self.model._scores(table, space)
        return scores
