"""What a search may choose from: lists and scipy distributions, given by the user or declared by the estimator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import clone

__all__ = ["Codes", "Dimension", "as_features", "declared_space", "from_unit", "grid_points", "n_points", "read_space"]

Codes = dict[str, Any]  # parameter -> its number within the dimension: what a sampler and a storage see
Floats = npt.NDArray[np.float64]
NO_TAIL = 1e-6  # quantiles of unbounded distributions stay this far from 0 and 1


@dataclass(frozen=True)
class Dimension:
    """One parameter, and the numbers that stand for its values.

    Attributes
    ----------
    name : str
    low, high : float
        Range of the codes, both ends included.
    integer : bool
    log : bool
        Whether codes are searched on a logarithmic scale.
    values : list or None
        Values that an integer code points to.
    ordered : bool
        Whether neighbouring codes are alike; False for a list that is no ascending or descending list of numbers.
    quantiles : frozen scipy distribution or None
        The code is a probability, the value its quantile.
    """

    name: str
    low: float
    high: float
    integer: bool = False
    log: bool = False
    values: list[Any] | None = None
    ordered: bool = True
    quantiles: Any = None

    def value(self, code: float) -> Any:
        """What the estimator is given."""
        if self.values is not None:
            return self.values[int(code)]
        if self.quantiles is not None:
            quantile = self.quantiles.ppf(code).item()
            return int(quantile) if hasattr(self.quantiles, "pmf") else quantile  # scipy's quantiles are all floats
        return int(code) if self.integer else float(code)

    def code(self, unit: float) -> Any:
        """The code at a share of the range, 0 ≤ unit < 1."""
        if self.integer and not self.log:
            return int(min(self.low + np.floor(unit * (self.high - self.low + 1)), self.high))
        if self.log:
            raw = float(self.low * (self.high / self.low) ** unit)
            return round(raw) if self.integer else float(np.clip(raw, self.low, self.high))
        return float(self.low + unit * (self.high - self.low))

    def unit(self, code: float) -> float:
        """The share of the range at which a code lies."""
        if self.high == self.low:
            return 0.5
        if self.log:
            return float(np.log(code / self.low) / np.log(self.high / self.low))
        return float((code - self.low) / (self.high - self.low))


def declared_space(estimator: Any) -> dict[str, Any]:
    """What an estimator, or the steps of a pipeline, say is worth searching."""
    if hasattr(estimator, "search_space"):
        return dict(estimator.search_space())
    steps = getattr(estimator, "steps", ())
    return {f"{name}__{key}": value for name, step in steps for key, value in declared_space(step).items()}


def read_space(space: Mapping[str, Any] | None, estimator: Any) -> list[Dimension]:
    """The dimensions of a space, sorted by name, each tried on a clone of the estimator.

    Raises
    ------
    ValueError
        On an empty space or list, an unknown parameter, or an estimator that declares nothing.
    TypeError
        On a space that is no dict, or an entry that is neither a list nor a distribution.
    """
    if space is None:
        space = declared_space(estimator)
        if not space:
            raise ValueError(
                f"{type(estimator).__name__} declares nothing to search; give space=, a dict parameter -> list or "
                f"scipy distribution."
            )
    if not isinstance(space, Mapping):
        raise TypeError(
            f"space must be a dict parameter -> list or scipy distribution, or None for what the estimator declares; "
            f"got {type(space).__name__}."
        )
    if not space:
        raise ValueError("space is empty: name at least one parameter to search.")
    dimensions = [_read(str(name), space[name]) for name in sorted(space)]
    clone(estimator).set_params(**{d.name: clone(d.value(d.code(0.5)), safe=False) for d in dimensions})
    return dimensions


def n_points(dimensions: Sequence[Dimension]) -> float:
    """How many points a space of lists has; infinity where a dimension is continuous."""
    return float(np.prod([d.high - d.low + 1 if d.integer else np.inf for d in dimensions]))


def grid_points(dimensions: Sequence[Dimension]) -> list[Codes]:
    """All combinations, in the order of scikit-learn's ``ParameterGrid``."""
    ranges = [d.name for d in dimensions if d.values is None and not d.integer]
    if ranges:
        raise ValueError(
            f'strategy="grid" needs lists, but {", ".join(ranges)} has a continuous distribution; list its values, or '
            f'choose "random", "bayesian" or "genetic".'
        )
    sizes = [int(d.high - d.low) + 1 for d in dimensions]
    points = np.stack(np.unravel_index(np.arange(int(np.prod(sizes))), sizes), axis=1)
    return [{d.name: int(d.low) + int(k) for d, k in zip(dimensions, point, strict=True)} for point in points]


def from_unit(dimensions: Sequence[Dimension], units: Floats) -> Codes:
    """The point of a unit cube as codes."""
    return {d.name: d.code(float(u)) for d, u in zip(dimensions, units, strict=True)}


def as_features(dimensions: Sequence[Dimension], points: Sequence[Codes]) -> Floats:
    """Points as numbers that are near where the points are alike: unordered choices one-hot, others in [0, 1]."""
    columns: list[Floats] = []
    for d in dimensions:
        codes = np.array([point[d.name] for point in points])
        if d.ordered:
            columns.append(np.array([d.unit(code) for code in codes]))
        else:
            columns += [(codes == k) / np.sqrt(2) for k in range(int(d.high) + 1)]
    return np.stack(columns, axis=1)


def _read(name: str, entry: Any) -> Dimension:
    if isinstance(entry, np.ndarray | list | tuple | range):
        return _choices(name, list(entry))
    if hasattr(entry, "ppf") and hasattr(entry, "support"):
        return _distribution(name, entry)
    raise TypeError(
        f"The space of {name!r} must be a list of values or a frozen scipy distribution such as "
        f"scipy.stats.loguniform(0.01, 1); got {entry!r}."
    )


def _choices(name: str, values: list[Any]) -> Dimension:
    if not values:
        raise ValueError(f"The list of {name!r} is empty: give at least one value.")
    plain = [value.item() if isinstance(value, np.generic) else value for value in values]
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in plain)
    steps = np.diff(plain) if numbers else np.zeros(0)
    ordered = numbers and bool((steps > 0).all() or (steps < 0).all())
    return Dimension(name, 0, len(plain) - 1, integer=True, values=plain, ordered=ordered)


def _distribution(name: str, entry: Any) -> Dimension:
    kind = getattr(getattr(entry, "dist", None), "name", "")
    low, high = (float(end) for end in entry.support())
    if not low <= high:
        raise ValueError(f"The distribution of {name!r} has no support: it goes from {low} to {high}.")
    if kind == "uniform":
        return Dimension(name, low, high)
    if kind in ("loguniform", "reciprocal"):
        return Dimension(name, low, high, log=True)
    if kind == "randint":
        return Dimension(name, low, high, integer=True)
    return Dimension(name, NO_TAIL, 1 - NO_TAIL, quantiles=entry)
