"""Kernels against their twins, and gradients against numerical derivatives."""

import numpy as np
import pytest
from scipy import sparse

from mtl_classic._kernels.fm import Noise
from mtl_classic.factorization._epochs import BatchEpoch, RowEpoch
from mtl_classic.factorization._problem import Interactions, Parameters, Problem, Rows
from mtl_classic.factorization._registry import SOLVERS
from mtl_classic.factorization._settings import Settings
from tests._reference import fm as twin

STOCHASTIC = ["adagrad", "sgd", "adam", "adadelta", "ftrl"]
LOSSES = ["log", "kl", "squared", "poisson", "hinge"]
PARTS = np.array([0, 0, 1, 1, 2, 2, 0, 1], dtype=np.int32)
MIXING = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 0]], dtype=np.float32)
INTERACTIONS = {"all": Interactions(), "groups": Interactions(PARTS, MIXING)}


class FixedOrder(np.random.Generator):
    """A generator whose permutations change nothing, so that rows keep their places."""

    def __init__(self) -> None:
        super().__init__(np.random.PCG64(0))

    def permutation(self, x, axis=0):
        return np.arange(x) if np.ndim(x) == 0 else np.array(x)


def labels(loss: str, n: int, rng: np.random.Generator) -> np.ndarray:
    return {
        "log": rng.integers(0, 2, n).astype(float),
        "kl": rng.random(n),
        "squared": rng.normal(size=n),
        "poisson": rng.poisson(1.0, n).astype(float),
        "hinge": rng.integers(0, 2, n).astype(float),
    }[loss]


def small_problem(loss: str, interactions: str, n: int = 12, ones: bool = False, seed: int = 0, **changes) -> Problem:
    rng = np.random.default_rng(seed)
    X = (rng.random((n, 8)) < 0.6) * (1.0 if ones else rng.normal(size=(n, 8)).astype(np.float32))
    X[2] = 0  # an empty row
    X[:, 5] = 0  # an empty column
    settings = {"reg_factors": 0.2, "reg_linear": 0.1} | changes
    weights = rng.uniform(0.5, 2.0, n)
    weights[4] = 0
    return Problem(
        sparse.csr_matrix(X, dtype=np.float32),
        labels(loss, n, rng),
        weights,
        loss,
        INTERACTIONS[interactions],
        **settings,
    )


def random_parameters(problem: Problem, solver: str, n_factors: int, dtype=np.float64, seed: int = 1) -> Parameters:
    rng = np.random.default_rng(seed)
    p = Parameters(problem.X.shape[1], n_factors, twin.N_SLOTS[solver], dtype=dtype)
    p.factor_slots[:] = rng.uniform(0.2, 1.0, p.factor_slots.shape)
    p.factor_slots[:, 0, :n_factors] *= rng.choice([-1, 1], (p.n_columns, n_factors))
    padding = p.factor_slots[:, :, n_factors:]
    padding[:] = 0
    SOLVERS[solver].start(padding, SOLVERS[solver].rules(0.1, dtype)[0])
    p.linear_slots[:] = rng.uniform(0.2, 1.0, p.linear_slots.shape)
    p.bias[:] = rng.uniform(0.2, 1.0, p.bias.shape)
    return p


def machine_of(p: Parameters) -> twin.Machine:
    return twin.Machine(
        p.bias.astype(float).copy(),
        p.linear_slots[:, :, 0].astype(float),
        p.factor_slots[:, :, : p.n_factors].astype(float),
    )


def twin_rules(solver: str, epoch: RowEpoch) -> tuple[twin.Rule, twin.Rule]:
    return tuple(twin.Rule(solver, **{name: float(v) for name, v in rule._asdict().items()}) for rule in epoch.rules)


