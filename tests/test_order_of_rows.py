"""What is given beside X for each row, by another index order: refused at every door, for rows go by position."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mtl_classic import (
    AveragingEnsemble,
    FactorizationMachineClassifier,
    FactorizationMachineRegressor,
    LatentFeatures,
    MatrixFactorization,
    MultiTaskFactorizationMachine,
    MultiTaskModel,
    MultiTaskSearchCV,
    PerTaskModel,
    TargetStatistics,
    cross_fit,
    evaluate,
    evaluate_scores,
    make_folds,
    multitask_scorer,
)

TASKS = {"buy": "binary"}
rng = np.random.default_rng(0)
X = pd.DataFrame({"user": rng.integers(0, 9, 90), "item": rng.integers(0, 9, 90), "x": rng.normal(size=90)})
X = X.add_prefix("r", axis=0)
Y = pd.DataFrame({"buy": (X["x"] > 0).astype(int)})
W = pd.Series(rng.random(90) + 0.5, index=X.index)
PLAN = make_folds(3, Y, random_state=0)
MODEL = PerTaskModel(TASKS, learner="linear", random_state=0).fit(X, Y)
MACHINES = FactorizationMachineClassifier(max_iter=1), FactorizationMachineRegressor(max_iter=1)
JOINT = MultiTaskFactorizationMachine(TASKS, max_iter=1, random_state=0).fit(X, Y)
SEARCH = MultiTaskSearchCV(MODEL, {"learner": ["linear"]}, strategy="grid", cv=2)
SCORES = MODEL.predict_scores(X)
NIGHTLY = MultiTaskModel(TASKS, aggregates=None, latent=None, random_state=0).fit(X, Y)


def judged(**given: Any) -> Any:
    return evaluate_scores(Y, **({"scores": SCORES, "tasks": TASKS, "n_replicates": 0} | given))


@pytest.mark.parametrize(
    ("call", "given"),
    [
        (lambda v: make_folds(2, Y, groups=v), X["user"]),
        (lambda v: make_folds(2, Y, groups=v), X[["user", "item"]]),
        (lambda v: make_folds(2, Y, time=v), X["x"]),
        (lambda v: make_folds(v, Y), X["user"] % 3),
        (lambda v: cross_fit(MODEL, X, Y, PLAN, sample_weight=v), W),
        (lambda v: multitask_scorer()(MODEL, X, v), Y),
        (lambda v: multitask_scorer("roc_auc")(MODEL, X, v), Y),
        (lambda v: SEARCH.fit(X, v), Y),
        (lambda v: SEARCH.fit(X, Y, sample_weight=v), W),
        (lambda v: judged(by=v), X["user"]),
        (lambda v: judged(clusters=v), X["user"]),
        (lambda v: judged(groups=v), X["user"]),
        (lambda v: judged(groups={"buy": v}), X["user"]),
        (lambda v: judged(sample_weight=v), W),
        (lambda v: judged(scores=v), SCORES["buy"]),
        (lambda v: judged(scores={"buy": v}), SCORES["buy"]),
        (lambda v: judged(baseline={"buy": v}), SCORES["buy"]),
        (lambda v: evaluate(MODEL, X, Y.to_numpy(), sample_weight=v, n_replicates=0), W),
        (lambda v: TargetStatistics(["user"], tasks=TASKS).fit(X, Y, sample_weight=v), W),
        (lambda v: LatentFeatures([("fm", MACHINES[0])], tasks=TASKS).fit(X, Y, sample_weight=v), W),
        (lambda v: MatrixFactorization(user="user", item="item").fit(X, Y, sample_weight=v), W),
        (lambda v: MACHINES[0].fit(X, v), Y["buy"]),
        (lambda v: MACHINES[1].fit(X, Y["buy"], sample_weight=v), W),
        (lambda v: MACHINES[1].partial_fit(X, Y["buy"], sample_weight=v), W),
        (lambda v: JOINT.partial_fit(X, Y, sample_weight=v), W),
        (lambda v: AveragingEnsemble([("a", MODEL)], cv="prefit", weights="greedy").fit(X, Y, sample_weight=v), W),
        (lambda v: NIGHTLY.refresh(X, Y, sample_weight=v), W),
    ],
)
def test_another_order_is_refused_and_a_plain_array_is_not(call: Callable[[Any], Any], given: Any) -> None:
    with pytest.raises(ValueError, match=r"The rows of .* are those of [XY] in another order"):
        call(given[::-1])
    call(given[::-1].set_axis(given.index, axis=0))


def test_weights_with_an_index_of_their_own_do_not_fail_in_folds() -> None:
    own = W.set_axis([1, 0, *range(2, 90)], axis=0)  # of the rows of some folds the same numbers in another order
    cross_fit(MODEL, X.reset_index(drop=True), Y, PLAN, sample_weight=own)
