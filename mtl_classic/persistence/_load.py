"""load_model: the model of a file that save_model wrote."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from mtl_classic import __version__
from mtl_classic._core.exceptions import EmptyLogWarning
from mtl_classic._core.options import TRUTH, check_option
from mtl_classic.events import EventLog
from mtl_classic.persistence._archive import parse_json, read_archive
from mtl_classic.persistence._decode import Decoder
from mtl_classic.persistence._errors import ModelFileError
from mtl_classic.persistence._save import FORMAT_VERSION, GRAPH

__all__ = ["load_model"]


def load_model(path: str | Path, *, mmap: bool = False) -> Any:
    """Load a model that `save_model` wrote; nothing in the file is run.

    Parameters
    ----------
    path : str or Path
    mmap : bool, default=False
        Whether large arrays stay in the file, if it was saved with ``compress=False`` or they hardly compress: memory
        holds what is read of them, once for all processes. The file must stay as it is. Arrays may be written to; that
        stays in memory.

    Returns
    -------
    estimator
        As it was saved. If the file left out the events of its log, or it was saved before it was told of them again,
        an `EmptyLogWarning` says so: call ``observe(log)`` before predicting, with the whole log.

    Raises
    ------
    ModelFileError
        A ValueError that says why a file is refused: truncated, altered (a checksum of every member),
        members missing, added or of suspicious names or sizes, a class that is not on the list, arrays that do not
        fit each other, another format.

    Notes
    -----
    Cost: unpacking, and one checksum of every byte. LightGBM reads the text of a booster when it is first needed: not
    for large predictions and not for single requests, which read it into arrays of their own. Whether its trees may be
    followed is looked at then: a text that somebody has forged, checksums and all, is refused by the first prediction.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from pathlib import Path
    >>> from mtl_classic import PerTaskModel, load_model, save_model
    >>> X = np.random.default_rng(0).normal(size=(200, 3))
    >>> path = Path(tempfile.mkdtemp()) / "model.zip"
    >>> save_model(PerTaskModel({"height": "regression"}, random_state=0).fit(X, X[:, 0]), path)
    >>> load_model(path).predict(X).shape
    (200,)
    >>> _ = path.write_bytes(path.read_bytes()[:-100])
    >>> load_model(path)
    Traceback (most recent call last):
        ...
    mtl_classic.persistence._errors.ModelFileError: model.zip is no model file, or truncated or damaged ...
    """
    check_option("mmap", mmap, TRUTH)
    manifest, members = read_archive(Path(path), FORMAT_VERSION, mmap)
    _check_version(manifest)
    if GRAPH not in members:
        raise ModelFileError(f"The file has no {GRAPH}.")
    text = members.pop(GRAPH)
    if not isinstance(text, bytes):
        raise ModelFileError(f"The {GRAPH} is no text.")
    graph = parse_json(text)
    decoder = Decoder(members, len(text))
    try:
        model = decoder.run(graph["nodes"], graph["root"])
    except ModelFileError:
        raise
    except Exception as error:  # whatever a part makes of values that it never wrote
        raise ModelFileError(
            f"A part of the file is not as save_model writes it ({type(error).__name__}: {error})."
        ) from None
    lacking = [log for log in decoder.made_of(EventLog) if log._is_lacking]
    if lacking:
        warnings.warn(
            f"The file does not hold the events up to {lacking[0]._left_out_to}: history counts none of them until "
            f"observe tells of the whole log (where the fitted rows were the log: of these and their labels). "
            f"include_events=True keeps it.",
            EmptyLogWarning,
            stacklevel=2,
        )
    return model


def _check_version(manifest: dict[str, Any]) -> None:
    """A file of a later minor version may hold attributes that this one does not know."""
    made_by = manifest.get("versions", {}).get("mtl_classic", __version__)
    own, its = (str(text).split(".")[:2] for text in (__version__, made_by))
    if all(part.isdigit() for part in (*own, *its)) and [int(part) for part in its] > [int(part) for part in own]:
        raise ModelFileError(f"The file was written by mtl_classic {made_by}, and this is {__version__}. Update it.")