def twin_interactions(problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    parts, mixing = problem.interactions.parts, problem.interactions.mixing
    return (np.zeros(8, int), np.ones((1, 1))) if parts is None else (parts, mixing.astype(float))


def assert_same(p: Parameters, machine: twin.Machine, rtol: float) -> None:
    scale = np.abs(machine.factors[:, 0]).max()
    assert scale > 0.1
    np.testing.assert_allclose(p.factor_slots[:, :, : p.n_factors], machine.factors, rtol=rtol, atol=rtol * scale)
    np.testing.assert_allclose(p.linear_slots[:, :, 0], machine.linear, rtol=rtol, atol=rtol)
    np.testing.assert_allclose(p.bias, machine.bias, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("solver", STOCHASTIC)
@pytest.mark.parametrize("interactions", INTERACTIONS)
@pytest.mark.parametrize("loss", LOSSES)
def test_a_step_follows_the_numerical_gradient(loss: str, interactions: str, solver: str) -> None:
    problem = small_problem(loss, interactions, n=1 + 5).take(np.array([1]))
    settings = Settings(learning_rate=0.1)
    p = random_parameters(problem, solver, 8)
    epoch = RowEpoch(SOLVERS[solver], problem, p, settings, FixedOrder())
    machine, (parts, mixing) = machine_of(p), twin_interactions(problem)
    x, y, weight = problem.X.toarray()[0].astype(float), problem.targets[0], problem.weights[0]
    bias, w, V = machine.bias[0], machine.linear[:, 0].copy(), machine.factors[:, 0].copy()

    def objective(flat: np.ndarray) -> float:
        return twin.row_objective(
            loss, x, y, weight, flat[0], flat[1:9], flat[9:].reshape(V.shape), parts, mixing, 0.2, 0.1
        )

    at, step = np.concatenate([[bias], w, V.ravel()]), 1e-6
    numerical = np.array([objective(at + step * e) - objective(at - step * e) for e in np.eye(len(at))]) / (2 * step)
    assert np.abs(numerical).max() > 0.1
    twin.apply_step(
        machine, twin_rules(solver, epoch), numerical[0], numerical[1:9], numerical[9:].reshape(V.shape), x != 0, 1
    )
    epoch.run()
    assert_same(p, machine, 5e-6)


@pytest.mark.parametrize("solver", STOCHASTIC)
@pytest.mark.parametrize("interactions", INTERACTIONS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_epochs_equal_the_twin(solver: str, interactions: str, dtype: type) -> None:
    problem = small_problem("log", interactions, reg_factors=np.linspace(0, 0.3, 8))
    p = random_parameters(problem, solver, 20, dtype)
    epoch = RowEpoch(SOLVERS[solver], problem, p, Settings(learning_rate=0.1), FixedOrder())
    machine, (parts, mixing) = machine_of(p), twin_interactions(problem)
    clock = 0
    for _ in range(3):
        epoch.run()
        clock = twin.fit_epoch(
            "log", problem.X.toarray().astype(float), problem.targets, problem.weights, machine,
            twin_rules(solver, epoch), parts, mixing, problem.reg_factors, 0.1, clock,
        )  # fmt: skip
    assert p.clock == clock == 3 * 11
    assert_same(p, machine, 1e-10 if dtype is np.float64 else 1e-4)
    scores = p.scores(Rows.read(problem.X, problem.interactions), problem.interactions)
    rtol = 1e-10 if dtype is np.float64 else 1e-4
    np.testing.assert_allclose(
        scores, machine.scores(problem.X.toarray().astype(float), parts, mixing), rtol=rtol, atol=rtol
    )


@pytest.mark.parametrize("loss", ["kl", "squared", "hinge"])
def test_epochs_of_other_losses_equal_the_twin(loss: str) -> None:
    problem = small_problem(loss, "groups")
    p = random_parameters(problem, "adagrad", 8)
    epoch = RowEpoch(SOLVERS["adagrad"], problem, p, Settings(learning_rate=0.1), FixedOrder())
    machine, (parts, mixing) = machine_of(p), twin_interactions(problem)
    X, rules = problem.X.toarray().astype(float), twin_rules("adagrad", epoch)
    for _ in range(3):
        epoch.run()
        twin.fit_epoch(loss, X, problem.targets, problem.weights, machine, rules, parts, mixing, 0.2, 0.1)
    assert_same(p, machine, 1e-10)


@pytest.mark.parametrize("n_factors", [1, 8, 16, 24, 32, 40, 64, 96])
def test_any_number_of_factors(n_factors: int) -> None:
    problem = small_problem("squared", "all", ones=True)
    p = random_parameters(problem, "adagrad", n_factors)
    epoch = RowEpoch(SOLVERS["adagrad"], problem, p, Settings(learning_rate=0.1), FixedOrder())
    assert epoch.rows.values is None
    machine, (parts, mixing) = machine_of(p), twin_interactions(problem)
    epoch.run()
    X = problem.X.toarray().astype(float)
    rules = twin_rules("adagrad", epoch)
    twin.fit_epoch("squared", X, problem.targets, problem.weights, machine, rules, parts, mixing, 0.2, 0.1)
    assert_same(p, machine, 1e-10)
    assert not p.factor_slots[:, 0, n_factors:].any()


@pytest.mark.parametrize("interactions", INTERACTIONS)
def test_noise_equals_the_twin(interactions: str) -> None:
    problem = small_problem("squared", interactions)
    p = random_parameters(problem, "sgd", 8)
    epoch = RowEpoch(
        SOLVERS["sgd"], problem, p, Settings(learning_rate=0.1, dropout=0.3, drop_connect=0.4, seed=3), FixedOrder()
    )
    assert isinstance(epoch.noise, Noise)
    positions = np.zeros((problem.n_rows, 8), dtype=int)
    for i in range(problem.n_rows):
        a, b = epoch.rows.bounds[[i * problem.interactions.n_parts, (i + 1) * problem.interactions.n_parts]]
        positions[i, epoch.rows.indices[a:b]] = np.arange(a, b)
    machine, (parts, mixing) = machine_of(p), twin_interactions(problem)
    epoch.run()
    X = problem.X.toarray().astype(float)
    twin.fit_epoch(
        "squared", X, problem.targets, problem.weights, machine, twin_rules("sgd", epoch), parts, mixing, 0.2, 0.1,
        noise=epoch.noise, positions=positions,
    )  # fmt: skip
    assert_same(p, machine, 1e-10)


def test_noise_keeps_the_share_that_it_should() -> None:
    masks = np.array([twin.random_mask(seed * twin.FACTOR_SALT, 16, 0.7) for seed in range(2000)])
    assert abs((masks > 0).mean() - 0.7) < 0.01
    assert np.abs(np.corrcoef(masks.T) - np.eye(16)).max() < 0.12


@pytest.mark.parametrize("solver", STOCHASTIC)
@pytest.mark.parametrize("interactions", INTERACTIONS)
def test_batches_sum_gradients(solver: str, interactions: str) -> None:
    problem = small_problem("log", interactions)
    p = random_parameters(problem, solver, 8)
    epoch = BatchEpoch(SOLVERS[solver], problem, p, Settings(learning_rate=0.1, batch_size=5), FixedOrder())
    machine, (parts, mixing) = machine_of(p), twin_interactions(problem)
    epoch.run()
    X = problem.X.toarray().astype(float)
    for clock, begin in enumerate(range(0, 12, 5), start=1):
        rows = range(begin, min(begin + 5, 12))
        each = [
            twin.gradients("log", X[i], problem.targets[i], problem.weights[i], machine, parts, mixing, 0.2, 0.1)
            for i in rows
        ]
        there = np.any([(X[i] != 0) & (problem.weights[i] > 0) for i in rows], axis=0)
        g0, g1, g2 = (sum(g[k] for g in each) for k in range(3))
        twin.apply_step(machine, twin_rules(solver, epoch), g0, g1, g2, there, clock)
    assert_same(p, machine, 1e-10)
    assert not epoch.factor_gradients.any()
    assert not epoch.stamps.any()


@pytest.mark.parametrize("solver", STOCHASTIC)
@pytest.mark.parametrize("interactions", INTERACTIONS)
def test_a_pair_follows_the_numerical_gradient(interactions: str, solver: str) -> None:
    problem = small_problem("squared", interactions, n=6).take(np.array([0, 1]))
    problem = Problem(
        problem.X, np.array([1.0, 0.0]), problem.weights, "bpr", problem.interactions, 0.2, 0.1, np.zeros(2, int)
    )
    p = random_parameters(problem, solver, 8)
    epoch = BatchEpoch(SOLVERS[solver], problem, p, Settings(learning_rate=0.1), FixedOrder())
    machine, (parts, mixing) = machine_of(p), twin_interactions(problem)
    X, weight = problem.X.toarray().astype(float), problem.weights[0]

    def objective(flat: np.ndarray) -> float:
        w, V = flat[:8], flat[8:].reshape(8, 8)
        first, second = (twin.score(x, 0.0, w, V, parts, mixing) for x in X)
        penalties = sum(0.1 * (w[x != 0] ** 2).sum() + 0.2 * (V[x != 0] ** 2).sum() for x in X)
        return weight * (np.logaddexp(0, second - first) + 0.5 * penalties)

    at, step = np.concatenate([machine.linear[:, 0], machine.factors[:, 0].ravel()]), 1e-6
    numerical = np.array([objective(at + step * e) - objective(at - step * e) for e in np.eye(len(at))]) / (2 * step)
    assert np.abs(numerical).max() > 0.1
    bias, there = machine.bias.copy(), (X != 0).any(axis=0)
    twin.apply_step(machine, twin_rules(solver, epoch), 0.0, numerical[:8], numerical[8:].reshape(8, 8), there, 1)
    epoch.run()
    machine.bias[:] = bias  # pairs do not move it
    assert_same(p, machine, 5e-6)


def test_ftrl_without_l1_is_adagrad() -> None:
    problem = small_problem("log", "all")
    results = []
    for name in ("adagrad", "ftrl"):
        p = random_parameters(problem, name, 8)
        solver = SOLVERS[name] if name == "adagrad" else type(SOLVERS[name])(l1_linear=0.0)
        epoch = RowEpoch(solver, problem, p, Settings(learning_rate=0.1), FixedOrder())
        rng = np.random.default_rng(5)
        p.factor_slots[:, 0, :8] = rng.normal(size=(8, 8))
        p.linear[:], p.bias[:] = 0, 0
        factor_rule, linear_rule = epoch.rules
        solver.start(p.factor_slots, factor_rule)
        solver.start(p.linear_slots, linear_rule)
        solver.start(p.bias_slots, linear_rule)
        epoch.run()
        results.append(np.concatenate([p.factor_slots[:, 0].ravel(), p.linear_slots[:, 0].ravel()]))
    np.testing.assert_allclose(results[1], results[0], rtol=1e-9, atol=1e-12)
