"""Ensembles: against their members, with few labels, calibrated, with intervals; on four tables."""

from __future__ import annotations

import argparse
import json
import tempfile
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor

from benchmarks._baselines import fit_one_per_task
from benchmarks._ensemble_tables import FILES, Table, load
from benchmarks._markdown import head as _head
from benchmarks._markdown import row as _row
from benchmarks._measure import cpu_seconds, spread, write, write_text
from benchmarks._tables import MissingTableError, find_table
from mtl_classic import (
    AveragingEnsemble,
    BaggingEnsemble,
    BoostingEnsemble,
    CalibratedModel,
    ConformalModel,
    FallbackWarning,
    PerTaskModel,
    SklearnLearner,
    StackingEnsemble,
    evaluate_scores,
    make_folds,
)
from mtl_classic._core.targets import encode_targets
from mtl_classic.learners._columns import FeatureColumns
from mtl_classic.metrics import expected_calibration_error, normalized_score, prior_scores, rmse, roc_auc

FEW = {"clothing": ("recommended", (0.01, 0.03, 0.1)), "adult": ("income", (0.01,))}
LEAST_POSITIVES = 1000  # of the test rows, for a calibration error that is more than noise
FOLDS = 3
Row = dict[str, Any]


def run(options: argparse.Namespace) -> None:
    """Everything, table by table and seed by seed; tables that are not there are left out, a stopped run goes on."""
    warnings.simplefilter("ignore", FallbackWarning)
    options.out.mkdir(parents=True, exist_ok=True)
    part = options.out / ".ensembles.part.json"
    done: dict[str, list[Row]] = json.loads(part.read_text()) if part.exists() else {}
    paths = _find_tables(options)
    for name, path, seed in [(name, path, seed) for name, path in paths.items() for seed in range(options.seeds)]:
        if f"{name} {seed}" not in done:
            rows = _table(path, name, seed)
            done[f"{name} {seed}"] = [{"table": name, "seed": seed} | row for row in rows]
            write_text(part, json.dumps(done, default=float))
            report(options.out, done)
        print(f"{name}, seed {seed}: done", flush=True)
    part.unlink()


def _find_tables(options: argparse.Namespace) -> dict[str, Path]:
    """The tables that are there; it is refused to go on without any."""
    paths: dict[str, Path] = {}
    missing: list[MissingTableError] = []
    for name, file in FILES.items():
        try:
            paths[name] = find_table(options, file)
        except MissingTableError as error:
            print(f"left out: {error}")
            missing.append(error)
    if not paths:
        raise missing[0]
    return paths


def report(out: Path, done: dict[str, list[Row]]) -> None:
    """Write what there is of tables and seeds."""
    frame = pd.DataFrame([row for key in sorted(done) for row in done[key]])
    seeds = frame.groupby("table", sort=False)["seed"].nunique().to_dict()
    write(
        out, "ensembles", {"seeds": seeds, "rows": [row for key in sorted(done) for row in done[key]]}, _markdown(frame)
    )


def _table(path: Path, name: str, seed: int) -> Iterable[Row]:
    table = load(path, name, seed)
    with tempfile.TemporaryDirectory() as memory:
        yield from _all_labels(table, seed, memory)
    yield from _coverage(table if name != "hotels" else load(path, name, seed, in_time=False), table, seed)
    if name in FEW:
        with tempfile.TemporaryDirectory() as memory:
            yield from _few_labels(table, *FEW[name], seed, memory)


def members(table: Table, seed: int) -> list[tuple[str, PerTaskModel]]:
    """Four families."""
    extra = SklearnLearner(ExtraTreesClassifier(50, min_samples_leaf=5), ExtraTreesRegressor(50, min_samples_leaf=5))
    learners = {"lightgbm": "lightgbm", "xgboost": "xgboost", "linear": "linear", "extra trees": extra}
    return [
        (name, PerTaskModel(table.tasks, learner=learner, random_state=seed, **table.roles))
        for name, learner in learners.items()
    ]


