"""Readable twins of the history kernels: pandas `groupby().cumsum` and `merge_asof` at both ends of a window."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

DAY = 86_400_000_000_000


def history(
    events: pd.DataFrame,
    rows: pd.DataFrame,
    aggregates: Sequence[Any],
    *,
    time: str,
    event: str | None = None,
    value: str | None = None,
    lag: int = 0,
    durations: Mapping[Any, int] | None = None,
    unit: float = 1.0,
) -> pd.DataFrame:
    """The aggregates as float64 columns; keys are called alike in both frames, times are numbers.

    `durations` translates windows and half-lives that are no numbers.
    """
    events = events.sort_values(time, kind="stable").reset_index(drop=True)
    columns = {}
    for a in aggregates:
        window, half_life = ((durations or {}).get(d, d) for d in (a.window, a.half_life))
        high = rows[time] - lag
        low = None if window is None else high - window
        amount = a.value if a.value is not None or a.stat not in ("sum", "mean") else value
        seen = matching(events, a.where, event)
        seen = seen if amount is None else seen[seen[amount].notna()]
        if a.stat == "rate":
            columns[a.name] = rate(a, events, seen, rows, event, time, low, high)
            continue
        keys = list(a.keys)
        weights = pd.Series(1.0, seen.index) if amount is None else seen[amount].astype(float)
        n = windowed(seen, pd.Series(1.0, seen.index), rows, keys, time, low, high)
        if a.stat == "count":
            columns[a.name] = n
        elif a.stat == "sum":
            columns[a.name] = np.where(n > 0, windowed(seen, weights, rows, keys, time, low, high), 0)
        elif a.stat == "mean":
            total = windowed(seen, weights, rows, keys, time, low, high)
            columns[a.name] = np.where(n > 0, total / n.clip(lower=1), np.nan)
        elif a.stat == "decayed":
            origin = events[time].min()
            grown = weights * 2.0 ** ((seen[time] - origin) / half_life)
            total = windowed(seen, grown, rows, keys, time, low, high) * 2.0 ** (-(rows[time] - origin) / half_life)
            columns[a.name] = np.where(n > 0, total, 0)
        else:
            last = beside(seen, seen[time].astype(float), rows, keys, time, high, "backward")
            if a.stat == "recency":
                columns[a.name] = np.where(n > 0, (rows[time] - last) / unit, np.nan)
            else:
                start = pd.Series(-(2**62), rows.index) if low is None else low
                first = beside(seen, seen[time].astype(float), rows, keys, time, start, "forward")
                columns[a.name] = np.where(n > 1, (last - first) / (unit * (n - 1).clip(lower=1)), np.nan)
    return pd.DataFrame(columns, index=rows.index).astype(float)


def rate(a: Any, events: Any, seen: Any, rows: Any, event: Any, time: str, low: Any, high: Any) -> Any:
    """(a + s·p) / (b + s) with p the same quotient over all keys."""
    base = seen if a.value is not None and a.per is None else matching(events, a.per, event)
    parts = []
    for keys in (list(a.keys), []):
        amounts = pd.Series(1.0, seen.index) if a.value is None else seen[a.value].astype(float)
        parts += [
            windowed(seen, amounts, rows, keys, time, low, high),
            windowed(base, pd.Series(1.0, base.index), rows, keys, time, low, high),
        ]
    above, below, all_above, all_below = (np.asarray(part, dtype=float) for part in parts)
    with np.errstate(invalid="ignore", divide="ignore"):
        if not a.smoothing:
            return np.where(below > 0, above / below, np.nan)
        prior = np.where(all_below > 0, all_above / all_below, np.nan)
        return (above + a.smoothing * prior) / (below + a.smoothing)


def matching(events: pd.DataFrame, spec: Any, event: str | None) -> pd.DataFrame:
    for column, allowed in ({} if spec is None else spec if isinstance(spec, Mapping) else {event: spec}).items():
        events = events[events[column].isin(allowed if isinstance(allowed, list) else [allowed])]
    return events


def windowed(events: Any, amounts: Any, rows: Any, keys: list[str], time: str, low: Any, high: Any) -> pd.Series:
    """Sum of the amounts of events in [low, high), per row."""
    cumulated = amounts.groupby([events[key] for key in keys]).cumsum() if keys else amounts.cumsum()
    total = beside(events, cumulated, rows, keys, time, high, "backward").fillna(0.0)
    return total if low is None else total - beside(events, cumulated, rows, keys, time, low, "backward").fillna(0.0)


def beside(events: Any, values: Any, rows: Any, keys: list[str], time: str, at: Any, direction: str) -> pd.Series:
    """The value of the last event before `at` (backward), or of the first from it on (forward), per row."""
    left = rows[keys].assign(_at=at, _row=np.arange(len(rows))).sort_values("_at", kind="stable")
    right = events[keys].assign(_at=events[time], _value=values)
    merged = pd.merge_asof(
        left, right, on="_at", by=keys or None, direction=direction, allow_exact_matches=direction == "forward"
    )
    return pd.Series(merged.sort_values("_row")["_value"].to_numpy(), rows.index)


def labels(events: pd.DataFrame, rows: pd.DataFrame, *, event: str, value: str, horizon: float) -> pd.DataFrame:
    """Events of each type and sums of their values in [t, t + horizon), by looking at every pair."""
    out = []
    for row in rows.itertuples():
        mine = events[(events.user == row.user) & (events.item == row.item)]
        mine = mine[(mine.time >= row.time) & (mine.time < row.time + horizon)]
        out.append(
            {f"n_{kind}": (mine[event] == kind).sum() for kind in events[event].unique()}
            | {f"sum_{kind}": mine.loc[mine[event] == kind, value].sum() for kind in events[event].unique()}
        )
    return pd.DataFrame(out, index=rows.index).astype(float)
