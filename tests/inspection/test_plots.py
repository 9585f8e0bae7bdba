"""The pictures say what the tables say."""

from collections.abc import Iterator

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from mtl_classic import TaskGraphModel, plot_affinity, plot_importance, plot_task_graph

mpl.use("agg")


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    from matplotlib import pyplot as plt

    plt.close("all")


def affinity() -> pd.DataFrame:
    index = pd.MultiIndex.from_tuples([("a", "b"), ("b", "a"), ("c", "a")], names=["source", "target"])
    table = {"gain": [0.02, -0.01, 0.0], "standard_error": [0.001, 0.004, 0.002], "verdict": ["better", "same", "same"]}
    return pd.DataFrame(table, index=index)


def test_the_heat_map_shows_gains_errors_and_what_is_sure() -> None:
    axes = plot_affinity(affinity())
    assert sorted(text.get_text() for text in axes.texts) == ["+0.00\n± 0.20", "+2.00*\n± 0.10", "-1.00\n± 0.40"]
    shown = axes.images[0].get_array()
    names = [label.get_text() for label in axes.get_xticklabels()]
    assert shown[names.index("a"), names.index("b")] == pytest.approx(2.0)
    assert np.ma.getmaskarray(np.ma.masked_invalid(shown)).sum() == 6
    assert axes.images[0].get_clim() == (-2.0, 2.0)


def test_dollars_in_names_are_no_formula() -> None:
    name = "spend_$_7d_$"
    pairs = pd.MultiIndex.from_tuples([(name, "buy")], names=["source", "target"])
    tasks = pd.MultiIndex.from_tuples([("buy", name)], names=["task", "column"])
    gains = {"gain": [0.1], "standard_error": [0.1], "verdict": ["same"]}
    for axes in (
        plot_affinity(pd.DataFrame(gains, index=pairs)),
        plot_importance(pd.DataFrame({"importance": [0.1], "verdict": ["same"]}, index=tasks)),
    ):
        axes.figure.canvas.draw()
        assert name in [label.get_text() for label in axes.get_yticklabels()]


def test_a_given_axes_is_drawn_on() -> None:
    from matplotlib import pyplot as plt

    _, axes = plt.subplots()
    assert plot_affinity(affinity(), ax=axes) is axes
    assert plot_affinity(affinity().assign(gain=0.0)).images[0].get_clim() == (-1.0, 1.0)


def test_what_is_no_affinity_is_refused() -> None:
    with pytest.raises(ValueError, match="frame of task_affinity.*got the columns"):
        plot_affinity(affinity().drop(columns="gain"))
    with pytest.raises(TypeError, match="fitted TaskGraphModel"):
        plot_task_graph(TaskGraphModel())


def test_the_graph_has_a_box_per_task_and_an_arrow_per_edge() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 3))
    edges = [("y0", "y1"), ("y1", "y0"), ("y1", "y2", "final")]
    model = TaskGraphModel(edges=edges, learner="linear", cv=2, fallback=False, random_state=0)
    axes = plot_task_graph(model.fit(X, (X > 0) * 1.0))
    assert [text.get_text() for text in axes.texts if text.get_text()] == ["y0", "y1", "y2"]
    arrows = [text.arrow_patch for text in axes.texts if getattr(text, "arrow_patch", None) is not None]
    assert sorted(arrow.get_linestyle() for arrow in arrows) == ["-", "--", "--"]


def test_importance_shows_the_columns_that_any_task_needs() -> None:
    index = pd.MultiIndex.from_product([["buy", "rating"], ["price", "stars", "noise"]], names=["task", "column"])
    table = pd.DataFrame(
        {
            "importance": [0.5, 0.01, 0.0, np.nan, np.nan, -0.1],
            "verdict": ["helps", "same", "same", None, None, "misleads"],
        },
        index=index,
    )
    axes = plot_importance(table, n_columns=2)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["price", "stars"]
    assert [text.get_text() for text in axes.texts] == ["50.00*", "", "1.00", ""]
    assert "-10.00−" in [text.get_text() for text in plot_importance(table).texts]
    with pytest.raises(ValueError, match="frame of permutation_importance"):
        plot_importance(table.drop(columns="verdict"))
