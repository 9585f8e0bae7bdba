"""Whatever the examples of the docstrings fit can be saved, and says the same after loading: new estimators too."""

import doctest
import importlib
import inspect
import io
import pkgutil
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

import mtl_classic
from mtl_classic import load_model, save_model
from tests.persistence.models import outputs, same

PACKAGES = [m.name for m in pkgutil.iter_modules(mtl_classic.__path__) if not m.name.startswith("_")]


def public_estimators() -> dict[str, type]:
    modules = [importlib.import_module(f"mtl_classic.{name}") for name in PACKAGES]
    things = {name: getattr(module, name) for module in modules for name in getattr(module, "__all__", ())}
    return {
        name: thing
        for name, thing in things.items()
        if inspect.isclass(thing) and issubclass(thing, BaseEstimator) and ">>>" in (inspect.getdoc(thing) or "")
        if name != "Learner"  # its example writes a learner of the user's own, which is refused
    }


def run_example(cls: type) -> dict[str, Any]:
    """The names that the example of a docstring leaves behind."""
    names: dict[str, Any] = {}
    test = doctest.DocTestParser().get_doctest(inspect.getdoc(cls) or "", names, cls.__name__, None, None)
    with redirect_stdout(io.StringIO()):
        doctest.DocTestRunner(verbose=False).run(test, clear_globs=False)
    return test.globs


def is_fitted(estimator: Any) -> bool:
    try:
        check_is_fitted(estimator)
    except (NotFittedError, TypeError):
        return False
    return True


@pytest.mark.parametrize("name", sorted(public_estimators()))
def test_what_an_example_fits_can_be_saved(name: str, tmp_path: Path) -> None:
    names = run_example(public_estimators()[name])
    models = [thing for thing in names.values() if isinstance(thing, BaseEstimator) and is_fitted(thing)]
    rows = [names[known] for known in ("X", "rows", "shown") if known in names]
    if "shop" in names and hasattr(names["shop"], "X"):
        rows.append(names["shop"].X)
    for model in models:
        save_model(model, tmp_path / "model.zip", include_events=True)
        loaded = load_model(tmp_path / "model.zip")
        for X in rows[:1]:
            assert same(outputs(loaded, X), outputs(model, X))
