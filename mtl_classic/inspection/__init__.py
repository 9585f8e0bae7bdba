"""Looking at models, and watching them at work."""

from mtl_classic.inspection._importance import permutation_importance
from mtl_classic.inspection._monitor import monitor
from mtl_classic.inspection._plots import plot_affinity, plot_importance, plot_task_graph
from mtl_classic.inspection._reference import monitor_reference

__all__ = [
    "monitor",
    "monitor_reference",
    "permutation_importance",
    "plot_affinity",
    "plot_importance",
    "plot_task_graph",
]
