"""Bank marketing: a call's success, and two labels that are partly unknown, judged on the last fifth of the calls."""

from __future__ import annotations

import argparse

import numpy as np

from benchmarks._plain import PlainTable, compare_presets
from benchmarks._tables import read_table
from mtl_classic import Task

LABELS = ("t_y", "t_housing", "t_loan")
LEAKS = ("duration", "y", "housing", "loan", "t_default")  # duration is known after the call; the others are labels


def run(options: argparse.Namespace) -> None:
    """Load and compare."""
    table = read_table(options, "bank_marketing.parquet")
    Y = table[list(LABELS)].astype(float)
    for column in ("housing", "loan"):
        Y.loc[table[column] == "unknown", f"t_{column}"] = np.nan
    X = table.drop(columns=[*LABELS, *LEAKS]).assign(call=np.arange(len(table)))  # the rows are in the order of time
    tasks = tuple(Task(name, "binary") for name in LABELS)
    compare_presets(PlainTable("bank_marketing", "Bank marketing", X, Y, tasks, {"time": "call"}), options)
