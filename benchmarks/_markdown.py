"""Tables of Markdown, as lines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["figures", "head", "row", "table"]

Aims = Mapping[str, tuple[str, float]]  # figure -> "≤" or "≥", and what its mean is held against


def table(heads: Iterable[str], rows: Iterable[Iterable[Any]]) -> list[str]:
    """A line of heads, one below it, and the rows."""
    return [*head(*heads), *(row(*cells) for cells in rows)]


def head(*names: str) -> list[str]:
    """The names of the columns, and the line below them."""
    return [row(*names), "|" + "---|" * len(names)]


def row(*cells: Any) -> str:
    """One row."""
    return f"| {' | '.join(map(str, cells))} |"


def figures(summary: Mapping[str, Mapping[str, float]], aims: Aims | None = None, *, digits: int = 4) -> list[str]:
    """Figures with their spread, and with ``aims`` whether those that have one are reached."""
    heads = ["figure", "mean", "low", "high", *([] if aims is None else ["aim", "holds"])]
    rows = (
        [name, *(f"{v[key]:.{digits}g}" for key in heads[1:4]), *([] if aims is None else _held(aims, name, v))]
        for name, v in summary.items()
    )
    return table(heads, rows)


def _held(aims: Aims, name: str, value: Mapping[str, float]) -> list[str]:
    """The aim of a figure, and whether its mean reaches it; empty without one."""
    if name not in aims:
        return ["", ""]
    sign, aim = aims[name]
    holds = value["mean"] <= aim if sign == "≤" else value["mean"] >= aim
    return [f"{sign} {aim}", "yes" if holds else "**no**"]
