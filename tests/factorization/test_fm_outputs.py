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
N_LINEAR = N_OUTPUTS + 1  # the outputs' own and the common one
LABELLED_GROUPS = 6  # all but the one without label
ANCHOR = 6


def one_row(interactions: Interactions, seed: int = 0) -> Problem:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(1, N_COLUMNS)).astype(np.float32)
    x[0, 3] = 0
    targets = np.array([[1.0, 0.4, 0, 1, 0, 2.0, 0.0, 1.0, -0.3]])
    weights = np.array([[1.5, 0.7, 1.2, 1.2, 1.2, 0.5, 0.8, 0.0, 1.1]])  # the eighth has no label
    return Problem(sparse.csr_matrix(x), targets, weights, LOSSES, interactions, 0.2, 0.1)


def random_parameters(n_slots: int, seed: int = 1) -> Parameters:
    rng = np.random.default_rng(seed)
    p = Parameters(
        N_COLUMNS, N_FACTORS, n_slots, n_outputs=N_OUTPUTS, n_private=N_PRIVATE, shared_linear=True, dtype=np.float64
    )
    for slots in (p.factor_slots, p.linear_slots, p.bias_slots[None], p.mixer_slots, p.share_slots[None]):
        slots[:, 1:] = 1.0
    p.factor_slots[:, 0, p.live] = rng.uniform(-0.8, 0.8, (N_COLUMNS, int(p.live.sum())))
    p.linear_slots[:, 0, :N_LINEAR] = rng.uniform(-0.8, 0.8, (N_COLUMNS, N_LINEAR))
    p.bias_slots[0, :N_LINEAR] = rng.uniform(-0.8, 0.8, N_LINEAR)
    p.mixer_slots[:, 0, :N_FACTORS] = rng.uniform(0.5, 1.5, (N_OUTPUTS, N_FACTORS))
    p.share_slots[0, :N_OUTPUTS] = rng.uniform(0.5, 1.5, N_OUTPUTS)
    return p


def pack(p: Parameters) -> np.ndarray:
    return np.concatenate(
        [
            p.factor_slots[:, 0, p.live].ravel(),
            p.linear_slots[:, 0, :N_LINEAR].ravel(),
            p.bias_slots[0, :N_LINEAR],
            p.mixer_slots[:, 0, :N_FACTORS].ravel(),
            p.share_slots[0, :N_OUTPUTS],
        ]
    )


def unpack(flat: np.ndarray) -> tuple[np.ndarray, ...]:
    sizes = [N_COLUMNS * (N_FACTORS + N_OUTPUTS * N_PRIVATE), N_COLUMNS * N_LINEAR, N_LINEAR, N_OUTPUTS * N_FACTORS]
    V, w, b, r, c = np.split(flat, np.cumsum(sizes))
    return V.reshape(N_COLUMNS, -1), w.reshape(N_COLUMNS, N_LINEAR), b, r.reshape(N_OUTPUTS, N_FACTORS), c


def is_shared() -> np.ndarray:
    """Which of the packed numbers all outputs share."""
    V, w, b, r, c = unpack(np.zeros(len(pack(random_parameters(1)))))
    V[:, :N_FACTORS], w[:, N_OUTPUTS], b[N_OUTPUTS] = 1, 1, 1
    return np.concatenate([part.ravel() for part in (V, w, b, r, c)]) > 0


def is_like_factors() -> np.ndarray:
    """Which of the packed numbers have the factors' solver: factors and interaction weights; others are linear."""
    V, w, b, r, c = unpack(np.zeros(len(pack(random_parameters(1)))))
    V[:], r[:] = 1, 1
    return np.concatenate([part.ravel() for part in (V, w, b, r, c)]) > 0


def twin_scores(x: np.ndarray, flat: np.ndarray, parts: np.ndarray, mixing: np.ndarray) -> np.ndarray:
    V, w, b, r, c = unpack(flat)
    linear = b + x @ w
    product = twin.interaction_products(x, V, parts, mixing)
    private = product[N_FACTORS:].reshape(N_OUTPUTS, N_PRIVATE).sum(axis=1)
    return linear[:N_OUTPUTS] + c * linear[N_OUTPUTS] + r @ product[:N_FACTORS] + private


