"""save_model: a fitted model as one zip, without pickle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from mtl_classic._core.options import TRUTH, check_option
from mtl_classic._core.versions import library_versions
from mtl_classic.events import EventLog
from mtl_classic.persistence._archive import FORMAT, write_archive
from mtl_classic.persistence._classes import name_of_class
from mtl_classic.persistence._encode import Encoder

__all__ = ["FORMAT_VERSION", "GRAPH", "save_model"]

FORMAT_VERSION = 3  # one more with each attribute that models now need, and files of before do not have
GRAPH = "model.json"


def save_model(model: Any, path: str | Path, *, include_events: bool = False, compress: bool = True) -> None:
    """Save a model as one zip file that holds no code and no pickle.

    The file holds a manifest in JSON (versions, checksums of every member, class and parameters of the model, its
    input columns, hash and last time of its event log), the objects as JSON, arrays as npy, and boosters in their own
    text (LightGBM) or binary JSON (XGBoost). Nothing else is ever read from it, and only classes of a fixed list are
    made: a stranger's file runs no code. Checksums are of the members as they lie in the zip, so that a file cannot be
    unpacked and packed again by another tool. They tell accidents, not forgers: whose numbers a file holds, only its
    source can say.

    Parameters
    ----------
    model : estimator
        Any estimator of mtl_classic, or a scikit-learn Pipeline of them and of common parts of scikit-learn; fitted.
        What it keeps about the fitted rows, one by one (``oof_predictions_``, ``fold_``), stays behind, as do callbacks
        and requests for metadata (``set_fit_request``).
    path : str or Path
        Written at once: a file of the name is replaced when the new one is complete on the disk, never half. A process
        that is killed meanwhile leaves what it had written beside it, as ``.NAME.….tmp``, to be deleted.
    include_events : bool, default=False
        Whether the event log travels. Without it the model keeps an *empty* log of the same columns: its history
        columns count nothing until ``observe(log)`` has told it what had happened, the whole log, not the last day's
        alone (the manifest tells hash and last time of the log that there was). Predictions after that are those of
        before. Where the fitted rows themselves were the log, it holds their labels, so think before including it.
    compress : bool, default=True
        Without, the file is about twice as large and is loaded faster, and ``load_model(path, mmap=True)`` reads large
        arrays where they lie: processes share one copy of a log or of factors.

    Raises
    ------
    TypeError
        If the model, or anything in it, is of a class that is not saved (a function, say); the error names the place.

    Notes
    -----
    Predictions after loading are bit for bit those of before, on the same versions of the libraries. Cost: one pass of
    compression over boosters' text and arrays.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from pathlib import Path
    >>> from mtl_classic import PerTaskModel, load_model, save_model
    >>> X = np.random.default_rng(0).normal(size=(200, 3))
    >>> model = PerTaskModel({"up": "binary"}, random_state=0).fit(X, X[:, 0] > 0)
    >>> path = Path(tempfile.mkdtemp()) / "model.zip"
    >>> save_model(model, path)
    >>> bool((load_model(path).predict_scores(X) == model.predict_scores(X)).all(axis=None))
    True
    """
    if not isinstance(model, BaseEstimator) or name_of_class(type(model)) is None:
        raise TypeError(
            f"save_model saves estimators of mtl_classic and pipelines of them, not a "
            f"{type(model).__module__}.{type(model).__qualname__}."
        )
    check_option("include_events", include_events, TRUTH)
    check_option("compress", compress, TRUTH)
    encoder = Encoder(keep_events=include_events, narrows=compress)
    root = encoder.value(model, type(model).__name__)
    graph = json.dumps({"root": root, "nodes": encoder.nodes}, allow_nan=False, separators=(",", ":"))
    manifest = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "versions": library_versions(),
        "model": {"class": name_of_class(type(model)), "parameters": _parameters(model)},
        "tasks": [{"name": task.name, "kind": task.kind, "given": _plain(task.given)} for task in _tasks(model)],
        "input": _input(model),
        "logs": [_log(log, include_events) for log in encoder.logs],
        "classes": sorted(encoder.classes),
    }
    members = {GRAPH: graph.encode(), **encoder.finish()}
    stored = frozenset() if compress else frozenset(members)
    write_archive(Path(path), manifest, members, stored)


def _parameters(model: Any) -> dict[str, Any]:
    return {name: _plain(value) for name, value in model.get_params(deep=False).items()}


def _plain(value: Any) -> Any:
    """For the reader of the manifest: scalars as they are, all else as a short text."""
    if value is None or isinstance(value, bool | int | str):
        return value if not isinstance(value, str) else value[:200]
    if isinstance(value, float) and np.isfinite(value):
        return float(value)
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:199]}…"


def _tasks(model: Any) -> tuple[Any, ...]:
    """Tasks of the model, or of the last step of a pipeline."""
    while hasattr(model, "steps") and not hasattr(model, "tasks_"):
        model = model.steps[-1][1]
    return tuple(getattr(model, "tasks_", ()))


def _input(model: Any) -> dict[str, Any]:
    while hasattr(model, "steps"):
        model = model.steps[0][1]
    names = getattr(model, "feature_names_in_", None)
    return {
        "columns": None if names is None else [str(name) for name in names],
        "n_columns": int(getattr(model, "n_features_in_", 0)) or None,
        "roles": {role: _plain(column) for role, column in getattr(model, "roles_", {}).items()},
    }


def _log(log: EventLog, is_kept: bool) -> dict[str, Any]:
    last = log.last_time
    return {
        "n_events": log.n_events,
        "hash": log.hash,
        "last_time": None if last is None else str(last),
        "kept": is_kept,
    }
