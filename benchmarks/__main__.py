"""``python -m benchmarks NAME``: run a benchmark, print its table, keep JSON and Markdown."""

from __future__ import annotations

import argparse
import os
from importlib import import_module
from pathlib import Path

NAMES = (
    "quickstart",
    "complete_journey",
    "complete_journey_time",
    "hotel_bookings",
    "bank_marketing",
    "history",
    "sharing",
    "latent",
    "ensembles",
    "search",
    "fm",
    "week",
)


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds (default 3)")
    parser.add_argument(
        "--data-dir", type=Path, default=os.environ.get("MTL_CLASSIC_DATA"), help="folder with the parquet tables"
    )
    parser.add_argument("--households", type=int, default=None, help="Complete Journey: a sample of households")
    parser.add_argument("--part", default=None, help="fm: run this part only; sharing: these, with commas")
    parser.add_argument("--rows", type=int, default=None, help="week: candidates of the night (default 10 million)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="folder for the results")
    options = parser.parse_args()
    import_module(f"benchmarks.{options.name}").run(options)


if __name__ == "__main__":
    main()
