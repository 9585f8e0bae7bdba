"""What fitted vectors of users and items say: columns of rows, names, nearest neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import TransformerMixin
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted

from mtl_classic._core.keys import listed_ids
from mtl_classic._core.options import COUNT_OR_0, check_option
from mtl_classic._core.validation import align_columns, as_table
from mtl_classic.factorization._appended import append_columns
from mtl_classic.factorization._feedback import Ids
from mtl_classic.factorization._implicit import ImplicitFactors, with_mean, with_unseen
from mtl_classic.factorization._told import Told

__all__ = ["PairVectors", "as_rows", "largest", "nearest"]

Array = npt.NDArray[Any]
COSINES_AT_ONCE = 2**24


class PairVectors(TransformerMixin):
    """Reads the vectors that `MatrixFactorization` has fitted: `_users` and `_items` (ids), `_factors`."""

    model: str
    output: str
    n_factors: int
    roles_: dict[str, str]
    feature_names_in_: Array
    _users: Ids
    _items: Ids
    _factors: Any
    _untold: tuple[Ids, Any, Any] | None  # users, factors and their time before the first `observe`
    _told: Told | None  # what ALS was told since

    def transform(self, X: Any) -> pd.DataFrame:
        """Append the columns of the full fit.

        Parameters
        ----------
        X : frame of shape (n, n_features)

        Returns
        -------
        DataFrame of shape (n, n_features + n_columns)
            Called ``als__score``, ``als__user_norm``, ``als__item_norm`` (after the model), and ``als__user_0`` …,
            ``als__item_0`` … for vectors; float32.
        """
        check_is_fitted(self)
        X = align_columns(self, as_rows(X))
        return append_columns(X, [self._columns(X)])

    def similar_items(self, items: Any, n: int = 10) -> pd.DataFrame:
        """Nearest items by the cosine of their vectors.

        Parameters
        ----------
        items : list of ids
        n : int, default=10

        Returns
        -------
        DataFrame with the columns ``item``, ``similar``, ``cosine``
            The best first; ids that the fit did not see have no rows.
        """
        check_is_fitted(self)
        return nearest(self._items, self.item_factors_, items, n, "item")

    def similar_users(self, users: Any, n: int = 10) -> pd.DataFrame:
        """Nearest users by the cosine of their vectors.

        Parameters
        ----------
        users : list of ids
        n : int, default=10

        Returns
        -------
        DataFrame with the columns ``user``, ``similar``, ``cosine``
        """
        check_is_fitted(self)
        return nearest(self._users, self.user_factors_, users, n, "user")

    def get_feature_names_out(self, input_features: Any = None) -> Array:
        """Names of the columns of X and of those appended.

        Parameters
        ----------
        input_features : array of str, default=None
            Names for the columns of an X whose names are no text.

        Returns
        -------
        ndarray of str
        """
        check_is_fitted(self)
        scores = [f"{self.model}__{name}" for name in ("score", "user_norm", "item_norm")]
        vectors = [f"{self.model}__{side}_{k}" for side in ("user", "item") for k in range(self.n_factors)]
        added = {"scores": scores, "vectors": vectors, "both": scores + vectors}[self.output]
        return np.asarray([*_check_feature_names_in(self, input_features), *added], dtype=object)

    @property
    def users_(self) -> pd.Index:
        """Ids of the users."""
        return self._users.values

    @property
    def items_(self) -> pd.Index:
        """Ids of the items."""
        return self._items.values

    @property
    def user_factors_(self) -> Array:
        """Vectors of the users, (n_users, n_factors)."""
        return self._factors.users

    @property
    def item_factors_(self) -> Array:
        """Vectors of the items, (n_items, n_factors)."""
        return self._factors.items

    def _columns(self, X: pd.DataFrame) -> pd.DataFrame:
        parts = [] if self.output == "vectors" else [self._score_columns(X)]
        if self.output != "scores":
            for side, values in self._vectors(X).items():
                names = [f"{side}_{k}" for k in range(values.shape[1])]
                parts.append(pd.DataFrame(values, columns=names, index=X.index))
        return pd.concat(parts, axis=1).astype(np.float32).add_prefix(f"{self.model}__")

    def _score_columns(self, X: pd.DataFrame) -> pd.DataFrame:
        user, item = self._codes(X)
        lengths = [np.append(np.linalg.norm(v, axis=1), 0.0) for v in (self.user_factors_, self.item_factors_)]
        columns = {
            "score": self._factors.score(user, item),
            "user_norm": lengths[0][user],
            "item_norm": lengths[1][item],
        }
        rows, earlier, seen = self._earlier(X, user)
        if len(rows):
            q = with_mean(self.item_factors_)[item[rows]]
            columns["score"][rows] = np.einsum("nf,nf->n", earlier.astype(np.float64), q)
            columns["user_norm"][rows] = np.where(seen, np.linalg.norm(earlier, axis=1), 0.0)
        return pd.DataFrame(columns, index=X.index)

    def _vectors(self, X: pd.DataFrame) -> dict[str, Array]:
        user, item = self._codes(X)
        vectors = {"user": with_unseen(self._factors)[user], "item": with_mean(self.item_factors_)[item]}
        rows, earlier, _ = self._earlier(X, user)
        vectors["user"][rows] = earlier
        return vectors

    def _earlier(self, X: pd.DataFrame, user: Array) -> tuple[Array, Array, Array]:
        """Rows before events that their user was told of since the fit: users' vectors as of then, and who was seen."""
        time, told, untold = self._time_of_rows(X.columns), self._told, self._untold
        rows = np.zeros(0, dtype=np.int64)
        if time is not None and told is not None and untold is not None:
            rows, count = told.not_yet(user, X[time])
            if len(rows):
                states, which = np.unique(np.column_stack([user[rows], count]), axis=0, return_inverse=True)
                vectors, seen = _as_of(told, untold[1], *states.T)
                return rows, vectors[which.ravel()], seen[which.ravel()]
        return rows, np.zeros((0, self.user_factors_.shape[1]), dtype=np.float32), np.zeros(0, dtype=bool)

    def _time_of_rows(self, columns: Any) -> str | None:
        """The column of the rows' times, where it says what was told of by then."""
        time = self.roles_.get("time")
        return time if self._told is not None and time in columns else None

    def _basis(self) -> tuple[pd.Index, Array]:
        keys = [("user", value) for value in self.users_] + [("item", value) for value in self.items_]
        return pd.Index(keys, tupleize_cols=False), np.vstack([self.user_factors_, self.item_factors_])

    def _codes(self, X: pd.DataFrame) -> tuple[Array, Array]:
        return self._users.codes(X[self.roles_["user"]]), self._items.codes(X[self.roles_["item"]])

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_factors")


