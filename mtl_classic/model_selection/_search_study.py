"""The memory of a search, kept by Optuna: which candidates come next, and what became of those before."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import islice

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import OptunaError
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import TrialState
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from mtl_classic._core.random import generator, spawn_seed
from mtl_classic.model_selection._search_gaussian import next_points
from mtl_classic.model_selection._search_space import Codes, Dimension, Floats, from_unit, grid_points
from mtl_classic.model_selection._search_trial import COMPLETE, FAILED, PRUNED, Judge, Outcome

__all__ = ["Study", "open_study"]

OUTCOME = "outcome"  # attribute of a trial that has come to its end
N_START = 8  # spread evenly, before a model of what has been found is worth anything
STATES = {COMPLETE: TrialState.COMPLETE, PRUNED: TrialState.PRUNED, FAILED: TrialState.FAIL}


class Study:
    """Candidates of one search.

    Attributes
    ----------
    outcomes : list of Outcome
        Of all candidates that came to their end, in the order of their drawing.
    """

    def __init__(
        self,
        study: optuna.Study,
        dimensions: Sequence[Dimension],
        judge: Judge,
        strategy: str,
        seed: int,
        population: int,
    ) -> None:
        self.study, self.dimensions, self.judge = study, dimensions, judge
        self.strategy, self.seed, self.population = strategy, seed, population
        self.distributions = {d.name: _distribution(d) for d in dimensions}
        self.outcomes: list[Outcome] = []
        self._open: dict[int, optuna.Trial] = {}
        self._left: list[Codes] = []
        self._superseded: set[int] = set()
        self.collect()
        for _ in study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):  # killed between naming and drawing
            trial = study.ask(self.distributions)
            self._left.append(dict(trial.params))
            study.tell(trial.number, state=TrialState.FAIL)
        self._retry()
        self.collect()

    def ask(self, n: int, order: Sequence[int] | None = None) -> list[tuple[int, Codes]]:
        """The next candidates: first those that a stopped search had begun.

        ``order`` are the positions in the grid, in which it is gone through.
        """
        left, self._left = self._left[:n], self._left[n:]
        if left:
            return [self._draw(codes) for codes in left]
        done = len(self.outcomes)
        if self.strategy == "grid":
            return [self._draw(codes) for codes in self._not_judged(n, order)]
        if self.strategy in ("tpe", "gp") and done < N_START:
            return [self._draw(codes) for codes in self._start(done, min(n, N_START - done))]
        if self.strategy == "gp":
            return [self._draw(codes) for codes in self._by_process(n)]
        self.study.sampler = self._sampler(done)
        return [self._draw(None) for _ in range(n)]

    def tell(self, number: int, outcome: Outcome | None) -> None:
        """Keep what became of a candidate; None takes it back, as if it had never been drawn."""
        if outcome is None:
            self.study.tell(number, state=TrialState.FAIL)
            return
        trial = self._open.pop(number)
        if outcome.state == PRUNED:  # TPE ranks what was given up by how far it came
            reached = int((~np.isnan(outcome.seconds).any(axis=1)).sum())
            trial.report(float(self.judge.values(outcome.scores)[0]), reached)
        trial.set_user_attr(OUTCOME, _write(outcome))
        self._close(number, outcome)

    def _close(self, number: int, outcome: Outcome) -> None:
        values = [float(v) for v in self.judge.values(outcome.scores)] if outcome.state == COMPLETE else None
        self.study.tell(number, values, state=STATES[outcome.state])

    def collect(self) -> None:
        """Read the outcomes in the order of drawing; what was begun and never ended is to be drawn again."""
        self.outcomes = []
        for trial in self.study.get_trials(deepcopy=False):
            running = trial.state == TrialState.RUNNING
            if OUTCOME in trial.user_attrs:
                outcome = _parse(trial.user_attrs[OUTCOME])
                if running:
                    self._close(trial.number, outcome)
                if trial.number not in self._superseded:
                    self.outcomes.append(outcome)
            elif running:
                self.study.tell(trial.number, state=TrialState.FAIL)
                if trial.params.keys() == self.distributions.keys():
                    self._left.append(dict(trial.params))

    def _retry(self) -> None:
        """Draw again what had failed when the study was opened: memory or a bug, since mended, may have been why."""
        kept = self.study.get_trials(deepcopy=False)
        known = {t.number: _parse(t.user_attrs[OUTCOME]) for t in kept if OUTCOME in t.user_attrs}
        judged = [outcome.codes for outcome in known.values() if outcome.state != FAILED]
        self._superseded = {number for number, outcome in known.items() if outcome.state == FAILED}
        for number in sorted(self._superseded):
            codes = known[number].codes
            if codes not in judged and codes not in self._left:
                self._left.append(codes)

    def _draw(self, codes: Codes | None) -> tuple[int, Codes]:
        if codes is not None:
            self.study.enqueue_trial(codes)
        trial = self.study.ask(self.distributions)
        self._open[trial.number] = trial
        return trial.number, {d.name: trial.params[d.name] for d in self.dimensions}

    def _not_judged(self, n: int, order: Sequence[int] | None) -> list[Codes]:
        """The next points of the grid that have no outcome yet."""
        names = [d.name for d in self.dimensions]
        known = {tuple(outcome.codes[name] for name in names) for outcome in self.outcomes}
        points = (self._grid[i] for i in (range(len(self._grid)) if order is None else order))
        return list(islice((codes for codes in points if tuple(codes[name] for name in names) not in known), n))

    @cached_property
    def _grid(self) -> list[Codes]:
        return grid_points(self.dimensions)

    def _start(self, done: int, n: int) -> list[Codes]:
        """A Latin hypercube: each dimension is covered evenly by few points."""
        random = generator(self.seed, "start")
        cells = np.stack([random.permutation(N_START) for _ in self.dimensions], axis=1)
        units = (cells + random.random(cells.shape)) / N_START
        return [from_unit(self.dimensions, row) for row in units[done : done + n]]

    def _by_process(self, n: int) -> list[Codes]:
        """Points of a Gaussian process; a candidate that was given up counts as much as it was behind when it was."""
        known = [o for o in self.outcomes if o.state != FAILED]
        complete = [o.scores for o in known if o.state == COMPLETE]
        if not complete:
            random = generator(self.seed, "again", len(self.outcomes))
            return [from_unit(self.dimensions, random.random(len(self.dimensions))) for _ in range(n)]
        values = np.array([_value(self.judge, o.scores, complete) for o in known])
        random = generator(self.seed, "process", len(self.outcomes))
        return next_points(self.dimensions, [o.codes for o in known], values, n, random)

    def _sampler(self, done: int) -> BaseSampler:
        """Made anew for each batch from what is known, so that a search that was stopped goes on in the same way."""
        seed = spawn_seed(self.seed, "batch", done)
        if self.strategy == "tpe":
            return TPESampler(seed=seed, n_startup_trials=N_START, multivariate=True)
        if self.strategy == "genetic":
            return NSGAIISampler(seed=seed, population_size=self.population)
        return RandomSampler(seed=seed)


@contextmanager
def open_study(
    storage: str | None,
    name: str | None,
    dimensions: Sequence[Dimension],
    judge: Judge,
    *,
    strategy: str,
    seed: int,
    population: int,
) -> Iterator[Study]:
    """The study of that name, found in the storage or begun; its connections are closed in the end."""
    n_values = len(judge.weights) if judge.objective == "pareto" else 1
    with _quiet(), _opened(storage) as kept:
        study = optuna.create_study(
            storage=kept, study_name=name, directions=["maximize"] * n_values, load_if_exists=True
        )
        yield Study(study, dimensions, judge, strategy, seed, population)


@contextmanager
def _opened(storage: str | None) -> Iterator[optuna.storages.RDBStorage | None]:
    if storage is None:
        yield None
        return
    try:
        if "://" in storage:
            kept = optuna.storages.RDBStorage(storage)
        else:  # without a pool no connection is left open to a file that is no database
            kept = optuna.storages.RDBStorage(_url_of_file(storage), engine_kwargs={"poolclass": NullPool})
    except (SQLAlchemyError, OptunaError) as error:
        where = storage.rpartition("@")[2] if "://" in storage else storage  # without a password
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"storage={where!r} cannot be opened as a database: {reason}. Give a file in a folder that is there and "
            f"can be written to (a new file, or one of earlier searches), or a URL that Optuna knows."
        ) from error
    try:
        yield kept
    finally:
        kept.remove_session()
        kept.engine.dispose()


def _url_of_file(path: str) -> str:
    """Its URL, in which a ? or % of the file's name means itself."""
    return URL.create("sqlite", database=path).render_as_string()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Optuna's lines for each trial."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


