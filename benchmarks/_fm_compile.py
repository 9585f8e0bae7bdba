"""How long numba compiles: the first default fit of a new environment, and of a new process."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

SCRIPT = """
import json, time
import numba, numpy as np, pandas as pd, scipy.sparse, sklearn.base, sklearn.utils.validation
started = time.process_time()
import mtl_classic.factorization
imported = time.process_time()
from mtl_classic.factorization import FactorizationMachineClassifier
rng = np.random.default_rng(0)
X = pd.DataFrame({"user": rng.integers(0, 50, 2000), "item": rng.integers(0, 50, 2000)})
y = rng.random(2000) < 0.5
seconds = []
for _ in range(2):
    begun = time.process_time()
    FactorizationMachineClassifier(categorical=["user", "item"], random_state=0).fit(X, y).predict(X)
    seconds.append(time.process_time() - begun)
print(json.dumps({"import": imported - started, "compile": seconds[0] - seconds[1]}))
"""


def run(options: argparse.Namespace) -> dict[str, list[float]]:
    """CPU seconds, in new processes with a cache folder of their own."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "NUMBA_CACHE_DIR": folder}
        imports = "import mtl_classic, mtl_classic.factorization"
        subprocess.run([sys.executable, "-c", imports], env=environment, check=True)
        after_import = sum(path.is_file() for path in Path(folder).rglob("*"))
        first, second = (
            json.loads(
                subprocess.run([sys.executable, "-c", SCRIPT], env=environment, check=True, capture_output=True).stdout
            )
            for _ in range(2)
        )
    return {
        "compile, s: one default fit, uncached": [first["compile"]],
        "compile, s: cached": [second["compile"]],
        "compile: functions compiled by the import": [float(after_import)],
        "import after numba, pandas and scikit-learn, s": [second["import"]],
    }