def _all_labels(table: Table, seed: int, memory: str) -> Iterable[Row]:
    """Every ensemble against the best member of each task; members are cross-fitted once, in ``memory``."""
    four, settings = members(table, seed), {"cv": FOLDS, "memory": memory, "random_state": seed}
    ensembles = {
        "greedy": AveragingEnsemble(four, weights="greedy", **settings),
        "optimize": AveragingEnsemble(four, weights="optimize", **settings),
        "stacking": StackingEnsemble(four, **settings),
        "boosting": BoostingEnsemble([four[2], four[0]], **settings),
        "bagging": BaggingEnsemble(four[0][1], bootstrap=False, max_samples=0.9, random_state=seed),
    }
    scores, predicting = {}, {}
    for name, member in four:
        scores[name] = member.fit(table.X, table.Y).predict_scores(table.X_test)
    for name, model in ensembles.items():
        model.fit(table.X, table.Y)
        predicting[name], scores[name] = cpu_seconds(lambda: model.predict_scores(table.X_test))  # noqa: B023
    one, _ = cpu_seconds(lambda: four[0][1].predict_scores(table.X_test))
    losses = {name: _normalized(table, frame) for name, frame in scores.items()}
    names = [name for name, _ in four]
    best = max(names, key=lambda name: np.mean(list(losses[name].values())))
    for name in (*names, *ensembles):
        against = "lightgbm" if name == "bagging" else best
        verdicts = _against(table, scores[name], scores[against])
        ratio = predicting[name] / one if name in predicting else None
        row = {"part": "all labels", "model": name, "best member": best, "against": against, "verdicts": verdicts}
        yield row | {"mean score": float(np.mean(list(losses[name].values()))), "prediction time": ratio}
    stacked = _against(table, scores["stacking"], scores["greedy"])
    yield {"part": "stacking", "model": "stacking", "against": "greedy", "verdicts": stacked}
    if table.native is not None:
        for name, frame in [("LightGBM, native ids", table.native), *scores.items()]:
            figures = {"rating RMSE": rmse(table.Y_test["rating"], frame["rating"])}
            yield {
                "part": "films",
                "model": name,
                **figures,
                "liked AUC": roc_auc(table.Y_test["liked"], frame["liked"]),
            }
    outside = ensembles["bagging"].oob_task_scores_.to_dict()
    about = {"part": "bagging", "model": "bagging", "out of bag": outside}
    yield about | {"test": losses["bagging"], "member": losses["lightgbm"]}
    calibrated = CalibratedModel(ensembles["greedy"]).fit(table.X, table.Y)
    yield {
        "part": "calibration",
        "model": "greedy",
        "methods": calibrated.methods_,
        "before": _calibration_errors(table, scores["greedy"]),
        "after": _calibration_errors(table, calibrated.predict_scores(table.X_test)),
        "noise": _calibration_errors(table, calibrated.predict_scores(table.X_test), drawn=seed),
        "noise, 95 %": _calibration_errors(table, calibrated.predict_scores(table.X_test), drawn=seed, quantile=0.95),
        "rows": len(table.X_test),
    }


def _few_labels(table: Table, target: str, shares: tuple[float, ...], seed: int, memory: str) -> Iterable[Row]:
    """Stacking against one LightGBM per task, where one task has few labels and the other all."""
    columns = FeatureColumns().fit(table.X)
    features, test = columns.transform(table.X), columns.transform(table.X_test)
    kinds = {task.name: task.kind for task in table.tasks}
    for share in shares:
        Y = table.Y.copy()
        Y.loc[np.random.default_rng([seed, 2]).random(len(Y)) >= share, target] = np.nan
        y = Y[target].to_numpy()
        train, valid = make_folds(10, y, random_state=seed).last
        baselines = {}
        for tuned in (False, True):
            fitted = fit_one_per_task(
                features, {target: (kinds[target], y)}, train, valid, tuned=tuned, refit=True, seed=seed
            )
            baselines["tuned" if tuned else "defaults"] = pd.DataFrame(fitted.predict(test.values))
        four = members(table, seed)
        baselines["PerTaskModel"] = four[0][1].fit(table.X, Y).predict_scores(table.X_test)
        two, settings = [four[0], four[2]], {"memory": memory, "random_state": seed}
        models = {
            "stacking (lightgbm)": StackingEnsemble(two[:1], **settings),
            "stacking (lightgbm, linear)": StackingEnsemble(two, **settings),
            "greedy (lightgbm, linear)": AveragingEnsemble(two, weights="greedy", **settings),
        }
        for name, model in models.items():
            scores = model.fit(table.X, Y).predict_scores(table.X_test)
            only = [task for task in table.tasks if task.name == target]
            for against, base in baselines.items():
                frame = evaluate_scores(
                    table.Y_test[[target]], scores[[target]], tasks=only, baseline=base[[target]], metrics=["loss"]
                )
                row = frame.iloc[0]
                about = {"part": "few labels", "share": share, "labels": int(np.isfinite(y).sum()), "model": name}
                found = {"loss": row["value"], "baseline": row["baseline"], "verdict": row["verdict"]}
                yield about | {"against": against} | found


