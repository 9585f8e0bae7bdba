"""Stacking: a small model per task over the out-of-fold scores of all members on all tasks."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from mtl_classic._core.base import FitInput, Floats, Scores, group_codes, query_columns
from mtl_classic._core.exceptions import FallbackWarning
from mtl_classic._core.options import FOLDS, TRUTH, Option
from mtl_classic._core.random import root_seed, seeded
from mtl_classic._core.score_frames import scores_frame
from mtl_classic._core.spaces import hold_monotone
from mtl_classic._core.tasks import Task
from mtl_classic._core.validation import Table, n_rows, row_index
from mtl_classic.ensemble._averaging import fold_moments, latest, make_problems, training_moments
from mtl_classic.ensemble._combiners import (
    Choice,
    check_finals,
    check_neighbours,
    given_choice,
    greedy_held_out,
    linear_choice,
)
from mtl_classic.ensemble._links import average, to_average, to_link
from mtl_classic.ensemble._matching import match_members
from mtl_classic.ensemble._members import Composition, shared_plan
from mtl_classic.ensemble._meta import LinearMeta, MetaData
from mtl_classic.ensemble._passthrough import Passthrough
from mtl_classic.ensemble._selection import Problem, greedy_weights, pull_of
from mtl_classic.ensemble._store import Data, OutOfFold, cross_fit_members, fit_members
from mtl_classic.metrics._significance import compare_pairs
from mtl_classic.model_selection import FoldPlan
from mtl_classic.model_selection._crossfit import rows_of
from mtl_classic.model_selection._progress import with_callbacks
from mtl_classic.multitask._verdicts import counted, row_losses

__all__ = ["StackingEnsemble"]


class StackingEnsemble(Composition):
    r"""A model per task over the out-of-fold scores of all members, on its own task and on its neighbours.

    The default combiner is linear on the link's scale (logit, logarithm, identity; ranking scores standardized),

    .. math:: \eta = b + \sum_m w_m \eta_m + \sum_j v_j z_j, \qquad w_m \ge 0

    with the members' scores :math:`\eta_m` of the task and the standardized scores z of its neighbours, and an L2 pull
    to the uniform or the greedy average of the members, with v = 0. Strength and average are chosen out-of-fold, and
    whether v is 0: with few labels it is the low variance of the combiner that counts. That of a ranking has the least
    listwise loss (the cross-entropy of the softmax of a query's η against its shares of gain), and reads the means of
    its neighbours as signed logarithms. A task for which greedy averaging has less out-of-fold loss falls back to it.
    Where a task has unlabelled rows, the refitted members' scores are brought to the location and spread that the
    folds' have on those rows.

    Parameters
    ----------
    estimators : list of (str, multi-task estimator)
        Unfitted; reachable as ``name__param``.
    final_estimator : scikit-learn estimator or dict task -> estimator, default=None
        In place of the default combiner: a classifier for the binary and multiclass tasks, a regressor for the
        regression and count tasks; other tasks keep the default. It reads scores as they are (probabilities, means),
        as in scikit-learn's own stacking.
    passthrough : bool, default=False
        Whether the combiners read the features too (numbers, and categories as one-hot columns).
    cv : int, splitter, Temporal or array of fold numbers, default=5
        An int gives folds in time where the members, or the log given to ``fit``, name a time.
    neighbours : "all", None or dict task -> list of tasks, default="all"
        Whose scores a task's combiner reads besides its own.
    fallback : bool or "auto", default="auto"
        Whether greedy averaging takes over where it has less out-of-fold loss; ``"auto"``: not from a given
        ``final_estimator``.
    groups : str, default=None
        Column whose groups are never split between folds; then folds are not in time.
    memory : str or joblib.Memory, default=None
        Where finished fits are kept: a stopped ``fit`` goes on where it was.
    n_jobs : int, default=None
        Threads for (member, fold) pairs and within them; changes time, not results.
    random_state : int, RandomState or None
        Deals the folds, and seeds members and final estimators that have no seed of their own.

    Attributes
    ----------
    tasks_ : tuple of Task
    estimators_ : list of fitted estimators
        Those that some task reads.
    named_estimators_ : dict name -> fitted estimator
    final_estimators_ : dict task -> fitted combiner, None where greedy weights are used
    weights_ : DataFrame of shape (n_estimators, n_tasks)
        Weights of the members' own scores (NaN where a given ``final_estimator`` has its own); greedy weights of the
        tasks that fell back.
    fallbacks_ : dict task -> str
        Which tasks fell back, and why.
    oof_predictions_ : DataFrame with the columns (member, score)
    oof_scores_ : DataFrame
        Scores of the ensemble on rows that neither members nor combiners were fitted on; NaN elsewhere. Only the
        penalty of the linear combiner was chosen by all of them, which flatters: in a trial with two members by half a
        per cent of the loss at 300 rows, by a tenth of one at 1,500.
    fold_ : ndarray of shape (n,)
    n_uncovered_ : int
        Rows that no fold predicts: left out of what the combiners learn.
    temporal_ : bool
        Whether folds are predicted from earlier ones only.
    moments_ : dict task -> list of (mean, spread)
        By which scores of a ranking are standardized, a pair for each used estimator; of ranking tasks only.
    passthrough_ : Passthrough or None
        What combiners read of X.

    Notes
    -----
    Cost: a fit of every member on every fold and on all rows; the combiners are small beside them. Scores in the
    conditional space are those of the entire space, divided by the parent's.

    References
    ----------
    D. H. Wolpert, Stacked generalization, 1992, doi:10.1016/S0893-6080(05)80023-1; L. Breiman, Stacked regressions,
    1996, doi:10.1007/BF00117832 (non-negative weights); Z. Cao et al., Learning to rank: from pairwise approach to
    listwise approach, 2007, doi:10.1145/1273496.1273513.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from mtl_classic import PerTaskModel, StackingEnsemble
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(400, 3))
    >>> stars = X[:, 0] + rng.normal(size=400)
    >>> Y = pd.DataFrame({"stars": stars, "liked": np.where(np.arange(400) < 60, stars > 0, None)})
    >>> members = [("linear", PerTaskModel(learner="linear"))]
    >>> model = StackingEnsemble(members, cv=3, fallback=False, random_state=0).fit(X, Y)
    >>> model.predict_scores(X).columns.tolist(), sorted(model.final_estimators_)
    (['stars', 'liked'], ['liked', 'stars'])
    """

    _options: ClassVar[dict[str, Option]] = {"passthrough": TRUTH, "cv": (FOLDS, None), "fallback": (TRUTH, "auto")}

    def __init__(
        self,
        estimators: Sequence[tuple[str, Any]],
        *,
        final_estimator: Any = None,
        passthrough: bool = False,
        cv: Any = 5,
        neighbours: str | Mapping[str, Sequence[str]] | None = "all",
        fallback: bool | str = "auto",
        groups: str | None = None,
        memory: Any = None,
        n_jobs: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.estimators = estimators
        self.final_estimator = final_estimator
        self.passthrough = passthrough
        self.cv = cv
        self.neighbours = neighbours
        self.fallback = fallback
        self.groups = groups
        self.memory = memory
        self.n_jobs = n_jobs
        self.random_state = random_state

    @with_callbacks
    def fit(
        self, X: Any, Y: Any, *, sample_weight: Any = None, events: Any = None, plan: FoldPlan | None = None
    ) -> StackingEnsemble:
        """Cross-fit the members, fit a combiner per task on their scores, then fit the members on all rows.

        Parameters
        ----------
        X : table of shape (n, n_features)
        Y : labels of shape (n,) or (n, n_tasks), NaN where unlabelled
        sample_weight : array of shape (n,) or (n, n_tasks), default=None
        events : EventLog, default=None
            Handed to every member.
        plan : FoldPlan, default=None
            Used in place of ``cv``, and handed to every member.
        """
        self._check_members()
        given = self._start_fit(X, Y, sample_weight)
        Y = rows_of(Y)
        progress = self._begin(2, X, Y)
        self._neighbours = check_neighbours(self.neighbours, self.tasks_)
        finals = check_finals(self.final_estimator, self.tasks_)
        plan = shared_plan(self, given, Y, self.cv, plan, events)
        data = Data(given.X, Y, given.weights, events)
        run: Any = {"memory": self.memory, "n_jobs": self.n_jobs, "progress": progress}
        members = self._seeded_members()
        store = cross_fit_members(members, data, plan, self.tasks_, self.classes_map_, **run)
        queries = query_columns(given.X, self.tasks_)
        self.passthrough_ = Passthrough(self.roles_, queries).fit(given.X) if self.passthrough else None
        if self.random_state is not None:
            root = root_seed(self.random_state)
            finals = {name: seeded(final, root, "final", name) for name, final in finals.items()}
        choices = self._choose(given, store, finals, events)
        used = [member for member in members if member[0] in self._names_read(choices)]
        fitted = fit_members(used, data, plan=plan, **run)
        self._agree(fitted)
        self.named_estimators_ = dict(zip([name for name, _ in used], fitted, strict=True))
        self.estimators_ = fitted
        self.moments_ = training_moments(self.tasks_, self.estimators_, given.X)
        self._matching = match_members(self.named_estimators_, store, given)
        self._report(given.X, store, choices)
        progress.end(X, Y)
        return self

    def _keeps_scores(self) -> bool:
        return True

    def _choose(self, given: FitInput, store: OutOfFold, finals: dict[str, Any], events: Any) -> dict[str, Choice]:
        splits = self._meta_splits(given.X, store.fold, store.temporal, events)
        pull = pull_of(None, store.temporal)
        problems = list(make_problems(given, (store.of_task(task.name) for task in self.tasks_), pull))
        features = None if self.passthrough_ is None else self.passthrough_.transform(given.X)
        self._label_sizes = {task.name: _mean_size(given.counted(task.name)) for task in self.tasks_}
        moments = {t.name: [fold_moments(scores) for scores in store.of_task(t.name)] for t in _rankings(self.tasks_)}
        links = self._links(store.scores, moments)
        choices: dict[str, Choice] = {}
        greedy: dict[str, Floats] = {}
        for problem in problems:
            task, final = problem.task, finals.get(problem.task.name)
            greedy[task.name] = greedy_held_out(problem, store, splits)
            if final is not None:
                columns = self._raw_columns(task, store.scores, features)
                choices[task.name] = given_choice(
                    final,
                    problem,
                    columns,
                    splits,
                    greedy[task.name],
                    weighted=given.entire_weight(task) is not None,
                    n_classes=self._n_classes(task),
                    n_members=len(self.estimators),
                )
            else:
                data = self._meta_data(task, links, features, group_codes(given.X, task))
                choices[task.name] = linear_choice(problem, data, splits, greedy[task.name])
        judged = [p for p in problems if self._may_fall_back(finals.get(p.task.name), choices[p.task.name])]
        self._fall_back(choices, greedy, [(p, latest(p, store)) for p in judged], given)
        return choices

    def _may_fall_back(self, final: Any, choice: Choice) -> bool:
        if final is not None and choice.reason is not None:  # a given combiner that could not be fitted
            return True
        return final is None if self.fallback == "auto" else bool(self.fallback)

    def _fall_back(
        self,
        choices: dict[str, Choice],
        greedy: dict[str, Floats],
        judged: list[tuple[Problem, Problem]],
        given: FitInput,
    ) -> None:
        self.fallbacks_: dict[str, str] = {
            problem.task.name: str(choices[problem.task.name].reason)
            for problem, _ in judged
            if choices[problem.task.name].reason is not None
        }

        def pairs() -> Iterator[tuple[str, Floats, Floats, Floats]]:
            for problem, _ in judged:
                task, name = problem.task, problem.task.name
                if name not in self.fallbacks_:
                    weight, queries = np.zeros(n_rows(given.X)), group_codes(given.X, task)
                    weight[problem.rows] = problem.weight
                    y, weight = counted(task, given.targets.view(name), weight, queries)
                    own, base = (row_losses(task, y, s, queries) for s in (choices[name].held_out, greedy[name]))
                    yield name, own, base, weight

        table = compare_pairs(pairs(), clusters=self._users(given.X))
        for name in map(str, table.index):
            row = table.loc[name]
            if row["difference"] <= 0:
                continue
            self.fallbacks_[name] = (
                f"greedy averaging: out-of-fold loss {row['baseline']:.5g} against {row['value']:.5g} of stacking "
                f"(95 % interval of the difference {row['difference_low']:.2g} to {row['difference_high']:.2g})"
            )
            recent = next(recent for problem, recent in judged if problem.task.name == name)
            choices[name] = Choice(greedy_weights(recent), None, greedy[name])
        for name, reason in self.fallbacks_.items():
            warnings.warn(f"Task {name!r} is averaged, not stacked: {reason}.", FallbackWarning, stacklevel=5)

    def _names_read(self, choices: Mapping[str, Choice]) -> set[str]:
        """Members that some combiner reads; where none reads any, one that says how many rows there are."""
        names, read = self._names(), set()
        for task in self.tasks_:
            choice = choices[task.name]
            if choice.meta is None or (isinstance(choice.meta, LinearMeta) and not choice.meta.side_weights.any()):
                read |= {name for name, w in zip(names, choice.weights, strict=True) if w > 0}
            else:
                return set(names)
        return read or {names[0]}  # where no score tells anything, one member says whose rows they are

    def _report(self, X: Table, store: OutOfFold, choices: Mapping[str, Choice]) -> None:
        self.final_estimators_ = {name: choice.meta for name, choice in choices.items()}
        columns = {task.name: choices[task.name].weights for task in self.tasks_}
        self.weights_ = pd.DataFrame(columns, index=pd.Index(self._names(), name="member"))
        self.weights_.columns.name = "task"
        index = row_index(X)
        self.oof_predictions_, self.fold_, self.temporal_ = store.frame(index), store.fold, store.temporal
        self.n_uncovered_ = int((store.fold < 0).sum())
        held_out = {name: choice.held_out for name, choice in choices.items()}
        held_out = hold_monotone(self.tasks_, self.classes_map_, held_out)
        self.oof_scores_ = scores_frame(held_out, self.tasks_, self.classes_map_, index)

    def _meta_data(self, task: Task, links: Mapping[str, Scores], features: Any, groups: Any = None) -> MetaData:
        own = np.asarray([member[task.name] for member in links.values()])
        side = [
            _as_columns(self._as_side(task, other, member[other.name]))
            for other in self.tasks_
            if other.name in self._neighbours[task.name]
            for member in links.values()
        ]
        if features is not None:
            side.append(features)
        return MetaData(own, np.hstack(side) if side else np.empty((own.shape[1], 0)), groups)

    def _as_side(self, task: Task, other: Task, values: Floats) -> Floats:
        """What an order is made of are products, as of a probability and an amount: means enter as logarithms."""
        signed_logarithm = task.kind == "ranking" and other.kind == "regression"
        return np.arcsinh(values / self._label_sizes[other.name]) if signed_logarithm else values

    def _links(
        self, scores: Mapping[str, Scores], moments: Mapping[str, Any], matched: bool = False
    ) -> dict[str, Scores]:
        """Scores of all members on the scale of the link, refitted members brought to the spread of the folds'."""
        links: dict[str, Scores] = {}
        for k, (name, member) in enumerate(scores.items()):
            links[name] = {task.name: to_link(task.kind, member[task.name]) for task in self.tasks_}
            for ranking in _rankings(self.tasks_):
                links[name][ranking.name] = to_average("ranking", member[ranking.name], moments[ranking.name][k])
            for task, matching in self._matching[name].items() if matched else ():
                links[name][task] = matching(links[name][task])
        return links

    def _raw_columns(self, task: Task, scores: Mapping[str, Scores], features: Any) -> Floats:
        """Scores as they are, member by member, as scikit-learn stacks them."""
        read = {task.name, *self._neighbours[task.name]}
        blocks = [
            _as_columns(member[other.name]) for member in scores.values() for other in self.tasks_ if other.name in read
        ]
        return np.hstack(blocks if features is None else [*blocks, features])

    def _scores(self, X: Table, space: str) -> Scores:
        members = {name: m._scores(m._start_predict(X), "entire") for name, m in self.named_estimators_.items()}
        features = None if self.passthrough_ is None else self.passthrough_.transform(X)
        return self._combined(members, features, space)

    def _combined(self, members: Mapping[str, Scores], features: Any, space: str) -> Scores:
        """What the combiners make of the members' scores of the entire view."""
        links = self._links(members, self.moments_, matched=True)
        entire: Scores = {}
        for task in self.tasks_:
            meta = self.final_estimators_[task.name]
            if isinstance(meta, LinearMeta) and len(members) == len(self.estimators):
                entire[task.name] = meta.predict(self._meta_data(task, links, features))
            elif isinstance(meta, LinearMeta):
                entire[task.name] = self._predict_partly(task, meta, links)
            elif meta is not None:
                entire[task.name] = meta.predict(self._raw_columns(task, members, features))
            else:
                weights = self.weights_.loc[list(members), task.name].to_numpy()
                parts = [scores[task.name] for scores in members.values()]
                entire[task.name] = average(task, parts, weights, self.moments_.get(task.name))
        return self._in_space(entire, space)

    def _predict_partly(self, task: Task, meta: LinearMeta, links: Mapping[str, Scores]) -> Floats:
        """The combiner without columns that have no weight: their members were not fitted."""
        some = next(iter(links.values()))[task.name]
        own = [links[name][task.name] if name in links else np.zeros(some.shape) for name in self._names()]
        side = np.broadcast_to(meta.center, (len(some), len(meta.center)))
        return meta.predict(MetaData(np.asarray(own), side))


def _rankings(tasks: Sequence[Task]) -> list[Task]:
    return [task for task in tasks if task.kind == "ranking"]


def _mean_size(y: Floats) -> float:
    """The mean size of the labels; 1 where there is none."""
    known = np.abs(y[~np.isnan(y)])
    return float(known.mean()) if known.any() else 1.0


def _as_columns(values: Floats) -> Floats:
    return values[:, None] if values.ndim == 1 else values
