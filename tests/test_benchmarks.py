"""The command line of the benchmarks: parts, seeds and tables are told apart, and earlier figures are kept."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks import __main__ as command
from benchmarks import _week_days, fm, sharing, week
from benchmarks._measure import write_text
from benchmarks._tables import MissingTableError
from mtl_classic.metrics import roc_auc


def options(out: Path, name: str, **given: Any) -> Any:
    return SimpleNamespace(
        **{"name": name, "seeds": 3, "part": None, "households": None, "rows": None, "out": out} | given
    )


def missing(_: Any) -> Any:
    raise MissingTableError("the films are needed")


def test_a_part_takes_the_place_of_its_own_figures_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = {name: (name.title(), lambda o, v=v: {"figure": [v * o.seeds]}) for name, v in (("a", 1.0), ("b", 10.0))}
    monkeypatch.setattr(fm, "PARTS", {**parts, "films": ("Films", missing)})
    fm.run(options(tmp_path, "fm"))
    fm.run(options(tmp_path, "fm", part="b", seeds=2))
    result = json.loads((tmp_path / "fm.json").read_text())
    assert {name: part["summary"]["figure"]["mean"] for name, part in result["parts"].items()} == {"a": 3.0, "b": 20.0}
    assert result["seeds"] == {"a": 3, "b": 2}
    assert "seeds: a 3, b 2;" in (tmp_path / "fm.md").read_text()
    with pytest.raises(SystemExit, match="fm has no part c; it has a, b, films"):
        fm.run(options(tmp_path, "fm", part="a,c"))


def test_a_part_of_the_week_needs_no_earlier_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_week_days, "resumed", lambda seed: True)
    week.run(options(tmp_path, "week", part="resume", seeds=1))
    result = json.loads((tmp_path / "week.json").read_text())
    assert list(result["parts"]) == ["resume"]
    assert "1 seed." in (tmp_path / "week.md").read_text()


def test_a_run_that_is_stopped_keeps_the_parts_that_it_did_not_reach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {"table": "t", "model": "m", "figure": "f", "alone": 0.0, "cost": 1.0}

    def stopped(seed: int, o: Any) -> Any:
        raise KeyboardInterrupt

    parts = {name: lambda seed, o, v=v: [{**row, "table": v, "value": 1.0}] for name, v in (("a", "A"), ("b", "B"))}
    monkeypatch.setattr(sharing, "PARTS", parts)
    sharing.run(options(tmp_path, "sharing", seeds=2))
    monkeypatch.setattr(sharing, "PARTS", {**parts, "b": stopped})
    with pytest.raises(KeyboardInterrupt):
        sharing.run(options(tmp_path, "sharing", seeds=1))
    rows = json.loads((tmp_path / "sharing.json").read_text())["rows"]
    assert [(found["part"], found["seed"]) for found in rows] == [("a", 0), ("b", 0), ("b", 1)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["history", "--part", "a"], "history has no --part; it is for fm, sharing, week"),
        (["bank_marketing", "--households", "9"], "bank_marketing has no --households"),
        (["fm", "--seeds", "0"], "at least 1, got '0'"),
        (["nope"], "invalid choice: 'nope'"),
    ],
)
def test_what_a_benchmark_does_not_know_is_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        command.main(arguments)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("name", ["hotel_bookings", "bank_marketing", "latent", "ensembles"])
def test_a_table_that_is_not_there_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"There is no .*parquet"):
        command.main([name, "--data-dir", str(tmp_path), "--out", str(tmp_path / "out")])


def test_a_result_is_written_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / ".result.json"
    write_text(file, "old")

    def stopped(self: Path, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", stopped)
    with pytest.raises(KeyboardInterrupt):
        write_text(file, "new")
    assert file.read_text() == "old"


@pytest.mark.parametrize("name", ["MMoE", "PLE", "ESMM"])
def test_a_network_learns_all_kinds_and_keeps_each_task_at_its_best_epoch(name: str) -> None:
    torch = pytest.importorskip("torch")
    from benchmarks._deep_models import DeepModel, Inputs, Settings

    rng = np.random.default_rng(0)
    X = pd.DataFrame({"item": rng.choice(list("abcd"), 4000), "price": rng.gamma(2, 5, 4000)})
    X.loc[rng.random(4000) < 0.1, "price"] = np.nan
    buy = rng.random(4000) < np.where(X["item"] == "a", 0.7, 0.1)
    Y = np.column_stack([buy, buy * rng.poisson(2, 4000), buy * X["price"].fillna(10)]).astype(np.float32)
    inputs = Inputs(["item"], ["price"]).fit(X)
    parts = [(inputs.transform(X[rows]), torch.from_numpy(Y[rows])) for rows in (slice(0, 3000), slice(3000, None))]
    kinds = {"buy": "binary", "items": "count", "spend": "regression"}
    model = DeepModel(name, kinds, inputs, Settings(learning_rate=1e-2, batch_size=256, max_epochs=4), seed=0)
    scores = model.fit(*parts[0], valid=parts[1]).predict(parts[1][0])
    assert all(np.isfinite(values).all() for values in scores.values())
    assert roc_auc(Y[3000:, 0], scores["buy"]) > 0.7
    assert model.validation < 0.95  # of the prior's loss
    assert (
        DeepModel(name, kinds, inputs, model.settings, seed=0).fit(*parts[0], epochs=model.epochs).epochs
        == model.epochs
    )


def test_networks_need_pytorch_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "benchmarks._deep_models", raising=False)
    with pytest.raises(SystemExit, match="pip install torch"):
        command.main(["deep"])
