import numpy as np
import pandas as pd
import pytest

from mtl_classic import CalibratedModel, FunnelModel, PerTaskModel, Task, evaluate
from mtl_classic.metrics import (
    calibration_table,
    correct_sampling,
    expected_calibration_error,
    log_loss,
    roc_auc,
    sampling_weights,
)


def table(n: int, seed: int) -> tuple[pd.DataFrame, pd.Series, np.ndarray]:
    """Rare positives whose probabilities are known."""
    rng = np.random.default_rng(seed)
    X = pd.DataFrame(rng.normal(size=(n, 3)), columns=list("abc"))
    p = 1 / (1 + np.exp(-(X["a"] - 0.5 * X["b"] - 3.0)))
    return X, (rng.random(n) < p).astype(float).rename("click"), p.to_numpy()


def kept(y: pd.Series, rate: float, seed: int) -> np.ndarray:
    return np.flatnonzero((y == 1) | (np.random.default_rng(seed).random(len(y)) < rate))


@pytest.mark.parametrize("learner", ["linear", "lightgbm"])
def test_one_negative_in_ten_is_as_calibrated_as_all(learner: str) -> None:
    X, y, _ = table(40_000, 0)
    X_new, y_new, _ = table(40_000, 1)
    rows = kept(y, 0.1, 2)
    whole = PerTaskModel({"click": "binary"}, learner=learner, random_state=0).fit(X, y)
    sampled = PerTaskModel({"click": "binary"}, learner=learner, random_state=0).fit(X.iloc[rows], y.iloc[rows])
    raw = sampled.predict_scores(X_new)["click"]
    corrected = correct_sampling(raw, 0.1)
    errors = [expected_calibration_error(y_new, scores) for scores in (whole.predict_scores(X_new)["click"], corrected)]
    assert abs(errors[1] - errors[0]) < 0.01
    assert expected_calibration_error(y_new, raw) > 0.1
    assert roc_auc(y_new, corrected) == roc_auc(y_new, raw)
    assert abs(corrected.mean() / y_new.mean() - 1) < 0.1


def test_metrics_with_weights_are_those_of_the_whole_table() -> None:
    _, y, p = table(200_000, 3)
    rows = kept(y, 0.1, 4)
    weight = sampling_weights(y.iloc[rows], 0.1)
    whole, part = (
        calibration_table(y, p, n_bins=1).loc[1],
        calibration_table(y.iloc[rows], p[rows], n_bins=1, sample_weight=weight).loc[1],
    )
    assert abs(part["observed"] / whole["observed"] - 1) < 0.02
    assert abs(part["predicted"] / whole["predicted"] - 1) < 0.02
    assert abs(log_loss(y.iloc[rows], p[rows], sample_weight=weight) / log_loss(y, p) - 1) < 0.02


def test_calibration_and_evaluation_of_a_sampled_table_speak_of_the_whole() -> None:
    X, y, _ = table(40_000, 6)
    X_new, y_new, _ = table(40_000, 7)
    half, rows, rows_new = np.arange(20_000), kept(y, 0.1, 8), kept(y_new, 0.1, 9)
    fitted, judged = np.intersect1d(rows, half), np.setdiff1d(rows, half)
    model = PerTaskModel({"click": "binary"}, learner="linear", random_state=0).fit(X.iloc[fitted], y.iloc[fitted])
    weight = sampling_weights(y.iloc[judged], 0.1)
    calibrated = CalibratedModel(model, method="sigmoid", cv="prefit", random_state=0)
    calibrated.fit(X.iloc[judged], y.iloc[judged], sample_weight=weight)
    scores = calibrated.predict_scores(X_new)["click"]
    assert expected_calibration_error(y_new, scores) < 0.01
    assert abs(scores.mean() / y_new.mean() - 1) < 0.1
    part = evaluate(
        calibrated,
        X_new.iloc[rows_new],
        y_new.iloc[rows_new],
        sample_weight=sampling_weights(y_new.iloc[rows_new], 0.1),
    )
    whole = evaluate(calibrated, X_new, y_new)
    losses = [frame.loc[("click", "loss"), "value"] for frame in (part, whole)]
    assert abs(losses[0] / losses[1] - 1) < 0.05


def test_a_funnel_child_follows_its_parent() -> None:
    rng = np.random.default_rng(5)
    X, click, _ = table(40_000, 5)
    Y = pd.DataFrame({"click": click, "buy": click * (rng.random(len(X)) < 1 / (1 + np.exp(-X["c"])))})
    rows = kept(click, 0.1, 6)
    tasks = [Task("click", "binary"), Task("buy", "binary", given="click")]
    model = FunnelModel(tasks, learner="linear", random_state=0).fit(X.iloc[rows], Y.iloc[rows])
    scores = model.predict_scores(X)
    corrected = correct_sampling(scores, 0.1, sampled_by="click", descendants=["buy"])
    for task in ("click", "buy"):
        assert abs(corrected[task].mean() / Y[task].mean() - 1) < 0.1
        assert scores[task].mean() / Y[task].mean() > 3
    assert (corrected["buy"] <= corrected["click"]).all()


def test_the_shift_is_one_of_logits_per_row() -> None:
    q = np.array([0.0, 0.2, 0.5, 1.0, np.nan])
    rate = np.array([0.5, 0.1, 1.0, 0.3, 0.2])
    p = correct_sampling(q, rate)
    expected = np.log(0.2 / 0.8) + np.log(0.1)
    assert np.isclose(np.log(p[1] / (1 - p[1])), expected)
    assert p[[0, 2, 3]].tolist() == [0.0, 0.5, 1.0]
    assert np.isnan(p[4])
    assert q[1] == 0.2
    assert sampling_weights([1, 0, None, 0.25], [0.5, 0.5, 0.5, 0.5]).tolist() == [1.0, 2.0, 2.0, 1.75]


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="not 10"):
        correct_sampling([0.5], 10)
    with pytest.raises(ValueError, match="shape"):
        correct_sampling([0.5], [0.1, 0.2])
    with pytest.raises(ValueError, match="shape .1, 2.; expected"):
        correct_sampling([[0.5, 0.1]], 0.1, sampled_by="click")
    with pytest.raises(ValueError, match="probabilities"):
        correct_sampling([1.5], 0.1)
    with pytest.raises(ValueError, match="sampled_by="):
        correct_sampling(pd.DataFrame({"a": [0.5]}), 0.1)
    for wrong in ([], 3, ["a"]):
        with pytest.raises(TypeError, match="sampled_by must be the name of a task, got"):
            correct_sampling(pd.DataFrame({"a": [0.5]}), 0.1, sampled_by=wrong)
    with pytest.raises(ValueError, match="no columns"):
        correct_sampling(pd.DataFrame({"a": [0.5]}), 0.1, sampled_by="b")
    with pytest.raises(ValueError, match="labels must lie"):
        sampling_weights([2.0], 0.1)
