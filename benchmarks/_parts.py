"""Benchmarks in parts: which are asked for, and what an earlier run has left of the others."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from benchmarks._tables import MissingTableError

__all__ = ["asked_parts", "earlier_result", "made_parts", "result_name", "seeds_text"]


Made = TypeVar("Made")


def asked_parts(options: argparse.Namespace, known: Iterable[str]) -> list[str]:
    """The parts that ``--part`` names, all of them without it, in the order in which they are run."""
    parts = list(known)
    asked = parts if options.part is None else [name.strip() for name in options.part.split(",")]
    if unknown := [name for name in asked if name not in parts]:
        raise SystemExit(f"{options.name} has no part {', '.join(unknown)}; it has {', '.join(parts)}.")
    return [name for name in parts if name in asked]


def made_parts(
    options: argparse.Namespace, known: Mapping[str, tuple[str, Callable[[argparse.Namespace], Made]]]
) -> Iterator[tuple[str, Made]]:
    """What each part that is asked for makes; one whose table is not there is left out."""
    for name in asked_parts(options, known):
        try:
            made = known[name][1](options)
        except MissingTableError as error:
            print(f"{name} is left out: {error}")
            continue
        yield name, made


def result_name(options: argparse.Namespace, name: str) -> str:
    """The files' name; a sample of households has files of its own, beside those of the whole table."""
    return name if options.households is None else f"{name}_{options.households}"


def earlier_result(options: argparse.Namespace, name: str) -> dict[str, Any]:
    """What an earlier run has written, to put new parts in the place of old ones; empty where there is nothing."""
    file = options.out / f"{name}.json"
    result: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return result


def seeds_text(seeds: Mapping[str, int]) -> str:
    """The number of seeds, or that of each part where parts were measured with different ones."""
    if len(numbers := set(seeds.values())) == 1:
        number = numbers.pop()
        return f"{number} seed{'s' if number > 1 else ''}"
    return f"seeds: {', '.join(f'{part} {number}' for part, number in seeds.items())};"