def _distribution(d: Dimension) -> BaseDistribution:
    if not d.ordered:
        return CategoricalDistribution(list(range(int(d.high) + 1)))
    if d.integer:
        return IntDistribution(int(d.low), int(d.high), log=d.log)
    return FloatDistribution(d.low, d.high, log=d.log)


def _value(judge: Judge, scores: Floats, complete: Sequence[Floats]) -> Floats:
    """The objective of a candidate; missing folds are filled by its mean distance to the complete on the others."""
    usual = np.mean(complete, axis=0)
    reached = np.asarray(~np.isnan(scores).all(axis=1))
    ahead = scores[reached] - usual[reached]
    known = ~np.isnan(ahead)  # a task may have no label in a fold
    behind = np.where(known, ahead, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return judge.values(np.where(reached[:, None], scores, usual + behind))


def _write(outcome: Outcome) -> str:
    parts = {"codes": outcome.codes, "state": outcome.state, "error": outcome.error}
    arrays = {"scores": outcome.scores.tolist(), "seconds": outcome.seconds.tolist()}
    return json.dumps(parts | arrays)


def _parse(text: str) -> Outcome:
    found = json.loads(text)
    arrays = {name: np.array(found[name], dtype=np.float64) for name in ("scores", "seconds")}
    return Outcome(found["codes"], found["state"], error=found["error"], **arrays)
