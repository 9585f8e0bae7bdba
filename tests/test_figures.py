"""Figures in the sentences of README and of the page of measurements are those of the results, rounded once."""

import json
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
MAIN, MEASURED = "README.md", "benchmarks/README.md"
Value = Callable[[], float]


@cache
def result(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def found(tree: Any, figure: str) -> Iterator[float]:
    """The figure's value wherever in a result it is."""
    for key, value in tree.items() if isinstance(tree, dict) else ():
        if key == figure:
            yield value["mean"] if isinstance(value, dict) else value
        else:
            yield from found(value, figure)


def of(name: str, figure: str, scale: float = 1.0) -> Value:
    return lambda: scale * next(found(result(name), figure))


def change(name: str, pair: str, task: str, of_seeds: Callable[[Any], Any] = np.mean) -> Value:
    """By how many percent a loss is less or more, whichever the sentence says."""

    def value() -> float:
        judged = [seed["verdicts"][pair][task] for seed in result(name)["by_seed"]]
        return abs(float(of_seeds([100 * (one["value"] / one["baseline"] - 1) for one in judged])))

    return value


def shared(table: str, figure: str, model: str, key: str = "mean") -> Value:
    def value() -> float:
        rows = result("sharing")["summary"]
        row = next(r for r in rows if (r["table"], r["figure"], r["model"]) == (table, figure, model))
        return abs(row[key]["mean"] if isinstance(row[key], dict) else row[key])

    return value


def few(table: str, share: float, against: str) -> Value:
    def value() -> float:
        rows = [r for r in result("ensembles")["rows"] if r["part"] == "few labels" and r["table"] == table]
        rows = [r for r in rows if (r["share"], r["model"]) == (share, "stacking (lightgbm, linear)")]
        return float(np.mean([100 * (1 - r["loss"] / r["baseline"]) for r in rows if r["against"] == against]))

    return value


def covered(table: str, task: str, split: str, method: str) -> Value:
    def value() -> float:
        rows = [r for r in result("ensembles")["rows"] if r["part"] == "intervals"]
        rows = [r for r in rows if (r["table"], r["task"], r["split"], r["model"]) == (table, task, split, method)]
        return 100 * float(np.mean([r["coverage"] for r in rows]))

    return value


def mean_score(table: str, model: str) -> Value:
    rows = [r for r in result("ensembles")["rows"] if r["part"] == "all labels"]
    return lambda: float(np.mean([r["mean score"] for r in rows if (r["table"], r["model"]) == (table, model)]))


JOURNEY, TIME, SHOP, HOTELS, BANK = (
    "complete_journey",
    "complete_journey_time",
    "online_retail",
    "hotel_bookings",
    "bank_marketing",
)
FIVE = "five LightGBMs"
HISTORY = "peak GiB above the frames, "
COUPON = [of(JOURNEY, f"coupon AUC: {name}") for name in ("ours", "tuned", "default")]
DISCOUNT = [of(JOURNEY, f"discount with {n} % of its labels: funnel against direct, %") for n in (1, 10)]
FEW = [few("clothing", share, "defaults") for share in (0.01, 0.03, 0.1)]
LATER = [covered("hotels", "adr", "later rows", method) for method in ("split", "cv+")]
REFRESHED = [
    of("week", f"loss of a model refreshed each week less one left alone, %, {task}", -1.0)
    for task in ("buy", "discount", "coupon", "quantity", "spend")
]
SENTENCES: list[tuple[str, str, list[Value]]] = [
    (MAIN, "buy AUC {} → {}.", [of(JOURNEY, f"buy AUC: {name}") for name in ("raw columns", "with history")]),
    (MAIN, "AUC {} by the funnel, {} by tuned LightGBM, {} by", COUPON),
    (MAIN, "1 % / 10 % of its labels: loss {} % / {} %", DISCOUNT),
    (MAIN, "history apart ({})", [of(TIME, f"history time ÷ {FIVE} (defaults)")]),
    (
        MAIN,
        "the funnel {} of five LightGBMs with default settings fitted separately, `fast` {}, `best` {};",
        [of(TIME, f"fit time: {name} ÷ {FIVE} (defaults)") for name in ("funnel", "fast", "best")],
    ),
    (
        MAIN,
        "of five tuned ones {}, {} and {}.",
        [of(TIME, f"fit time: {name} ÷ {FIVE} (tuned)") for name in ("funnel", "fast", "best")],
    ),
    (
        MAIN,
        "on the encoded matrix: `fast` {}, `best` {}.",
        [of(TIME, f"predict time: {name} ÷ {FIVE}") for name in ("fast", "best")],
    ),
    (
        MAIN,
        "`fast` has {} % less loss on quantities than a tuned LightGBM per task and {} % more on purchases, for {} of",
        [*(change(SHOP, "fast against tuned", t) for t in ("quantity", "buy")), of(SHOP, "fit time: fast ÷ tuned")],
    ),
    (
        MAIN,
        "`best` with latent features has {} and {} % less, for {}.",
        [
            *(change(SHOP, "best, latent features against tuned", t) for t in ("quantity", "buy")),
            of(SHOP, "fit time: best, latent features ÷ tuned"),
        ],
    ),
    (MAIN, "takes {} / {} / {} % off the log-loss of LightGBM's defaults", FEW),
    (
        MAIN,
        "`SharedTreesModel` has {} more AUC",
        [shared("planted, 10% of the labels", "AUC", "shared trees", "against alone")],
    ),
    (MAIN, "{} % of later ratings, {} and {} % of", [covered("movielens", "rating", "later rows", "cv+"), *LATER]),
    (
        MAIN,
        "MovieLens-100k to {}, from {} by",
        [of("latent", f"rating RMSE: {name}") for name in ("ours", "LightGBM, native ids")],
    ),
    (
        MAIN,
        "ten million events in {} GiB above the frames, 90 means of the earlier labels of a million rows and thirty "
        "tasks in {} GiB, a whole model of these tasks in {} GiB.",
        [
            of("history", HISTORY + "10⁷ events × 10⁶ rows × 12 aggregates"),
            of("history", HISTORY + "10⁶ rows × 30 labels, means of earlier labels in 90 columns"),
            of("history", HISTORY + "the same rows, a MultiTaskModel of the 30 tasks"),
        ],
    ),
    (MAIN, "`top_k` take {} GiB above log and model.", [of("week", "GiB above log and model")]),
    (
        MAIN,
        "one more percent takes {} of",
        [of("week", "observe of 1 % of a log ÷ building anew, 1 million events")],
    ),
    (MAIN, "of a real shop have {} to {} % less loss", [REFRESHED[0], REFRESHED[2]]),
    (MAIN, "A single request costs {} of", [of("week", "single request ÷ its boosters' own")]),
    (MEASURED, "alone by {} (buy), {} (discount), {} (coupon), {} (quantity) and {} % (spend)", REFRESHED),
    (MEASURED, "there stacking has {} (", [mean_score("hotels", "stacking")]),
    (MEASURED, "AUC {} by the funnel, {} by tuned LightGBM, {} by", COUPON),
    (MEASURED, "1 % / 10 % of its labels: loss {} % / {} %", DISCOUNT),
    (
        MEASURED,
        "`fast` {} and {}, with latent features tried {} of the defaults; `best` {} and {}.",
        [
            of(TIME, f"fit time: {name} ÷ {FIVE} ({which})")
            for name, which in [
                ("fast", "defaults"),
                ("fast", "tuned"),
                ("fast, latent features tried", "defaults"),
                ("best", "defaults"),
                ("best", "tuned"),
            ]
        ],
    ),
    (
        MEASURED,
        "against five boosters on the encoded matrix: the funnel {}, `fast` {}, `best` {}.",
        [of(TIME, f"predict time: {name} ÷ {FIVE}") for name in ("funnel", "fast", "best")],
    ),
    (
        MEASURED,
        "(then -{} % on buy, -{} % on quantity against the tuned ones)",
        [change(SHOP, "best, latent features against tuned", task) for task in ("buy", "quantity")],
    ),
    (
        MEASURED,
        "`fast` takes {} of the defaults' CPU time to fit and {} of the tuned ones', `best` {} and {}, with latent "
        "features {} and {} ",
        [
            of(SHOP, f"fit time: {name} ÷ {which}")
            for name in ("fast", "best", "best, latent features")
            for which in ("defaults", "tuned")
        ],
    ),
    (
        MEASURED,
        "`fast` has {} % less loss on cancellations and {} % less on daily rates, {} % more on room changes;",
        [change(HOTELS, "fast against defaults", task) for task in ("is_canceled", "adr", "room_changed")],
    ),
    (
        MEASURED,
        "`best` has {} % less on cancellations and {} % less on daily rates than the defaults ({} to {} %, by",
        [
            change(HOTELS, "best against defaults", "is_canceled"),
            *(change(HOTELS, "best against defaults", "adr", at) for at in (np.mean, np.max, np.min)),
        ],
    ),
    (
        MEASURED,
        "`fast` takes {} and {} of their fit times, `best` {} and {}.",
        [of(HOTELS, f"fit time: {name} ÷ {which}") for name in ("fast", "best") for which in ("defaults", "tuned")],
    ),
    (
        MEASURED,
        "`fast` has {} % more loss than the defaults on the call's success, and {} % less than a tuned LightGBM, which "
        "has {} % less on loans; `best` takes {} % off the defaults' loss, and adds {} % to that of the housing label, "
        "for {} times the fit time of plain LightGBM, which stops after a few rounds there ({} times that of",
        [
            change(BANK, "fast against defaults", "t_y"),
            change(BANK, "fast against tuned", "t_y"),
            change(BANK, "fast against tuned", "t_loan"),
            change(BANK, "best against defaults", "t_y"),
            change(BANK, "best against defaults", "t_housing"),
            of(BANK, "fit time: best ÷ defaults"),
            of(BANK, "fit time: best ÷ tuned"),
        ],
    ),
    (
        MEASURED,
        "takes {} / {} / {} % off the log-loss of LightGBM's defaults, and {} / {} / {} % off that of our own learner;",
        [*FEW, *(few("clothing", share, "PerTaskModel") for share in (0.01, 0.03, 0.1))],
    ),
    (
        MEASURED,
        "Greedy means: {} against {} by the best family on reviews of women's clothing, {} against {} on "
        "MovieLens-100k, {} against {} on incomes of adults",
        [
            mean_score(table, model)
            for table, family in (("clothing", "lightgbm"), ("movielens", "linear"), ("adult", "lightgbm"))
            for model in ("greedy", family)
        ],
    ),
    (MEASURED, "{} to 11.5), and 12 columns", [lambda: result("history")["summary"]["pandas time ÷ ours"]["low"]]),
    (
        MEASURED,
        '{} of its boosters\' own prediction by LightGBM, {} by XGBoost, {} with `preset="best"`',
        [of("week", f"single request ÷ its boosters' own{which}") for which in ("", ", XGBoost", ", preset best")],
    ),
    (
        MEASURED,
        "Model files are {} times their boosters' text and arrays compressed, and load in {} of the time of joblib's "
        "compressed files (not compressed, both: {}; ours compressed, joblib's not: {}).",
        [
            of("week", "size ÷ boosters' text and arrays compressed"),
            of("week", "load time ÷ joblib's, both compressed"),
            of("week", "load time ÷ joblib's, neither compressed"),
            of("week", "load time, compressed ÷ joblib's that is not"),
        ],
    ),
    (
        "mtl_classic/model/_multi_task_model.py",
        "then takes {} times the fit of one LightGBM per task with default settings and early stopping, a tenth more "
        'with the trial of latent features, ``"best"`` {}; where those stop after a few rounds it takes more ({} on '
        "bank marketing",
        [
            of(TIME, f"fit time: fast ÷ {FIVE} (defaults)"),
            of(TIME, f"fit time: best ÷ {FIVE} (defaults)"),
            of(BANK, "fit time: best ÷ defaults"),
        ],
    ),
]


@pytest.mark.parametrize(("page", "sentence", "values"), SENTENCES, ids=[f"{s[0]}: {s[1][:40]}" for s in SENTENCES])
def test_figures_are_those_of_the_results(page: str, sentence: str, values: list[Value]) -> None:
    text = " ".join((ROOT / page).read_text(encoding="utf-8").split())
    pattern = r"(-?\d*\.?\d+)".join(map(re.escape, sentence.split("{}")))
    shown = re.search(pattern, text)
    assert shown, f"{page} has no longer: {sentence}"
    assert len(shown.groups()) == len(values)
    for figure, value in zip(shown.groups(), values, strict=True):
        digits = len(figure.partition(".")[2])
        assert float(figure) == round(value(), digits), (figure, value())
