"""Readable twins of the factorization machine kernels: one row, one weight, one formula at a time, in float64."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit

FACTOR_SALT, ENTRY_SALT = 0x9E3779B1, 0x85EBCA77


# scores and losses


def interaction_products(x: np.ndarray, V: np.ndarray, parts: np.ndarray, mixing: np.ndarray) -> np.ndarray:
    """P_f = Σ over pairs j < l of columns in parts that interact: x_j x_l v_jf v_lf, pair by pair."""
    product = np.zeros(V.shape[1])
    columns = np.flatnonzero(x)
    for k, j in enumerate(columns):
        for m in columns[k + 1 :]:
            product += mixing[parts[j], parts[m]] * x[j] * x[m] * V[j] * V[m]
    return product


def score(x: np.ndarray, bias: float, w: np.ndarray, V: np.ndarray, parts: np.ndarray, mixing: np.ndarray) -> float:
    return bias + x @ w + interaction_products(x, V, parts, mixing).sum()


def loss(name: str, s: float, y: float) -> float:
    if name in ("log", "kl"):
        return np.logaddexp(0, s) - y * s
    if name == "squared":
        return 0.5 * (s - y) ** 2
    if name == "poisson":
        return np.exp(s) - y * s
    return max(0.0, 1 - (2 * y - 1) * s)


def loss_slope(name: str, s: float, y: float) -> float:
    if name in ("log", "kl"):
        return expit(s) - y
    if name == "squared":
        return s - y
    if name == "poisson":
        return np.exp(s) - y
    sign = 2 * y - 1
    return -sign if sign * s < 1 else 0.0


def row_objective(
    name: str, x: np.ndarray, y: float, weight: float, bias: float, w: np.ndarray, V: np.ndarray, parts: np.ndarray,
    mixing: np.ndarray, reg_factors: Any = 0.0, reg_linear: Any = 0.0,
) -> float:  # fmt: skip
    """What a row adds to the objective: weight · (loss + ½ Σ λ w² + ½ Σ λ v² of the columns in the row)."""
    there = x != 0
    penalty = 0.5 * (np.broadcast_to(reg_linear, w.shape) * w**2)[there].sum()
    penalty += 0.5 * (np.broadcast_to(reg_factors, w.shape)[:, None] * V**2)[there].sum()
    return weight * (loss(name, score(x, bias, w, V, parts, mixing), y) + penalty)


# solvers


@dataclass
class Rule:
    """A solver by name, and its numbers."""

    name: str
    rate: float
    l1: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.999
    rho: float = 0.95
    epsilon: float = 1e-6

    def step(self, slots: list[Any], g: Any, clock: int) -> None:
        """Move slots[0], a number or array, against its gradient; in place for lists."""
        if self.name == "sgd":
            slots[0] = slots[0] - self.rate * g
        elif self.name == "adagrad":
            slots[1] = slots[1] + g**2
            slots[0] = slots[0] - self.rate * g / np.sqrt(slots[1])
        elif self.name == "adam":
            slots[1] = self.beta1 * slots[1] + (1 - self.beta1) * g
            slots[2] = self.beta2 * slots[2] + (1 - self.beta2) * g**2
            rate = self.rate * np.sqrt(1 - self.beta2**clock) / (1 - self.beta1**clock)
            slots[0] = slots[0] - rate * slots[1] / np.sqrt(slots[2] + self.epsilon)
        elif self.name == "adadelta":
            slots[1] = self.rho * slots[1] + (1 - self.rho) * g**2
            move = g * np.sqrt(slots[2] + self.epsilon) / np.sqrt(slots[1] + self.epsilon)
            slots[2] = self.rho * slots[2] + (1 - self.rho) * move**2
            slots[0] = slots[0] - self.rate * move
        elif self.name == "ftrl":
            grown = slots[1] + g**2
            slots[2] = slots[2] + g - (np.sqrt(grown) - np.sqrt(slots[1])) / self.rate * slots[0]
            slots[1] = grown
            shrunk = np.sign(slots[2]) * np.maximum(np.abs(slots[2]) - self.l1, 0)
            slots[0] = -self.rate * shrunk / np.sqrt(slots[1])


N_SLOTS = {"sgd": 1, "adagrad": 2, "adam": 3, "adadelta": 3, "ftrl": 3}


# epochs


@dataclass
class Machine:
    """Parameters with slots: bias (n_slots,), linear (n, n_slots), factors (n, n_slots, K)."""

    bias: np.ndarray
    linear: np.ndarray
    factors: np.ndarray

    def scores(self, X: np.ndarray, parts: np.ndarray, mixing: np.ndarray) -> np.ndarray:
        return np.array([score(x, self.bias[0], self.linear[:, 0], self.factors[:, 0], parts, mixing) for x in X])


def gradients(
    name: str, x: np.ndarray, y: float, weight: float, machine: Machine, parts: np.ndarray, mixing: np.ndarray,
    reg_factors: Any, reg_linear: Any, factor_mask: np.ndarray | None = None, entry_mask: np.ndarray | None = None,
    slope: float | None = None,
) -> tuple[float, np.ndarray, np.ndarray]:  # fmt: skip
    """Derivatives of `row_objective` by the bias, the weights (n,) and the factors (n, K), by formula.

    The masks are dropout's (K,) and DropConnect's (n, K), already divided by the probability to keep.
    """
    V, w = machine.factors[:, 0], machine.linear[:, 0]
    keep = np.ones(V.shape[1]) if factor_mask is None else factor_mask
    edges = np.ones(V.shape) if entry_mask is None else entry_mask
    masked = V * edges
    if slope is None:
        s = machine.bias[0] + x @ w + keep @ interaction_products(x, masked, parts, mixing)
        slope = weight * loss_slope(name, s, y)
    there = (x != 0).astype(float)
    by_w = slope * x + weight * np.broadcast_to(reg_linear, w.shape) * w * there
    sums = np.array([(x * (parts == a)) @ masked for a in range(len(mixing))])
    partners = mixing @ sums
    own = np.diag(mixing)[parts]
    by_masked = slope * keep * (x[:, None] * partners[parts] - (own * x**2)[:, None] * masked)
    by_V = by_masked * edges + (weight * np.broadcast_to(reg_factors, w.shape) * there)[:, None] * V
    return slope, by_w, by_V


def fit_epoch(
    name: str, X: np.ndarray, y: np.ndarray, weights: np.ndarray, machine: Machine, rules: tuple[Rule, Rule],
    parts: np.ndarray, mixing: np.ndarray, reg_factors: Any, reg_linear: Any, clock: int = 0, noise: Any = None,
    positions: np.ndarray | None = None,
) -> int:  # fmt: skip
    """A step per row, in order; `positions` (n_rows, n) are the entries' places in the kernel, for DropConnect."""
    for i, x in enumerate(X):
        if weights[i] == 0:
            continue
        clock += 1
        masks = noise_masks(noise, clock, machine.factors.shape[2], None if positions is None else positions[i])
        g0, g1, g2 = gradients(
            name, x, y[i], weights[i], machine, parts, mixing, reg_factors, reg_linear, *masks
        )  # fmt: skip
        apply_step(machine, rules, g0, g1, g2, x != 0, clock)
    return clock


