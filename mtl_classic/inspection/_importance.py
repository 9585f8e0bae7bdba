"""Which columns each task lives on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from mtl_classic._core.options import COUNT, check_option, list_of
from mtl_classic._core.random import generator, root_seed
from mtl_classic._core.validation import Table, as_table, check_labels_of, n_rows
from mtl_classic.metrics._arrays import Codes, Floats, divide
from mtl_classic.metrics._fitted import clusters_of_rows, conflict_rule, groups_of, last_step, role_column, scores_of
from mtl_classic.metrics._known import Known
from mtl_classic.metrics._registry import get_metric
from mtl_classic.metrics._scores import task_scores
from mtl_classic.metrics._significance import Comparison, check_bootstrap, clusters_of, compare_statistics
from mtl_classic.metrics._statistics import Clusters, SumStatistic

__all__ = ["permutation_importance"]

MAX_CLUSTERS = 2000  # that the bootstrap draws: there are as many comparisons as columns times tasks
VERDICTS = {"worse": "helps", "better": "misleads", "same": "same"}  # of the shuffled rows -> of the column


def permutation_importance(
    model: Any,
    X: Any,
    Y: Any,
    *,
    columns: Any = None,
    n_repeats: int = 3,
    space: str = "entire",
    clusters: Any = None,
    sample_weight: Any = None,
    n_replicates: int = 1000,
    level: float = 0.95,
    random_state: Any = 0,
) -> pd.DataFrame:
    r"""By how much each task's loss rises when the values of a column are dealt to the wrong rows.

    .. math:: \text{importance}(j, t) = \frac{L_t(X \text{ with column } j \text{ shuffled}) - L_t(X)}{L_t(X)}

    on rows that the model has not seen, with the proper loss of the task's kind, mean over the repeats. What two
    columns both tell counts for neither: shuffle them together.

    Parameters
    ----------
    model : fitted multi-task estimator
        Also a Pipeline or search that ends in one: then columns are those that go into the pipeline, and what is made
        of them (history of a user, encodings) is shuffled with them. To ask about the made columns, give the last step
        and the table that reaches it: ``model.pipeline_[-1], model.pipeline_[:-1].transform(X)``.
    X : table of shape (n, n_features)
    Y : frame or array of shape (n, n_tasks)
        NaN is unlabelled.
    columns : list of columns, or dict name -> list of columns, default=None
        What to shuffle; the columns of a list in a dict are shuffled together. Names of a frame, or positions in an
        array or CSR matrix. None takes every column alone, but for the query and the time: rows at another time would
        know of events that came after them, their own labels among these.
    n_repeats : int, default=3
        Shuffles of each.
    space : {"entire", "conditional"}, default="entire"
        Whether funnel children are judged on all rows, or on those whose parent is positive.
    clusters : str or array of shape (n,), default=None
        A column of X (or keys) whose values are drawn as a whole by the bootstrap. None: the model's user, else the
        query of a ranking, else rows.
    sample_weight : array of shape (n,) or (n, n_tasks), default=None
        Non-negative weights.
    n_replicates : int, default=1000
        Bootstrap replicates, at least 100; 0 leaves intervals and verdicts out.
    level : float, default=0.95
        Of the intervals.
    random_state : int, RandomState or None, default=0
        Seed of the shuffles and the bootstrap; a column more or less changes no other's shuffles.

    Returns
    -------
    DataFrame
        Index (task, column) in the order of the tasks, the most important column first; columns ``importance``,
        ``low``, ``high`` (its interval by the paired bootstrap), ``p_value`` (after Holm over columns and tasks) and
        ``verdict``: "helps", "misleads" (the loss falls without it) or "same". NaN for tasks without labels in Y.

    Raises
    ------
    ValueError
        On columns that X does not have, rows of X and Y that differ in number, or ``n_repeats`` below 1.

    Notes
    -----
    Cost: one prediction per column and repeat. Shuffling makes rows that never happen (a user at another's shop), so
    this tells what the model uses, not what causes the label.

    References
    ----------
    A. Fisher, C. Rudin, F. Dominici, All models are wrong, but many are useful, 2019, arXiv:1801.01489; L. Breiman,
    Random forests, 2001, doi:10.1023/A:1010933404324.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from mtl_classic import PerTaskModel, permutation_importance
    >>> rng = np.random.default_rng(0)
    >>> X = pd.DataFrame(rng.normal(size=(1000, 3)), columns=["price", "stars", "noise"])
    >>> Y = pd.DataFrame({"buy": X["price"] < rng.normal(size=1000), "rating": X["stars"] + rng.normal(size=1000)})
    >>> model = PerTaskModel(random_state=0).fit(X[:600], Y[:600])
    >>> table = permutation_importance(model, X[600:], Y[600:])
    >>> table["verdict"].unstack()[["price", "stars", "noise"]]
    column  price  stars noise
    task
    buy     helps   same  same
    rating   same  helps  same
    """
    final, _ = last_step(model)
    table = as_table(X)
    check_option("n_repeats", n_repeats, COUNT)
    check_bootstrap(n_replicates, level)
    chosen = _columns(table, columns, final)
    if not chosen:
        raise ValueError("There is no column to shuffle: columns is empty, or X has none but the query and the time.")
    seed = root_seed(random_state)
    known = Known.of(
        Y,
        final.tasks_,
        final.classes_map_,
        space=space,
        on_conflict=conflict_rule(final),
        groups=groups_of(final, table) or None,
        clusters=clusters_of_rows(final, table, clusters),
        sample_weight=sample_weight,
        seed=seed,
    )
    check_labels_of(table, known.targets)
    judge = _Judge(model, final, known, Y, space, _joined(known, seed))
    intact = judge.sums(table)
    names: list[tuple[str, Any]] = []
    comparisons: list[Comparison] = []
    for name, members in chosen.items():
        orders = (generator(seed, "shuffle", str(name), k).permutation(n_rows(table)) for k in range(n_repeats))
        shuffled = judge.mean_sums(_shuffled(table, members, order) for order in orders)
        names += [(task.name, name) for task in final.tasks_]
        comparisons += [judge.comparison(task.name, shuffled, intact) for task in final.tasks_]
    result = compare_statistics(comparisons, n_replicates=n_replicates, level=level, seed=seed)
    return _report(result, names)


@dataclass(frozen=True, eq=False)
class _Judge:
    """Turns tables into sums of losses and weights, per task and cluster."""

    model: Any
    final: Any
    known: Known
    Y: Any
    space: str
    clusters: dict[str, Clusters]

    def sums(self, table: Table) -> dict[str, Floats]:
        """Arrays of shape (n_clusters, 2)."""
        frame = scores_of(self.model, table, self.space)
        rows, tasks, loss = np.arange(n_rows(table)), self.final.tasks_, get_metric("loss")
        sums = {}
        for task in tasks:
            scores: Any = task_scores(frame, task, tasks, self.final.classes_map_, self.Y, "scores")
            judged: Any = loss.bind(self.known.judged(task, scores, rows))
            clusters = self.clusters[task.name]
            where = clusters.codes[judged.rows]
            totals = [np.bincount(where, part, minlength=clusters.n) for part in judged.parts.T]
            sums[task.name] = np.column_stack(totals).astype(np.float64)
        return sums

    def mean_sums(self, tables: Iterable[Table]) -> dict[str, Floats]:
        """The mean over several tables."""
        found = [self.sums(table) for table in tables]
        return {name: np.mean([sums[name] for sums in found], axis=0) for name in found[0]}

    def comparison(self, name: str, shuffled: dict[str, Floats], intact: dict[str, Floats]) -> Comparison:
        """The loss of a task on shuffled against intact rows."""
        one, other = (_mean_loss(sums[name]) for sums in (shuffled, intact))
        return Comparison(one, other, self.clusters_drawn[name], -1, "loss")

    @cached_property
    def clusters_drawn(self) -> dict[str, Clusters]:
        """A row per cluster, which is what the sums have."""
        drawn = {id(c): Clusters(np.arange(c.n), c.n) for c in self.clusters.values()}
        return {name: drawn[id(c)] for name, c in self.clusters.items()}


def _joined(known: Known, seed: int) -> dict[str, Clusters]:
    made = {id(c): clusters_of(c.codes, seed, at_most=MAX_CLUSTERS) for c in known.clusters.values()}
    return {name: made[id(c)] for name, c in known.clusters.items()}


def _mean_loss(sums: Floats) -> SumStatistic:
    rows = np.flatnonzero(sums[:, 1] > 0)
    return SumStatistic(rows, sums[rows], lambda s: divide(s[0], s[1]))


def _columns(table: Table, columns: Any, final: Any) -> dict[Any, list[int]]:
    """Name -> positions of what is shuffled together."""
    names = list(table.columns) if isinstance(table, pd.DataFrame) else list(range(table.shape[1]))
    place = {name: j for j, name in enumerate(names)}
    if columns is None:
        kept = {str(name) for task in final.tasks_ if task.kind == "ranking" for name in task.query_columns}
        kept |= {role_column(final, table, role) or "" for role in ("query", "time")}
        return {name: [j] for name, j in place.items() if str(name) not in kept}
    if isinstance(columns, str) or not isinstance(columns, Iterable):
        raise TypeError(f"columns must be a list of columns, or a dict name -> list of columns; got {columns!r}.")
    asked = columns if isinstance(columns, Mapping) else {name: [name] for name in columns}
    for name, members in asked.items():
        check_option(f"columns[{name!r}]", members, list_of("columns"))
    wrong = [name for members in asked.values() for name in members if name not in place]
    if wrong:
        raise ValueError(
            f"columns has {', '.join(map(repr, wrong))}, which X lacks; its columns are {', '.join(map(str, names))}."
        )
    return {name: [place[member] for member in members] for name, members in asked.items()}


def _shuffled(table: Table, members: Sequence[int], order: Codes) -> Table:
    """The table with the columns at those positions in another order, all in the same."""
    if isinstance(table, pd.DataFrame):
        moved = table.copy(deep=False)
        for j in members:
            moved.isetitem(j, table.iloc[order, j].array)
        return moved
    if sparse.issparse(table):
        moved = table.tocsc(copy=True)
        new_row = np.argsort(order)
        for j in members:
            stored = slice(moved.indptr[j], moved.indptr[j + 1])
            moved.indices[stored] = new_row[moved.indices[stored]]
        moved.has_sorted_indices = False
        return moved.tocsr()
    moved = table.copy()
    moved[:, members] = table[:, members][order]
    return moved


def _report(result: pd.DataFrame, names: list[tuple[str, Any]]) -> pd.DataFrame:
    """Relative to the loss of the intact rows, the most important columns of each task first."""
    baseline = result["baseline"].where(result["baseline"] > 0)
    table = pd.DataFrame(
        {
            "importance": result["difference"] / baseline,
            "low": result["difference_low"] / baseline,
            "high": result["difference_high"] / baseline,
            "p_value": result["p_value"],
            "verdict": result["verdict"].map(VERDICTS),
        }
    )
    tasks = list(dict.fromkeys(task for task, _ in names))
    order = sorted(range(len(names)), key=lambda i: (tasks.index(names[i][0]), -table["importance"].iloc[i]))
    index = pd.MultiIndex.from_tuples([names[i] for i in order], names=["task", "column"])
    return table.iloc[order].set_axis(index, axis=0)
