"""Categories as numbers, for trees that cannot split on them: one-hot where few, target means where many."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mtl_classic._core.targets import Targets, decode_targets
from mtl_classic.learners._columns import Features
from mtl_classic.learners._protocol import Floats
from mtl_classic.preprocessing import TargetStatistics

__all__ = ["DenseFeatures"]

TIME = "time of the row"


@dataclass
class DenseFeatures:
    """Numbers stay; categories with few values become 0/1 columns, the others the smoothed means of all labels.

    The means of the fitted rows are cross-fitted, by time where there is a time.

    Parameters
    ----------
    max_onehot : int
        Most values of a column that is made one-hot.
    cv : int, splitter or Temporal
        Folds of the means.
    seed : int
    """

    max_onehot: int
    cv: Any
    seed: int
    few_: dict[int, int] = field(default_factory=dict, init=False)
    many_: tuple[int, ...] = field(default=(), init=False)
    statistics_: TargetStatistics | None = field(default=None, init=False)

    def fit_transform(self, features: Features, targets: Targets, weights: Floats | None, time: Any) -> Any:
        """The matrix of the fitted rows, float32 of shape (n, n_columns) or CSR."""
        if not features.categorical:
            return features.values
        codes = {j: np.nan_to_num(features.values[:, j], nan=-1.0) for j in features.categorical}
        levels = {j: int(values.max(initial=-1)) + 1 for j, values in codes.items()}
        self.few_ = {j: n for j, n in levels.items() if n <= self.max_onehot}
        self.many_ = tuple(j for j, n in levels.items() if n > self.max_onehot)
        if not self.many_:
            return self._join(features, None)
        frame = self._codes(features)
        timed = time is not None and time.nunique() > 1
        if timed:
            frame[TIME] = np.asarray(time)
        self.statistics_ = TargetStatistics(
            [str(j) for j in self.many_],
            tasks=[replace(task, given=None) for task in targets.tasks],
            time=TIME if timed else None,
            cv=self.cv,
            random_state=self.seed,
        )
        crossed = self.statistics_.fit_transform(frame, decode_targets(targets), sample_weight=weights)
        return self._join(features, self._means(crossed))

    def transform(self, features: Features) -> Any:
        """The same columns of other rows; the means are those of all fitted rows."""
        if self.statistics_ is None:
            return self._join(features, None) if self.few_ else features.values
        frame = self._codes(features)
        if self.statistics_.time is not None:
            frame[TIME] = np.zeros(len(frame))
        return self._join(features, self._means(self.statistics_.transform(frame)))

    def _codes(self, features: Features) -> pd.DataFrame:
        return pd.DataFrame({str(j): features.values[:, j] for j in self.many_})

    def _means(self, frame: Any) -> npt.NDArray[np.float32]:
        names = [] if self.statistics_ is None else self.statistics_.statistics_
        return np.asarray(frame[names], dtype=np.float32)  # of pandas or polars, as scikit-learn is set

    def _join(self, features: Features, means: npt.NDArray[np.float32] | None) -> npt.NDArray[np.float32]:
        numeric = [j for j in range(features.values.shape[1]) if j not in features.categorical]
        parts = [features.values[:, numeric]]
        parts += [
            (features.values[:, [j]] == np.arange(n, dtype=np.float32)).astype(np.float32) for j, n in self.few_.items()
        ]
        return np.hstack(parts if means is None else [*parts, means])