def apply_step(machine: Machine, rules: tuple[Rule, Rule], g0: float, g1: Any, g2: Any, there: Any, clock: int) -> None:
    step_row(machine.bias, rules[1], g0, clock)
    for j in np.flatnonzero(there):
        step_row(machine.linear[j], rules[1], g1[j], clock)
        step_row(machine.factors[j], rules[0], g2[j], clock)


def step_row(row: np.ndarray, rule: Rule, gradient: Any, clock: int) -> None:
    slots = list(row)
    rule.step(slots, gradient, clock)
    row[:] = slots


# noise


def noise_masks(noise: Any, clock: int, n_factors: int, positions: np.ndarray | None) -> tuple[Any, Any]:
    """Masks of a step: (K,) of the factors, (n, K) of the entries; `n_factors` is one vector of the kernel."""
    if noise is None:
        return None, None
    factors = random_mask(noise.seed + clock * FACTOR_SALT, n_factors, noise.keep_factors)
    if positions is None:
        return factors, None
    entries = [
        random_mask(noise.seed + clock * ENTRY_SALT + int(p) * FACTOR_SALT, n_factors, noise.keep_entries)
        for p in positions
    ]
    return factors, np.array(entries)


def random_mask(seed: int, n: int, keep: float) -> np.ndarray:
    mask = np.zeros(n)
    for place in range(n):
        h = (seed + place * 0x9E3779B9) % 2**32
        for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B), (16, 1)):
            h = (h ^ (h >> shift)) * factor % 2**32
        mask[place] = 1 / keep if (h >> 8) < int(keep * 2**24) else 0.0
    return mask
