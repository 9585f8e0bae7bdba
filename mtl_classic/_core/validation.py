"""X, roles and weights: checked once, at the door."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import narwhals as nw
import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse
from sklearn.utils import check_array

from mtl_classic._core.arrow import as_known_type, frame_from_arrow, keep_long_integers
from mtl_classic._core.exceptions import RoleError
from mtl_classic._core.tasks import Task

__all__ = [
    "Events",
    "Table",
    "align_columns",
    "as_table",
    "check_events",
    "check_labels_of",
    "check_order",
    "check_sample_weight",
    "find_role",
    "n_rows",
    "register_columns",
    "resolve_roles",
    "role_values",
    "row_index",
    "take_over_columns",
    "take_rows",
    "with_index_of",
]

Table = Any  # pandas.DataFrame, 2-D ndarray or scipy CSR matrix


def as_table(X: Any) -> Table:
    """``X`` as a pandas frame, a 2-D array or a CSR matrix; nothing is copied that need not be.

    Parameters
    ----------
    X : frame (pandas, or any that narwhals reads, such as polars), array-like of shape (n, n_features), or sparse

    Raises
    ------
    TypeError
        On a lazy frame, or what is no table at all.
    ValueError
        On duplicated column names, infinite numbers, or the wrong number of dimensions.
    """
    if isinstance(X, pd.DataFrame):
        _check_frame(X)
        return frame_from_arrow(X)
    if sparse.issparse(X):
        return sparse.csr_matrix(  # boosters do not read the newer csr_array
            check_array(X, accept_sparse="csr", ensure_all_finite="allow-nan", ensure_min_samples=0)
        )
    if not isinstance(X, np.ndarray | list | tuple):
        native = nw.from_native(X, pass_through=True)
        if isinstance(native, nw.LazyFrame):
            raise TypeError(
                f"A {type(X).__name__} has no rows yet; expected a frame of rows: collect it, as by .collect()."
            )
        if isinstance(native, nw.DataFrame):
            frame = native.to_pandas()
            _check_frame(frame)
            gaps = [name for name, kind in native.schema.items() if kind.is_integer() and frame[name].dtype.kind == "f"]
            return frame_from_arrow(keep_long_integers(frame, native.select(gaps).to_arrow()) if gaps else frame)
        if isinstance(X, str | bytes | Mapping) or not (hasattr(X, "__array__") or hasattr(X, "__len__")):
            raise TypeError(
                f"Expected a frame, an array of shape (n, n_features) or a sparse matrix, got {type(X).__name__}."
            )
    return as_known_type(
        check_array(X, dtype=None, ensure_all_finite="allow-nan", ensure_min_samples=0, ensure_min_features=1)
    )


def _check_frame(frame: pd.DataFrame) -> None:
    names = [str(name) for name in frame.columns]  # as parts know columns and roles: 1 and "1" are one
    if len(set(names)) < len(names):
        repeated = dict.fromkeys(name for name in names if names.count(name) > 1)
        raise ValueError(f"Column names must be unique; repeated: {', '.join(repeated)}.")
    kinds = [dtype.kind for dtype in frame.dtypes]
    if "c" in kinds:
        complex_numbers = [str(name) for name, kind in zip(frame.columns, kinds, strict=True) if kind == "c"]
        raise ValueError(f"Complex data not supported: columns {', '.join(complex_numbers)}; give real numbers.")
    infinite = [
        str(name)
        for (name, column), kind in zip(frame.items(), kinds, strict=True)
        if kind == "f" and np.isinf(_plain(column)).any()
    ]
    if infinite:
        raise ValueError(
            f"Infinite values (infinity) in the columns {', '.join(infinite)}; "
            f"expected finite numbers, or NaN for missing."
        )


def _plain(column: pd.Series) -> npt.NDArray[Any]:
    """The numbers of a column; a copy only where they lie beside a mask."""
    return column.to_numpy() if isinstance(column.dtype, np.dtype) else column.to_numpy(np.float64, na_value=np.nan)


def n_rows(X: Table) -> int:
    """Number of rows of a table."""
    return int(X.shape[0])


def row_index(X: Table) -> pd.Index:
    """The names of the rows: a frame's index, else numbers from 0."""
    return X.index if isinstance(X, pd.DataFrame) else pd.RangeIndex(n_rows(X))


