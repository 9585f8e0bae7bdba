"""Members unpacked and boosters parsed by threads: the same models, the same errors, no thread left behind."""

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtl_classic import ModelFileError, PerTaskModel, load_model, save_model
from mtl_classic.persistence import _archive, _decode, _workers
from tests.persistence.models import make_rows, outputs, same
from tests.persistence.test_fuzz import damaged


@pytest.fixture
def forced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads for any file, on any machine."""
    monkeypatch.setattr(_workers, "_WORTH", 0)
    monkeypatch.setattr(_workers, "openmp_budget", lambda: 2)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, Path]:
    X, Y = make_rows(120)
    learner = {"up": "lightgbm", "visits": "lightgbm", "amount": "xgboost"}
    kinds = {"up": "binary", "visits": "count", "amount": "regression"}
    model = PerTaskModel(kinds, learner=learner, random_state=0).fit(X, Y[list(kinds)])
    path = tmp_path_factory.mktemp("threads") / "model.zip"
    save_model(model, path)
    return model, X, path


def told(path: Path) -> str | None:
    try:
        load_model(path)
    except ModelFileError as error:
        return str(error)
    return None


def left_behind() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("load_model")]


def test_predictions_are_the_same(saved: Any, forced: None, monkeypatch: pytest.MonkeyPatch) -> None:
    model, X, path = saved
    parsed = []
    monkeypatch.setattr(
        _decode, "parsed_text", lambda data, f=_decode.parsed_text: parsed.append(threading.current_thread()) or f(data)
    )
    for _ in range(3):
        assert same(outputs(load_model(path), X), outputs(model, X))
    assert len(parsed) == 6
    assert threading.main_thread() not in parsed
    assert left_behind() == []


def test_damaged_files_are_refused_with_the_same_words(
    saved: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng, data = np.random.default_rng(3), saved[2].read_bytes()
    for k in range(100):
        path = tmp_path / f"{k}.zip"
        path.write_bytes(damaged(data, rng))
        alone = told(path)
        with monkeypatch.context() as patch:
            patch.setattr(_workers, "_WORTH", 0)
            patch.setattr(_workers, "openmp_budget", lambda: 2)
            assert told(path) == alone
    assert left_behind() == []


def test_a_text_that_is_none_is_told_where_its_booster_is(saved: Any, tmp_path: Path, forced: None) -> None:
    archive = _archive.read_archive(saved[2], 1)
    members = {name: b"tree\nnone" if name.startswith("texts") else data for name, data in archive[1].items()}
    _archive.write_archive(tmp_path / "none.zip", archive[0], members)  # type: ignore[arg-type]
    with pytest.raises(ModelFileError, match="not as save_model writes it"):
        load_model(tmp_path / "none.zip")


def test_the_first_error_in_order_wins(forced: None) -> None:
    def work(k: int) -> int:
        time.sleep(0.05 if k == 1 else 0)
        if k in (1, 2):
            raise ValueError(f"member {k}")
        return k

    with pytest.raises(ValueError, match="member 1"), _workers.workers(1) as threads:
        list(threads.results(work, range(40)))
    with _workers.workers(1) as threads:
        assert list(threads.results(lambda k: -k, range(40))) == [-k for k in range(40)]


def test_an_interrupt_stops_the_threads(saved: Any, forced: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(_decode._READERS, "object", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load_model(saved[2])
    assert left_behind() == []


def test_small_files_and_a_budget_of_one_need_no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_workers, "openmp_budget", lambda: 2)
    with _workers.workers(1000) as threads:
        assert not threads.are_many
    with _workers.workers(10**7) as threads:
        assert threads.are_many
    monkeypatch.setattr(_workers, "openmp_budget", lambda: 1)
    with _workers.workers(10**7) as threads:
        assert not threads.are_many
