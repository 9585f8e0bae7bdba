"""The next points of a Bayesian search by a Gaussian process: where the expected improvement is greatest."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from scipy.stats import norm
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Kernel, Matern, WhiteKernel

from mtl_classic.model_selection._search_space import Codes, Dimension, Floats, as_features, from_unit

__all__ = ["next_points"]

N_RANDOM = 1000  # candidates anywhere
N_NEAR = 50  # candidates near each of the best points
N_BEST = 5
STEP = 0.1  # of a candidate from the point it is near to, in shares of the range


def next_points(
    dimensions: Sequence[Dimension],
    points: Sequence[Codes],
    values: Floats,
    n_points: int,
    random: np.random.Generator,
) -> list[Codes]:
    """Points of greatest expected improvement, the later ones as if the earlier had come out as expected.

    Parameters
    ----------
    dimensions : sequence of Dimension
    points : sequence of codes
        Already judged.
    values : ndarray of shape (n,) or (n, n_objectives)
        Greater is better. Several objectives are weighed at random, anew for each point, by the augmented Chebyshev
        norm, so that the points spread along the front.
    n_points : int
    random : Generator

    Notes
    -----
    Cost: n³ for a fit of n points, some thirty fits for the length scales, once for each call and objective weight.

    References
    ----------
    J. Snoek, H. Larochelle, R. Adams, Practical Bayesian optimization of machine learning algorithms, NeurIPS 2012,
    arXiv:1206.2944; J. Knowles, ParEGO, IEEE Trans. Evol. Comp. 2006, doi:10.1109/TEVC.2005.851274.
    """
    known, kernel = list(points), None
    values = values.reshape(len(known), -1)
    for _ in range(n_points):
        single = values.shape[1] == 1
        target = values[:, 0] if single else _weigh(values, random)
        process = _fit(dimensions, known, target, kernel, random)
        kernel = process.kernel_ if single else None
        order = np.argsort(-target, kind="stable")[:N_BEST]
        candidates = _candidates(dimensions, [known[i] for i in order], known, random)
        mean, spread = process.predict(as_features(dimensions, candidates), return_std=True)
        best = process.predict(as_features(dimensions, [known[order[0]]]))[0]
        found = candidates[int(np.argmax(_improvement(mean, spread, float(best))))]
        believed = _believed(dimensions, known, values, process if single else None, found)
        known, values = [*known, found], np.vstack([values, believed])
    return known[len(points) :]


def _fit(
    dimensions: Sequence[Dimension],
    points: Sequence[Codes],
    values: Floats,
    kernel: Kernel | None,
    random: np.random.Generator,
) -> GaussianProcessRegressor:
    """A process with a length scale for each dimension; a kernel that is given is kept."""
    features = as_features(dimensions, points)
    if kernel is not None:
        return GaussianProcessRegressor(kernel, optimizer=None, normalize_y=True).fit(features, values)
    kernel = ConstantKernel(1.0, (0.05, 20)) * Matern(np.full(features.shape[1], 0.5), (0.05, 10), nu=2.5)
    model = GaussianProcessRegressor(
        kernel + WhiteKernel(1e-2, (1e-6, 1.0)),
        normalize_y=True,
        n_restarts_optimizer=1,
        random_state=int(random.integers(2**31)),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a scale at its bound: the dimension is flat
        return model.fit(features, values)


def _weigh(values: Floats, random: np.random.Generator) -> Floats:
    low, high = values.min(axis=0), values.max(axis=0)
    differs = high > low
    gain = np.where(differs, (values - low) / np.where(differs, high - low, 1.0), 1.0)  # what is the same is reached
    weights = random.dirichlet(np.ones(values.shape[1]))
    return np.asarray((weights * gain - weights).min(axis=1) + 0.05 * gain @ weights)


def _candidates(
    dimensions: Sequence[Dimension], best: Sequence[Codes], known: Sequence[Codes], random: np.random.Generator
) -> list[Codes]:
    """Random points and neighbours of the best, without those already judged (if anything else is left)."""
    units = [random.random((N_RANDOM, len(dimensions)))]
    for point in best:
        centre = np.array([d.unit(point[d.name]) for d in dimensions])
        near = centre + STEP * random.normal(size=(N_NEAR, len(dimensions)))
        moved = random.random(near.shape) < max(0.5, 1 / len(dimensions))
        near = np.where(moved, near, centre)
        free = np.array([not d.ordered for d in dimensions]) & (random.random(near.shape) < 0.2)
        units.append(np.clip(np.where(free, random.random(near.shape), near), 0, 1 - 1e-12))
    points = [from_unit(dimensions, row) for row in np.vstack(units)]
    seen = {tuple(point.values()) for point in known}
    fresh = [point for point in points if tuple(point.values()) not in seen]
    return fresh or points


def _improvement(mean: Floats, spread: Floats, best: float) -> Floats:
    """E[max(f − best, 0)] under a normal f; against the model's own mean of the best, because values are noisy."""
    spread = np.maximum(spread, 1e-12)
    z = (mean - best) / spread
    return np.asarray(spread * (z * norm.cdf(z) + norm.pdf(z)))


def _believed(
    dimensions: Sequence[Dimension],
    known: Sequence[Codes],
    values: Floats,
    process: GaussianProcessRegressor | None,
    found: Codes,
) -> Floats:
    """What a point that is still to be judged counts as: its expectation, or (several objectives) its neighbour's."""
    own = as_features(dimensions, [found])
    if process is not None:
        return np.asarray(process.predict(own))
    return np.asarray(values[np.argmin(((as_features(dimensions, known) - own) ** 2).sum(axis=1))])
