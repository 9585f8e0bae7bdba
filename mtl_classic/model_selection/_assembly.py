"""What the models of the folds predicted, laid into one table of all rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mtl_classic._core.exceptions import FoldError
from mtl_classic._core.labels import sorted_classes
from mtl_classic._core.validation import row_index
from mtl_classic.model_selection._folds import FoldPlan, Rows

__all__ = ["assemble"]

Array = npt.NDArray[Any]


def assemble(parts: list[Any], plan: FoldPlan, X: Any, models: list[Any]) -> Any:
    """An array, a frame, or a list of arrays of n rows: by column name, or class, where there are any.

    Parameters
    ----------
    parts : list of what each fold's model predicts
    plan : FoldPlan
    X : table of shape (n, n_features)
    models : list of fitted models
        For the classes of probabilities: a fold may lack some, which have probability 0 there. Empty for all else.
    """
    tests = [test for _, test in plan.splits]
    if isinstance(parts[0], pd.DataFrame):
        return _lay_frames(parts, tests, plan.n_rows, row_index(X))
    classes = [_classes(model) for model in models]
    if isinstance(parts[0], list):
        return [
            _lay(_aligned([part[k] for part in parts], [known[k : k + 1] for known in classes]), tests, plan.n_rows)
            for k in range(len(parts[0]))
        ]
    return _lay(_aligned([np.asarray(part) for part in parts], classes), tests, plan.n_rows)


def _lay_frames(parts: list[pd.DataFrame], tests: list[Rows], n: int, index: pd.Index) -> pd.DataFrame:
    columns = list(dict.fromkeys(column for part in parts for column in part.columns))
    if all(pd.api.types.is_numeric_dtype(dtype) for part in parts for dtype in part.dtypes):
        arrays = [part.reindex(columns=columns, fill_value=0.0).to_numpy(dtype=np.float64) for part in parts]
        return pd.DataFrame(_lay(arrays, tests, n), columns=columns, index=index)
    labels = {name: _lay([part[name].to_numpy() for part in parts], tests, n) for name in columns}
    return pd.DataFrame(labels, index=index)


def _lay(parts: list[Array], tests: list[Rows], n: int) -> Array:
    widths = [part.shape[1:] for part in parts]
    if len(set(widths)) > 1:
        raise FoldError(
            f"The folds' models predict arrays of the shapes {', '.join(map(str, dict.fromkeys(widths)))} by row: the "
            f'training rows of some lack a class. With method="predict_proba" it has probability 0 there.'
        )
    kinds = {part.dtype.kind for part in parts}
    dtype: Any = object
    if kinds <= set("fc"):
        dtype = np.result_type(*parts)
    elif kinds <= set("biuf"):
        dtype = np.float64
    out = np.full((n, *parts[0].shape[1:]), np.nan, dtype=dtype)
    for part, test in zip(parts, tests, strict=True):
        out[test] = part
    return out


def _classes(model: Any) -> list[Any]:
    """The classes of each classification task; none where a model does not say."""
    model = getattr(model, "best_estimator_", model)
    final = model.steps[-1][1] if hasattr(model, "steps") else model
    if hasattr(final, "classes_map_"):
        return [final.classes_map_[task.name] for task in final.tasks_ if task.is_classification]
    known = getattr(final, "classes_", [])
    return known if isinstance(known, list) else [known]


def _aligned(parts: list[Array], classes: list[list[Any]]) -> list[Array]:
    """Probabilities of one task with a column per class of any fold; all else as it is."""
    if not classes or _same(classes):
        return parts
    if any(
        len(known) != 1 or known[0] is None or part.shape[1:] != (len(known[0]),)
        for part, known in zip(parts, classes, strict=True)
    ):
        return parts
    union = pd.Index(sorted_classes(pd.unique(np.concatenate([known[0] for known in classes]))))
    aligned = [np.zeros((len(part), len(union)), dtype=part.dtype) for part in parts]
    for whole, part, known in zip(aligned, parts, classes, strict=True):
        whole[:, union.get_indexer(pd.Index(known[0]))] = part
    return aligned


def _same(classes: list[list[Any]]) -> bool:
    """Whether all folds know the same classes, in the same order."""
    first = [np.asarray(known).tolist() for known in classes[0]]
    return all([np.asarray(known).tolist() for known in other] == first for other in classes[1:])
