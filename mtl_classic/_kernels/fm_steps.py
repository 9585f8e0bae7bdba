"""How a parameter moves against its gradient: one rule per solver, for vectors of factors and for single weights alike.

A parameter and the state of its solver lie in *slots*, `width` numbers apart in one flat array: slot 0 is the
parameter, the others are named below. A solver is a named tuple of numbers of the array's type; numba specializes on
its class, so the choice costs nothing in the loop.

| solver | slot 1 | slot 2 |
|---|---|---|
| `Sgd` | | |
| `Adagrad` | sum of squared gradients | |
| `Adam` | mean gradient | mean squared gradient |
| `Adadelta` | mean squared gradient | mean squared step |
| `Ftrl` | sum of squared gradients | z, the gradient sum minus the proximal centre |
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba.extending import overload

from mtl_classic._kernels.simd import fill, load, reciprocal_sqrt, soft_threshold, square_root, store


class Sgd(NamedTuple):
    """v ← v − η g."""

    rate: Any


class Adagrad(NamedTuple):
    """G ← G + g², v ← v − η g / √G."""

    rate: Any


class Adam(NamedTuple):
    """m ← β₁ m + (1 − β₁) g, s ← β₂ s + (1 − β₂) g², v ← v − η √(1 − β₂ᵗ) / (1 − β₁ᵗ) · m / √(s + ε).

    T counts the rows or batches seen.
    """

    rate: Any
    beta1: Any
    beta2: Any
    epsilon: Any


class Adadelta(NamedTuple):
    """s ← ρ s + (1 − ρ) g², d = g √(u + ε) / √(s + ε), u ← ρ u + (1 − ρ) d², v ← v − η d."""

    rate: Any
    rho: Any
    epsilon: Any


class Ftrl(NamedTuple):
    """z ← z + g − (√(n + g²) − √n) v / η, n ← n + g², v = −η sign(z) max(|z| − λ₁, 0) / √n: Adagrad where λ₁ = 0."""

    rate: Any
    l1: Any


N_SLOTS: dict[type, int] = {Sgd: 1, Adagrad: 2, Adam: 3, Adadelta: 3, Ftrl: 3}


def n_slots(solver):  # type: ignore[no-untyped-def]
    """Return the number of slots, a constant of the compiled code."""
    raise TypeError("n_slots is compiled by numba only")


def rate_at(solver, clock):  # type: ignore[no-untyped-def]
    """Return the learning rate of the clock's step: Adam's is corrected for its moments' start at 0."""
    raise TypeError("rate_at is compiled by numba only")


def step(solver, rate, lanes, array, offset, width, gradient):  # type: ignore[no-untyped-def]
    """Move the parameter at array[offset] and the slots behind it, `width` apart."""
    raise TypeError("step is compiled by numba only")


def step_known(solver, rate, lanes, array, offset, width, gradient, knowns, t):  # type: ignore[no-untyped-def]
    """Step, where `knowns` from t on are 1; where they are 0 nothing moves, whatever momentum there is."""
    raise TypeError("step_known is compiled by numba only")


@overload(n_slots)
def _n_slots(solver):  # type: ignore[no-untyped-def]
    count = N_SLOTS[solver.instance_class]
    return lambda solver: count


@overload(rate_at)
def _rate_at(solver, clock):  # type: ignore[no-untyped-def]
    if solver.instance_class is Adam:
        return _adam_rate
    return lambda solver, clock: solver.rate


def _adam_rate(solver, clock):  # type: ignore[no-untyped-def]
    correction = np.sqrt(1.0 - np.float64(solver.beta2) ** clock) / (1.0 - np.float64(solver.beta1) ** clock)
    return solver.rate * type(solver.rate)(correction)


@overload(step)
def _step(solver, rate, lanes, array, offset, width, gradient):  # type: ignore[no-untyped-def]
    return _RULES[solver.instance_class]


@overload(step_known)
def _step_known(solver, rate, lanes, array, offset, width, gradient, knowns, t):  # type: ignore[no-untyped-def]
    # Without momentum a gradient of 0 is enough.
    return _plain_step if N_SLOTS[solver.instance_class] < 3 else _kept_step


def _plain_step(solver, rate, lanes, array, offset, width, gradient, knowns, t):  # type: ignore[no-untyped-def]
    step(solver, rate, lanes, array, offset, width, gradient)


def _kept_step(solver, rate, lanes, array, offset, width, gradient, knowns, t):  # type: ignore[no-untyped-def]
    known = load(lanes, knowns, t)
    unknown = fill(lanes, array, 1.0) - known
    value, first, second = (
        load(lanes, array, offset), load(lanes, array, offset + width), load(lanes, array, offset + 2 * width),
    )  # fmt: skip
    step(solver, rate, lanes, array, offset, width, gradient)
    store(array, offset, load(lanes, array, offset) * known + value * unknown)
    store(array, offset + width, load(lanes, array, offset + width) * known + first * unknown)
    store(array, offset + 2 * width, load(lanes, array, offset + 2 * width) * known + second * unknown)


def _sgd(solver, rate, lanes, array, offset, width, gradient):  # type: ignore[no-untyped-def]
    store(array, offset, load(lanes, array, offset) - gradient * rate)


def _adagrad(solver, rate, lanes, array, offset, width, gradient):  # type: ignore[no-untyped-def]
    squares = load(lanes, array, offset + width) + gradient * gradient
    store(array, offset + width, squares)
    store(array, offset, load(lanes, array, offset) - gradient * reciprocal_sqrt(squares) * rate)


def _adam(solver, rate, lanes, array, offset, width, gradient):  # type: ignore[no-untyped-def]
    beta1, beta2 = solver.beta1, solver.beta2
    mean = load(lanes, array, offset + width) * beta1 + gradient * (fill((), array, 1.0) - beta1)
    squares = load(lanes, array, offset + 2 * width) * beta2 + gradient * gradient * (fill((), array, 1.0) - beta2)
    store(array, offset + width, mean)
    store(array, offset + 2 * width, squares)
    root = reciprocal_sqrt(squares + fill(lanes, array, solver.epsilon))
    store(array, offset, load(lanes, array, offset) - mean * root * rate)


def _adadelta(solver, rate, lanes, array, offset, width, gradient):  # type: ignore[no-untyped-def]
    rho, rest = solver.rho, fill((), array, 1.0) - solver.rho
    epsilon = fill(lanes, array, solver.epsilon)
    squares = load(lanes, array, offset + width) * rho + gradient * gradient * rest
    steps = load(lanes, array, offset + 2 * width) + epsilon
    move = gradient * steps * reciprocal_sqrt(steps) * reciprocal_sqrt(squares + epsilon)
    store(array, offset + width, squares)
    store(array, offset + 2 * width, (steps - epsilon) * rho + move * move * rest)
    store(array, offset, load(lanes, array, offset) - move * rate)


def _ftrl(solver, rate, lanes, array, offset, width, gradient):  # type: ignore[no-untyped-def]
    value, before = load(lanes, array, offset), load(lanes, array, offset + width)
    after = before + gradient * gradient
    growth = square_root(after) - square_root(before)
    z = load(lanes, array, offset + 2 * width) + gradient - growth * value * (fill((), array, 1.0) / rate)
    store(array, offset + width, after)
    store(array, offset + 2 * width, z)
    store(array, offset, soft_threshold(z, solver.l1) * reciprocal_sqrt(after) * (-rate))


_RULES = {Sgd: _sgd, Adagrad: _adagrad, Adam: _adam, Adadelta: _adadelta, Ftrl: _ftrl}
