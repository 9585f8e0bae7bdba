"""The truth of a synthetic shop: users, items, what is shown to whom, and the chances of every stage of the funnel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from mtl_classic._core.random import generator

__all__ = ["DAY", "SECOND", "STAGES", "Shop", "Shown", "chances", "draw", "make_shop", "show"]

SECOND = 1_000_000_000
DAY = 86_400 * SECOND
STAGES = ("view", "cart", "buy")
# How much a stage's logit takes from the affinity of user and item, from a log price above the item's own (a
# discount is negative), and from phone, desktop and tablet.
_AFFINITY = {"view": 1.0, "cart": 0.8, "buy": 0.5}
_PRICE = {"view": -0.5, "cart": -1.5, "buy": -1.0}
_DEVICE = {"view": (0.0, 0.2, -0.1), "cart": (-0.1, 0.2, 0.0), "buy": (-0.3, 0.4, 0.0)}
_SPEND_NOISE = 0.5
_BLOCK = 1 << 18
_MAX_ROUNDS = 40


@dataclass(frozen=True)
class Shop:
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
class Shown:
    """Impressions, sorted by time (nanoseconds from the first day)."""

    user: npt.NDArray[np.int64]
    item: npt.NDArray[np.int64]
    time: npt.NDArray[np.int64]
    price: npt.NDArray[np.float64]
    device: npt.NDArray[np.int64]


def make_shop(
    root: int, n_users: int, n_items: int, n_factors: int, n_categories: int, n_days: int, strength: float
) -> Shop:
    """Draw users, items and calendar; each from a stream of its own."""
    users, items, calendar = (generator(root, "make_funnel", name) for name in ("users", "items", "calendar"))
    category = items.integers(n_categories, size=n_items)
    shared = items.standard_normal((n_categories, n_factors))
    item_factors = np.sqrt(0.5) * (shared[category] + items.standard_normal((n_items, n_factors)))
    user_common, item_common = users.standard_normal(n_users), items.standard_normal(n_items)
    user_effect = {s: strength * np.sqrt(0.5) * (user_common + users.standard_normal(n_users)) for s in STAGES}
    item_effect = {s: strength * 0.5 * (item_common + items.standard_normal(n_items)) for s in STAGES}
    user_effect["spend"] = strength * 0.4 * users.standard_normal(n_users)
    # Stages weigh the factors differently, yet never turn one around: what makes her view also makes her buy.
    scale = strength / np.sqrt(n_factors)
    affinity = {s: scale * _AFFINITY[s] * calendar.uniform(0.5, 1.5, n_factors) for s in STAGES}
    n_weeks = n_days // 7 + 1
    return Shop(
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
        weekday_effect={s: 0.15 * calendar.standard_normal(7) for s in STAGES},
        affinity=affinity,
    )


def show(root: int, shop: Shop, n_shown: int, period: int, horizon: int) -> Shown:
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
        time = np.concatenate([time, rng.integers(period // SECOND, size=n_new) * SECOND])
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
    price = np.round(shop.list_price[item] * shop.markdown[item, time // (7 * DAY)], 2)
    device = (rng.random(n_shown)[:, None] > shop.device[user, :-1]).sum(axis=1)
    return Shown(user, item, time, price, device)


def chances(
    root: int, shop: Shop, shown: Shown, rates: tuple[float, float, float]
) -> dict[str, npt.NDArray[np.float64]]:
    """P(stage given the stage before), and the mean spend given a purchase, per impression."""
    n_shown = len(shown.user)
    sample = generator(root, "make_funnel", "intercepts").integers(n_shown, size=min(n_shown, 50_000))
    reach = np.ones(len(sample))
    chance = {}
    for stage, rate in zip(STAGES, rates, strict=True):
        logit = _logit(shop, shown, stage)
        logit += _intercept(logit[sample], reach, rate)
        chance[stage] = _sigmoid(logit)
        reach *= chance[stage][sample]
    chance["spend"] = shown.price * np.exp(shop.user_effect["spend"][shown.user])
    return chance


def _logit(shop: Shop, shown: Shown, stage: str) -> npt.NDArray[np.float64]:
    weighted = shop.user_factors * shop.affinity[stage]
    out = shop.user_effect[stage][shown.user] + shop.item_effect[stage][shown.item]
    out += _PRICE[stage] * np.log(shown.price / shop.list_price[shown.item])
    out += np.array(_DEVICE[stage])[shown.device]
    out += shop.weekday_effect[stage][shown.time // DAY % 7]
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


def draw(root: int, shown: Shown, chances: dict[str, npt.NDArray[np.float64]]) -> dict[str, npt.NDArray[np.float64]]:
    """What happens: 0 or 1 for each stage, the spend in dollars."""
    rng = generator(root, "make_funnel", "outcomes")
    reached = np.ones(len(shown.user), bool)
    outcomes = {}
    for stage in STAGES:
        reached = reached & (rng.random(len(reached)) < chances[stage])
        outcomes[stage] = reached.astype(np.float64)
    noise = np.exp(_SPEND_NOISE * rng.standard_normal(len(reached)) - _SPEND_NOISE**2 / 2)
    outcomes["spend"] = np.where(reached, np.maximum(np.round(chances["spend"] * noise, 2), 0.01), 0.0)
    return outcomes
