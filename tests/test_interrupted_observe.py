"""An `observe` or a `fit_transform` that is interrupted, wherever it is, leaves everything as it was."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pandas as pd
import pytest

import mtl_classic
from mtl_classic import (
    HistoryFeatures,
    LatentFeatures,
    LightGBMLearner,
    MatrixFactorization,
    MultiTaskModel,
    Segments,
    make_funnel,
    save_model,
)

PACKAGE = str(Path(mtl_classic.__file__).parent)
SHOP = make_funnel(300, n_users=30, n_items=15, n_days=8, history_days=8, random_state=0)
NEW = make_funnel(200, n_users=30, n_items=20, n_days=8, history_days=8, random_state=1)
FACTORS = MatrixFactorization(n_factors=2, max_iter=1, **SHOP.roles, random_state=0)


def fitted(model: Any) -> Any:
    return model.fit(SHOP.X, SHOP.Y, events=SHOP.events)


def whole() -> Any:
    latent = LatentFeatures([("mf", FACTORS)], cv=2, random_state=0)
    learner = LightGBMLearner(max_iter=2)
    model = MultiTaskModel(SHOP.tasks, **SHOP.roles, latent=latent, learner=learner, random_state=0)
    return fitted(model)


def observe(model: Any) -> None:
    model.observe(NEW.events)


def fit_transform(model: Any) -> None:
    model.fit_transform(NEW.X, events=NEW.events)


MOMENTS: dict[str, tuple[Callable[[], Any], Callable[[Any], None]]] = {
    "history": (lambda: fitted(HistoryFeatures(**SHOP.roles)), observe),
    "history, fitted": (lambda: fitted(HistoryFeatures(**SHOP.roles)), fit_transform),
    "factors": (lambda: fitted(FACTORS), observe),
    "latent features": (lambda: fitted(LatentFeatures([("mf", FACTORS)], cv=2, random_state=0)), observe),
    "segments": (lambda: fitted(Segments(model=FACTORS, n_segments=3, random_state=0)), observe),
    "model": (whole, observe),
    "compiled": (lambda: whole().compile_for_serving(), observe),
}


@contextmanager
def interrupted_at(call: int, calls: list[str]) -> Iterator[None]:
    """Ctrl-C when so many functions of the package were entered."""

    def enter(frame: FrameType, event: str, argument: Any) -> None:
        if frame.f_code.co_filename.startswith(PACKAGE) and frame.f_code.co_name != "<genexpr>":
            calls.append(frame.f_code.co_name)
            if len(calls) == call:
                raise KeyboardInterrupt

    before = sys.gettrace()
    sys.settrace(enter)
    try:
        yield
    finally:
        sys.settrace(before)


@pytest.mark.parametrize("name", MOMENTS)
def test_what_is_interrupted_changes_nothing(name: str) -> None:
    make, act = MOMENTS[name]
    act(make())  # what is cached between calls is
    model = make()
    calls: list[str] = []
    with interrupted_at(0, calls):
        act(model)
    model, n_calls = make(), len(calls)
    state = dict(vars(model))
    last = range(max(n_calls - 60, 1), n_calls)  # what is set is set in the end
    for call in sorted({*range(1, n_calls, n_calls // 20 + 1), *last}):
        calls = []
        with pytest.raises(KeyboardInterrupt), interrupted_at(call, calls):
            act(model)
        now = vars(model)
        assert now.keys() == state.keys(), calls[-1]
        assert all(now[key] is value for key, value in state.items()), calls[-1]


def test_what_is_asked_and_saved_while_a_model_observes_is_of_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, told = whole(), LatentFeatures.observe
    before, asked = model.predict_scores(SHOP.X), []
    save_model(model, tmp_path / "before.zip", include_events=True)

    def observe_last(step: Any, events: Any) -> Any:
        asked.append(model.predict_scores(SHOP.X))  # the history was told
        save_model(model, tmp_path / "meanwhile.zip", include_events=True)
        return told(step, events)

    monkeypatch.setattr(LatentFeatures, "observe", observe_last)
    observe(model)
    pd.testing.assert_frame_equal(asked[0], before)
    assert (tmp_path / "meanwhile.zip").read_bytes() == (tmp_path / "before.zip").read_bytes()
    assert not model.predict_scores(SHOP.X).equals(before)
