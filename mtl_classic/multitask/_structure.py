"""What the structures that fit a learner for each task share: their parameters, and the scores of components."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from mtl_classic._core.base import MultiTaskEstimator
from mtl_classic._core.options import COLUMNS, COUNT_OR_0, SHARE, TRUTH, Option
from mtl_classic._core.parallel import n_threads
from mtl_classic._core.random import root_seed
from mtl_classic._core.validation import Table
from mtl_classic.learners._columns import FeatureColumns
from mtl_classic.learners._protocol import Floats
from mtl_classic.learners._resolve import TakesLearner
from mtl_classic.model_selection import FoldPlan
from mtl_classic.multitask._workbench import Workbench, open_workbench

__all__ = ["LearnerStructure", "predict_components"]


class LearnerStructure(TakesLearner, MultiTaskEstimator):
    """Base of the structures over one binned matrix."""

    learner: Any
    exclude: Sequence[str]
    early_stopping: bool
    n_jobs: int | None
    random_state: Any
    columns_: FeatureColumns
    fits_: dict[Any, Any]
    _options: ClassVar[dict[str, Option]] = {
        "exclude": COLUMNS, "max_categories": COUNT_OR_0, "early_stopping": TRUTH, "validation_fraction": SHARE,
        "refit": TRUTH,
    }  # fmt: skip

    def _open(
        self, X: Any, Y: Any, sample_weight: Any, plan: FoldPlan | None, like: Workbench | None = None
    ) -> Workbench:
        given = self._start_fit(X, Y, sample_weight)
        bench = open_workbench(
            self,
            given,
            plan=plan,
            seed=root_seed(self.random_state),
            learner=self.learner,
            early_stopping=self.early_stopping,
            like=like,
        )
        self.columns_ = bench.columns
        return bench

    def _threads(self) -> int:
        return n_threads(self.n_jobs)


def predict_components(model: LearnerStructure, X: Table, fits: dict[Any, Any]) -> dict[Any, Floats]:
    """Scores of every component over one encoding of the table."""
    features = model.columns_.transform(X)
    return {key: fit.predict(features, model._threads()) for key, fit in fits.items()}
