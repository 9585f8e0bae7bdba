"""The kernels of several outputs: numerical gradients, missing labels, softmax."""

import numpy as np
import pytest
from scipy import sparse
from scipy.special import logsumexp, softmax

from mtl_classic.factorization._epochs import REG_MIXERS, OutputsEpoch
from mtl_classic.factorization._problem import Interactions, Parameters, Problem, Rows
from mtl_classic.factorization._registry import SOLVERS
from mtl_classic.factorization._settings import Settings
from tests._reference import fm as twin
from tests.factorization.test_fm_kernels import INTERACTIONS, FixedOrder, twin_interactions

LOSSES = (("log", 1), ("squared", 1), ("softmax", 3), ("poisson", 1), ("hinge", 1), ("log", 1), ("squared", 1))
N_OUTPUTS = 9  # more than one vector of 8
N_FACTORS, N_PRIVATE, N_COLUMNS = 5, 3, 8


def one_row(interactions: Interactions, seed: int = 0) -> Problem:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(1, N_COLUMNS)).astype(np.float32)
    x[0, 3] = 0
    targets = np.array([[1.0, 0.4, 0, 1, 0, 2.0, 0.0, 1.0, -0.3]])
    weights = np.array([[1.5, 0.7, 1.2, 1.2, 1.2, 0.5, 0.8, 0.0, 1.1]])  # the eighth has no label
    return Problem(sparse.csr_matrix(x), targets, weights, LOSSES, interactions, 0.2, 0.1)


def random_parameters(n_slots: int, seed: int = 1) -> Parameters:
    rng = np.random.default_rng(seed)
    p = Parameters(N_COLUMNS, N_FACTORS, n_slots, n_outputs=N_OUTPUTS, n_private=N_PRIVATE, dtype=np.float64)
    for slots in (p.factor_slots, p.linear_slots, p.bias_slots[None], p.mixer_slots):
        slots[:, 1:] = 1.0
    p.factor_slots[:, 0, p.live] = rng.uniform(-0.8, 0.8, (N_COLUMNS, int(p.live.sum())))
    p.linear_slots[:, 0, :N_OUTPUTS] = rng.uniform(-0.8, 0.8, (N_COLUMNS, N_OUTPUTS))
    p.bias_slots[0, :N_OUTPUTS] = rng.uniform(-0.8, 0.8, N_OUTPUTS)
    p.mixer_slots[:, 0, :N_FACTORS] = rng.uniform(0.5, 1.5, (N_OUTPUTS, N_FACTORS))
    return p


def pack(p: Parameters) -> np.ndarray:
    return np.concatenate(
        [
            p.factor_slots[:, 0, p.live].ravel(),
            p.linear_slots[:, 0, :N_OUTPUTS].ravel(),
            p.bias_slots[0, :N_OUTPUTS],
            p.mixer_slots[:, 0, :N_FACTORS].ravel(),
        ]
    )


def unpack(flat: np.ndarray) -> tuple[np.ndarray, ...]:
    sizes = [N_COLUMNS * (N_FACTORS + N_OUTPUTS * N_PRIVATE), N_COLUMNS * N_OUTPUTS, N_OUTPUTS, N_OUTPUTS * N_FACTORS]
    V, w, b, r = np.split(flat, np.cumsum(sizes)[:-1])
    return V.reshape(N_COLUMNS, -1), w.reshape(N_COLUMNS, N_OUTPUTS), b, r.reshape(N_OUTPUTS, N_FACTORS)


def twin_scores(x: np.ndarray, flat: np.ndarray, parts: np.ndarray, mixing: np.ndarray) -> np.ndarray:
    V, w, b, r = unpack(flat)
    product = twin.interaction_products(x, V, parts, mixing)
    private = product[N_FACTORS:].reshape(N_OUTPUTS, N_PRIVATE).sum(axis=1)
    return b + x @ w + r @ product[:N_FACTORS] + private


def objective(flat: np.ndarray, problem: Problem, parts: np.ndarray, mixing: np.ndarray) -> float:
    x, weights, y = problem.X.toarray()[0].astype(float), problem.weights[0], problem.targets[0]
    V, w, _, r = unpack(flat)
    s, value, at, labelled = twin_scores(x, flat, parts, mixing), 0.0, 0, weights > 0
    for name, width in LOSSES:
        part = slice(at, at + width)
        if name == "softmax":
            value += weights[at] * (logsumexp(s[part]) - s[part] @ y[part])
        else:
            value += weights[at] * twin.loss(name, s[at], y[at])
        at += width
    there = x != 0
    value += 0.5 * 0.1 * ((w**2)[there] @ weights).sum()
    value += 0.5 * 0.2 * weights[labelled].mean() * (V[there, :N_FACTORS] ** 2).sum()
    own = (V[there, N_FACTORS:] ** 2).reshape(-1, N_OUTPUTS, N_PRIVATE).sum(axis=(0, 2))
    value += 0.5 * 0.2 * (weights * own).sum()
    return value + 0.5 * REG_MIXERS * (weights @ ((r - 1) ** 2).sum(axis=1))


@pytest.mark.parametrize("solver", ["sgd", "adagrad"])
@pytest.mark.parametrize("interactions", INTERACTIONS)
def test_a_step_follows_the_numerical_gradient(interactions: str, solver: str) -> None:
    problem = one_row(INTERACTIONS[interactions])
    parts, mixing = twin_interactions(problem)
    p = random_parameters(SOLVERS[solver].n_slots)
    epoch = OutputsEpoch(SOLVERS[solver], problem, p, Settings(learning_rate=0.1), FixedOrder())
    at, step = pack(p), 1e-6
    numerical = np.array(
        [
            objective(at + step * e, problem, parts, mixing) - objective(at - step * e, problem, parts, mixing)
            for e in np.eye(len(at))
        ]
    ) / (2 * step)
    assert np.abs(numerical).max() > 0.1
    epoch.run()
    moved = numerical if solver == "sgd" else numerical / np.sqrt(1 + numerical**2)
    np.testing.assert_allclose((at - pack(p)) / 0.1, moved, rtol=5e-6, atol=2e-8)
    unlabelled = 7
    assert p.bias_slots[0, unlabelled] == at[-N_OUTPUTS * N_FACTORS - 2]
    assert not p.factor_slots[:, 0, ~p.live].any()


@pytest.mark.parametrize("interactions", INTERACTIONS)
def test_scores_equal_the_twin(interactions: str) -> None:
    problem = one_row(INTERACTIONS[interactions])
    parts, mixing = twin_interactions(problem)
    p = random_parameters(2)
    scores = p.scores(Rows.read(problem.X, problem.interactions), problem.interactions)
    np.testing.assert_allclose(scores[0], twin_scores(problem.X.toarray()[0], pack(p), parts, mixing), rtol=1e-10)


def test_softmax_slopes_sum_to_nothing() -> None:
    problem = one_row(Interactions())
    p = random_parameters(1)
    bias = p.bias_slots[0].copy()
    scores = p.scores(Rows.read(problem.X, problem.interactions), problem.interactions)[0]
    OutputsEpoch(SOLVERS["sgd"], problem, p, Settings(learning_rate=0.1), FixedOrder()).run()
    moved = (bias - p.bias_slots[0])[2:5] / 0.1
    np.testing.assert_allclose(moved, 1.2 * (softmax(scores[2:5]) - problem.targets[0, 2:5]), rtol=1e-10)
    assert abs(moved.sum()) < 1e-12
