"""Files whose arrays do not fit each other: compiled kernels would read and write past their ends."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from mtl_classic import ModelFileError, MultiTaskFactorizationMachine, load_model, make_funnel, save_model
from mtl_classic.events import HistoryFeatures
from mtl_classic.factorization import FactorizationMachineClassifier, FactorizationMachineRegressor
from tests.persistence.models import make_rows, outputs, same

FAR = 10**8
KINDS = {"up": "binary", "amount": "regression", "color": "multiclass"}


def machine(grows: bool = False) -> Any:
    """One with parts and several outputs, that may have met new values since its fit."""
    X, Y = make_rows(80)
    X, y = X[["price", "shop", "size"]], Y["color"].fillna("red")
    model = FactorizationMachineClassifier(interactions=[("shop", "size")], max_iter=1, random_state=0).fit(X, y)
    return (model.partial_fit(X.assign(shop="new"), y) if grows else model), X


def joint(grows: bool = False) -> Any:
    X, Y = make_rows(80)
    X, Y = X[["price", "shop", "size"]], Y[list(KINDS)]
    model = MultiTaskFactorizationMachine(KINDS, max_iter=1, random_state=0).fit(X, Y)
    return (model.partial_fit(X.assign(shop="new"), Y) if grows else model), X


def sampled() -> Any:
    X = np.random.default_rng(0).normal(size=(60, 3))
    return FactorizationMachineRegressor(solver="gibbs", max_iter=3, random_state=0).fit(X, X[:, 0]), X


def on_rows_of_a_matrix() -> Any:
    X = sparse.random(60, 9, density=0.5, format="csr", random_state=0)
    return FactorizationMachineRegressor(max_iter=1, random_state=0).fit(X, np.arange(60.0)), X


def history() -> Any:
    shop = make_funnel(200, n_users=20, n_items=9, random_state=0)
    return HistoryFeatures(**shop.roles).fit(shop.X, events=shop.events), shop.X


def put(lead: Callable[[Any], Any], name: str, change: Callable[[Any], Any]) -> Callable[[Any], None]:
    """Set an attribute, of frozen objects too, to what becomes of it."""
    return lambda model: object.__setattr__(lead(model), name, change(getattr(lead(model), name)))


def first_column(model: Any) -> Any:
    return next(column for column in model.log_._columns.values() if column.values is not None)


def parameters(model: Any) -> Any:
    return (
        model._parameters
        if hasattr(model, "_parameters") and not callable(model._parameters)
        else next(iter(model._checkpoints.values()))
    )


def shifted(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: columns + FAR for name, columns in fields.items()}


WRONG: dict[str, tuple[Callable[[], Any], Callable[[Any], None]]] = {
    "parts": (machine, put(lambda m: m._interactions, "parts", lambda parts: parts - FAR)),
    "too few parts": (machine, put(lambda m: m._interactions, "parts", lambda parts: parts[:1])),
    "mixing": (machine, put(lambda m: m._interactions, "mixing", lambda mixing: mixing[:1])),
    "fields": (machine, put(lambda m: m._design.encoder, "fields_", shifted)),
    "columns": (machine, put(lambda m: m._design.encoder, "n_columns_", lambda n: n + FAR)),
    "slots": (machine, put(parameters, "n_slots", lambda n: FAR)),
    "no slots": (machine, put(parameters, "n_slots", lambda n: 0)),
    "width": (machine, put(parameters, "width", lambda n: 8 * n)),
    "private": (machine, put(parameters, "n_private", lambda n: FAR)),
    "linear": (machine, put(parameters, "linear", lambda numbers: numbers[:1])),
    "joint outputs": (joint, put(parameters, "n_outputs", lambda n: FAR)),
    "joint factors": (joint, put(parameters, "factors", lambda numbers: numbers[:8])),
    "joint mixers": (joint, put(parameters, "mixers", lambda numbers: numbers[:8])),
    "draws": (sampled, put(lambda m: m._extra, "factors", lambda numbers: numbers[:1])),
    "bias of draws": (sampled, put(lambda m: m._extra, "bias", lambda numbers: numbers[:0])),
    "width of rows": (on_rows_of_a_matrix, put(lambda m: m, "n_features_in_", lambda n: FAR)),
    "events": (history, put(first_column, "data", lambda codes: codes[:1])),
    "codes": (history, put(first_column, "data", lambda codes: codes - 2)),
}  # fmt: skip


@pytest.mark.parametrize("make", [machine, joint, sampled, on_rows_of_a_matrix, history])
def test_arrays_that_fit_each_other_are_read(make: Any, tmp_path: Path) -> None:
    model, X = make()
    save_model(model, tmp_path / "model.zip", include_events=True)
    assert same(outputs(load_model(tmp_path / "model.zip"), X), outputs(model, X))


@pytest.mark.parametrize("make", [machine, joint])
def test_machines_that_have_grown_are_read(make: Any, tmp_path: Path) -> None:
    model, X = make(grows=True)
    X = pd.concat([X, X.assign(shop="new")])
    save_model(model, tmp_path / "model.zip")
    assert same(outputs(load_model(tmp_path / "model.zip"), X), outputs(model, X))


@pytest.mark.parametrize("wrong", WRONG)
def test_arrays_that_do_not_fit_each_other_are_refused(wrong: str, tmp_path: Path) -> None:
    make, spoil = WRONG[wrong]
    model, _ = make()
    spoil(model)
    save_model(model, tmp_path / "model.zip", include_events=True)
    with pytest.raises(ModelFileError, match="do not fit each other"):
        load_model(tmp_path / "model.zip")


def test_parts_of_another_kind_are_refused(tmp_path: Path) -> None:
    model, _ = machine()
    model._interactions = replace(model._interactions, parts=None)
    save_model(model, tmp_path / "model.zip")
    with pytest.raises(ModelFileError, match="do not fit each other"):
        load_model(tmp_path / "model.zip")
