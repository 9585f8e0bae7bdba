"""The versions of what fits models and reads them."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from mtl_classic import __version__

__all__ = ["library_versions"]

LIBRARIES = ("numpy", "scipy", "pandas", "scikit-learn", "lightgbm", "xgboost", "implicit", "numba")


def library_versions() -> dict[str, str]:
    """Version of Python, of this library, and of those that fit for it, as far as they are installed."""
    versions = {"python": platform.python_version(), "mtl_classic": __version__}
    for library in LIBRARIES:
        try:
            versions[library] = version(library)
        except PackageNotFoundError:
            continue
    return versions
