"""The front door: one estimator that puts the parts of the library together."""

from mtl_classic.model._multi_task_model import MultiTaskModel

__all__ = ["MultiTaskModel"]
