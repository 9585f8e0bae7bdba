"""Multi-task learning with classical models, as scikit-learn estimators.

Public names load on first use: importing the package loads no booster and compiles nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mtl_classic._core.tasks import Task as Task
    from mtl_classic._core.tasks import infer_tasks as infer_tasks
    from mtl_classic.preprocessing import FieldEncoder as FieldEncoder

__version__ = "0.1.0"

# Where each public name lives. A test keeps this table, the imports above and `__all__` in step with the packages.
_PARTS: dict[str, tuple[str, ...]] = {
    "mtl_classic._core.tasks": ("Task", "infer_tasks"),
    "mtl_classic.preprocessing": ("FieldEncoder",),
}
_HOME = {name: part for part, names in _PARTS.items() for name in names}

__all__ = [
    "FieldEncoder",
    "Task",
    "infer_tasks",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its home, once."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
