"""The columns that the front door makes before any structure sees the table: history, then latent features."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from inspect import signature
from typing import Any

from sklearn.base import BaseEstimator, clone

from mtl_classic._core.base import MultiTaskEstimator
from mtl_classic._core.exceptions import RoleError
from mtl_classic._core.random import seeds_within
from mtl_classic._core.time import to_time
from mtl_classic.events import EventLog, HistoryFeatures
from mtl_classic.learners._columns import MAX_CATEGORIES, wide_columns
from mtl_classic.model._latent_choice import LatentOffer, LatentTrial, choose_latent
from mtl_classic.model._latent_proposal import latent_folds, propose_latent
from mtl_classic.model._training import Training
from mtl_classic.model_selection._folds import Rows
from mtl_classic.multitask._stages import Stage, stage
from mtl_classic.preprocessing import TargetStatistics

__all__ = ["ProposedLatent", "add_given", "add_proposed_latent", "catch_up", "history_steps", "statistics_keys"]

Step = tuple[str, Any]

FEW_IN_TIME = 100  # later hotel bookings gained 3 to 5 % by means of 131 countries; with 21 occupations films lost some


def statistics_keys(training: Training, aggregates: Any, structure: Any) -> list[Any]:
    """The columns that automatic target statistics are made of.

    User and item where they have no history for want of a time, and columns of more categories than the structure takes
    for features, but of at most one for two rows: beyond, they are texts. Where rows with a time have neither user nor
    item, categories are all that a history can be of: there fewer of them suffice, and stay features too. None that the
    structure leaves out by name, nor any of which the table has means already.
    """
    if not _is_auto(aggregates):
        return []
    roles = [column for column in training.roles.values() if column is not None]
    roles += [column for task in training.tasks for column in task.query_columns]
    few = max((n for n in _told(structure, "max_categories") if isinstance(n, int)), default=MAX_CATEGORIES)
    if training.has_time and not training.ids:
        few = min(few, FEW_IN_TIME)
    wide = wide_columns(training.X, [*roles, *_left_out(training.X, structure)], few)
    known = [] if training.has_time else training.ids
    keys = [*known, *(name for name, n in wide.items() if n <= len(training.labels) / 2)]
    means = [str(c) for c in getattr(training.X, "columns", ()) if str(c).endswith("__mean")]
    return [name for name in keys if not any(mean.startswith(f"{name}__") for mean in means)]


def history_steps(
    training: Training, aggregates: Any, keys: list[Any], cv: Any, on_conflict: str
) -> list[tuple[str, Any]]:
    """The unfitted transformers that make the history, and statistics of the columns ``keys``, by name.

    Raises
    ------
    RoleError
        If aggregates were given, but no time.
    """
    if aggregates is None:
        return []
    if isinstance(aggregates, BaseEstimator):
        return [("history", clone(aggregates))]
    if not _is_auto(aggregates) and not training.has_time:
        raise RoleError("aggregates were given, but no time column of the rows; name it with time=.")
    steps: list[tuple[str, Any]] = []
    if training.has_time and (training.ids or not _is_auto(aggregates)):
        named = {role: training.roles[role] for role in ("user", "item", "time")}
        history = HistoryFeatures(
            aggregates, **named, tasks=training.sorted_tasks, on_conflict=on_conflict, n_jobs=training.n_jobs
        )
        steps.append(("history", history))
    if keys:
        time, seed = training.roles["time"], training.seed_for("means")
        statistics = TargetStatistics(keys, tasks=training.sorted_tasks, time=time, cv=cv, random_state=seed)
        steps.append(("statistics", statistics))
    return steps


def _is_auto(aggregates: Any) -> bool:
    return isinstance(aggregates, str) and aggregates == "auto"


def _left_out(X: Any, structure: Any) -> list[Any]:
    """The columns that the structure, and everything inside it, has in its ``exclude``."""
    given = [() if names is None else names for names in _told(structure, "exclude")]  # which the structure refuses
    told = [{str(name) for name in names} for names in given]
    names = set.intersection(*told) if told else set()
    return [c for c in X.columns if any(c == n or str(c).endswith(f"__{n}") for n in names)] if names else []


def _told(structure: Any, parameter: str) -> list[Any]:
    """The values of a parameter in a structure and in what is inside it."""
    told = structure.get_params() if isinstance(structure, BaseEstimator) else {}
    return [value for name, value in told.items() if name.split("__")[-1] == parameter]


def add_given(training: Training, step: Any) -> Any:
    """Fit a transformer, for the model's tasks and seed if it names none, and append its columns, out-of-fold."""
    untold = [name for name, value in step.get_params().items() if name.split("__")[-1] == "tasks" and value is None]
    seeds = seeds_within(step, training.seed, "features", unset=True)
    step.set_params(**dict.fromkeys(untold, training.sorted_tasks), **seeds)
    offered: dict[str, Any] = {"events": training.events, "plan": training.plan}
    if _takes(step, "plan"):  # what others call sample_weight is not a weight per task
        offered["sample_weight"] = training.named_weights
    known = {key: value for key, value in offered.items() if value is not None and _takes(step, key)}
    settles = getattr(step, "on_conflict", "raise") != "raise"  # written out as settled, a dropped child would be 0
    labels = training.told if settles else training.labels
    training.table = step.fit_transform(training.table, labels, **known)
    return step


