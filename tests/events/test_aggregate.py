from datetime import timedelta

import pytest

from mtl_classic.events import Aggregate


@pytest.mark.parametrize(
    ("aggregate", "name"),
    [
        (Aggregate("user", "count"), "user__count"),
        (Aggregate(("user", "item"), "count", window="8w"), "user_item__count__8w"),
        (Aggregate("user", "sum", value="price", where="buy", window=8), "user__sum__price__buy__8"),
        (Aggregate("user", "rate", where="buy", per="view"), "user__rate__buy_per_view"),
        (Aggregate("user", "rate", value="price", per="view"), "user__rate__price__price_per_view"),
        (Aggregate("item", "decayed", half_life=timedelta(days=14)), "item__decayed__half_life_2w"),
        (Aggregate("item", "gap", where={"type": "add [to]: x", "new": True}), "item__gap__type=add_to_x_new=True"),
        (Aggregate((), "count", where={"t": ["a", "b"]}, window=timedelta(minutes=90)), "all__count__t=a_or_b__90min"),
    ],
)
def test_names(aggregate, name):
    assert aggregate.name == name


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"stat": "median"}, ValueError, "stat must be one of"),
        ({"stat": "decayed"}, ValueError, "half_life goes with"),
        ({"stat": "count", "half_life": 3}, ValueError, "half_life goes with"),
        ({"stat": "count", "per": "view"}, ValueError, "denominator"),
        ({"stat": "rate"}, ValueError, "needs where="),
        ({"stat": "count", "value": "price"}, ValueError, "takes no value"),
        ({"stat": "rate", "where": "buy", "smoothing": -1}, ValueError, "smoothing"),
        ({"stat": "count", "keys": ("user", "user")}, ValueError, "each key once"),
        ({"stat": "count", "keys": (1,)}, TypeError, "names of columns"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        Aggregate(**{"keys": "user", **options})
