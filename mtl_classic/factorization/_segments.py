"""Segments of users or items: clusters of their latent vectors, as a column."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import copy
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.cluster import MiniBatchKMeans
from sklearn.metrics import silhouette_score
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted

from mtl_classic._core.base import all_or_nothing
from mtl_classic._core.options import COLUMN, COUNT, FOLDS, Option
from mtl_classic._core.parallel import thread_limit
from mtl_classic._core.random import generator, root_seed, spawn_seed
from mtl_classic._core.tasks import Task
from mtl_classic._core.validation import align_columns, as_table, register_columns
from mtl_classic.events import EventLog
from mtl_classic.factorization._appended import append_columns
from mtl_classic.factorization._latent_features import LatentFeatures
from mtl_classic.factorization._matrix import MatrixFactorization
from mtl_classic.model_selection import FoldPlan

__all__ = ["Segments"]

Array = npt.NDArray[Any]
# What "auto" chooses from, and the ids that it judges by.
CANDIDATES = (2, 3, 4, 5, 6, 8, 10, 12, 16, 20)
SILHOUETTE_IDS = 2000
N_INIT = 3
NAME = "segments"


class Segments(TransformerMixin, BaseEstimator):
    r"""Append the segment of each row's user, or item: the cluster of its latent vector.

    Vectors of length 1 are cut into k clusters by mini-batch k-means [1]_. "auto" takes the k of 2 … 20 with the
    largest mean silhouette [2]_, :math:`(b - a) / \max(a, b)`, on a sample of at most 2,000 ids, where a is the mean
    distance of an id to its own cluster and b that to the next.

    Training rows in `fit_transform` get the segment of a vector that did not see them: the vector of their fold or
    block of time, rotated onto the full fit's basis (see `LatentFeatures`), and then the nearest of the full fit's
    clusters.

    Parameters
    ----------
    of : {"user", "item"}, default="user"
    n_segments : int or "auto", default="auto"
    model : MatrixFactorization or None, default=None
        Makes the vectors; None is ALS with 16 factors on the columns ``user`` and ``item``.
    user, item, time : str, default=None
        Columns of X, for ``model=None``; None: those that the log's columns have.
    tasks : list of Task, dict of name to kind, or None, default=None
    cv : int, splitter, Temporal or array of fold numbers, default=5
    random_state : int, RandomState or None, default=None

    Attributes
    ----------
    n_segments_ : int
    silhouettes_ : dict of int to float
        Of each k that was tried; empty where it was given.
    centers_ : ndarray of shape (n_segments_, n_factors)
    segments_ : Series
        Segment of each id.
    latent_ : LatentFeatures
        Its vectors are clustered.
    feature_names_in_, n_features_in_
    as_of_ : time of the last event that the factors know of; None without events

    Notes
    -----
    The column is called ``user_segment`` or ``item_segment``; it is of type category, with the categories 0 … k − 1,
    and missing where no fold covers a row. Unseen ids have the segment of the mean vector. The cost is that of the
    factorization, and ids × factors × k per candidate.

    References
    ----------
    .. [1] D. Sculley (2010). Web-scale k-means clustering. WWW. https://doi.org/10.1145/1772690.1772862
    .. [2] P. Rousseeuw (1987). Silhouettes: a graphical aid to the interpretation and validation of cluster analysis.
       Journal of Computational and Applied Mathematics 20. https://doi.org/10.1016/0377-0427(87)90125-7

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from mtl_classic.factorization import Segments
    >>> rng = np.random.default_rng(0)
    >>> X = pd.DataFrame({"user": rng.integers(0, 60, 4000), "item": rng.integers(0, 40, 4000)})
    >>> buy = (X["user"] % 3 == X["item"] % 3) & (rng.random(4000) < 0.9)     # three tastes
    >>> segments = Segments(user="user", item="item", random_state=0).fit(X, buy)
    >>> segments.n_segments_
    3
    >>> column = segments.transform(X)["user_segment"]
    >>> bool((column.groupby(X["user"] % 3).nunique() == 1).all())
    True
    """

    latent_: LatentFeatures

    _options: ClassVar[dict[str, Option]] = {
        "of": ("user", "item"), "n_segments": (COUNT, "auto"), "user": (COLUMN, None), "item": (COLUMN, None),
        "time": (COLUMN, None), "cv": FOLDS,
    }  # fmt: skip

    def __init__(
        self,
        of: str = "user",
        n_segments: int | str = "auto",
        *,
        model: Any = None,
        user: str | None = None,
        item: str | None = None,
        time: str | None = None,
        tasks: Iterable[Task] | Mapping[str, str] | None = None,
        cv: Any = 5,
        random_state: Any = None,
    ) -> None:
        self.of = of
        self.n_segments = n_segments
        self.model = model
        self.user = user
        self.item = item
        self.time = time
        self.tasks = tasks
        self.cv = cv
        self.random_state = random_state

    @all_or_nothing
    def fit(
        self,
        X: Any,
        Y: Any = None,
        *,
        sample_weight: Any = None,
        events: EventLog | None = None,
        plan: FoldPlan | None = None,
    ) -> Self:
        """Factorize, and cut the vectors into clusters.

        Parameters
        ----------
        X : frame of shape (n, n_features)
        Y : labels of shape (n,) or (n, n_tasks), default=None
            Not read with a log.
        sample_weight : array of shape (n,) or (n, n_tasks), default=None
        events : EventLog, default=None
        plan : FoldPlan, default=None
            Matters in `fit_transform` only.

        Returns
        -------
        self
        """
        self._latent(X, Y, events).fit(X, Y, sample_weight=sample_weight, events=events, plan=plan)
        self._cluster()
        return self

    @all_or_nothing
    def fit_transform(
        self,
        X: Any,
        Y: Any = None,
        *,
        sample_weight: Any = None,
        events: EventLog | None = None,
        plan: FoldPlan | None = None,
    ) -> pd.DataFrame:
        """Fit, and append segments by vectors that did not see the row.

        Parameters
        ----------
        X : frame of shape (n, n_features)
        Y : labels of shape (n,) or (n, n_tasks), default=None
        sample_weight : array of shape (n,) or (n, n_tasks), default=None
        events : EventLog, default=None
        plan : FoldPlan, default=None

        Returns
        -------
        DataFrame of shape (n, n_features + 1)
        """
        table = self._latent(X, Y, events).fit_transform(X, Y, sample_weight=sample_weight, events=events, plan=plan)
        self._cluster()
        return self._append(as_table(X), table)

    def transform(self, X: Any) -> pd.DataFrame:
        """Append the segments of the full fit.

        Parameters
        ----------
        X : frame of shape (n, n_features)

        Returns
        -------
        DataFrame of shape (n, n_features + 1)
        """
        check_is_fitted(self)
        X = align_columns(self, as_table(X))
        return self._append(X, self.latent_.transform(X))

    def observe(self, events: Any) -> Self:
        """Fold in new events: users move, and with them their segments; the clusters stay.

        Parameters
        ----------
        events : EventLog or frame with the columns of the log

        Returns
        -------
        self
        """
        check_is_fitted(self)
        moved = copy(self)
        moved.latent_ = copy(self.latent_).observe(events)
        segments = moved._segments_of_ids()
        self.latent_, self.segments_ = moved.latent_, segments  # all or nothing
        return self

    def _before(self, time: Any, log: EventLog | None) -> Self:
        """The segments as of a time: of vectors without what they were told of later."""
        earlier = copy(self)
        earlier.latent_ = self.latent_._before(time, log)
        earlier.segments_ = earlier._segments_of_ids()
        return earlier

    def _catch_up(self, log: EventLog) -> Self:
        """Told of the events that the fit left out, where rows before them have their users as of then."""
        self.latent_ = copy(self.latent_)._catch_up(log)
        self.segments_ = self._segments_of_ids()
        return self

    @property
    def as_of_(self) -> Any:
        """Time of the last event that the vectors know of; None without a log."""
        check_is_fitted(self)
        return self.latent_.as_of_

    def get_feature_names_out(self, input_features: Any = None) -> Array:
        """Names of the columns of X and of the segment.

        Parameters
        ----------
        input_features : array of str, default=None
            Names for the columns of an X whose names are no text.

        Returns
        -------
        ndarray of str
        """
        check_is_fitted(self)
        return np.asarray([*_check_feature_names_in(self, input_features), f"{self.of}_segment"], dtype=object)

    def _latent(self, X: Any, Y: Any, events: EventLog | None) -> LatentFeatures:
        if Y is None and events is None:
            raise ValueError("Segments learns from events=, or from labels; both are None.")
        if self.model is not None and not isinstance(self.model, MatrixFactorization):
            raise TypeError(f"model must be a MatrixFactorization or None, got {type(self.model).__name__}.")
        self._seed = root_seed(self.random_state)
        model = self.model
        if model is None:
            seed = spawn_seed(self._seed, "factors")
            model = MatrixFactorization(n_factors=16, user=self.user, item=self.item, time=self.time, random_state=seed)
        register_columns(self, as_table(X))
        self.latent_ = LatentFeatures(
            [(NAME, clone(model))],
            output="vectors",
            cv=self.cv,
            tasks=self.tasks,
            time=self.time or model.time,
            random_state=spawn_seed(self._seed, "folds"),
        )
        return self.latent_

    def _cluster(self) -> None:
        vectors = _unit(self._id_vectors())
        distinct = len(np.unique(vectors, axis=0))
        self.silhouettes_: dict[int, float] = {}
        if self.n_segments == "auto":
            self._kmeans = self._choose(vectors, distinct)
        else:
            self._kmeans = self._fit_kmeans(vectors, min(int(self.n_segments), distinct))
        self.n_segments_ = int(self._kmeans.n_clusters)
        self.centers_ = self._kmeans.cluster_centers_
        self.segments_ = self._segments_of_ids()

    def _choose(self, vectors: Array, distinct: int) -> MiniBatchKMeans:
        rng = generator(self._seed, "silhouette")
        sample = vectors[np.sort(rng.permutation(len(vectors))[:SILHOUETTE_IDS])]
        best = self._fit_kmeans(vectors, 1)
        for k in CANDIDATES:
            if k >= min(distinct, len(sample)):
                break
            fitted = self._fit_kmeans(vectors, k)
            labels = _nearest_center(fitted, sample)
            if len(np.unique(labels)) < 2:
                continue
            self.silhouettes_[k] = float(silhouette_score(sample, labels))
            if self.silhouettes_[k] >= max(self.silhouettes_.values()):
                best = fitted
        return best

    def _fit_kmeans(self, vectors: Array, k: int) -> MiniBatchKMeans:
        kmeans = MiniBatchKMeans(k, n_init=N_INIT, batch_size=4096, random_state=spawn_seed(self._seed, "clusters", k))
        with thread_limit(1):
            return kmeans.fit(vectors)

    def _id_vectors(self) -> Array:
        fitted = self.latent_.models_[NAME]
        return np.asarray(fitted.user_factors_ if self.of == "user" else fitted.item_factors_)

    def _segments_of_ids(self) -> pd.Series:
        fitted = self.latent_.models_[NAME]
        ids = fitted.users_ if self.of == "user" else fitted.items_
        labels = _nearest_center(self._kmeans, _unit(self._id_vectors()))
        return pd.Series(labels, index=ids, name=f"{self.of}_segment")

    def _append(self, X: pd.DataFrame, latent: Any) -> pd.DataFrame:
        n_factors = self.centers_.shape[1]
        names = [f"{NAME}__{self.of}_{k}" for k in range(n_factors)]
        vectors = np.asarray(latent[names], dtype=np.float32)  # of pandas or polars, as scikit-learn is set
        labels = np.full(len(X), -1)
        covered = ~np.isnan(vectors).any(axis=1)
        labels[covered] = _nearest_center(self._kmeans, _unit(vectors[covered]))
        column = pd.Categorical.from_codes(labels, categories=pd.RangeIndex(self.n_segments_))
        return append_columns(X, [pd.Series(column, index=X.index, name=f"{self.of}_segment")])


def _unit(vectors: Array) -> Array:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12), dtype=np.float32)


def _nearest_center(kmeans: MiniBatchKMeans, vectors: Array) -> Array:
    """Nearest cluster of each vector; in double precision and row by row the same, however many rows there are."""
    centers = kmeans.cluster_centers_.astype(np.float64)
    products = np.einsum("nf,kf->nk", vectors.astype(np.float64), centers)
    return np.asarray(((centers**2).sum(axis=1) - 2 * products).argmin(axis=1))
