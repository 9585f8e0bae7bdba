"""Whether a model at work still sees what it learnt from, and whether its rates still happen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import ndtri

from mtl_classic._core.options import NOT_NEGATIVE, SHARE, check_option
from mtl_classic._core.targets import Targets, encode_targets, known_share
from mtl_classic._core.tasks import Task, label_frame, line_of
from mtl_classic._core.time import check_duration, is_datetime, time_dtype, to_duration, to_time
from mtl_classic._core.validation import check_labels_of
from mtl_classic.inspection._drift import (
    Interval,
    calibration_ratio,
    effective_rows,
    population_stability,
    share,
)
from mtl_classic.inspection._reference import ColumnReference, Reference, as_frame, cluster_codes, hashes
from mtl_classic.metrics._fitted import end_of, role_column, scores_of

__all__ = ["monitor"]

VERDICTS = ("ok", "watch", "retrain")
STABILITY = (0.1, 0.25)
MORE = (0.05, 0.25)  # of unseen ids, of missing values: in shares of the rows
RETRAIN_RATIO = 0.15
MAX_AGE = "2D"
_DAY = 86_400_000_000_000


@dataclass(frozen=True)
class _Check:
    """One thing looked at: what is measured, given the z of its interval, and what it is compared with."""

    check: str
    name: str
    measure: Any
    reference: float
    day: str = ""


def monitor(
    model: Any,
    X_new: Any,
    X_matured: Any = None,
    Y_matured: Any = None,
    *,
    reference: Reference | None = None,
    tolerance: float = 0.05,
    max_age: Any = None,
    alpha: float = 0.01,
) -> pd.DataFrame:
    """Compare new rows with the reference, and predicted with observed rates; say what to do.

    Parameters
    ----------
    model : fitted multi-task estimator
        Also a Pipeline or search that ends in one; then rows and the columns that are watched are those that go into
        it.
    X_new : frame of shape (n, n_features)
        Rows served lately, such as a day's.
    X_matured, Y_matured : frame and labels, default=None
        Rows whose labels are known by now, of a day or of several; NaN is unlabelled. No rows tell of no rates.
    reference : Reference, default=None
        From `monitor_reference`; None takes ``model.reference_``.
    tolerance : float of at least 0, default=0.05
        A ratio of predicted to observed is right from 1 / 1.05 to 1.05.
    max_age : duration, default=None
        How old the log may be at the latest row; None is two days where time is a date, any age where it is a number.
    alpha : float between 0 and 1, default=0.01
        Probability that a call raises any alarm on quiet rows, at most: intervals are wide enough for all checks
        together (Bonferroni), and an alarm needs the whole interval outside of what is right.

    Returns
    -------
    DataFrame
        Index (check, name, day), columns ``value``, ``low``, ``high`` (its interval), ``reference``, ``verdict`` ("ok",
        "watch", "retrain") and ``reason``. The last row, ("overall", …), has the gravest verdict. The checks:

        - ``stability`` of each column and score: the population stability index. "watch" where it is surely above 0.1
          beyond the noise of sampling, "retrain" above 0.25.
        - ``unseen``: share of rows with an unknown user, item or other id; "watch" if surely 5, "retrain" if 25 points
          above the share of new ids among the latest rows of the reference.
        - ``missing``: share of missing values; the same points above or below the reference.
        - ``age`` of the log in days (or in units of time), "watch" beyond ``max_age``: observe newer events. It is that
          of the last event: a feed that lacks some users or types of events shows in the scores at most, so count them.
        - ``calibration`` per task (and class) and day (in the zone of the rows), and over "all" of several days, or of
          rows without a time: the sum of the scores ÷ the sum of the labels, over all rows (entire view). "watch" if
          surely outside the tolerance, "retrain" outside 15 %. Of a child that is labelled in a share of its parent's
          positive rows, zeros that the parent tells count that share, as in fitting.
          Ranking tasks and labels with negative values have no rates.

    Raises
    ------
    ValueError
        Without a reference; labels without rows or rows without labels; alpha or tolerance out of range.

    Notes
    -----
    Rows of a user are no independent rows: intervals count Kish's effective number of rows, and the scatter of
    calibration between users. Cost: two predictions, one pass over the columns.

    References
    ----------
    B. Yurdakul, J. Naranjo, Statistical properties of the population stability index, 2020, doi:10.21314/JRMV.2020.227;
    E. B. Wilson, Probable inference, the law of succession, and statistical inference, 1927,
    doi:10.1080/01621459.1927.10502953.

    Examples
    --------
    >>> from mtl_classic import PerTaskModel, make_funnel, monitor, monitor_reference
    >>> shop = make_funnel(4000, n_users=2000, n_items=50, random_state=0)
    >>> rows = shop.X.drop(columns="day")  # a number that trees can't follow beyond the last day of the fit
    >>> X, Y, new = rows[:3000], shop.Y[:3000], rows[3000:]
    >>> model = PerTaskModel(shop.tasks, **shop.roles, random_state=0).fit(X, Y)
    >>> model.reference_ = monitor_reference(model, X)
    >>> monitor(model, new).loc[("overall", "", ""), "verdict"]
    'ok'
    >>> report = monitor(model, new.assign(price=3 * new["price"] + 10))
    >>> report.loc[("stability", "price", ""), "verdict"]
    'retrain'
    """
    final, _ = end_of(model)
    reference = getattr(model, "reference_", getattr(final, "reference_", None)) if reference is None else reference
    if not isinstance(reference, Reference):
        raise ValueError(
            "monitor compares with a reference: make one once, model.reference_ = monitor_reference(model, X), or "
            "give it as reference=."
        )
    if (X_matured is None) != (Y_matured is None):
        raise ValueError("X_matured and Y_matured come together: rows, and their labels.")
    check_option("alpha", alpha, SHARE)
    check_duration("max_age", max_age)
    check_option("tolerance", tolerance, NOT_NEGATIVE)
    table = _as_frame(X_new)
    if not len(table):
        raise ValueError("monitor was given no new rows; at least one is needed.")
    scores = scores_of(model, X_new, "entire")
    n_now = effective_rows(cluster_codes(table, role_column(final, table, "user")), len(table))
    checks = [*_column_checks(table, reference, n_now), *_score_checks(scores, reference, n_now)]
    if X_matured is not None:
        checks += _calibration_checks(model, scores if X_matured is X_new else None, X_matured, Y_matured)
    z = -float(ndtri(alpha / (2 * max(len(checks), 1))))
    rows = [_judged(check, check.measure(z), tolerance) for check in checks]
    rows += _age(model, table, max_age)
    return _report(rows)


def _as_frame(X: Any) -> pd.DataFrame:
    table = as_frame(X)
    return table.set_axis([str(name) for name in table.columns], axis=1)  # a reference names columns by text


def _column_checks(table: pd.DataFrame, reference: Reference, n_now: float) -> Iterator[_Check]:
    _check_columns("X_new", table, reference.columns)
    for name, known in reference.columns.items():
        column = table[name]
        if known.kind == "id":
            yield _Check("unseen", name, _unseen(column, known, n_now), known.unseen)
        elif known.kind != "clock":
            yield _Check("stability", name, _stability(column, known, reference.n_effective, n_now), 0.0)
        yield _Check("missing", name, _missing(column, n_now), known.missing)


def _score_checks(scores: pd.DataFrame, reference: Reference, n_now: float) -> Iterator[_Check]:
    _check_columns("What the model predicts", scores, reference.scores)
    for name, known in reference.scores.items():
        yield _Check(
            "stability", f"score of {name}", _stability(scores[name], known, reference.n_effective, n_now), 0.0
        )


def _check_columns(what: str, table: pd.DataFrame, known: Iterable[str]) -> None:
    lost = [name for name in known if name not in table.columns]
    if lost:
        raise ValueError(
            f"{what} lacks columns of the reference: {', '.join(lost)}; it has {', '.join(map(str, table))}."
        )


def _stability(column: pd.Series, known: ColumnReference, n_before: float, n_now: float) -> Any:
    counts = known.count(column)
    return lambda z: population_stability(known.counts, counts, n_before, n_now, z)


def _unseen(column: pd.Series, known: ColumnReference, n_now: float) -> Any:
    hashed = hashes(column)[~column.isna().to_numpy()]
    new, n = int((~np.isin(hashed, known.ids)).sum()), len(hashed)
    return lambda z: share(new, n, n_now * n / len(column), z)


def _missing(column: pd.Series, n_now: float) -> Any:
    count = int(column.isna().sum())
    return lambda z: share(count, len(column), n_now, z)


def _calibration_checks(model: Any, scores: pd.DataFrame | None, X: Any, Y: Any) -> list[_Check]:
    table = _as_frame(X)
    if not len(table) and not len(label_frame(Y)):
        return []
    final, _ = end_of(model)
    targets = encode_targets(Y, final.tasks_, classes=final.classes_map_, on_conflict=final._conflict_rule())
    check_labels_of(table, targets)
    scores = scores_of(model, X, "entire") if scores is None else scores
    clusters = cluster_codes(table, role_column(final, table, "user"))
    days = _days(table, role_column(final, table, "time"))
    checks: list[_Check] = []
    for task, name, observed, predicted in _rates(scores, targets):
        known = ~np.isnan(observed)
        if not known.any() or (observed[known] < 0).any():
            continue
        parts, line = [] if days is None else days.parts(known), _line(targets, task)
        for day, told in [*parts, ("all", np.arange(len(known)))] if len(parts) != 1 else parts:
            share, counted = known_share(line.take(told), task, None), known[told]
            expected = predicted[told] if share is None else predicted[told] * share
            own = None if clusters is None else clusters[told][counted]
            measure = _ratio(expected[counted], observed[told][counted], own)
            checks.append(_Check("calibration", name, measure, 1.0, str(day)))
    return checks


def _rates(scores: pd.DataFrame, targets: Targets) -> Iterator[tuple[Task, str, Any, Any]]:
    """Task, name, labels and scores of all that has a rate."""
    for task in targets.tasks:
        observed = targets.view(task.name)
        if task.kind == "multiclass":
            classes = targets.classes[task.name]
            for code, label in enumerate([] if classes is None else classes):
                name = f"{task.name}={label}"
                yield task, name, np.where(np.isnan(observed), np.nan, observed == code), scores[name].to_numpy()
        elif task.kind != "ranking":
            yield task, task.name, observed, scores[task.name].to_numpy()


def _line(targets: Targets, task: Task) -> Targets:
    """The labels of a task and of those above it in the funnel, which tell what share of its rows is known."""
    tasks = line_of(task, targets.tasks)
    columns = [targets.position(one.name) for one in tasks]
    views = {name: getattr(targets, name)[:, columns] for name in ("entire", "conditional", "dropped")}
    return replace(targets, tasks=tasks, index=None, **views)


@dataclass(frozen=True)
class _Days:
    """The day of each row as a number; whole units where time is one."""

    numbers: npt.NDArray[np.int64]
    dated: bool

    def parts(self, known: npt.NDArray[np.bool_]) -> list[tuple[str, npt.NDArray[np.intp]]]:
        """Each day of a known row as text, and its rows."""
        rows = np.flatnonzero(np.isin(self.numbers, self.numbers[known]))
        days, of, sizes = np.unique(self.numbers[rows], return_inverse=True, return_counts=True)
        parts = np.split(rows[np.argsort(of, kind="stable")], np.cumsum(sizes)[:-1])
        names = days.astype("datetime64[D]") if self.dated else days
        return [(str(name), part) for name, part in zip(names, parts, strict=True)]


def _days(table: pd.DataFrame, column: str | None) -> _Days | None:
    if column is None:
        return None
    times = table[column].infer_objects()
    if isinstance(time_dtype(times), pd.DatetimeTZDtype):  # a day is one by the clock of its zone
        times = pd.to_datetime(times).dt.tz_localize(None)
    dated, time = is_datetime(time_dtype(times)), to_time(times, "time")
    return _Days(np.floor_divide(time, _DAY if dated else 1).astype(np.int64), dated)


def _ratio(predicted: Any, observed: Any, clusters: Any) -> Any:
    codes = None if clusters is None else np.unique(clusters, return_inverse=True)[1]
    return calibration_ratio(predicted, observed, codes)


def _judged(check: _Check, measured: Interval, tolerance: float) -> dict[str, Any]:
    value, low, high = measured
    grade, reason = 0, ""
    if check.check == "calibration":
        limits = tolerance, max(RETRAIN_RATIO, tolerance)
        grade = sum(low > 1 + limit or high < 1 / (1 + limit) for limit in limits)
        reason = f"predicted ÷ observed is {value:.3g}, surely {'above' if low > 1 else 'below'} what is right"
    elif check.check == "stability":
        grade = sum(low > limit for limit in STABILITY)
        reason = f"the distribution has shifted: index {value:.3g}, surely above {low:.3g}"
    else:
        grade = sum(low > check.reference + limit or high < check.reference - limit for limit in MORE)
        if check.check == "unseen":
            grade = grade if low > check.reference else 0  # fewer new ids are no harm
        what = "new ids" if check.check == "unseen" else "missing values"
        reason = f"{value:.1%} of the rows have {what}, {check.reference:.1%} had"
    return _row(check, measured, grade, reason)


def _row(check: _Check, measured: Interval, grade: int, reason: str) -> dict[str, Any]:
    value, low, high = measured
    return {
        "check": check.check,
        "name": check.name,
        "day": check.day,
        "value": value,
        "low": low,
        "high": high,
        "reference": check.reference,
        "verdict": VERDICTS[grade],
        "reason": reason if grade else "",
    }


def _age(model: Any, table: pd.DataFrame, max_age: Any) -> list[dict[str, Any]]:
    """How long before the latest row the log ends."""
    knows, as_of = _as_of(model)
    column = role_column(end_of(model)[0], table, "time")
    if not knows or column is None:
        return []
    check = _Check("age", "log", None, float("nan"))
    if as_of is None:
        return [_row(check, (float("inf"),) * 3, 1, "the log is empty: call observe with what has happened")]
    times = table[column]
    axis = time_dtype(times)
    dated = is_datetime(axis)
    age = float(to_time(times, "time").max()) - float(to_time(pd.Series([as_of]), "time")[0])
    most = MAX_AGE if max_age is None and dated else max_age
    limit = np.inf if most is None else to_duration(most, axis, "max_age")
    shown = age / _DAY if dated else age
    unit = " days" if dated else ""
    reason = f"the log ends {shown:.3g}{unit} before the latest row: observe newer events"
    return [_row(check, (shown, shown, shown), int(age > limit), reason)]


def _as_of(model: Any) -> tuple[bool, Any]:
    """Whether a model has a log, and the time of its last event."""
    for part in _parts(model):
        if hasattr(part, "as_of_") and (part.as_of_ is not None or hasattr(part, "log_")):
            return True, part.as_of_
    return False, None


def _parts(model: Any) -> Iterator[Any]:
    """A model, and the steps of the pipelines in it."""
    yield model
    for _, step in getattr(getattr(model, "pipeline_", model), "steps", []):
        yield from _parts(step)


def _report(rows: list[dict[str, Any]]) -> pd.DataFrame:
    worst = max((VERDICTS.index(row["verdict"]) for row in rows), default=0)
    named = (
        [f"{row['check']} of {row['name']}" for row in rows if VERDICTS.index(row["verdict"]) == worst] if worst else []
    )
    named = list(dict.fromkeys(named))
    reason = ", ".join(named[:5]) + (f" and {len(named) - 5} more" if len(named) > 5 else "")
    nothing = (float("nan"),) * 3
    rows = [*rows, _row(_Check("overall", "", None, float("nan")), nothing, worst, reason)]
    return pd.DataFrame(rows).set_index(["check", "name", "day"])
