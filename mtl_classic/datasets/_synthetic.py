"""A synthetic shop: users and items with known latent factors, an event log, and a funnel of known probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.utils import Bunch

from mtl_classic._core.options import (
    COUNT,
    COUNT_OR_0,
    FINITE,
    MAPPING,
    SHARE,
    SHARE_OR_0,
    Kind,
    check_option,
    list_of,
)
from mtl_classic._core.random import generator, root_seed
from mtl_classic._core.tasks import Task
from mtl_classic._core.time import to_duration
from mtl_classic.datasets._shop import DAY, SECOND, STAGES, Shop, Shown, chances, draw, make_shop, show
from mtl_classic.events import EventLog

__all__ = ["make_funnel"]

_START = pd.Timestamp("2024-01-01")
RATES = Kind(
    f"three numbers above 0 and below 1, for {', '.join(STAGES)}",
    list_of("numbers").is_type,
    lambda rates: len(rates) == len(STAGES) and all(SHARE.is_type(rate) and SHARE.holds(rate) for rate in rates),
)
_EVENTS = pd.Index(STAGES)
_DEVICES = pd.Index(["phone", "desktop", "tablet"])


def make_funnel(
    n_rows: int = 20_000,
    *,
    n_users: int = 1_000,
    n_items: int = 300,
    n_factors: int = 8,
    n_categories: int = 12,
    n_days: int = 60,
    history_days: int = 28,
    rates: tuple[float, float, float] = (0.3, 0.35, 0.4),
    strength: float = 1.0,
    delay: Any = None,
    missing: float | Mapping[str, float] | None = None,
    random_state: Any = None,
) -> Bunch:
    r"""Make impressions with a view → cart → buy → spend funnel whose probabilities are known.

    User :math:`u` has factors :math:`p_u` and item :math:`i` has factors :math:`q_i` (half of them shared within its
    category), all standard normal. Stage :math:`s` of the funnel happens, given the stage before, with

    .. math:: P_s = \sigma\Bigl(a_s + \gamma\,\bigl(b_{su} + c_{si} + \alpha_s\, p_u^\top W_s q_i / \sqrt k\bigr)
              + \beta_s \log(\text{price} / \text{list price}) + d_{s,\text{device}} + e_{s,\text{weekday}}\Bigr),

    where :math:`\gamma` is ``strength`` and :math:`a_s` is set so that the mean of :math:`P_s` over the rows that reach
    the stage is ``rates[s]``. The tendencies :math:`b_{su}` of a user and :math:`c_{si}` of an item are half the
    stage's own, half common to all stages; they show in past events, so history helps. Given a purchase, spend is
    :math:`\text{price} \cdot e^{0.4 \gamma m_u} \cdot \varepsilon` with log-normal noise of mean 1.

    Parameters
    ----------
    n_rows : int, default=20_000
        Impressions with labels.
    n_users, n_items, n_factors, n_categories : int, default=1000, 300, 8 and 12
        Size of the shop. Users differ in activity (gamma) and items in exposure (log-normal).
    n_days : int, default=60
        Days over which the rows spread.
    history_days : int, default=28
        Days before the first row of which the log holds the events as well.
    rates : tuple of 3 floats in (0, 1), default=(0.3, 0.35, 0.4)
        Mean of view, of cart given view, of buy given cart.
    strength : float, default=1.0
        Scale of all differences between users and items; at 0 nothing but the context matters.
    delay : str or timedelta, default=None
        A purchase happens at any time up to ``delay`` after the row (half of them in its first 30 %), so ``buy`` and
        ``spend`` are known only then, as their tasks say. ``None``: all happens within a day, no task has a delay.
    missing : float or dict task -> float, default=None
        Share of labels hidden (NaN), independently of everything.
    random_state : int, RandomState, Generator or None
        Fixes every bit. Users and items depend on their numbers and this seed only, not on ``n_rows``.

    Returns
    -------
    Bunch
        - ``X``: frame (n_rows), sorted by time: ``user, item`` (int64), ``time`` (datetime64[ns]), ``day`` (int64, 0 on
          the first row's day), ``category, device`` (category), ``price`` (float64).
        - ``Y``: frame of float64 ``view, cart, buy, spend``; children of a negative parent are 0.
        - ``tasks``: tuple of `Task`; ``roles``: dict of ``user``, ``item``, ``time``.
        - ``events``: `EventLog` with ``user, item, time, event, value, category, device``; the value of a purchase is
          the spend, that of a view or cart the price. An event's time is its row's plus what was drawn.
        - ``probabilities``: frame like ``Y``: P(view), P(cart), P(buy), mean spend, all for the entire funnel.
        - ``horizon``: str; ``label_from_events(X, events, tasks, horizon)`` gives ``Y`` again, where matured by the
          end of the log, because no (user, item) comes twice within the horizon.
        - ``user_factors`` (n_users, n_factors), ``item_factors`` (n_items, n_factors): the truth.

    Raises
    ------
    TypeError, ValueError
        On sizes, shares or rates out of range, or more rows than fit (see ``horizon``).

    Notes
    -----
    About 2 seconds and 600 MB for a million rows; time and memory grow linearly. ``Y`` is complete, the last rows
    included; a replay hides the labels of a task with a delay until row time + ``delay``.

    References
    ----------
    Ma et al., Entire Space Multi-Task Model, SIGIR 2018, doi 10.1145/3209978.3210104 (the funnel).

    Examples
    --------
    >>> from mtl_classic.datasets import make_funnel
    >>> shop = make_funnel(2_000, n_users=200, n_items=50, delay="7D", random_state=0)
    >>> list(shop.X.columns)
    ['user', 'item', 'time', 'day', 'category', 'device', 'price']
    >>> [task.name for task in shop.tasks], shop.tasks[2].delay
    (['view', 'cart', 'buy', 'spend'], '7D')
    >>> bool((shop.probabilities["buy"] <= shop.probabilities["cart"]).all())
    True
    """
    shares = _check(n_rows, n_users, n_items, n_factors, n_categories, n_days, history_days, rates, strength, missing)
    n_days, history_days = int(n_days), int(history_days)  # small integers of numpy have no room for nanoseconds
    horizon = _horizon(delay)
    root = root_seed(random_state)
    shop = make_shop(root, n_users, n_items, n_factors, n_categories, n_days + history_days, strength)
    n_shown = round(n_rows * (1 + history_days / n_days))
    shown = show(root, shop, n_shown, (n_days + history_days) * DAY, horizon)
    chance = chances(root, shop, shown, rates)
    outcomes = draw(root, shown, chance)
    events = EventLog(
        _event_frame(root, shop, shown, outcomes, horizon, delay is not None),
        user="user",
        item="item",
        time="time",
        event="event",
        value="value",
    )
    first = n_shown - n_rows  # the rows are the latest impressions; the ones before them are history
    return Bunch(
        X=_rows(shop, shown, first),
        Y=_hide(root, pd.DataFrame(outcomes).iloc[first:].reset_index(drop=True), shares),
        tasks=_tasks(delay),
        roles={"user": "user", "item": "item", "time": "time"},
        events=events,
        probabilities=pd.DataFrame(_entire(chance)).iloc[first:].reset_index(drop=True),
        horizon=f"{horizon // SECOND}s",
        user_factors=shop.user_factors,
        item_factors=shop.item_factors,
    )


def _check(
    n_rows: int,
    n_users: int,
    n_items: int,
    n_factors: int,
    n_categories: int,
    n_days: int,
    history_days: int,
    rates: tuple[float, float, float],
    strength: float,
    missing: float | Mapping[str, float] | None,
) -> dict[str, float]:
    sizes = {"n_rows": n_rows, "n_users": n_users, "n_items": n_items, "n_factors": n_factors}
    sizes |= {"n_categories": n_categories, "n_days": n_days}
    for name, size in sizes.items():
        check_option(name, size, COUNT)
    check_option("history_days", history_days, COUNT_OR_0)
    check_option("strength", strength, FINITE)
    check_option("rates", rates, RATES)
    check_option("missing", missing, (SHARE_OR_0, MAPPING, None))
    names = (*STAGES, "spend")
    shares = dict(missing) if isinstance(missing, Mapping) else dict.fromkeys(names, missing or 0.0)
    unknown = sorted(set(shares) - set(names))
    if unknown:
        raise ValueError(f"missing names {', '.join(unknown)}; the tasks are {', '.join(names)}.")
    for name, share in shares.items():
        check_option(f"missing[{name!r}]", share, SHARE_OR_0)
    return shares


def _horizon(delay: Any) -> int:
    """Nanoseconds within which everything that follows from a row happens."""
    if delay is None:
        return DAY
    horizon = int(to_duration(delay, np.dtype("datetime64[ns]"), "delay")) // SECOND * SECOND
    if horizon < 3600 * SECOND:
        raise ValueError(f"delay must be at least an hour, got {delay!r}; None means that labels are known at once.")
    return horizon


def _event_frame(
    root: int,
    shop: Shop,
    shown: Shown,
    outcomes: dict[str, npt.NDArray[np.float64]],
    horizon: int,
    delayed: bool,
) -> pd.DataFrame:
    """A view soon after its row, a cart soon after the view, a purchase within the horizon."""
    rng = generator(root, "make_funnel", "events")
    soon = min(horizon, DAY)
    n_shown = len(shown.time)
    after = {"view": rng.random(n_shown) * 0.01 * soon}
    after["cart"] = after["view"] + rng.random(n_shown) * 0.05 * soon
    # Beta(1, 2) puts half of the purchases in the first 30 % of the time left.
    wait = rng.beta(1.0, 2.0, n_shown) if delayed else 0.3 * rng.random(n_shown)
    after["buy"] = after["cart"] + wait * (horizon - after["cart"])
    parts = []
    for code, stage in enumerate(STAGES):
        rows = np.flatnonzero(outcomes[stage])
        part = {
            "user": shown.user[rows],
            "item": shown.item[rows],
            "time": _dates(shown.time[rows] + after[stage][rows].astype(np.int64) // SECOND * SECOND),
            "event": pd.Categorical.from_codes(np.full(len(rows), code), _EVENTS),
            "value": (outcomes["spend"] if stage == "buy" else shown.price)[rows],
            "category": _categories(shop)[shown.item[rows]],
            "device": pd.Categorical.from_codes(shown.device[rows], _DEVICES),
        }
        parts.append(pd.DataFrame(part))
    return pd.concat(parts, ignore_index=True)


def _rows(shop: Shop, shown: Shown, first: int) -> pd.DataFrame:
    user, item, time, device = (a[first:] for a in (shown.user, shown.item, shown.time, shown.device))
    return pd.DataFrame(
        {
            "user": user,
            "item": item,
            "time": _dates(time),
            "day": time // DAY - time[0] // DAY,
            "category": _categories(shop)[item],
            "device": pd.Categorical.from_codes(device, _DEVICES),
            "price": shown.price[first:],
        }
    )


def _dates(time: npt.NDArray[np.int64]) -> pd.DatetimeIndex:
    return pd.DatetimeIndex((time + _START.as_unit("ns").value).view("datetime64[ns]"))


def _categories(shop: Shop) -> pd.Categorical[str]:
    """The category of each item."""
    names = pd.Index([f"c{number:02d}" for number in range(shop.category.max() + 1)])
    return pd.Categorical.from_codes(shop.category, names)


def _hide(root: int, Y: pd.DataFrame, shares: Mapping[str, float]) -> pd.DataFrame:
    for name, share in shares.items():
        if share:
            Y.loc[generator(root, "make_funnel", "missing", name).random(len(Y)) < share, name] = np.nan
    return Y


def _tasks(delay: Any) -> tuple[Task, ...]:
    return (
        Task("view", "binary"),
        Task("cart", "binary", given="view"),
        Task("buy", "binary", given="cart", delay=delay),
        Task("spend", "regression", given="buy", delay=delay),
    )


def _entire(chance: dict[str, npt.NDArray[np.float64]]) -> dict[str, npt.NDArray[np.float64]]:
    """From given the stage before to the entire funnel: each stage times all before it."""
    products = np.cumprod(np.stack([chance[name] for name in (*STAGES, "spend")]), axis=0)
    return dict(zip((*STAGES, "spend"), products, strict=True))
