"""A model as a file without pickle: saved, loaded, and refused with the reason."""

from mtl_classic.persistence._errors import ModelFileError
from mtl_classic.persistence._load import load_model
from mtl_classic.persistence._save import save_model

__all__ = ["ModelFileError", "load_model", "save_model"]
