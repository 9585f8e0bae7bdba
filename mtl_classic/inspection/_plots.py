"""Pictures of how tasks help each other, and of the columns they live on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mtl_classic._core.options import COUNT, check_option

__all__ = ["plot_affinity", "plot_importance", "plot_task_graph"]

SURE = "better"  # the verdict that is marked
NAMES = {"parse_math": False}  # two dollars in the name of a column are no formula
SLANTED = {"rotation": 30, "ha": "right", **NAMES}


def plot_affinity(affinity: pd.DataFrame, *, ax: Any = None) -> Any:
    """A heat map of `task_affinity`: by how many percent a column's loss falls when it may read the row's score.

    Each cell shows the gain and its standard error; gains beyond the noise are marked by a star. The colours reach to
    the largest gain or loss on both sides of 0, so that white is no effect.

    Parameters
    ----------
    affinity : DataFrame
        As `task_affinity` returns it: index (source, target), columns ``gain``, ``standard_error``, ``verdict``.
    ax : matplotlib Axes, default=None
        Where to draw; None makes a new figure.

    Returns
    -------
    matplotlib Axes

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from mtl_classic import plot_affinity, task_affinity
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(400, 5))
    >>> Y = pd.DataFrame({"rating": X.sum(axis=1) + rng.normal(size=400), "liked": (X.sum(axis=1) > 0) * 1.0})
    >>> axes = plot_affinity(task_affinity(X, Y, learner="linear", cv=3, random_state=0))
    >>> axes.get_xlabel()
    'task that gains'
    """
    _check_frame(
        affinity, ["gain", "standard_error", "verdict"], "affinity", "task_affinity, indexed by (source, target)"
    )
    names = list(dict.fromkeys([*affinity.index.get_level_values(0), *affinity.index.get_level_values(1)]))
    gain = 100 * affinity["gain"].unstack().reindex(index=names, columns=names)
    largest = float(np.nanmax(np.abs(gain.to_numpy()), initial=0.0)) or 1.0
    ax = _axes(ax, 1.2 * len(names) + 2, 0.9 * len(names) + 1.5)
    image = ax.imshow(gain, cmap="RdBu", vmin=-largest, vmax=largest)
    pairs: list[Any] = list(affinity.index)
    for (source, target), (_, row) in zip(pairs, affinity.iterrows(), strict=True):
        at = names.index(target), names.index(source)
        dark = abs(100 * row["gain"]) > 0.6 * largest
        text = f"{100 * row['gain']:+.2f}{'*' if row['verdict'] == SURE else ''}\n± {100 * row['standard_error']:.2f}"
        ax.text(*at, text, ha="center", va="center", fontsize=8, color="white" if dark else "black")
    ax.set_xticks(range(len(names)), names, **SLANTED)
    ax.set_yticks(range(len(names)), names, **NAMES)
    ax.set_xlabel("task that gains")
    ax.set_ylabel("task whose score is read")
    ax.figure.colorbar(image, ax=ax, label="fall of the loss, %")
    return ax


def plot_importance(importance: pd.DataFrame, *, n_columns: int | None = 20, ax: Any = None) -> Any:
    """A heat map of `permutation_importance`: by how many percent a task's loss rises without a column.

    Each task has its own scale, dark being its most important column, since losses that are hard to lower have small
    rises throughout. A star marks what helps beyond the noise, a minus what misleads.

    Parameters
    ----------
    importance : DataFrame
        As `permutation_importance` returns it: index (task, column), columns ``importance`` and ``verdict``.
    n_columns : int or None, default=20
        How many to show: those with the largest share of any task's most important one. None shows all.
    ax : matplotlib Axes, default=None
        Where to draw; None makes a new figure.

    Returns
    -------
    matplotlib Axes

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from mtl_classic import PerTaskModel, permutation_importance, plot_importance
    >>> rng = np.random.default_rng(0)
    >>> X = pd.DataFrame(rng.normal(size=(400, 3)), columns=["price", "stars", "noise"])
    >>> Y = pd.DataFrame({"rating": X["stars"] + rng.normal(size=400), "returned": X["price"] > rng.normal(size=400)})
    >>> model = PerTaskModel(learner="linear", random_state=0).fit(X[:200], Y[:200])
    >>> axes = plot_importance(permutation_importance(model, X[200:], Y[200:]), n_columns=2)
    >>> sorted(label.get_text() for label in axes.get_yticklabels())
    ['price', 'stars']
    """
    made_by = "permutation_importance, indexed by (task, column)"
    check_option("n_columns", n_columns, (COUNT, None))
    _check_frame(importance, ["importance", "verdict"], "importance", made_by)
    tasks, columns = (importance.index.get_level_values(i).unique() for i in (0, 1))
    rise, verdict = (importance[name].unstack().reindex(tasks)[columns].T for name in ("importance", "verdict"))
    largest = rise.max().clip(lower=0.0)
    share = (rise.clip(lower=0.0) / largest.where(largest > 0)).fillna(0.0)
    share = share.loc[share.max(axis=1).sort_values(ascending=False, kind="stable").index[:n_columns]]
    ax = _axes(ax, 1.3 * len(tasks) + 3, 0.35 * len(share) + 1.5)
    ax.imshow(share, cmap="Blues", vmin=0.0, vmax=1.0, aspect="auto")
    for i, column in enumerate(share.index):
        for j, task in enumerate(tasks):
            value = rise.loc[column, task]
            mark = {"helps": "*", "misleads": "−"}.get(verdict.loc[column, task], "")
            text = "" if np.isnan(value) else f"{100 * value:.2f}{mark}"
            dark = share.loc[column, task] > 0.6
            ax.text(j, i, text, ha="center", va="center", fontsize=8, color="white" if dark else "black")
    ax.set_xticks(range(len(tasks)), [str(task) for task in tasks], **SLANTED)
    ax.set_yticks(range(len(share)), [str(column) for column in share.index], **NAMES)
    ax.set_title("rise of the loss when the column is shuffled, %", fontsize=10)
    return ax


def plot_task_graph(model: Any, *, ax: Any = None) -> Any:
    """The edges that a fitted `TaskGraphModel` uses, tasks on a circle; edges to first-level scores are dashed.

    Parameters
    ----------
    model : fitted TaskGraphModel
    ax : matplotlib Axes, default=None
        Where to draw; None makes a new figure.

    Returns
    -------
    matplotlib Axes

    Examples
    --------
    >>> import numpy as np
    >>> from mtl_classic import TaskGraphModel, plot_task_graph
    >>> X = np.random.default_rng(0).normal(size=(300, 3))
    >>> graph = TaskGraphModel(edges=[("y0", "y1")], learner="linear", cv=2, fallback=False, random_state=0)
    >>> axes = plot_task_graph(graph.fit(X, np.c_[X[:, 0] > 0, X[:, 0] + X[:, 1] > 0] * 1.0))
    >>> [text.get_text() for text in axes.texts if text.get_text()]
    ['y0', 'y1']
    """
    if not hasattr(model, "edges_"):
        raise TypeError(f"plot_task_graph draws a fitted TaskGraphModel, got {model!r}.")
    names = [task.name for task in model.tasks_]
    turn = np.linspace(0, 2 * np.pi, len(names), endpoint=False) + np.pi / 2
    place = dict(zip(names, np.column_stack([np.cos(turn), np.sin(turn)]), strict=True))
    ax = _axes(ax, 5, 5)
    both = {(a, b) for a, b, _ in model.edges_} & {(b, a) for a, b, _ in model.edges_}
    for source, target, level in model.edges_:
        style = {
            "arrowstyle": "-|>",
            "shrinkA": 22,
            "shrinkB": 22,
            "linestyle": "--" if level == "base" else "-",
            "connectionstyle": f"arc3,rad={0.15 if (source, target) in both else 0.0}",
            "color": "tab:blue",
        }
        ax.annotate("", xy=place[target], xytext=place[source], arrowprops=style)
    for name, (x, y) in place.items():
        box = {"boxstyle": "round,pad=0.4", "facecolor": "white", "edgecolor": "black"}
        ax.text(x, y, name, ha="center", va="center", bbox=box, **NAMES)
    ax.set_xlim(-1.5, 1.5)
    ax.set_ylim(-1.4, 1.4)
    ax.set_axis_off()
    return ax


def _check_frame(frame: Any, columns: list[str], name: str, made_by: str) -> None:
    if not isinstance(frame, pd.DataFrame):
        raise TypeError(f"{name} must be the frame of {made_by}; got {frame!r}.")
    if not set(columns) <= set(frame.columns) or frame.index.nlevels != 2:
        raise ValueError(
            f"{name} must be the frame of {made_by}; got the columns {list(frame.columns)} and {frame.index.nlevels} "
            f"index levels."
        )


def _axes(ax: Any, width: float, height: float) -> Any:
    if ax is not None:
        if not hasattr(ax, "imshow"):
            raise TypeError(f"ax must be Axes of matplotlib or None, got {ax!r}.")
        return ax
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError("Pictures need matplotlib: pip install 'mtl-classic[plot]'.") from error

    return plt.subplots(figsize=(width, height), layout="constrained")[1]
