"""The examples of README and CONTRIBUTING run, in the order of the page, in one namespace, and print what is shown.

The tables of the README and of the page of measurements are those of the results.
"""

import json
import re
from itertools import islice, takewhile
from pathlib import Path

import pytest

from benchmarks.__main__ import NAMES

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
MEASURED = ROOT / "benchmarks" / "README.md"
RESULTS = ROOT / "benchmarks" / "results"
TABLES = {
    "incomes of adults": "adult",
    "reviews of women's clothing": "women's clothing",
    "hotel bookings": "hotel bookings",
    "bird songs (19 tasks)": "birds",
    "river flows (8 tasks)": "rf1",
}
TOLERANCE = 0.03  # of the numbers shown: other machines and versions grow other trees


def blocks(page: Path) -> list[tuple[str, str]]:
    """Language and text of each block of code."""
    return re.findall(r"^```(\w+)\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def assert_alike(printed: str, shown: str) -> None:
    found, expected = printed.split(), shown.split()
    assert len(found) == len(expected), printed
    for a, b in zip(found, expected, strict=True):
        number = re.fullmatch(r"-?\d*\.\d+", b)
        assert a == b or (number and float(a) == pytest.approx(float(b), abs=TOLERANCE)), printed


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_python_blocks_run(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "page"}
    for number, (language, block) in enumerate(blocks(ROOT / page), start=1):
        if language == "python":
            capsys.readouterr()
            exec(compile(block, f"{page}, block {number}", "exec"), namespace)
        elif language == "text":
            assert_alike(capsys.readouterr().out, block)


@pytest.mark.parametrize("page", [README, MEASURED], ids=["README", "benchmarks"])
def test_named_files_exist(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_named_benchmarks_exist() -> None:
    named = MEASURED.read_text(encoding="utf-8").split("`python -m benchmarks NAME`")[1].split("PyTorch")[0]
    assert set(re.findall(r"`(\w+)`", named)) == set(NAMES) - {"quickstart"}


def test_named_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (README.parent / "Makefile").read_text(), flags=re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z-]+)", README.read_text(encoding="utf-8"))) <= targets


def cells(page: Path, first: str, after: str = "") -> list[list[str]]:
    """The rows of the first Markdown table below a text whose heading begins so."""
    text = page.read_text(encoding="utf-8")
    lines = iter(text[text.index(after) :].splitlines())
    next(line for line in lines if line.startswith(f"| {first} |"))
    rows = takewhile(lambda line: line.startswith("|"), islice(lines, 1, None))
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in rows]


def changed(change: str, verdicts: str) -> str:
    """A change of loss, with one verdict where those of all seeds are the same."""
    return f"{change} % ({verdicts if len(set(verdicts.split(', '))) > 1 else verdicts.split(', ')[0]})"


def test_the_table_of_the_funnel_is_that_of_the_results() -> None:
    measured = {tuple(row[:3]): row[3:] for row in cells(RESULTS / "complete_journey.md", "preset")}
    columns = [("fast", "tuned"), ("fast", "tuned, refitted too"), ("best", "tuned, refitted too")]
    shown = cells(README, "task")
    assert len(shown) == 5
    for task, *values in shown:
        assert values == [changed(*measured[*pair, task]) for pair in columns]


def test_the_table_of_the_second_shop_is_that_of_the_results() -> None:
    measured = {tuple(row[:2]): row[4:] for row in cells(RESULTS / "online_retail.md", "preset, baseline")}
    columns = [
        "fast against defaults",
        "fast against tuned",
        "best against tuned",
        "best, latent features, against best",
    ]
    shown = cells(MEASURED, "task")
    assert len(shown) == 4
    for name, *values in shown:
        task = name.split(",")[0]
        assert values == [changed(*measured[pair, task]) for pair in columns]


@pytest.mark.parametrize(
    ("page", "shop", "tasks"),
    [
        (README, "Complete Journey", ("buy", "discount", "coupon", "quantity", "spend")),
        (MEASURED, "Online Retail II", ("buy", "return", "quantity", "spend")),
    ],
    ids=["README", "benchmarks"],
)
def test_the_tables_of_networks_are_those_of_the_results(page: Path, shop: str, tasks: tuple[str, ...]) -> None:
    rows = cells(RESULTS / "deep.md", "network", after=f"## {shop}")
    measured = {(network, task): values for network, task, *values in rows}
    shown = cells(page, "against")
    assert [row[0] for row in shown] == ["MMoE", "PLE", "ESMM"]
    for network, *values, cost in shown:
        for task, value in zip(tasks, values, strict=True):
            change, verdicts, _, measured_cost = measured[network, task]
            assert value == changed(change, verdicts)
            assert cost == measured_cost.split(" ")[0]


def test_the_table_without_a_funnel_is_that_of_the_results() -> None:
    summary = json.loads((RESULTS / "sharing.json").read_text(encoding="utf-8"))["summary"]
    measured = {(s["table"], s["model"]): s for s in summary if s["figure"] == "mean of loss ÷ loss alone"}
    shown = cells(README, "table")
    assert [row[0] for row in shown] == list(TABLES)
    for name, *values, _ in shown:
        for key, baselines in (("mean", values[:2]), ("cost ÷ alone", values[2:])):
            for alone, value in zip(("defaults", "tuned"), baselines, strict=True):
                for preset, number in zip(("fast", "best"), value.split(", "), strict=True):
                    digits = len(number.partition(".")[2])
                    exact = measured[TABLES[name], f"auto, {preset}, against {alone}"][key]
                    assert float(number) == round(exact, digits), (name, preset, alone, key)