def _coverage(random: Table, in_time: Table, seed: int) -> Iterable[Row]:
    """How often 90 % intervals cover, on a random split and, where there is a time, on later rows."""
    splits = {"random" if random.native is None else "later rows": random}  # films: each user's last ratings
    splits |= {"later rows": in_time} if in_time is not random else {}
    for split, table in splits.items():
        numbers = tuple(task for task in table.tasks if task.kind in ("regression", "count"))
        if not numbers:
            continue
        names = [task.name for task in numbers]
        for method in ("cv+", "split"):
            member = PerTaskModel(numbers, random_state=seed, **table.roles)
            model = ConformalModel(member, method=method, random_state=seed).fit(table.X, table.Y[names])
            bounds = model.predict_interval(table.X_test, 0.9)
            for name in names:
                y, low, high = table.Y_test[name], bounds[name, "low"], bounds[name, "high"]
                inside = float(((low <= y) & (y <= high)).mean())
                about = {"part": "intervals", "model": method, "split": split, "task": name}
                yield about | {"coverage": inside, "width": float((high - low).mean())}


def _normalized(table: Table, scores: pd.DataFrame) -> dict[str, float]:
    """1 − loss / loss of the training prior, task by task."""
    return {
        t.name: normalized_score(t.kind, table.Y_test[t.name], scores[t.name], prior_scores(t.kind, table.Y[t.name]))
        for t in table.tasks
    }


def _against(table: Table, scores: pd.DataFrame, baseline: pd.DataFrame) -> dict[str, Row]:
    frame = evaluate_scores(table.Y_test, scores, tasks=table.tasks, baseline=baseline, metrics=["loss"])
    columns = ["value", "baseline", "verdict"]
    return {str(name): row.to_dict() for (name, _), row in frame[columns].iterrows()}


def _calibration_errors(
    table: Table, scores: pd.DataFrame, drawn: int | None = None, quantile: float | None = None
) -> dict[str, float]:
    """With ``drawn`` the error that perfect probabilities would have on as many rows: labels are drawn from them.

    The mean over the draws, or a ``quantile`` of them.
    """
    targets = encode_targets(table.Y_test, table.tasks)
    errors = {}
    for task in table.tasks:
        y, score = targets.view(task.name), scores[task.name].to_numpy()
        if task.kind != "binary" or y.sum() < LEAST_POSITIVES:
            continue
        rng = np.random.default_rng(drawn)
        labels = [y] if drawn is None else [(rng.random(len(score)) < score) * 1.0 for _ in range(200)]
        found = [expected_calibration_error(one, score) for one in labels]
        errors[task.name] = float(np.mean(found) if quantile is None else np.quantile(found, quantile))
    return errors


def _markdown(frame: pd.DataFrame) -> str:
    parts = [_all_labels_table, _films_table, _bagging_table, _few_labels_table, _calibration_table, _intervals_table]
    seeds = ", ".join(f"{table} {n}" for table, n in frame.groupby("table", sort=False)["seed"].nunique().items())
    lines = ["# Ensembles", "", f"Seeds: {seeds}. A fifth of the rows is held out; verdicts by paired bootstrap."]
    for part in parts:
        lines += ["", *part(frame)]
    return "\n".join(lines)


def _all_labels_table(frame: pd.DataFrame) -> list[str]:
    lines = [
        "## All labels",
        "",
        "Score: mean over tasks of 1 − loss / loss of the prior. Verdicts (tasks × seeds): against the best single",
        "member; bagging against its member.",
        "",
        *_head("table", "model", "score, mean", "low", "high", "better", "same", "worse", "prediction ÷ one LightGBM"),
    ]
    for (table, model), group in _by(frame, "all labels", ["table", "model"]):
        score, counts = spread(group["mean score"]), _count(group["verdicts"])
        time = f"{group['prediction time'].mean():.1f}" if group["prediction time"].notna().any() else ""
        lines.append(_row(table, model, *(f"{score[k]:.4f}" for k in ("mean", "low", "high")), *counts, time))
    lines += ["", "Stacking against greedy averaging:", "", *_head("table", "better", "same", "worse")]
    lines += [_row(table, *_count(group["verdicts"])) for (table,), group in _by(frame, "stacking", ["table"])]
    return lines


