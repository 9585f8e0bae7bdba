"""What is wrong with a model file."""

__all__ = ["ModelFileError"]


class ModelFileError(ValueError):
    """A model file that cannot be read: truncated, tampered with, from a later version, or no model file at all."""
