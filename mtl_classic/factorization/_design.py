"""From what the user has, a frame, an array or a sparse matrix, to the matrix.

Fields and parts that a factorization machine reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse
from sklearn.utils.validation import validate_data

from mtl_classic._core.exceptions import RoleError
from mtl_classic._core.options import FINITE, MAPPING, check_option
from mtl_classic._core.validation import Table, align_columns, as_table, find_role, register_columns
from mtl_classic.factorization._problem import Interactions
from mtl_classic.factorization._scaling import ColumnScaler
from mtl_classic.preprocessing import FieldEncoder

Array = npt.NDArray[Any]
Fields = dict[Any, Array]


def input_form(X: Any) -> str:
    """What rows come as: "frame", "csr" (any sparse matrix) or "array"."""
    if sparse.issparse(X):
        return "csr"
    return "frame" if hasattr(X, "columns") else "array"


def read_table(estimator: Any, X: Any, *, reset: bool) -> Table:
    """Return X as a frame, or as a CSR matrix of finite numbers; learn (reset) or check its columns."""
    frame = X if isinstance(X, pd.DataFrame) else None
    if (
        frame is None
        and not isinstance(X, np.ndarray | list | tuple)
        and not sparse.issparse(X)
        and hasattr(X, "columns")
    ):
        frame = as_table(X)
    if frame is not None:
        frame = as_table(frame)
        if reset:
            refuse_empty(frame)
            register_columns(estimator, frame)
            return frame
        return align_columns(estimator, frame)
    matrix = validate_data(
        estimator, X, reset=reset, accept_sparse="csr", dtype=[np.float64, np.float32],
        ensure_min_samples=1 if reset else 0,
    )  # fmt: skip
    return one_entry_each(sparse.csr_matrix(matrix))


def one_entry_each(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    """Return a matrix that holds each number once and no zeros: kernels take entries for different columns."""
    if not matrix.has_canonical_format:
        matrix = matrix.copy()
        matrix.sum_duplicates()
    if (matrix.data == 0).any():
        matrix = matrix.copy()
        matrix.eliminate_zeros()
    return matrix


def refuse_empty(table: Table) -> None:
    """Refuse a table without rows to learn from."""
    if table.shape[0] == 0:
        raise ValueError(f"Found array with 0 sample(s) (shape={table.shape}) while a minimum of 1 is required.")


class Design:
    """How tables become rows of numbers, learnt at fit: encoder or scales, fields, parts."""

    def __init__(
        self, *, categorical: Sequence[str] = (), exclude: Sequence[str] = (), scale: bool = True,
        fields: Mapping[Any, Any] | None = None, groups: Mapping[Any, Any] | None = None, interactions: Any = "all",
    ) -> None:  # fmt: skip
        self.categorical, self.exclude, self.scale = categorical, exclude, scale
        self.given_fields, self.groups, self.pairs = fields, groups, interactions
        self.encoder: FieldEncoder | None = None
        self.scaler: ColumnScaler | None = None
        self.columns: list[Any] = []
        self.n_columns = 0

    def fit_transform(self, table: Table) -> sparse.csr_matrix:
        """Learn from a table and encode it."""
        if isinstance(table, pd.DataFrame):
            scale = "standard" if self.scale else None
            self.encoder = FieldEncoder(categorical=self.categorical, exclude=self.exclude, scale=scale)
            self.encoder.set_output(transform="default")  # CSR, whatever scikit-learn is configured to give to users
            self.columns = list(table.columns)
            matrix = self.encoder.fit_transform(table)
        else:
            self._refuse_names()
            matrix = table
            if self.scale:
                self.scaler = ColumnScaler().fit(table)
                matrix = self.scaler.transform(table)
        self.n_columns = matrix.shape[1]
        return matrix.astype(np.float32, copy=False)

    def _refuse_names(self) -> None:
        for name, given in (("categorical", self.categorical), ("exclude", self.exclude)):
            if len(given):
                raise RoleError(
                    f"{name}={list(given)} names columns, so X must be a frame; it is an array or a sparse matrix."
                )

    def transform(self, table: Table) -> sparse.csr_matrix:
        """Encode a table of the same columns."""
        if self.encoder is not None:
            if not isinstance(table, pd.DataFrame):
                table = pd.DataFrame(table.toarray(), columns=self.columns)
            return self.encoder.transform(table)
        if isinstance(table, pd.DataFrame):
            table = sparse.csr_matrix(table.to_numpy(dtype=np.float64))
        return (table if self.scaler is None else self.scaler.transform(table)).astype(np.float32, copy=False)

    def extend(self, table: Table) -> tuple[Design, sparse.csr_matrix]:
        """Return a design that has what a frame's new values need too, and the encoded rows; an array keeps its width.

        This one stays as it is, so that a fit that fails leaves it to the parameters that it belongs to.
        """
        extended = copy(self)
        if self.encoder is not None and isinstance(table, pd.DataFrame):
            extended.encoder = copy(self.encoder).partial_fit(table)
            extended.n_columns = extended.encoder.n_columns_
        return extended, extended.transform(table)

    def fields(self) -> Fields | None:
        """Return field → columns of the matrix, or None where nobody said."""
        if self.encoder is None:
            if self.given_fields is None:
                return None
            given = {name: self._positions(name, columns) for name, columns in self.given_fields.items()}
            _refuse_overlap({name: positions.tolist() for name, positions in given.items()})
            return given
        own: Fields = dict(self.encoder.fields_)
        if self.given_fields is None:
            return own
        merged, parts = {}, {}
        for name, columns in self.given_fields.items():
            members = self.columns[columns] if isinstance(columns, slice) else listed(columns)
            if not members:
                raise ValueError(f"fields[{name!r}] names no column; each field needs one at least.")
            parts[name] = [_field(own, column) for column in members]
            merged[name] = np.concatenate([own[column] for column in parts[name]])
        _refuse_overlap(parts)
        used = set().union(*parts.values())
        if taken := [name for name in merged if name in own and name not in used]:
            raise ValueError(f"fields= gives the names of other columns, {taken}, to fields; choose other names.")
        return merged | {name: columns for name, columns in own.items() if name not in used}

    def _positions(self, name: Any, columns: Any) -> Array:
        positions = np.arange(self.n_columns)[columns] if isinstance(columns, slice) else np.atleast_1d(columns)
        if positions.dtype.kind not in "iu" or len(positions) == 0:
            raise ValueError(
                f"fields[{name!r}] must be column numbers, because X is an array or a sparse matrix, got {columns!r}."
            )
        if positions.min() < 0 or positions.max() >= self.n_columns:
            raise ValueError(f"fields[{name!r}] names columns outside X, which has {self.n_columns} columns.")
        return positions

    def interactions(self) -> Interactions:
        """Return which columns interact.

        Columns of no group, or of groups that no pair names, have linear weights only.
        """
        if isinstance(self.pairs, str):
            if self.pairs != "all":
                raise ValueError(f'interactions must be "all" or a list of pairs of groups, got {self.pairs!r}.')
            return Interactions()
        groups = self._group_columns()
        names = list(groups)
        mixing = np.zeros((len(names) + 1, len(names) + 1), dtype=np.float32)
        for pair in listed(self.pairs):
            a, b = _pair(pair, names)
            mixing[a, b] = mixing[b, a] = 1
        parts = np.full(self.n_columns, len(names), dtype=np.int32)
        for a, columns in enumerate(groups.values()):
            taken = columns[parts[columns] != len(names)]
            if len(taken):
                raise ValueError(f"groups overlap: {names[a]!r} and {names[parts[taken[0]]]!r} share columns.")
            parts[columns] = a
        if not mixing.any():
            raise ValueError("interactions names no pair of groups; a list of at least one pair is expected.")
        return Interactions(parts, mixing)

    def _group_columns(self) -> Fields:
        fields = self.fields()
        if fields is None:
            raise ValueError(
                "interactions between groups need fields=, a dict field → columns of X, to know which columns belong "
                "together."
            )
        if self.groups is None:
            return fields
        if empty := [group for group, members in self.groups.items() if not listed(members)]:
            raise ValueError(f"groups names no field for {', '.join(map(repr, empty))}; each group needs one at least.")
        return {
            group: np.concatenate([fields[_field(fields, name)] for name in listed(members)])
            for group, members in self.groups.items()
        }

    def per_column(self, penalty: Any, default: float, name: str) -> float | Array:
        """Return a penalty as a number, or as one number per column from a dict field → number."""
        if not isinstance(penalty, Mapping):
            check_option(name, penalty, (FINITE, MAPPING))
            return float(penalty)
        fields = self.fields() or {}
        values = np.full(self.n_columns, default, dtype=np.float32)
        for field, value in penalty.items():
            check_option(f"{name}[{field!r}]", value, FINITE)
            values[fields[_field(fields, field)]] = value
        return values


def _refuse_overlap(fields: Mapping[Any, list[Any]]) -> None:
    """Refuse a column in two fields, or twice in one: it would have two penalties, and two groups."""
    owner: dict[Any, Any] = {}
    for name, columns in fields.items():
        for column in columns:
            if column in owner:
                raise ValueError(f"fields= names the column {column!r} twice, in {owner[column]!r} and in {name!r}.")
            owner[column] = name


def _field(fields: Fields, name: Any) -> Any:
    if name in fields:
        return name
    try:
        return find_role(fields, str(name), "field")
    except RoleError as error:
        raise ValueError(
            f"There is no field {name!r}; the fields are {', '.join(map(str, fields)) or 'unknown: give fields='}."
        ) from error


def _pair(pair: Any, names: list[Any]) -> tuple[int, int]:
    if (
        isinstance(pair, str)
        or not hasattr(pair, "__len__")
        or len(pair) != 2
        or any(side not in names for side in pair)
    ):
        raise ValueError(
            f"interactions holds {pair!r}; expected pairs of the groups {', '.join(map(repr, names))}, such as "
            f"({names[0]!r}, {names[-1]!r})."
        )
    first, second = pair
    return names.index(first), names.index(second)


def listed(columns: Any) -> list[Any]:
    """One name, or several, as a list."""
    return [columns] if isinstance(columns, str) or not hasattr(columns, "__iter__") else list(columns)
