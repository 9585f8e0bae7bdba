"""A synthetic shop: users and items with known latent factors, an event log, and a funnel of known probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.utils import Bunch

from mtl_classic._core.random import generator, root_seed
from mtl_classic._core.tasks import Task
from mtl_classic._core.time import to_duration
from mtl_classic.events import EventLog

__all__ = ["make_funnel"]

_SECOND = 1_000_000_000
_DAY = 86_400 * _SECOND
_START = pd.Timestamp("2024-01-01")
_STAGES = ("view", "cart", "buy")
_EVENTS = pd.Index(_STAGES)
_DEVICES = pd.Index(["phone", "desktop", "tablet"])
# How much a stage's logit takes from the affinity of user and item, from a log price above the item's own (a
# discount is negative), and from phone, desktop and tablet.
_AFFINITY = {"view": 1.0, "cart": 0.8, "buy": 0.5}
_PRICE = {"view": -0.5, "cart": -1.5, "buy": -1.0}
_DEVICE = {"view": (0.0, 0.2, -0.1), "cart": (-0.1, 0.2, 0.0), "buy": (-0.3, 0.4, 0.0)}
_SPEND_NOISE = 0.5
_BLOCK = 1 << 18
_MAX_ROUNDS = 40


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
    n_users, n_items, n_factors, n_categories : int
        Size of the shop. Users differ in activity (gamma) and items in exposure (log-normal).
    n_days : int, default=60
        Days over which the rows spread.
    history_days : int, default=28
        Days before the first row of which the log holds the events as well.
    rates : tuple of 3 floats in (0, 1)
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
    ValueError
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
    horizon = _horizon(delay)
    root = root_seed(random_state)
    shop = _make_shop(root, n_users, n_items, n_factors, n_categories, n_days + history_days, strength)
    n_shown = round(n_rows * (1 + history_days / n_days))
    shown = _show(root, shop, n_shown, (n_days + history_days) * _DAY, horizon)
    chances = _chances(root, shop, shown, rates)
    outcomes = _draw(root, shown, chances)
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
        probabilities=pd.DataFrame(_entire(chances)).iloc[first:].reset_index(drop=True),
        horizon=f"{horizon // _SECOND}s",
        user_factors=shop.user_factors,
        item_factors=shop.item_factors,
    )


@dataclass(frozen=True)
class _Shop:
    """What is fixed about users, items and the calendar; effects have the strength already."""

    user_factors: npt.NDArray[np.float64]
    item_factors: npt.NDArray[np.float64]
    activity: npt.NDArray[np.float64]
    exposure: npt.NDArray[np.float64]
    category: npt.NDArray[np.int64]
    list_price: npt.NDArray[np.float64]
    markdown: npt.NDArray[np.float64]
    device: npt.NDArray[np.float64]
    user_effect: dict[str, npt.NDArray[np.float64]]
    item_effect: dict[str, npt.NDArray[np.float64]]
    weekday_effect: dict[str, npt.NDArray[np.float64]]
    affinity: dict[str, npt.NDArray[np.float64]]


@dataclass(frozen=True)
class _Shown:
    """Impressions, sorted by time (nanoseconds from the first day)."""

    user: npt.NDArray[np.int64]
    item: npt.NDArray[np.int64]
    time: npt.NDArray[np.int64]
    price: npt.NDArray[np.float64]
    device: npt.NDArray[np.int64]


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
    for name, size in {**sizes, "n_categories": n_categories, "n_days": n_days}.items():
        if size < 1:
            raise ValueError(f"{name} must be at least 1, got {size}.")
    if history_days < 0 or strength < 0:
        raise ValueError(f"history_days and strength must not be negative, got {history_days} and {strength}.")
    if len(rates) != len(_STAGES) or not all(0 < rate < 1 for rate in rates):
        raise ValueError(f"rates must be three numbers in (0, 1), for {', '.join(_STAGES)}; got {rates!r}.")
    names = (*_STAGES, "spend")
    shares = dict(missing) if isinstance(missing, Mapping) else dict.fromkeys(names, missing or 0.0)
    unknown = sorted(set(shares) - set(names))
    if unknown:
        raise ValueError(f"missing names {', '.join(unknown)}; the tasks are {', '.join(names)}.")
    for name, share in shares.items():
        if not 0 <= share < 1:
            raise ValueError(f"missing[{name!r}] must be in [0, 1), got {share}.")
    return shares


def _horizon(delay: Any) -> int:
    """Nanoseconds within which everything that follows from a row happens."""
    if delay is None:
        return _DAY
    horizon = int(to_duration(delay, np.dtype("datetime64[ns]"))) // _SECOND * _SECOND
    if horizon < 3600 * _SECOND:
        raise ValueError(f"delay must be at least an hour, got {delay!r}; None means that labels are known at once.")
    return horizon


def _make_shop(
    root: int, n_users: int, n_items: int, n_factors: int, n_categories: int, n_days: int, strength: float
) -> _Shop:
    users, items, calendar = (generator(root, "make_funnel", name) for name in ("users", "items", "calendar"))
    category = items.integers(n_categories, size=n_items)
    shared = items.standard_normal((n_categories, n_factors))
    item_factors = np.sqrt(0.5) * (shared[category] + items.standard_normal((n_items, n_factors)))
    user_common, item_common = users.standard_normal(n_users), items.standard_normal(n_items)
    user_effect = {s: strength * np.sqrt(0.5) * (user_common + users.standard_normal(n_users)) for s in _STAGES}
    item_effect = {s: strength * 0.5 * (item_common + items.standard_normal(n_items)) for s in _STAGES}
    user_effect["spend"] = strength * 0.4 * users.standard_normal(n_users)
    # Stages weigh the factors differently, yet never turn one around: what makes her view also makes her buy.
    scale = strength / np.sqrt(n_factors)
    affinity = {s: scale * _AFFINITY[s] * calendar.uniform(0.5, 1.5, n_factors) for s in _STAGES}
    n_weeks = n_days // 7 + 1
    return _Shop(
        user_factors=users.standard_normal((n_users, n_factors)),
        item_factors=item_factors,
        activity=users.gamma(2.0, size=n_users),
        exposure=items.lognormal(sigma=0.8, size=n_items),
        category=category,
        list_price=np.round(items.lognormal(mean=2.0, sigma=0.6, size=n_items), 2) + 0.5,
        markdown=calendar.choice([1.0, 0.8, 0.6], p=[0.8, 0.15, 0.05], size=(n_items, n_weeks)),
        device=users.dirichlet((2.0, 1.0, 0.4), size=n_users).cumsum(axis=1),
        user_effect=user_effect,
        item_effect=item_effect,
        weekday_effect={s: 0.15 * calendar.standard_normal(7) for s in _STAGES},
        affinity=affinity,
    )


def _show(root: int, shop: _Shop, n_shown: int, period: int, horizon: int) -> _Shown:
    """Draw impressions such that no (user, item) comes twice within the horizon."""
    rng = generator(root, "make_funnel", "impressions")
    n_items = len(shop.exposure)
    user_share, item_share = (np.cumsum(w) / w.sum() for w in (shop.activity, shop.exposure))
    pair, time = np.empty(0, np.int64), np.empty(0, np.int64)
    for _ in range(_MAX_ROUNDS):
        n_new = int(1.05 * (n_shown - len(pair))) + 16
        user = np.minimum(np.searchsorted(user_share, rng.random(n_new), side="right"), len(user_share) - 1)
        item = np.minimum(np.searchsorted(item_share, rng.random(n_new), side="right"), n_items - 1)
        pair = np.concatenate([pair, user * n_items + item])
        time = np.concatenate([time, rng.integers(period // _SECOND, size=n_new) * _SECOND])
        order = np.lexsort((time, pair))
        pair, time = pair[order], time[order]
        apart = np.ones(len(pair), bool)
        apart[1:] = (np.diff(pair) != 0) | (np.diff(time) >= horizon)
        pair, time = pair[apart], time[apart]
        if len(pair) >= n_shown:
            break
    else:
        raise ValueError(
            f"Only {len(pair)} of {n_shown} impressions (history included) fit, because a (user, item) comes at "
            f"most once in {pd.Timedelta(horizon)}; ask for fewer rows, or for more users, items or days."
        )
    chosen = rng.permutation(len(pair))[:n_shown]
    chosen = chosen[np.argsort(time[chosen], kind="stable")]
    user, item, time = pair[chosen] // n_items, pair[chosen] % n_items, time[chosen]
    price = np.round(shop.list_price[item] * shop.markdown[item, time // (7 * _DAY)], 2)
    device = (rng.random(n_shown)[:, None] > shop.device[user, :-1]).sum(axis=1)
    return _Shown(user, item, time, price, device)


def _chances(
    root: int, shop: _Shop, shown: _Shown, rates: tuple[float, float, float]
) -> dict[str, npt.NDArray[np.float64]]:
    """P(stage given the stage before), and the mean spend given a purchase, per impression."""
    n_shown = len(shown.user)
    sample = generator(root, "make_funnel", "intercepts").integers(n_shown, size=min(n_shown, 50_000))
    reach = np.ones(len(sample))
    chances = {}
    for stage, rate in zip(_STAGES, rates, strict=True):
        logit = _logit(shop, shown, stage)
        logit += _intercept(logit[sample], reach, rate)
        chances[stage] = _sigmoid(logit)
        reach *= chances[stage][sample]
    chances["spend"] = shown.price * np.exp(shop.user_effect["spend"][shown.user])
    return chances


def _logit(shop: _Shop, shown: _Shown, stage: str) -> npt.NDArray[np.float64]:
    weighted = shop.user_factors * shop.affinity[stage]
    out = shop.user_effect[stage][shown.user] + shop.item_effect[stage][shown.item]
    out += _PRICE[stage] * np.log(shown.price / shop.list_price[shown.item])
    out += np.array(_DEVICE[stage])[shown.device]
    out += shop.weekday_effect[stage][shown.time // _DAY % 7]
    for start in range(0, len(out), _BLOCK):  # the gathered factors of all rows at once would be the largest array here
        block = slice(start, start + _BLOCK)
        out[block] += np.einsum("ij,ij->i", weighted[shown.user[block]], shop.item_factors[shown.item[block]])
    return out


def _intercept(logit: npt.NDArray[np.float64], weight: npt.NDArray[np.float64], rate: float) -> float:
    low, high = -30.0 - logit.max(), 30.0 - logit.min()
    for _ in range(60):
        middle = (low + high) / 2
        too_high = np.average(_sigmoid(logit + middle), weights=weight) > rate
        low, high = (low, middle) if too_high else (middle, high)
    return float((low + high) / 2)


def _sigmoid(logit: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * logit)))


def _draw(root: int, shown: _Shown, chances: dict[str, npt.NDArray[np.float64]]) -> dict[str, npt.NDArray[np.float64]]:
    rng = generator(root, "make_funnel", "outcomes")
    reached = np.ones(len(shown.user), bool)
    outcomes = {}
    for stage in _STAGES:
        reached = reached & (rng.random(len(reached)) < chances[stage])
        outcomes[stage] = reached.astype(np.float64)
    noise = np.exp(_SPEND_NOISE * rng.standard_normal(len(reached)) - _SPEND_NOISE**2 / 2)
    outcomes["spend"] = np.where(reached, np.maximum(np.round(chances["spend"] * noise, 2), 0.01), 0.0)
    return outcomes


def _event_frame(
    root: int,
    shop: _Shop,
    shown: _Shown,
    outcomes: dict[str, npt.NDArray[np.float64]],
    horizon: int,
    delayed: bool,
) -> pd.DataFrame:
    """A view soon after its row, a cart soon after the view, a purchase within the horizon."""
    rng = generator(root, "make_funnel", "events")
    soon = min(horizon, _DAY)
    n_shown = len(shown.time)
    after = {"view": rng.random(n_shown) * 0.01 * soon}
    after["cart"] = after["view"] + rng.random(n_shown) * 0.05 * soon
    # Beta(1, 2) puts half of the purchases in the first 30 % of the time left.
    wait = rng.beta(1.0, 2.0, n_shown) if delayed else 0.3 * rng.random(n_shown)
    after["buy"] = after["cart"] + wait * (horizon - after["cart"])
    parts = []
    for code, stage in enumerate(_STAGES):
        rows = np.flatnonzero(outcomes[stage])
        part = {
            "user": shown.user[rows],
            "item": shown.item[rows],
            "time": _dates(shown.time[rows] + after[stage][rows].astype(np.int64) // _SECOND * _SECOND),
            "event": pd.Categorical.from_codes(np.full(len(rows), code), _EVENTS),
            "value": (outcomes["spend"] if stage == "buy" else shown.price)[rows],
            "category": _categories(shop)[shown.item[rows]],
            "device": pd.Categorical.from_codes(shown.device[rows], _DEVICES),
        }
        parts.append(pd.DataFrame(part))
    return pd.concat(parts, ignore_index=True)


def _rows(shop: _Shop, shown: _Shown, first: int) -> pd.DataFrame:
    user, item, time, device = (a[first:] for a in (shown.user, shown.item, shown.time, shown.device))
    return pd.DataFrame(
        {
            "user": user,
            "item": item,
            "time": _dates(time),
            "day": time // _DAY - time[0] // _DAY,
            "category": _categories(shop)[item],
            "device": pd.Categorical.from_codes(device, _DEVICES),
            "price": shown.price[first:],
        }
    )


def _dates(time: npt.NDArray[np.int64]) -> pd.DatetimeIndex:
    return pd.DatetimeIndex((time + _START.as_unit("ns").value).view("datetime64[ns]"))


def _categories(shop: _Shop) -> pd.Categorical[str]:
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


def _entire(chances: dict[str, npt.NDArray[np.float64]]) -> dict[str, npt.NDArray[np.float64]]:
    """From given the stage before to the entire funnel: each stage times all before it."""
    products = np.cumprod(np.stack([chances[name] for name in (*_STAGES, "spend")]), axis=0)
    return dict(zip((*_STAGES, "spend"), products, strict=True))
