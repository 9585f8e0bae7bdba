"""Multi-task tables with their event logs: a synthetic shop of known truth and a year of a grocery chain."""

from mtl_classic.datasets._complete_journey import load_complete_journey
from mtl_classic.datasets._synthetic import make_funnel

__all__ = ["load_complete_journey", "make_funnel"]