def check_labels_of(X: Table, labels: Any, sample_weight: Any = None) -> None:
    """Refuse labels of another number of rows, and labels or weights of the same rows in another order.

    Rows are matched by position. The order is told only by two indexes that somebody has made: not by numbers from 0.

    Parameters
    ----------
    X : table
    labels : sized, with an ``index`` where its rows have names
    sample_weight : array, Series or frame of n rows, default=None

    Raises
    ------
    ValueError
    """
    n = n_rows(X)
    if len(labels) != n:
        raise ValueError(
            f"X has {n} rows, but Y has {len(labels)}; expected the same number (inconsistent numbers of samples)."
        )
    check_order(X, Y=labels, sample_weight=sample_weight)


def check_order(rows: Any, /, of: str = "X", **given: Any) -> None:
    """Refuse what is given for each row, by its name, if its index is that of ``rows`` in another order."""
    one = getattr(rows, "index", None)
    for what, values in given.items():
        other = getattr(values, "index", None)
        if isinstance(one, pd.Index) and isinstance(other, pd.Index) and _in_another_order(one, other):
            raise ValueError(
                f"The rows of {what} are those of {of} in another order, by their indexes, and rows are matched by "
                f"position; sort them alike: {what}.loc[{of}.index]. If they belong together as they are, drop an "
                f"index: {what}.reset_index(drop=True)."
            )


def _in_another_order(one: pd.Index, other: pd.Index) -> bool:
    numbers = pd.RangeIndex(len(one))
    if len(one) != len(other) or one.equals(other) or one.equals(numbers) or other.equals(numbers):
        return False
    return bool(one.is_unique and other.is_unique and one.isin(other).all())


class Events:
    """What ``events=`` takes: base of the `EventLog`, which lives in a higher layer."""


def check_events(events: Any) -> None:
    """Refuse as ``events=`` what is no `EventLog`; None is none.

    Raises
    ------
    TypeError
    """
    if not isinstance(events, Events | None):
        raise TypeError(f"events must be an EventLog, got {type(events).__name__}; wrap the frame: EventLog(frame, …).")


def with_index_of(X: Table, given: Any, what: str = "Y") -> Any:
    """What is given for each row, with the index of X where both are of pandas: so that parts still tell the rows."""
    if not isinstance(X, pd.DataFrame) or not isinstance(given, pd.DataFrame | pd.Series):
        return given
    check_order(X, "X", **{what: given})
    return given.set_axis(X.index, axis=0)


def take_rows(X: Table, rows: npt.NDArray[Any]) -> Table:
    """Some rows of a table, frame or array, by position; consecutive rows of a frame are not copied."""
    if not hasattr(X, "iloc"):
        return X[rows]
    if len(rows) and rows.dtype.kind in "iu" and rows[-1] - rows[0] == len(rows) - 1 and (np.diff(rows) == 1).all():
        return X.iloc[int(rows[0]) : int(rows[-1]) + 1]
    return X.iloc[rows]


def register_columns(estimator: Any, X: Table) -> None:
    """Remember the columns of the fit, in scikit-learn's attributes."""
    estimator.n_features_in_ = X.shape[1]
    if isinstance(X, pd.DataFrame) and all(isinstance(name, str) for name in X.columns):
        estimator.feature_names_in_ = np.asarray(X.columns, dtype=object)
    elif hasattr(estimator, "feature_names_in_"):
        del estimator.feature_names_in_


def take_over_columns(estimator: Any, fitted: Any) -> None:
    """Read the columns that another estimator was fitted with."""
    estimator.n_features_in_ = fitted.n_features_in_
    if hasattr(fitted, "feature_names_in_"):
        estimator.feature_names_in_ = fitted.feature_names_in_
    elif hasattr(estimator, "feature_names_in_"):
        del estimator.feature_names_in_


def align_columns(estimator: Any, X: Table) -> Table:
    """The columns of the fit, in the order of the fit; further columns are left out.

    An array takes the names of the fit by position.

    Raises
    ------
    ValueError
        If columns of the fit are missing, or an array has another number of columns.
    """
    names = getattr(estimator, "feature_names_in_", None)
    if names is not None and isinstance(X, pd.DataFrame):
        missing = [name for name in names if name not in X.columns]
        if missing:
            raise ValueError(
                f"X lacks columns that {type(estimator).__name__} was fitted with: {', '.join(missing)}; "
                f"it has {', '.join(map(str, X.columns))}."
            )
        return X if list(X.columns) == list(names) else X[list(names)]
    if X.shape[1] != estimator.n_features_in_:
        raise ValueError(
            f"X has {X.shape[1]} features, but {type(estimator).__name__} is expecting "
            f"{estimator.n_features_in_} features as input"
        )
    return X if names is None or sparse.issparse(X) else pd.DataFrame(X, columns=list(names))


