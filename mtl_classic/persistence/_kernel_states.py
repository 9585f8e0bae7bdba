"""Whether what compiled kernels are given stays within its arrays: they follow columns and codes without looking."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mtl_classic.persistence._classes import name_of_class
from mtl_classic.persistence._errors import ModelFileError

__all__ = ["check_state"]

State = dict[str, Any]
_LAYOUT = ("width", "shared_width", "private_width", "output_width")


def check_state(name: str, state: State) -> None:
    """Refuse the state of an object of a class with the name if kernels would leave its arrays.

    Cost: a pass over codes and numbers of columns.
    """
    if name in _CHECKS and not _CHECKS[name](state):
        raise ModelFileError(f"The arrays of a {name} do not fit each other.")


def _are_parameters(state: State) -> bool:
    from mtl_classic.factorization._problem import Parameters  # not before there are some: it takes a while

    n_columns, n_factors, n_slots, n_private = (
        int(state[name]) for name in ("n_columns", "n_factors", "n_slots", "n_private")
    )
    n_outputs, shared_linear, dtype = state["n_outputs"], state["shared_linear"], state["dtype"]
    n_live, n_bias, n_mixers = (len(state[name]) for name in ("live", "bias", "mixers"))
    asked = 0 <= n_factors <= n_live and 0 <= n_private * (n_outputs or 1) <= n_live and 0 < n_slots <= n_bias
    several = n_outputs is None or (0 < int(n_outputs) <= n_bias and int(n_outputs) * n_slots * n_factors <= n_mixers)
    if not asked or not several or shared_linear not in (True, False) or dtype not in (np.float32, np.float64):
        return False
    like = Parameters(
        0, n_factors, n_slots, n_outputs=n_outputs, n_private=n_private, shared_linear=shared_linear, dtype=dtype
    )
    sizes = {name: len(getattr(like, name)) for name in Parameters.NUMBERS}
    sizes |= {"factors": n_columns * n_slots * like.width, "linear": n_columns * n_slots * like.output_width}
    return (
        all(state[name] == getattr(like, name) for name in _LAYOUT)
        and np.array_equal(state["live"], like.live)
        and all(state[name].shape == (size,) for name, size in sizes.items())
        and _are(state["seen"], "b", (n_columns,))
    )


def _are_interactions(state: State) -> bool:
    parts, mixing = state["parts"], state["mixing"]
    if parts is None or mixing is None:
        return parts is mixing
    return _are(mixing, "f", (len(mixing),) * 2) and _are(parts, "i", (len(parts),)) and _below(parts, len(mixing))


def _are_draws(state: State) -> bool:
    factors, parts = state["factors"], state["interactions"].parts
    n_columns, n_draws, _ = factors.shape
    sizes = {"factors": factors.shape, "linear": (n_columns, n_draws), "bias": (n_draws,)}
    sizes_of_parts = parts is None or len(parts) == n_columns
    return n_draws > 0 and sizes_of_parts and all(_are(state[name], "f", size) for name, size in sizes.items())


def _are_fields(state: State) -> bool:
    fields = state.get("fields_", {}).values()
    return all(_are(columns, "i", (len(columns),)) and _below(columns, state["n_columns_"]) for columns in fields)


def _is_machine(state: State) -> bool:
    """Whether what a machine is made of speaks of the same columns."""
    if "_design" not in state:
        return True
    parts: list[Any] = [state.get(name) for name in ("_design", "_interactions", "_extra")]
    design, interactions, draws = parts
    parameters = [state[name] for name in ("_parameters",) if name in state]
    parameters += [one for name in ("_checkpoints", "_alone") for one in state.get(name, {}).values()]
    kinds = [(design, "Design"), *((one, "Parameters") for one in parameters), (interactions, "Interactions")]
    kinds += [(one, kind) for one, kind in ((design.encoder, "FieldEncoder"), (draws, "Draws")) if one is not None]
    if not all(name_of_class(type(one)) == f"mtl_classic.{kind}" for one, kind in kinds):
        return False
    widths = {design.n_columns, state["n_features_in_"] if design.encoder is None else design.encoder.n_columns_}
    widths |= {one.n_columns for one in parameters}
    widths |= {len(one) for one in (interactions.parts, None if draws is None else draws.factors) if one is not None}
    return len(widths) == 1


def _is_log(state: State) -> bool:
    size, columns = state["_time"].shape, state["_columns"].values()
    is_column = all(name_of_class(type(column)) == "mtl_classic.Column" for column in columns)
    return is_column and len(size) == 1 and all(column.data.shape == size for column in columns)


def _is_column(state: State) -> bool:
    codes, values = state["data"], state["values"]
    return values is None or (
        _are(codes, "i", codes.shape) and _are(values, "O", (len(values),)) and _below(codes, len(values), -1)
    )


def _are(array: Any, kind: str, shape: tuple[int, ...]) -> bool:
    return isinstance(array, np.ndarray) and array.dtype.kind == kind and array.shape == shape


def _below(numbers: Any, end: int, first: int = 0) -> bool:
    return not numbers.size or bool(first <= numbers.min() and numbers.max() < end)


_CHECKS: dict[str, Callable[[State], bool]] = {
    "mtl_classic.Column": _is_column,
    "mtl_classic.Draws": _are_draws,
    "mtl_classic.EventLog": _is_log,
    "mtl_classic.FactorizationMachineClassifier": _is_machine,
    "mtl_classic.FactorizationMachineRegressor": _is_machine,
    "mtl_classic.FieldEncoder": _are_fields,
    "mtl_classic.Interactions": _are_interactions,
    "mtl_classic.MultiTaskFactorizationMachine": _is_machine,
    "mtl_classic.Parameters": _are_parameters,
}