@dataclass(frozen=True)
class ProposedLatent:
    """What became of the latent features that suit the tasks.

    Attributes
    ----------
    why : str
    step : fitted LatentFeatures, or None
        Where all tasks take their columns, which have been appended.
    staged : Stage, or None
        The structure on the table as it is now, if the fits to find out are those of its first stage.
    offer : LatentOffer, or None
        What a member of an ensemble may read, to be weighed task by task beside others that do not.
    """

    why: str
    step: Any = None
    staged: Stage | None = None
    offer: LatentOffer | None = None


def catch_up(steps: Iterable[Step], events: EventLog | None) -> None:
    """Tell latent features of the events from the last row on, as their history knows them.

    Only those whose rows have their users as of their own time: to others the rows that were fitted would be told of
    what came after them.
    """
    for _, step in steps:
        if events is not None and hasattr(step, "_catch_up"):
            step._catch_up(events)


def add_proposed_latent(
    training: Training, structure: MultiTaskEstimator, *, by_member: bool, shared: bool
) -> ProposedLatent:
    """Append the latent features that suit the tasks, if the validation rows show that they help.

    Parameters
    ----------
    training : Training
    structure : unfitted structure
    by_member : bool
        Whether a member of an ensemble can read them beside others that do not. In time it is offered what is not kept
        for all; in a split at random the final columns are others than those of a trial.
    shared : bool
        Whether further structures will take over the encoded features.
    """
    seed, events, weight = training.seed_for("latent"), training.events, training.named_weights
    proposed = (training.table, training.sorted_tasks, training.roles, seed)
    latent = propose_latent(*proposed, events, training.n_jobs)
    split = None if latent is None else training.split()
    if events is not None and split is not None and not _is_in_time(split, training.time):
        events, latent = None, propose_latent(*proposed, None, training.n_jobs)
    if latent is None or split is None:
        return ProposedLatent("no user and item with enough rows to learn latent features for")
    taught = training.counted.notna().to_numpy()
    if not taught[split[0]].any(axis=0).all():
        why = "a task has labels among the validation rows only, so that latent features cannot be tried"
        return ProposedLatent(why)
    staged = stage(structure, training.table, training.labels, split, sample_weight=training.weights, shared=shared)
    trial = LatentTrial(
        latent,
        training.table,
        training.labels,
        split,
        events=events,
        weight=weight,
        clusters=training.users,
        time=training.time,
        groups=training.queries,
        seed=training.seed,
    )
    by_member &= trial.in_time
    choice = choose_latent(structure, staged, trial, by_member=by_member, shared=shared)
    if not choice.helps:
        offer = None
        if by_member and choice.table is not None and choice.staged is not None:
            offer = LatentOffer(trial, choice.table, choice.staged)
        return ProposedLatent(choice.why, staged=staged, offer=offer)
    if choice.table is not None:
        step = trial.fit_all()
        training.table = choice.table
        return ProposedLatent(choice.why, step, choice.staged)
    folds = latent_folds(
        training.counted,
        training.sorted_tasks,
        time=training.time,
        groups=training.queries,
        seed=training.seed_for("latent folds"),
    )
    training.table = latent.fit_transform(
        training.table, training.labels, sample_weight=weight, events=events, plan=folds
    )
    return ProposedLatent(choice.why, latent)


def _is_in_time(split: tuple[Rows, Rows], time: Any) -> bool:
    """Whether a split holds out later rows; of others the factors of a log would know what they are to tell."""
    if time is None:
        return False
    stamps = to_time(time)
    return bool(stamps[split[0]].max() <= stamps[split[1]].min())


def _takes(step: Any, parameter: str) -> bool:
    return hasattr(step, "fit_transform") and parameter in signature(step.fit_transform).parameters
