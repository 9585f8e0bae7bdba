"""Throughput of an epoch: ours, plain loops, peers, and what the memory of the machine allows."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

from benchmarks import _fm_peers as peers
from benchmarks._fm_data import GROUPS, Encoded, journey, synthetic
from benchmarks._measure import cpu_seconds
from mtl_classic._core.random import generator
from mtl_classic._kernels.fm import ENTRIES_AHEAD
from mtl_classic._kernels.simd import FAST_FLAGS, aligned_zeros, fill, load, make_lanes, pointer, prefetch, store
from mtl_classic.factorization._descent import start_parameters
from mtl_classic.factorization._epochs import make_epoch
from mtl_classic.factorization._problem import Interactions, Parameters, Problem
from mtl_classic.factorization._settings import Settings
from mtl_classic.factorization._solvers import Adagrad

FACTORS = (8, 16, 32)
ROUNDS = 5
LINE = 16  # float32 numbers of a cache line


@njit(cache=True, fastmath=True)
def plain_epoch(factors, squares, linear, linear_squares, bias, indices, indptr, y, order):  # type: ignore[no-untyped-def]
    """The same epoch as one writes it first: loops over arrays, rows of ones."""
    n_factors = factors.shape[1]
    sums = np.empty(n_factors, np.float32)
    rate, reg, reg_linear, one, half = (
        np.float32(0.05),
        np.float32(0.03),
        np.float32(1e-4),
        np.float32(1),
        np.float32(0.5),
    )
    for row in order:
        start, stop = indptr[row], indptr[row + 1]
        score = bias[0]
        sums[:] = 0
        own = np.float32(0)
        for p in range(start, stop):
            j = indices[p]
            score += linear[j]
            for f in range(n_factors):
                v = factors[j, f]
                sums[f] += v
                own += v * v
        for f in range(n_factors):
            score += half * sums[f] * sums[f]
        score -= half * own
        slope = one / (one + np.exp(-score)) - y[row]
        bias[1] += slope * slope
        bias[0] -= rate * slope / np.sqrt(bias[1])
        for p in range(start, stop):
            j = indices[p]
            g = slope + reg_linear * linear[j]
            linear_squares[j] += g * g
            linear[j] -= rate * g / np.sqrt(linear_squares[j])
            for f in range(n_factors):
                g = slope * (sums[f] - factors[j, f]) + reg * factors[j, f]
                squares[j, f] += g * g
                factors[j, f] -= rate * g / np.sqrt(squares[j, f])


@njit(cache=True, fastmath=set(FAST_FLAGS), nogil=True)
def touch(lanes, first, second, indices, others, n):  # type: ignore[no-untyped-def]
    """Read, add to and write two random cache lines for each of n entries, asked for in time."""
    first, second, indices, others = pointer(first), pointer(second), pointer(indices), pointer(others)
    one = fill(lanes, first, 1.0)
    for p in range(n):
        prefetch(first, np.int64(load((), indices, p + ENTRIES_AHEAD)) * LINE)
        prefetch(second, np.int64(load((), others, p + ENTRIES_AHEAD)) * LINE)
        a, b = np.int64(load((), indices, p)) * LINE, np.int64(load((), others, p)) * LINE
        store(first, a, load(lanes, first, a) + one)
        store(second, b, load(lanes, second, b) + one)


def limit(data: Encoded) -> Callable[[], Any]:
    """The memory work of 16 factors: a line of weights and a line of accumulators of a random column an entry."""
    n_columns, rng = data.X.shape[1], np.random.default_rng(0)
    first, second = (aligned_zeros(n_columns * LINE) for _ in range(2))
    indices = np.append(data.X.indices, np.zeros(ENTRIES_AHEAD, np.int32)).astype(np.int32)
    others = rng.permutation(n_columns).astype(np.int32)[indices]
    lanes, n = make_lanes(LINE), data.X.nnz
    return lambda: touch(lanes, first, second, indices, others, n)


def ours(data: Encoded, n_factors: int) -> Callable[[], Any]:
    """An epoch of the default solver with its default penalties, log loss, all interactions."""
    ones, solver, settings = np.ones(len(data.y), np.float32), Adagrad(), Settings()
    problem = Problem(data.X, data.y, ones, "log", Interactions(), 0.03, 1e-4)
    parameters = Parameters(data.X.shape[1], n_factors, solver.n_slots)
    start_parameters(solver, problem, parameters, settings)
    return make_epoch(solver, problem, parameters, settings, generator(0, "benchmark")).run


def plain(data: Encoded, n_factors: int) -> Callable[[], Any]:
    """An epoch of the plain loops."""
    n_columns, rng = data.X.shape[1], np.random.default_rng(0)
    factors = rng.normal(0, 0.01, (n_columns, n_factors)).astype(np.float32)
    numbers = (factors, np.ones_like(factors), np.zeros(n_columns, np.float32), np.ones(n_columns, np.float32))
    bias = np.array([0, 1], np.float32)
    return lambda: plain_epoch(
        *numbers, bias, data.X.indices, data.X.indptr, data.y.astype(np.float32), rng.permutation(len(data.y))
    )


def run(options: argparse.Namespace) -> dict[str, list[float]]:
    """Million non-zeros a second; the fastest of some rounds, in which all of ours take turns."""
    figures: dict[str, float] = {}
    for name, make in (("synthetic", synthetic), ("Complete Journey", journey)):
        data = make()
        if name == "synthetic":
            data = _with_sides(data)
        figures |= {f"{name}, M nnz/s: {key}": value for key, value in throughput(data).items()}
        for n_factors in (8, 16):
            mine = figures[f"{name}, M nnz/s: ours, {n_factors} factors"]
            others = [
                figures[key]
                for peer in ("LightFM", "myFM", "xLearn")
                if (key := f"{name}, M nnz/s: {peer}, {n_factors} factors") in figures
            ]
            if others:
                figures[f"{name}: ours ÷ best peer, {n_factors} factors"] = mine / max(others)
            figures[f"{name}: ours ÷ plain numba loops, {n_factors} factors"] = (
                mine / figures[f"{name}, M nnz/s: plain numba loops, {n_factors} factors"]
            )
        figures[f"{name}: ours ÷ limit of the memory, 16 factors"] = (
            figures[f"{name}, M nnz/s: ours, 16 factors"]
            / figures[f"{name}, M nnz/s: limit, two random lines of 64 bytes"]
        )
    return {key: [value] for key, value in figures.items()}


def throughput(data: Encoded) -> dict[str, float]:
    """All engines on one set."""
    engines = {"limit, two random lines of 64 bytes": (limit(data), ROUNDS)}
    for n_factors in FACTORS:
        engines[f"ours, {n_factors} factors"] = ours(data, n_factors), ROUNDS
        engines[f"plain numba loops, {n_factors} factors"] = plain(data, n_factors), 2
        if peers.LightFM is not None:
            trainer = peers.LightFMRows(data, n_factors, 0).trainer(data.X, data.y)
            engines[f"LightFM, {n_factors} factors"] = trainer, 2
    seconds = dict.fromkeys(engines, math.inf)
    for turn in range(-1, ROUNDS):  # the first compiles, and touches the memory
        for name, (work, turns) in engines.items():
            if turn < turns:
                spent = cpu_seconds(work)[0]
                seconds[name] = min(seconds[name], spent if turn >= 0 else math.inf)
    if peers.myfm is not None:
        seconds |= {f"myFM, {k} factors": peers.myfm_sweep_seconds(data, k, cpu_seconds) for k in (8, 16)}
    if peers.xlearn is not None:
        seconds |= {f"xLearn, {k} factors": v for k, v in peers.xlearn_epoch_seconds(data, (8, 16)).items()}
    rates = {name: data.X.nnz / spent / 1e6 for name, spent in seconds.items()}
    print("speed:", {name: round(rate, 1) for name, rate in rates.items()}, flush=True)
    return rates


def _with_sides(data: Encoded) -> Encoded:
    """Name the fields as the sides are named, half of them each, so that peers with two sides can read them."""
    columns = list(data.fields.values())
    half, names = len(columns) // 2, (GROUPS["user"], GROUPS["item"])
    fields: dict[str, np.ndarray] = {}
    for side, part in zip(names, (columns[:half], columns[half:]), strict=True):
        merged = [np.concatenate(part[k :: len(side)]) for k in range(len(side))]
        fields |= dict(zip(side, merged, strict=True))
    return Encoded(data.X, data.y, data.X_test, data.y_test, fields)
