"""Other people's factorization machines, where they are installed: LightFM, myFM, xLearn.

None of them is a dependency: ``pip install rectools-lightfm myfm xlearn`` (LightFM's own source no longer builds;
rectools-lightfm is the same code with a new build file).
"""

from __future__ import annotations

import io
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import redirect_stderr
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse
from scipy.special import expit

from benchmarks._fm_data import Encoded
from mtl_classic.metrics import log_loss

try:
    from lightfm import LightFM
except ImportError:
    LightFM = None
try:
    import myfm
except ImportError:
    myfm = None
try:
    import xlearn
except ImportError:
    xlearn = None

PATIENCE, MOST_EPOCHS = 2, 30
XLEARN_EPOCHS = (1, 5)
XLEARN_SCRIPT = """
import sys, xlearn
factors, epochs = int(sys.argv[1]), int(sys.argv[2])
model = xlearn.create_fm()
model.setTrain("rows.txt")
model.disableEarlyStop()
model.disableNorm()
model.fit({"task": "binary", "k": factors, "epoch": epochs, "nthread": 1, "opt": "adagrad"}, "model.out")
"""


class LightFMRows:
    """LightFM on rows: each is a user (the user side's columns) and an item (the item side's) of its own."""

    def __init__(self, data: Encoded, n_factors: int, seed: int, rate: float = 0.05, penalty: float = 0.0) -> None:
        self.user, self.item = data.columns("user"), data.columns("item")
        self.model = LightFM(
            no_components=n_factors,
            loss="logistic",
            learning_rate=rate,
            item_alpha=penalty,
            user_alpha=penalty,
            random_state=seed,
        )

    def sides(self, X: sparse.csr_matrix) -> dict[str, sparse.csr_matrix]:
        """Features of users and of items."""
        return {
            "user_features": X[:, self.user].astype(np.float32),
            "item_features": X[:, self.item].astype(np.float32),
        }

    def trainer(self, X: sparse.csr_matrix, y: np.ndarray) -> Callable[[], Any]:
        """One epoch, with everything that can be prepared done before."""
        sides, rows = self.sides(X), np.arange(len(y), dtype=np.int32)
        signs = np.where(y > 0, 1, -1).astype(np.float32)
        pairs = sparse.coo_matrix((signs, (rows, rows)), shape=(len(y), len(y)))
        return lambda: self.model.fit_partial(pairs, epochs=1, num_threads=1, **sides)

    def score(self, sides: dict[str, sparse.csr_matrix]) -> np.ndarray:
        """Log-odds of rows."""
        rows = np.arange(sides["user_features"].shape[0], dtype=np.int32)
        return self.model.predict(rows, rows, num_threads=1, **sides).astype(np.float64)

    def probability(self, sides: dict[str, sparse.csr_matrix]) -> np.ndarray:
        """P(1) of rows."""
        return expit(self.score(sides))

    def fit(self, X: sparse.csr_matrix, y: np.ndarray, seed: int, *, latest: bool = False) -> LightFMRows:
        """As its users do who stop early: epochs until a random tenth no longer improves, the best one kept.

        Or the last twentieth of the rows, where they are in order of time.
        """
        held = np.random.default_rng(seed).random(len(y)) < 0.1
        if latest:
            held = np.arange(len(y)) >= 0.95 * len(y)
        epoch, check = self.trainer(X[~held], y[~held]), self.sides(X[held])
        losses: list[float] = []
        while len(losses) < MOST_EPOCHS and len(losses) - int(np.argmin([*losses, np.inf])) <= PATIENCE:
            epoch()
            losses.append(log_loss(y[held], self.probability(check)))
            if losses[-1] == min(losses):
                kept = {name: value.copy() for name, value in vars(self.model).items() if isinstance(value, np.ndarray)}
        vars(self.model).update(kept)
        return self


def myfm_groups(data: Encoded) -> list[int]:
    """Sizes of the fields, in the order of the columns."""
    return [len(columns) for columns in sorted(data.fields.values(), key=lambda columns: columns[0])]


def fit_myfm(model: Any, X: sparse.csr_matrix, y: np.ndarray, **params: Any) -> None:
    """Fit without the progress bar."""
    with redirect_stderr(io.StringIO()):
        model.fit(X, y, **params)


def myfm_sweep_seconds(data: Encoded, n_factors: int, cpu_seconds: Callable[..., Any]) -> float:
    """CPU seconds of one sweep: what four more take, by four."""
    X, y, groups = data.X.astype(np.float64), data.y > 0, myfm_groups(data)
    times = []
    for sweeps in (1, 5):
        fit = partial(fit_myfm, myfm.MyFMClassifier(rank=n_factors), X, y, n_iter=sweeps, n_kept_samples=1)
        times.append(cpu_seconds(partial(fit, group_shapes=groups))[0])
    return (times[1] - times[0]) / 4


def xlearn_epoch_seconds(data: Encoded, factors: tuple[int, ...]) -> dict[int, float]:
    """CPU seconds of one epoch at each number of factors: what four more take, by four; it reads a text file."""
    seconds = {}
    with tempfile.TemporaryDirectory() as folder:
        write_rows(data, Path(folder) / "rows.txt")
        for n_factors in factors:
            times = [_child_seconds(folder, n_factors, epochs) for epochs in (1, *XLEARN_EPOCHS)]
            seconds[n_factors] = (times[2] - times[1]) / (XLEARN_EPOCHS[1] - XLEARN_EPOCHS[0])
    return seconds


def write_rows(data: Encoded, path: Path) -> None:
    """Rows of ones as text: label and column:1."""
    tokens = np.array([f"{j}:1" for j in range(data.X.shape[1])], dtype=object)
    rows = tokens[data.X.indices].reshape(len(data.y), -1)
    with path.open("w", encoding="ascii") as file:
        for label, row in zip(data.y, rows, strict=True):
            file.write(f"{label:.0f} {' '.join(row)}\n")


def _child_seconds(folder: str, n_factors: int, epochs: int) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Its log asks for the name of the user, and dies where there is none.
    environment = {"USER": "benchmark", **os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", XLEARN_SCRIPT, str(n_factors), str(epochs)]
    subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