def _films_table(frame: pd.DataFrame) -> list[str]:
    lines = ["## MovieLens-100k, each user's last fifth", "", *_head("model", "rating RMSE", "liked AUC")]
    for (model,), group in _by(frame, "films", ["model"]):
        lines.append(_row(model, f"{group['rating RMSE'].mean():.4f}", f"{group['liked AUC'].mean():.4f}"))
    return lines if len(lines) > 4 else []


def _bagging_table(frame: pd.DataFrame) -> list[str]:
    lines = [
        "## Bagging",
        "",
        "Scores of eight bags of 90 % of the rows each (`bootstrap=False, max_samples=0.9`), and of the member alone.",
        "",
    ]
    lines += _head("table", "task", "member", "bags", "low", "high", "out of bag")
    for (table,), group in _by(frame, "bagging", ["table"]):
        for task in group["test"].iloc[0]:
            member, oob = (np.mean([row[task] for row in group[key]]) for key in ("member", "out of bag"))
            test = spread(row[task] for row in group["test"])
            shown = (f"{value:.4f}" for value in (member, *test.values(), oob))
            lines.append(_row(table, task, *shown))
    return lines


def _few_labels_table(frame: pd.DataFrame) -> list[str]:
    heads = ("table", "labels", "model", "against", "loss", "baseline's", "change, %", "low", "high", "verdicts")
    lines = ["## Few labels", "", "One task has few labels, the other all; loss of the first against LightGBM.", ""]
    lines += _head(*heads)
    for (table, share, model, against), group in _by(frame, "few labels", ["table", "share", "model", "against"]):
        change = spread(100 * (group["loss"] / group["baseline"] - 1))
        losses = (f"{group[key].mean():.4f}" for key in ("loss", "baseline"))
        changes = (f"{change[key]:+.1f}" for key in ("mean", "low", "high"))
        lines.append(_row(table, f"{share:.0%}", model, against, *losses, *changes, ", ".join(group["verdict"])))
    return lines


def _calibration_table(frame: pd.DataFrame) -> list[str]:
    lines = ["## Calibration of the greedy ensemble", ""]
    lines += [
        "By chance: the error that perfect probabilities have on as many test rows, and what 19 draws in 20 stay below",
        "(labels drawn from the calibrated probabilities).",
        "",
    ]
    lines += _head("table", "task", "test rows", "error before", "after", "by chance", "19 in 20", "methods")
    for (table,), group in _by(frame, "calibration", ["table"]):
        for task in group["before"].iloc[0]:
            parts = ("before", "after", "noise", "noise, 95 %")
            found = [[row[task] for row in group[key].dropna() if task in row] for key in parts]
            errors = (f"{np.mean(values):.4f}" if values else "" for values in found)
            methods = ", ".join(str(row[task]) for row in group["methods"])
            n = "" if group["rows"].isna().any() else f"{group['rows'].iloc[0]:.0f}"
            lines.append(_row(table, task, n, *errors, methods))
    return lines


def _intervals_table(frame: pd.DataFrame) -> list[str]:
    lines = ["## Intervals of 90 %", ""]
    lines += _head("table", "task", "split", "method", "coverage, mean", "low", "high", "width")
    for (table, task, split, model), group in _by(frame, "intervals", ["table", "task", "split", "model"]):
        cover = spread(group["coverage"])
        shares = (f"{cover[key]:.3f}" for key in ("mean", "low", "high"))
        lines.append(_row(table, task, split, model, *shares, f"{group['width'].mean():.3g}"))
    return lines


def _by(frame: pd.DataFrame, part: str, keys: list[str]) -> Any:
    found = frame[frame["part"] == part]
    return found.groupby(keys, sort=False) if len(found) else ()  # the columns of a part are there if its rows are


def _count(verdicts: Iterable[dict[str, Row]]) -> list[int]:
    each = [row["verdict"] for by_task in verdicts for row in by_task.values()]
    return [each.count(word) for word in ("better", "same", "worse")]
