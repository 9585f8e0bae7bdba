"""The features as columns of a combiner: numbers as they are, categories one-hot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import sparse

from mtl_classic._core.base import Floats
from mtl_classic._core.validation import Table
from mtl_classic.learners._columns import FeatureColumns, Features

__all__ = ["Passthrough"]


class Passthrough:
    """Learns the features of a table; missing numbers become the column's mean.

    Parameters
    ----------
    roles : dict role -> column or None
        Time and query are no features.
    queries : sequence of str
        Nor are the queries of tasks.
    """

    def __init__(self, roles: Mapping[str, str | None], queries: Sequence[str]) -> None:
        ids = [column for role in ("user", "item") if (column := roles[role]) is not None]
        excluded = [column for role in ("time", "query") if (column := roles[role]) is not None]
        self.columns = FeatureColumns(exclude=(*excluded, *queries), ids=tuple(ids))

    def fit(self, X: Table) -> Passthrough:
        """Learn columns, categories and means."""
        values = self._values(self.columns.fit(X).transform(X))
        known = ~np.isnan(values)
        self.means = np.where(known, values, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
        return self

    def transform(self, X: Table) -> Floats:
        """A dense matrix of shape (n, n_columns)."""
        values = self._values(self.columns.transform(X))
        return np.where(np.isnan(values), self.means, values)

    def _values(self, features: Features) -> Floats:
        dense = features.values.toarray() if sparse.issparse(features.values) else features.values
        blocks = []
        for j, name in enumerate(features.names):
            column = dense[:, j].astype(np.float64)
            if j not in features.categorical:
                blocks.append(column[:, None])
                continue
            codes = np.arange(len(self.columns.categories_[name]))
            blocks.append((column[:, None] == codes).astype(np.float64))
        return np.hstack(blocks)
