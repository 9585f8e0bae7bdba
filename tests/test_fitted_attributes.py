"""What a fit sets, ending in ``_``, the docstring of the class or of `MultiTaskEstimator` tells."""

import re
from collections.abc import Callable
from inspect import cleandoc
from typing import Any

import pytest
from sklearn.base import clone

from mtl_classic import AveragingEnsemble, MultiTaskEstimator, SharedTreesModel
from tests.test_options import FITS, KINDS, MEMBERS, fit_numbers

MORE: list[tuple[Any, Callable[[Any], Any]]] = [
    (SharedTreesModel(KINDS, trees="extra", n_trees=2), fit_numbers),
    (SharedTreesModel(KINDS, max_iter=1, fallback="linear", task_weights="cv"), fit_numbers),
    (AveragingEnsemble(MEMBERS, weights="greedy", cv=2), fit_numbers),
]
WHOLE = [(model, fit) for model, fit in FITS if not type(model).__name__.endswith("Learner")]


def told(cls: type) -> set[str]:
    """Names in the section of attributes."""
    section = re.search(r"\nAttributes\n-+\n(.*?)(?:\n\n|\Z)", cleandoc(cls.__doc__ or ""), re.DOTALL)
    lines = section[1].splitlines() if section else []
    names = [line.partition(":")[0] for line in lines if re.match(r"\S", line)]
    return {name.strip() for line in names for name in line.split(",")}


@pytest.mark.filterwarnings("ignore::mtl_classic._core.exceptions.FallbackWarning")
@pytest.mark.parametrize(("model", "fit"), [pytest.param(*one, id=type(one[0]).__name__) for one in [*WHOLE, *MORE]])
def test_fitted_attributes_are_documented(model: Any, fit: Callable[[Any], Any]) -> None:
    model = clone(model)
    if "random_state" in model.get_params(deep=False):
        model.set_params(random_state=0)
    fit(model)
    of_base = told(MultiTaskEstimator) if isinstance(model, MultiTaskEstimator) else set()
    learnt = {name for name in vars(model) if name.endswith("_") and not name.startswith("_")}
    assert not learnt - told(type(model)) - of_base