def objective(flat: np.ndarray, problem: Problem, parts: np.ndarray, mixing: np.ndarray, portion: float) -> float:
    """The losses' sum times `portion`, and the penalties."""
    x, weights, y = problem.X.toarray()[0].astype(float), problem.weights[0], problem.targets[0]
    V, w, _, r, c = unpack(flat)
    s, value, at, labelled = twin_scores(x, flat, parts, mixing), 0.0, 0, weights > 0
    for name, width in LOSSES:
        part = slice(at, at + width)
        if name == "softmax":
            value += weights[at] * (logsumexp(s[part]) - s[part] @ y[part])
        else:
            value += weights[at] * twin.loss(name, s[at], y[at])
        at += width
    there = x != 0
    value *= portion
    value += 0.5 * 0.1 * ((w[:, :N_OUTPUTS] ** 2)[there] @ weights).sum()
    value += 0.5 * 0.1 * weights[labelled].mean() * (w[there, N_OUTPUTS] ** 2).sum()
    value += 0.5 * 0.2 * weights[labelled].mean() * (V[there, :N_FACTORS] ** 2).sum()
    own = (V[there, N_FACTORS:] ** 2).reshape(-1, N_OUTPUTS, N_PRIVATE).sum(axis=(0, 2))
    value += 0.5 * 0.2 * (weights * own).sum()
    return value + 0.5 * REG_MIXERS * (weights @ (((r - 1) ** 2).sum(axis=1) + (c - 1) ** 2))


def numerical_gradient(at: np.ndarray, *args, portion: float) -> np.ndarray:
    step = 1e-6
    pairs = [
        (objective(at + step * e, *args, portion), objective(at - step * e, *args, portion)) for e in np.eye(len(at))
    ]
    return np.array([above - below for above, below in pairs]) / (2 * step)


def stepped(at: np.ndarray, gradient: np.ndarray, solver: str, epoch: OutputsEpoch) -> np.ndarray:
    """The numbers after the twin's step against the gradient, all state at 1."""
    after = []
    for rule in epoch.rules:
        numbers = {name: float(value) for name, value in rule._asdict().items()}
        slots = [at, *(np.ones_like(at) for _ in range(twin.N_SLOTS[solver] - 1))]
        twin.Rule(solver, **numbers).step(slots, gradient, 1)
        after.append(slots[0])
    return np.where(is_like_factors(), *after)


@pytest.mark.parametrize("solver", list(twin.N_SLOTS))
@pytest.mark.parametrize("interactions", INTERACTIONS)
def test_a_step_follows_the_numerical_gradient(interactions: str, solver: str) -> None:
    problem = one_row(INTERACTIONS[interactions])
    parts, mixing = twin_interactions(problem)
    p = random_parameters(SOLVERS[solver].n_slots)
    epoch = OutputsEpoch(SOLVERS[solver], problem, p, Settings(learning_rate=0.1), FixedOrder())
    at = pack(p)
    own, mean = (numerical_gradient(at, problem, parts, mixing, portion=q) for q in (1.0, 1 / LABELLED_GROUPS))
    numerical = np.where(is_shared(), mean, own)
    assert np.abs(numerical).max() > 0.1
    assert np.abs(numerical[is_shared()]).max() > 0.05
    epoch.run()
    touched = numerical != 0
    expected = stepped(at, numerical, solver, epoch)
    np.testing.assert_allclose((at - pack(p))[touched], (at - expected)[touched], rtol=5e-6, atol=2e-9)
    unlabelled = 7
    np.testing.assert_array_equal(p.linear_slots[:, 0, unlabelled], unpack(at)[1][:, unlabelled])  # no momentum either
    assert p.bias_slots[0, unlabelled] == unpack(at)[2][unlabelled]
    assert p.share_slots[0, unlabelled] == unpack(at)[4][unlabelled]
    if twin.N_SLOTS[solver] < 3:  # the others' state moves numbers that have no gradient
        assert not p.factor_slots[:, 0, ~p.live].any()
        np.testing.assert_array_equal(pack(p)[~touched], at[~touched])


def test_the_anchor_keeps_its_interaction_weights() -> None:
    problem, p, free = one_row(Interactions()), random_parameters(2), random_parameters(2)
    before = pack(p)
    for parameters, anchor in ((p, ANCHOR), (free, -1)):
        OutputsEpoch(SOLVERS["adagrad"], problem, parameters, Settings(), FixedOrder(), anchor).run()
    np.testing.assert_array_equal(p.mixer_slots[ANCHOR, 0, :N_FACTORS], unpack(before)[3][ANCHOR])
    assert p.share_slots[0, ANCHOR] == unpack(before)[4][ANCHOR]
    moved = pack(p) != pack(free)
    assert moved.sum() == N_FACTORS + 1
    assert (pack(free) != before)[moved].all()
    OutputsEpoch(SOLVERS["adagrad"], problem, free, Settings(), FixedOrder()).run()
    assert free.share_slots[0, N_OUTPUTS:].tolist() == [0.0] * 7  # the common score has no share of itself


def test_without_shared_linear_weights_nothing_is_shared_but_factors() -> None:
    problem = one_row(Interactions())
    p = Parameters(N_COLUMNS, N_FACTORS, n_outputs=N_OUTPUTS, dtype=np.float64)
    assert p.share_slots.shape == (1, 0)
    OutputsEpoch(SOLVERS["sgd"], problem, p, Settings(), FixedOrder()).run()
    assert p.linear_slots[:, 0, :N_OUTPUTS].any()
    assert not p.linear_slots[:, :, N_OUTPUTS:].any()


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
