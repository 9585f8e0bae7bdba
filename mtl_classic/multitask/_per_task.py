"""One learner for each task: the baseline for everything, over one binned matrix."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mtl_classic._core.base import Scores
from mtl_classic._core.tasks import Task
from mtl_classic._core.validation import Table
from mtl_classic.learners._protocol import TaskFit
from mtl_classic.model_selection import FoldPlan
from mtl_classic.multitask._structure import LearnerStructure, predict_components
from mtl_classic.multitask._workbench import Workbench

__all__ = ["PerTaskModel"]


class PerTaskModel(LearnerStructure):
    """One learner per task, blind to the other tasks, over one matrix that is binned once.

    Funnel children are learnt on all rows (0 where the parent is negative); a binary child is never predicted above
    its parent.

    Parameters
    ----------
    tasks : list of Task, dict name -> kind, or None
        None infers the kinds from ``Y``.
    learner : str, Learner, scikit-learn estimator or dict task -> learner, default="lightgbm"
        ``"lightgbm"``, ``"xgboost"``, ``"linear"``, ``"svm"``, ``"forest"``, ``"extra_trees"``, ``"hist"``, …
    user, item, time, query : str, default=None
        Columns with a role. Time and query are no features; time also puts the validation rows last.
    exclude : sequence of str, default=()
        Further columns that are no features.
    max_categories : int, default=255
        Categorical columns with more values are no features.
    early_stopping : bool, default=True
        Boosters stop by the last fold of the plan, or by a split of their own.
    validation_fraction : float, default=0.1
        Size of that split.
    refit : bool, default=True
        Train again on all rows for the rounds found.
    on_conflict : {"raise", "lift", "drop"}, default="raise"
        What to do with non-zero children of negative parents.
    n_jobs : int, default=None
        Threads; changes time, not results.
    random_state : int, RandomState or None

    Attributes
    ----------
    tasks_ : tuple of Task
    fits_ : dict task -> fitted learner
    columns_ : FeatureColumns
        Which columns are features, and the categories of each.

    Notes
    -----
    Cost: one binning of rows × features, then one fit (two with ``refit``) per task on its labelled rows.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from mtl_classic import PerTaskModel
    >>> rng = np.random.default_rng(0)
    >>> X = pd.DataFrame({"price": rng.normal(size=300), "shop": rng.choice(["a", "b"], 300)})
    >>> Y = pd.DataFrame({"buy": (X["price"] < 0).astype(float), "spend": X["price"].clip(lower=0)})
    >>> Y.loc[::2, "spend"] = None
    >>> model = PerTaskModel(random_state=0).fit(X, Y)
    >>> model.predict_scores(X).columns.tolist()
    ['buy', 'spend']
    """

    fits_: dict[str, TaskFit]

    def __init__(
        self,
        tasks: Iterable[Task] | Mapping[str, str] | None = None,
        *,
        learner: Any = "lightgbm",
        user: str | None = None,
        item: str | None = None,
        time: str | None = None,
        query: str | None = None,
        exclude: Sequence[str] = (),
        max_categories: int = 255,
        early_stopping: bool = True,
        validation_fraction: float = 0.1,
        refit: bool = True,
        on_conflict: str = "raise",
        n_jobs: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.tasks = tasks
        self.learner = learner
        self.user = user
        self.item = item
        self.time = time
        self.query = query
        self.exclude = exclude
        self.max_categories = max_categories
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.refit = refit
        self.on_conflict = on_conflict
        self.n_jobs = n_jobs
        self.random_state = random_state

    def fit(
        self, X: Any, Y: Any, *, sample_weight: Any = None, events: Any = None, plan: FoldPlan | None = None
    ) -> PerTaskModel:
        """Fit one learner per task on its labelled rows.

        Parameters
        ----------
        X : frame, array or CSR of shape (n, n_features)
        Y : frame or array of shape (n,) or (n, n_tasks), NaN where unlabelled
        sample_weight : array of shape (n,) or (n, n_tasks), default=None
        events : EventLog, default=None
            Not used; accepted so that all structures are called alike.
        plan : FoldPlan, default=None
            Early stopping uses its last fold.
        """
        self._fit_on(self._open(X, Y, sample_weight, plan))
        return self

    def _fit_on(self, bench: Workbench) -> None:
        self.fits_ = {task.name: bench.fit_entire(task).fit for task in bench.targets.tasks}

    def _scores(self, X: Table, space: str) -> Scores:
        return self._combined(predict_components(self, X, self.fits_), space)

    def _combined(self, parts: Scores, space: str) -> Scores:
        return self._in_space(parts, space)
