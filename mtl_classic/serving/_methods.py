"""What a fitted model does in production, as methods of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from typing import Any, Self

import pandas as pd
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from mtl_classic.serving._compiled import CompiledModel
from mtl_classic.serving._factors import find_factors
from mtl_classic.serving._observe import OBSERVING, tell
from mtl_classic.serving._recommend import recommend_items
from mtl_classic.serving._refresh import refresh_model
from mtl_classic.serving._scores import CHUNK_SIZE, Progress
from mtl_classic.serving._top_k import top_k

__all__ = ["ServingMethods"]


class ServingMethods:
    """Mixin of a model with a ``pipeline_``: told of new events, ranking candidates, recommending."""

    pipeline_: Pipeline

    @property
    def as_of_(self) -> Any:
        """Time of the last event that predictions know of; None without a history."""
        check_is_fitted(self)
        return next((step.as_of_ for _, step in self.pipeline_.steps if hasattr(step, "as_of_")), None)

    def observe(self, events: Any, y: Any = None) -> Self:
        """Append new events to the log: history and folded-in users move on, nothing is refitted.

        Events that the log holds already count twice: tell each only once (a log says so where most of at least 100
        told are in it, by `RepeatedEventsWarning`; factors alone cannot know). A model without history and latent
        features stays as it is. Calls from several threads wait for each other.

        A row's history ends before its own time, however much is told, and so do the factors of its user, but for what
        they have of the fit: on rows after the fit a model may be judged at once, as if it had been told event by
        event. (Factors of other models than ALS, which the user chooses, hold all that was told.) A ``lag`` of the
        history makes it as old as it is at night; factors have none, so that rows late in a day know of the events
        before them.

        Scores that another thread asks for meanwhile, and files that it saves, are those of before or of after. (Where
        `recommend` takes candidates of before, it may rank them as of after.) Steps taken from ``pipeline_`` stay as
        they were.

        Parameters
        ----------
        events : EventLog or frame with the columns of the log
            New rows, for a model that was fitted without ``events``: its history is made of the fitted rows.
        y : labels of the new rows, default=None
            For such a model, NaN where they are not known. A label that is known later is told with its row again, the
            row's other labels NaN; but not of a row whose parent is 0, whose child was known to be 0 with it.

        Returns
        -------
        self
        """
        check_is_fitted(self)
        with OBSERVING:
            steps = [(name, copy(step) if hasattr(step, "observe") else step) for name, step in self.pipeline_.steps]
            tell([step for _, step in steps], events, y)
            self.pipeline_ = Pipeline(steps)  # at once: another thread may be predicting or saving
        return self

    def top_k(
        self,
        candidates: Any,
        by: str | Callable[[pd.DataFrame, Any], Any],
        k: int = 20,
        per: str | Sequence[str] | None = "user",
        *,
        columns: Sequence[str] | None = None,
        chunk_size: int = CHUNK_SIZE,
        memory_limit: int | str | None = None,
        progress: Progress | None = None,
    ) -> pd.DataFrame:
        """The k best candidates of each user, from a table, files, or a stream of chunks: `mtl_classic.top_k`.

        Parameters
        ----------
        candidates : frame, path of a Parquet file or of a folder of them, list of paths, or iterable of frames
        by : str or callable
            A task (``task=class`` for multiclass), or a function of the scores and the rows of a chunk.
        k : int, default=20
        per : str, list of str or None, default="user"
            Roles or columns whose values are the groups; None is one list of all.
        columns : list of str, default=None
            Columns of the candidates to return; None: ``per`` and the roles, all if the model has no roles.
        chunk_size : int, default=100000
        memory_limit : int or str, default=None
            Bytes that a chunk may take, as in `predict_scores_in_chunks`.
        progress : callable, default=None
            Called after each chunk with the rows done and the rows in all.

        Returns
        -------
        DataFrame with the columns, ``score`` and ``rank``
        """
        return top_k(
            self, candidates, by=by, k=k, per=per, columns=columns, chunk_size=chunk_size, memory_limit=memory_limit,
            progress=progress,
        )  # fmt: skip

    def recommend(
        self,
        users: Any,
        k: int = 20,
        *,
        by: str | Callable[[pd.DataFrame, Any], Any] | None = None,
        items: Any = None,
        exclude_seen: bool = True,
        n_candidates: int | None = None,
    ) -> pd.DataFrame:
        """The k best items of each user: candidates by factors of users and items, ranked by the model.

        The factors are those of the latent step (a `MatrixFactorization`, else a user × item factorization machine),
        else an ALS of the whole event log, made at the first call after the log has changed.

        Parameters
        ----------
        users : list of ids, or frame with a row per user
            The frame also has the columns of users and context that the model reads. Without the time column the rows
            are of the next instant after the last event of the log. Of several rows of a user the first counts.
        k : int, default=20
        by : str, callable or None, default=None
            As in `top_k`; None is the first task.
        items : list of ids, or frame with a row per item, default=None
            What may be recommended, with the columns of items that the model reads; None: all items of the factors.
        exclude_seen : bool, default=True
            Leave out items that the user has any event with in the log.
        n_candidates : int, default=None
            Items per user that the model ranks; None is the larger of 200 and 10 k.

        Returns
        -------
        DataFrame with the columns of user and item, ``score`` and ``rank``

        Raises
        ------
        ValueError
            Without factors or a log to make them of; if columns that the model reads are in neither frame.

        Notes
        -----
        Cost: users × items × factors (of a sampled machine those of all draws), a sort of the items per user, and
        scores of ``n_candidates`` rows per user.
        """
        check_is_fitted(self)
        return recommend_items(self, users, k, by=by, items=items, exclude_seen=exclude_seen, n_candidates=n_candidates)

    def similar_items(self, items: Any, n: int = 10) -> pd.DataFrame:
        """Nearest items by the cosine of their factors (those of `recommend`).

        Parameters
        ----------
        items : list of ids
        n : int, default=10

        Returns
        -------
        DataFrame with the columns ``item``, ``similar``, ``cosine``
            The best first; ids without factors have no rows.
        """
        check_is_fitted(self)
        return find_factors(self).nearest("item", items, n)

    def similar_users(self, users: Any, n: int = 10) -> pd.DataFrame:
        """Nearest users by the cosine of their factors (those of `recommend`).

        Parameters
        ----------
        users : list of ids
        n : int, default=10

        Returns
        -------
        DataFrame with the columns ``user``, ``similar``, ``cosine``
        """
        check_is_fitted(self)
        return find_factors(self).nearest("user", users, n)

    def refresh(self, X: Any, Y: Any, *, sample_weight: Any = None, how: str = "leaves", decay: float = 0.95) -> Self:
        """A new model, moved by new rows without being fitted anew; this one stays as it is.

        Boosters of LightGBM and XGBoost and forests of scikit-learn get new leaf values on the trees that they have, or
        further trees, a tenth as many as the fit grew; coefficients of linear models are drawn towards those of a fit
        on the new rows; what has a ``partial_fit`` makes a pass. That is so in `PerTaskModel`, `FunnelModel` and
        `TaskGraphModel` (but for the slopes of its lines) and in averages, stacks and calibrations of them, so also in
        ``preset="best"``. Factorization machines, those of the latent step too, make a pass over the rows, where their
        solver can. `SharedTreesModel`, the classifiers of ``"svm"`` and histogram boosting stay as they were, and so
        does what else was learnt: categories, the choice of history, statistics of labels, routes, weights of
        ensembles, calibration. Whether it is better is for
        ``evaluate(new, X, Y, baseline=old)`` to say, on rows that neither has seen.

        Parameters
        ----------
        X : frame of shape (n, n_features)
            New rows, later than the fit, after ``observe`` has told of the events between; their history is that before
            each row's time, and factors of the log are as of the first labelled row (with ``aggregates=None``, where
            the model keeps no log, as of the fit).
        Y : labels of shape (n,) or (n, n_tasks), NaN where unlabelled
            Labels whose delay was not over as far as the log goes do not count.
        sample_weight : array of shape (n,) or (n, n_tasks), default=None
        how : {"leaves", "rounds"}, default="leaves"
            Rounds add a tenth of those of the fit at each refresh, and fit few new rows too closely: they are for some
            refreshes of many rows, not for every night.
        decay : float in [0, 1], default=0.95
            Share of the rows that the model rests on, those of the fit and of refreshes before, that counts beside the
            new ones. 1 forgets nothing, which is best where nothing changes; 0.95 forgets half in 14 refreshes. Of no
            effect on rounds and passes.

        Returns
        -------
        MultiTaskModel
            Its ``refreshed_`` is a frame with a row per part: ``member`` of the ensemble, ``task``, ``part``,
            ``learner``, ``outcome`` ("leaves", "rounds", "coefficients", "pass", "kept" where the new rows have nothing
            for it, "cannot"), and ``why`` it stays as it was.

        Raises
        ------
        TypeError
            If nothing of the model can be refreshed. Parts that cannot, beside others that can, are told by a
            `FallbackWarning` and in ``refreshed_``.

        Notes
        -----
        A boosted leaf of value v takes a Newton step, v ← ((δH + λ) v − η G') / (δH + λ + H'), and H ← δH + H',
        with G' and H' the sums of the new rows' gradients and hessians, H that of the rows before, δ the ``decay``, η
        the learning rate and λ the L2 penalty; a forest's leaf is a mean of rows, and so are coefficients of those of
        the two fits. Cost: the new rows' leaves in all trees.
        """
        check_is_fitted(self)
        new: Self = refresh_model(self, X, Y, sample_weight, how, decay)
        return new

    def compile_for_serving(self) -> CompiledModel:
        """The model for single requests: light, thread-safe, as of the log now.

        Trees, history and factors are copied into arrays, so that a row costs microseconds in place of the milliseconds
        of a frame. The result does not follow the model's ``observe``: it has one of its own.

        Returns
        -------
        CompiledModel
            With ``predict_scores(row)``, where ``row`` is a mapping of column to value.

        Raises
        ------
        ValueError
            If the model was not fitted on a frame.
        """
        check_is_fitted(self)
        return CompiledModel(self)
