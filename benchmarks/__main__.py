"""``python -m benchmarks NAME``: run a benchmark, print its table, keep JSON and Markdown."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from benchmarks._tables import MissingTableError

NAMES = (
    "quickstart",
    "complete_journey",
    "complete_journey_time",
    "hotel_bookings",
    "bank_marketing",
    "online_retail",
    "history",
    "sharing",
    "latent",
    "ensembles",
    "search",
    "fm",
    "week",
    "deep",
)
# Options that only some benchmarks know; the others refuse them.
KNOWN_BY = {
    "part": ("fm", "sharing", "week", "deep"),
    "households": ("quickstart", "complete_journey", "complete_journey_time", "fm", "sharing", "week", "deep"),
    "rows": ("week",),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and run."""
    options = _parse(arguments)
    try:
        import_module(f"benchmarks.{options.name}").run(options)
    except MissingTableError as error:
        raise SystemExit(str(error)) from None


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--seeds", type=_positive, default=3, help="number of seeds (default 3; search: at least 5)")
    parser.add_argument(
        "--data-dir", type=Path, default=os.environ.get("MTL_CLASSIC_DATA"), help="folder with the parquet tables"
    )
    parser.add_argument(
        "--households",
        type=_positive,
        default=None,
        help=f"a sample of Complete Journey ({', '.join(KNOWN_BY['households'])})",
    )
    parser.add_argument("--part", default=None, help=f"only these parts, with commas ({', '.join(KNOWN_BY['part'])})")
    parser.add_argument(
        "--rows", type=_positive, default=None, help="candidates of the night (week; default 10 million)"
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="folder for the results")
    options = parser.parse_args(arguments)
    for option, names in KNOWN_BY.items():
        if getattr(options, option) is not None and options.name not in names:
            parser.error(f"{options.name} has no --{option}; it is for {', '.join(names)}")
    return options


def _positive(text: str) -> int:
    if not (text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"must be a number of at least 1, got {text!r}")
    return int(text)


if __name__ == "__main__":
    main()
