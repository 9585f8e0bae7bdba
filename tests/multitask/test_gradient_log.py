"""Cosines of gradients tell tasks of one structure from opposite and unrelated ones; advice follows from them."""

import numpy as np
import pandas as pd

from mtl_classic import SharedTreesModel

RNG = np.random.default_rng(0)
N = 3000
X = RNG.normal(size=(N, 4))
SIGNAL = 2 * X[:, 0] * (X[:, 1] > 0)
Y = pd.DataFrame(
    {
        "a": SIGNAL + RNG.normal(size=N) > 0,
        "opposite": -SIGNAL + RNG.normal(size=N) > 0,
        "coin": RNG.random(N) > 0.5,
    }
).astype(float)
Y["few"] = np.where(np.arange(N) % 40 == 0, SIGNAL + RNG.normal(size=N) > 0, np.nan)


def fitted(**settings: object) -> SharedTreesModel:
    return SharedTreesModel(max_iter=25, learning_rate=0.1, random_state=0, **settings).fit(X, Y)


def test_cosines_show_who_pulls_where() -> None:
    cosines = fitted().gradient_cosines_
    assert list(cosines.columns) == list(Y)
    first = cosines.loc[0]
    np.testing.assert_allclose(np.diag(first), 1.0)
    np.testing.assert_allclose(first, first.T)
    assert first.loc["a", "opposite"] < -0.3
    assert abs(first.loc["a", "coin"]) < 0.1
    assert list(cosines.index.get_level_values("round").unique()) == [0, 10, 20]
    assert abs(cosines.loc[20].loc["a", "opposite"]) < abs(first.loc["a", "opposite"])  # what was common is learnt


def test_cosines_are_those_of_rows_that_have_both_labels() -> None:
    y = Y[["a", "few"]]
    known = y.notna().all(axis=1)
    model = SharedTreesModel(max_iter=1, early_stopping=False, random_state=0).fit(X, y)
    residual = y - y.mean()
    g = residual[known].to_numpy()  # centred by the priors of all labelled rows
    by_hand = (g[:, 0] * g[:, 1]).sum() / np.sqrt((g[:, 0] ** 2).sum() * (g[:, 1] ** 2).sum())
    np.testing.assert_allclose(model.gradient_cosines_.loc[0].loc["a", "few"], by_hand, rtol=1e-6)


def test_advice_names_the_stranger_and_the_poor() -> None:
    said = fitted().advice_
    assert any("coin" in text and "likely better alone" in text for text in said)
    assert any(text.startswith("few has 75 labels") for text in said)
    assert not any(text.startswith(("a ", "opposite ")) for text in said)


def test_there_are_none_without_gradients() -> None:
    model = SharedTreesModel(trees="extra", n_trees=5, random_state=0).fit(X, Y)
    assert model.gradient_cosines_.empty
    assert [text.split()[0] for text in model.advice_] == ["few"]


def test_tasks_of_several_classes_have_no_single_gradient() -> None:
    shade = pd.DataFrame({"shade": np.select([X[:, 0] > 0.5, X[:, 0] > -0.5], ["dark", "mid"], "light")})
    model = SharedTreesModel({"shade": "multiclass"}, max_iter=5, random_state=0).fit(X, shade)
    assert model.gradient_cosines_.empty
    assert model.score(X, shade) > 0
