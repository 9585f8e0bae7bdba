"""Number columns of a matrix brought to one scale; columns of zeros and ones stay as they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

Array = npt.NDArray[Any]
# Beyond ten standard deviations a number says "large", and its products with others would drown them.
CLIP = 10.0


class ColumnScaler:
    """Standardize the columns that are numbers.

    A column of zeros and ones is an indicator and stays. A column that is mostly non-zero becomes (x − mean) /
    standard deviation over all rows; one that is mostly zero is divided by the root mean square of its non-zeros, so
    that zeros stay zeros. Scaled numbers are clipped to ±10. Constant columns stay constants: x / |x|.
    """

    def fit(self, X: sparse.csr_matrix) -> ColumnScaler:
        """Learn from rows; dense or sparse, the same numbers give the same scales."""
        n, m = X.shape
        data = X.data.astype(np.float64)
        counts = np.bincount(X.indices, minlength=m)
        plain = np.bincount(X.indices[X.data == 1], minlength=m) == counts
        mean = np.bincount(X.indices, weights=data, minlength=m) / n
        centred = ~plain & (counts > n / 2)
        self.shift_ = np.where(centred, mean, 0.0)
        offsets = (data - self.shift_[X.indices]) ** 2
        sums = np.bincount(X.indices, weights=offsets, minlength=m)
        spread = (sums + (n - counts) * self.shift_**2) / n
        spread = np.sqrt(np.where(centred, spread, sums / np.maximum(counts, 1)))
        constant = centred & (spread <= 1e-7 * np.abs(self.shift_))
        self.shift_[constant] = 0.0
        spread = np.where(constant, np.abs(mean), spread)
        self.scale_ = np.where(plain | (spread == 0) | ~np.isfinite(spread), 1.0, spread)
        self.centred_ = np.flatnonzero(self.shift_ != 0)
        self.is_identity_ = bool((self.scale_ == 1).all() and len(self.centred_) == 0)
        return self

    def transform(self, X: sparse.csr_matrix) -> sparse.csr_matrix:
        """Return float32 rows, the entries of each in any order."""
        if self.is_identity_:
            return X.astype(np.float32, copy=False)
        scaled = (self.scale_ != 1)[X.indices]
        data = np.where(scaled, np.clip(X.data / self.scale_[X.indices], -CLIP, CLIP), X.data)
        matrix = sparse.csr_matrix((data.astype(np.float32), X.indices, X.indptr), shape=X.shape)
        if len(self.centred_) == 0:
            return matrix
        others = np.ones(X.shape[1], dtype=bool)
        others[self.centred_] = False
        return self._with_centred(X, _keep(matrix, others))

    def _with_centred(self, X: sparse.csr_matrix, rest: sparse.csr_matrix) -> sparse.csr_matrix:
        """Put the centred columns, zeros included, in front of each row's other entries."""
        n, c = X.shape[0], len(self.centred_)
        dense = X[:, self.centred_].toarray().astype(np.float64)
        dense = np.clip((dense - self.shift_[self.centred_]) / self.scale_[self.centred_], -CLIP, CLIP)
        counts = np.diff(rest.indptr)
        indptr = rest.indptr + c * np.arange(n + 1, dtype=rest.indptr.dtype)
        indices = np.empty(n * c + len(rest.indices), dtype=np.int32)
        data = np.empty(len(indices), dtype=np.float32)
        front = indptr[:-1, None] + np.arange(c)
        indices[front], data[front] = self.centred_, dense
        behind = np.arange(len(rest.indices)) + np.repeat(c * np.arange(1, n + 1), counts)
        indices[behind], data[behind] = rest.indices, rest.data
        return sparse.csr_matrix((data, indices, indptr), shape=X.shape)


def _keep(X: sparse.csr_matrix, columns: Array) -> sparse.csr_matrix:
    """Return the entries in some columns; the width stays."""
    kept = columns[X.indices]
    indptr = np.concatenate([[0], np.cumsum(kept)])[X.indptr]
    return sparse.csr_matrix((X.data[kept], X.indices[kept], indptr), shape=X.shape)