def find_role(columns: Iterable[Any], role: str | None, what: str, *, index: Iterable[Any] = ()) -> str | None:
    """The column that plays a role: an exact match, else the only column that ends in ``__name``.

    Parameters
    ----------
    columns : iterable of column names
    role : str or None
        The name that the user gave; None has no column.
    what : str
        "user", "item", "time", "query": for the error.
    index : iterable of names
        Of the levels of the index, for the error.

    Raises
    ------
    RoleError
        If there is no such column, or more than one.

    Examples
    --------
    >>> find_role(["num__price", "ids__user"], "user", "user")
    'ids__user'
    """
    if role is None:
        return None
    names = [str(column) for column in columns]
    if role in names:
        return role
    prefixed = [name for name in names if name.endswith(f"__{role}")]
    if len(prefixed) == 1:
        return prefixed[0]
    found = "several columns end in it: " + ", ".join(prefixed) if prefixed else "there is no such column"
    hint = " It is in the index; reset_index() makes a column of it." if role in index else ""
    raise RoleError(f"The {what} column {role!r} is needed, but {found}; the columns are {', '.join(names)}.{hint}")


def resolve_roles(X: Table, **roles: str | None) -> dict[str, str | None]:
    """Role name -> column name, for every role that the user gave; roles need a frame."""
    asked = {what: role for what, role in roles.items() if role is not None}
    if asked and not isinstance(X, pd.DataFrame):
        raise RoleError(
            f"The roles {', '.join(asked)} are column names, so X must be a frame with named columns, "
            f"got {type(X).__name__}."
        )
    return {
        what: None if role is None else find_role(X.columns, role, what, index=X.index.names)
        for what, role in roles.items()
    }


def role_values(X: Table, column: str | None) -> pd.Series | None:
    """The column of a role, or None."""
    return None if column is None else X[column]


def check_sample_weight(sample_weight: Any, tasks: Sequence[Task], n: int) -> npt.NDArray[np.float64] | None:
    """Weights per row and task.

    Parameters
    ----------
    sample_weight : array of shape (n,) or (n, n_tasks), frame with the tasks as columns, or None
    tasks : sequence of Task
    n : int
        Number of rows expected.

    Returns
    -------
    ndarray of shape (n, n_tasks), or None

    Raises
    ------
    ValueError
        On the wrong shape, missing columns, negative or non-finite weights, or weights that are all zero.
    """
    if sample_weight is None:
        return None
    names = [task.name for task in tasks]
    if hasattr(sample_weight, "to_pandas"):
        sample_weight = sample_weight.to_pandas()
    if isinstance(sample_weight, pd.DataFrame):
        missing = [name for name in names if name not in sample_weight.columns]
        if missing:
            raise ValueError(
                f"sample_weight lacks the columns of the tasks {', '.join(missing)}; "
                f"it has {', '.join(map(str, sample_weight.columns))}."
            )
        sample_weight = sample_weight[names]
    try:
        weights = np.asarray(sample_weight, dtype=np.float64)
    except (ValueError, TypeError) as error:
        raise ValueError(f"sample_weight must hold numbers, one per row or per row and task: {error}.") from None
    if weights.ndim == 0:
        weights = np.full(n, float(weights))
    if weights.shape not in ((n,), (n, len(names))):
        raise ValueError(f"sample_weight has the shape {weights.shape}; expected ({n},) or ({n}, {len(names)}).")
    if not np.isfinite(weights).all() or (weights < 0).any():
        raise ValueError(
            f"sample_weight must be finite and not negative; "
            f"{int((~np.isfinite(weights) | (weights < 0)).sum())} weights are not."
        )
    if n and not weights.any():
        raise ValueError("sample_weight is zero everywhere; at least one row needs a positive weight.")
    return np.broadcast_to(weights[:, None], (n, len(names))) if weights.ndim == 1 else weights