def _as_of(told: Told, fitted: ImplicitFactors, user: Array, count: Array) -> tuple[Array, Array]:
    """Vectors of users after the first so many events told, (n, n_factors), and whether there were any by then."""
    n_fitted = len(fitted.users)
    vectors = with_unseen(fitted)[np.minimum(user, n_fitted)]
    moved = np.flatnonzero(count)
    if len(moved):
        vectors[moved] = fitted.solved(told.matrix(user[moved], count[moved], fitted.matrix))
    return vectors, (user < n_fitted) | (count > 0)


def as_rows(X: Any) -> pd.DataFrame:
    """A table with named columns."""
    table = as_table(X)
    if not isinstance(table, pd.DataFrame):
        raise TypeError(f"MatrixFactorization reads columns by name, so X must be a frame; got {type(X).__name__}.")
    return table


def nearest(ids: Ids, vectors: Array, asked: Any, n: int, what: str) -> pd.DataFrame:
    """The n nearest others of each id that is asked for, by the cosine of their vectors."""
    if isinstance(asked, str) or not hasattr(asked, "__iter__"):
        raise TypeError(f"{what}s must be a list of ids, got {asked!r}.")
    check_option("n", n, COUNT_OR_0)
    units = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    asked = pd.Series(listed_ids(asked))
    codes = ids.codes(asked)
    asked, codes = asked[codes >= 0], codes[codes >= 0]
    count = min(n, len(vectors) - 1)
    best, found = np.empty((len(codes), count), dtype=np.int64), np.empty((len(codes), count), dtype=vectors.dtype)
    at_once = max(1, COSINES_AT_ONCE // len(units))
    for start in range(0, len(codes), at_once):
        some = codes[start : start + at_once]
        cosines = units[some] @ units.T
        cosines[np.arange(len(some)), some] = -np.inf
        for k, row in enumerate(cosines, start):
            best[k] = largest(row, count)
            found[k] = row[best[k]]
    return pd.DataFrame(
        {what: np.repeat(asked.to_numpy(), count), "similar": ids.values[best.ravel()], "cosine": found.ravel()}
    )


def largest(values: Array, count: int) -> Array:
    """Positions of the largest values, the best first, equal ones in their order: a sort of those few only."""
    if count == 0:
        return np.zeros(0, dtype=np.int64)
    least = np.partition(values, len(values) - count)[len(values) - count]
    enough = np.flatnonzero(values >= least)
    return enough[np.argsort(-values[enough], kind="stable")[:count]]
