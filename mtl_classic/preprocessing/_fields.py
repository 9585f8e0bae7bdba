"""Frames as sparse matrices with a block of columns per field: what factorization machines and linear models read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from mtl_classic._core.base import all_or_nothing
from mtl_classic._core.options import COLUMNS, COUNT, COUNT_OR_0, POSITIVE, Option
from mtl_classic._core.validation import align_columns, as_table, find_role, register_columns
from mtl_classic.preprocessing._blocks import Hashed, Number, OneHot, is_number
from mtl_classic.preprocessing._keys import with_columns
from mtl_classic.preprocessing._vocabulary import Vocabulary

__all__ = ["FieldEncoder"]

Ints = npt.NDArray[np.int64]


class FieldEncoder(TransformerMixin, BaseEstimator):
    """A frame as a sparse matrix with a block of columns for each field.

    Every row stores exactly one entry per field. A *category* (text, booleans, ``category``, other objects, and the
    integer columns named in ``categorical``) stores a 1 in the column of its value, or in the field's *other* column if
    the value was unseen at fit or rarer than ``min_count``. A *number* x stores (x − mean) / standard deviation,
    clipped to ±``clip``; a missing number stores a 1 in the field's *missing* column instead, so that its scaled value
    is 0. Dates, periods and durations are numbers, in days; numbers may be objects too, such as decimals.

    Parameters
    ----------
    categorical : sequence of str, default=()
        Numeric columns that are categories all the same, such as ids. A name that is no column matches the only column
        that ends in ``__name``.
    exclude : sequence of str, default=()
        Columns that are no fields.
    min_count : int, default=1
        Values seen in fewer rows share the other column of their field. ``partial_fit`` goes on counting, and gives
        a value its own column once it is frequent enough.
    hash_above : int or None, default=None
        Fields with more distinct values than this at fit are hashed: unseen values get a column too, values may share
        one, nothing is remembered. A missing value stores its 1 in the other column. None hashes nothing.
    n_hash : int, default=262144
        Columns of a hashed field.
    scale : {"standard", None}, default="standard"
        Whether numbers are standardized. Statistics are those of the first fit or ``partial_fit`` with any value, for
        good: weights learnt on them keep their meaning. Until then all values are missing ones.
    clip : float or None, default=10.0
        Largest absolute scaled number, in standard deviations: one outlier should not dominate a product of factors.

    Attributes
    ----------
    fields_ : dict of str to ndarray of int64
        Field -> its columns of the matrix, ascending. After ``fit`` a field's columns are adjacent; those that
        ``partial_fit`` adds come at the end of the matrix, so that a column never moves.
    kinds_ : dict of str to {"onehot", "hashed", "number"}
        Field -> how it is encoded.
    n_columns_ : int
        Width of the matrix.
    n_features_in_ : int
        Number of columns at fit.
    feature_names_in_ : ndarray of str
        Their names, if all are strings.

    Notes
    -----
    Columns are in the order of the fields, a field's values in sorted order: the layout does not depend on the order
    of the rows. The cost is one hash look-up per row and category field; the matrix takes 8 bytes per row and field.
    Feature hashing is that of [1]_, without signs.

    References
    ----------
    .. [1] K. Weinberger, A. Dasgupta, J. Langford, A. Smola, J. Attenberg (2009). Feature hashing for large scale
       multitask learning. ICML. https://doi.org/10.1145/1553374.1553516

    Examples
    --------
    >>> import pandas as pd
    >>> from mtl_classic import FieldEncoder
    >>> X = pd.DataFrame({"user": [7, 3, 7], "shop": ["b", "a", None], "price": [1.0, None, 3.0]})
    >>> encoder = FieldEncoder(categorical=["user"]).fit(X)
    >>> encoder.get_feature_names_out().tolist()
    ['user=(other)', 'user=3', 'user=7', 'shop=(other)', 'shop=(missing)', 'shop=a', 'shop=b',
     'price', 'price=(missing)']
    >>> encoder.transform(X).toarray()
    array([[ 0.,  0.,  1.,  0.,  0.,  0.,  1., -1.,  0.],
           [ 0.,  1.,  0.,  0.,  0.,  1.,  0.,  0.,  1.],
           [ 0.,  0.,  1.,  0.,  1.,  0.,  0.,  1.,  0.]], dtype=float32)
    >>> encoder.transform(X.assign(user=8)).toarray()[:, :3]
    array([[1., 0., 0.],
           [1., 0., 0.],
           [1., 0., 0.]], dtype=float32)
    """

    _fields: dict[Any, OneHot | Hashed | Number]
    fields_: dict[Any, Ints]

    _options: ClassVar[dict[str, Option]] = {
        "categorical": COLUMNS, "exclude": COLUMNS, "min_count": COUNT, "hash_above": (COUNT_OR_0, None),
        "n_hash": COUNT, "scale": ("standard", None), "clip": (POSITIVE, None),
    }  # fmt: skip

    def __init__(
        self,
        *,
        categorical: Sequence[str] = (),
        exclude: Sequence[str] = (),
        min_count: int = 1,
        hash_above: int | None = None,
        n_hash: int = 2**18,
        scale: str | None = "standard",
        clip: float | None = 10.0,
    ) -> None:
        self.categorical = categorical
        self.exclude = exclude
        self.min_count = min_count
        self.hash_above = hash_above
        self.n_hash = n_hash
        self.scale = scale
        self.clip = clip

    @all_or_nothing
    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn vocabularies and scales.

        Parameters
        ----------
        X : frame or array of shape (n, n_features)
        y : ignored

        Returns
        -------
        self
        """
        self._learn(X)
        return self

    @all_or_nothing
    def fit_transform(self, X: Any, y: Any = None) -> sparse.csr_matrix:
        """Learn from ``X`` and encode it, looking each value up once.

        Parameters
        ----------
        X : frame or array of shape (n, n_features)
        y : ignored

        Returns
        -------
        csr_matrix of float32, shape (n, n_columns)
        """
        return self._encode(*self._learn(X))

    @all_or_nothing
    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """Add values not seen before, at the end of the matrix; scales stay those of the first call that has values.

        Parameters
        ----------
        X : frame or array of shape (n, n_features)
            The columns of the first call.
        y : ignored

        Returns
        -------
        self
        """
        if not hasattr(self, "_fields"):
            return self.fit(X)
        frame = self._frame(X)
        # New objects, so that a copy of the encoder stays as it was.
        fields, self.fields_ = dict(self._fields), dict(self.fields_)
        for name, state in self._fields.items():
            if isinstance(state, OneHot):
                own, column = state.copy(), pd.Series(frame[name])
                own.count(own.vocabulary.learn(column))
                self._add_columns(name, own)
                fields[name] = own
            elif isinstance(state, Number) and not state.is_known:
                fields[name] = Number.learn(frame[name], self.scale, self.clip)
        self._fields = fields
        return self

    def transform(self, X: Any) -> sparse.csr_matrix:
        """Encode rows.

        Parameters
        ----------
        X : frame or array of shape (n, n_features)
            Columns are matched by name where both have names.

        Returns
        -------
        csr_matrix of float32, shape (n, n_columns)
            With one stored entry per row and field.
        """
        check_is_fitted(self)
        frame = self._frame(X)
        codes = {
            name: state.codes(frame[name]) for name, state in self._fields.items() if not isinstance(state, Number)
        }
        return self._encode(frame, codes)

    def get_feature_names_out(self, input_features: Any = None) -> npt.NDArray[Any]:
        """Names of the matrix's columns.

        Parameters
        ----------
        input_features : ignored
            Present for scikit-learn.

        Returns
        -------
        ndarray of str, shape (n_columns,)
            ``field=value``, ``field=(other)``, ``field=(missing)``; ``field#bucket`` of hashed fields; ``field`` of
            numbers.
        """
        check_is_fitted(self)
        names = np.empty(self.n_columns_, dtype=object)
        for name, state in self._fields.items():
            names[self.fields_[name]] = state.names(str(name))
        return names

    def _learn(self, X: Any) -> tuple[pd.DataFrame, dict[Any, Ints]]:
        table = as_table(X)
        _refuse_sparse(table)
        if table.shape[0] == 0:
            raise ValueError("Found array with 0 sample(s): FieldEncoder needs at least one row to learn from.")
        register_columns(self, table)
        frame = _as_frame(table)
        excluded = {find_role(frame.columns, str(name), "excluded") for name in self.exclude}
        categorical = {find_role(frame.columns, str(name), "categorical") for name in self.categorical}
        self._fields = {}
        self.fields_ = {}
        self.n_columns_ = 0
        codes: dict[Any, Ints] = {}
        for name in frame.columns:
            if str(name) in excluded:
                continue
            if str(name) in categorical or not is_number(frame[name]):
                codes[name] = self._learn_category(name, frame[name])
            else:
                self._fields[name] = Number.learn(frame[name], self.scale, self.clip)
                self._allocate(name, 2)
        self.kinds_ = {name: state.kind for name, state in self._fields.items()}
        if not self._fields:
            raise ValueError("No column is left to encode; exclude= names all of them.")
        return frame, codes

    def _learn_category(self, name: Any, column: pd.Series) -> Ints:
        vocabulary = Vocabulary()
        codes = vocabulary.learn(column)
        if self.hash_above is not None and len(vocabulary.values) > self.hash_above:
            hashed = Hashed(self.n_hash)
            self._fields[name] = hashed
            self._allocate(name, 1 + self.n_hash)
            return hashed.codes(column)
        state = OneHot(vocabulary, self.min_count)
        state.count(codes)
        self._fields[name] = state
        self._allocate(name, 1)
        self._add_columns(name, state)
        return codes

    def _allocate(self, name: Any, width: int) -> None:
        new = np.arange(self.n_columns_, self.n_columns_ + width)
        self.fields_[name] = np.concatenate([self.fields_[name], new]) if name in self.fields_ else new
        self.n_columns_ += width

    def _add_columns(self, name: Any, state: OneHot) -> None:
        before = len(self.fields_[name])
        self._allocate(name, state.promote(before))

    def _frame(self, X: Any) -> pd.DataFrame:
        table = as_table(X)
        _refuse_sparse(table)
        return with_columns(_as_frame(align_columns(self, table)), list(self._fields))

    def _encode(self, frame: pd.DataFrame, codes: dict[Any, Ints]) -> sparse.csr_matrix:
        n, width = len(frame), len(self._fields)
        dtype = np.int32 if max(n * width, self.n_columns_) < 2**31 else np.int64
        indices: npt.NDArray[np.integer[Any]] = np.empty((n, width), dtype=dtype)
        data: npt.NDArray[np.float32] = np.ones((n, width), dtype=np.float32)
        for j, (name, state) in enumerate(self._fields.items()):
            columns = self.fields_[name]
            if isinstance(state, Number):
                data[:, j], missing = state.encode(frame[name])
                indices[:, j] = np.where(missing, columns[1], columns[0])
            else:
                indices[:, j] = columns[state.slots(codes[name])]
        indptr: npt.NDArray[np.integer[Any]] = np.arange(0, n * width + 1, width, dtype=dtype)
        shape = (n, self.n_columns_)
        matrix: sparse.csr_matrix = sparse.csr_matrix((data.reshape(-1), indices.reshape(-1), indptr), shape=shape)
        matrix.sort_indices()  # columns that partial_fit added are out of order
        return matrix

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = []  # float32 always
        return tags


def _as_frame(table: Any) -> pd.DataFrame:
    frame = table if isinstance(table, pd.DataFrame) else pd.DataFrame(table)
    return frame if isinstance(table, pd.DataFrame) or table.dtype != object else frame.infer_objects()


def _refuse_sparse(table: Any) -> None:
    if sparse.issparse(table):
        raise TypeError("X is sparse already; FieldEncoder expects a frame or an array with one column per field.")
