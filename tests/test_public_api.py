"""Every public name can be imported, is documented, and importing the package is cheap."""

import ast
import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import mtl_classic

ROOT = Path(__file__).parents[1]
PACKAGES = sorted(m.name for m in pkgutil.iter_modules(mtl_classic.__path__) if not m.name.startswith("_"))
# Names that stay in the package: `mtl_classic.metrics.roc_auc` and `mtl_classic.factorization.Adam` read better than a
# top level of forty functions and solvers.
PARTLY_AT_THE_TOP = {"factorization", "metrics"}
HEAVY = ("lightgbm", "xgboost", "implicit", "numba", "llvmlite", "matplotlib", "optuna", "polars", "pyarrow", "rich")


def public(package: str) -> list[str]:
    return list(importlib.import_module(f"mtl_classic.{package}").__all__)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_lists_its_names_in_order(package: str) -> None:
    names = public(package)
    assert names == sorted(names)
    assert len(names) == len(set(names))
    module = importlib.import_module(f"mtl_classic.{package}")
    assert [name for name in names if not hasattr(module, name)] == []


@pytest.mark.parametrize("name", mtl_classic.__all__)
def test_a_top_level_name_is_the_object_of_its_home(name: str) -> None:
    home = importlib.import_module(mtl_classic._HOME[name])
    assert getattr(mtl_classic, name) is getattr(home, name)
    assert name in dir(mtl_classic)
    assert inspect.getdoc(getattr(mtl_classic, name))


def test_the_top_level_lists_are_one_list() -> None:
    tree = ast.parse((ROOT / "mtl_classic" / "__init__.py").read_text())
    for_checkers = [
        (str(node.module), alias.name)
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    ]
    assert sorted(for_checkers) == sorted((home, name) for name, home in mtl_classic._HOME.items())
    assert mtl_classic.__all__ == sorted(mtl_classic._HOME)


@pytest.mark.parametrize("package", PACKAGES)
def test_the_top_level_repeats_the_packages(package: str) -> None:
    at_the_top = set(mtl_classic._PARTS.get(f"mtl_classic.{package}", ()))
    assert at_the_top <= set(public(package))
    if package not in PARTLY_AT_THE_TOP:
        assert at_the_top == set(public(package)), "add the name to mtl_classic/__init__.py"


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'NoSuchModel'"):
        mtl_classic.NoSuchModel  # noqa: B018


def test_every_top_level_name_is_shown_to_the_user() -> None:
    shown = (ROOT / "README.md").read_text()
    shown += "".join(path.read_text() for path in sorted((ROOT / "notebooks").glob("*.ipynb")))
    assert [name for name in mtl_classic.__all__ if name not in shown] == []


def test_importing_loads_no_booster_and_compiles_nothing() -> None:
    code = f"import sys, mtl_classic; dir(mtl_classic); print([m for m in {HEAVY} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert out.stdout.strip() == "[]"
