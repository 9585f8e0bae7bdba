"""Hotel bookings: seven tasks, history by agent and country, judged on the last fifth of the arrival dates."""

from __future__ import annotations

import argparse

import pandas as pd

from benchmarks._plain import PlainTable, compare_presets
from benchmarks._tables import read_table
from mtl_classic import Task

BINARY = ("is_canceled", "has_special_requests", "booking_changed", "room_changed", "parking", "is_repeated_guest")
LEAKS = (
    "reservation_status",
    "reservation_status_date",
    "assigned_room_type",
    "booking_changes",
    "total_of_special_requests",
    "required_car_parking_spaces",
)
DATE = ["arrival_date_year", "arrival_date_month", "arrival_date_day_of_month"]


def run(options: argparse.Namespace) -> None:
    """Load and compare."""
    table = read_table(options, "hotel_bookings.parquet")
    table["arrival"] = pd.to_datetime(table[DATE].astype(str).agg(" ".join, axis=1), format="%Y %B %d")
    table = table.sort_values("arrival", kind="stable", ignore_index=True)
    labels = [*BINARY, "adr"]
    X = table.drop(columns=[*labels, *LEAKS, "arrival_date_year"])
    X[["agent", "company"]] = X[["agent", "company"]].fillna(-1).astype(int)
    tasks = (*(Task(name, "binary") for name in BINARY), Task("adr", "regression"))
    roles = {"user": "agent", "item": "country", "time": "arrival"}
    compare_presets(PlainTable("hotel_bookings", "Hotel bookings", X, table[labels], tasks, roles), options)
