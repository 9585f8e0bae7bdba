"""The same numbers as LightGBM, XGBoost and scikit-learn, where they must be the same."""

import lightgbm as lgb
import numpy as np
import xgboost as xgb
from sklearn.ensemble import RandomForestClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mtl_classic import AveragingEnsemble, LightGBMLearner, PerTaskModel, XGBoostLearner
from mtl_classic._core.random import spawn_seed

rng = np.random.default_rng(0)
X = rng.normal(size=(500, 4)).astype(np.float32)
Y = (X[:, 0] + rng.normal(size=500) > 0).astype(int)
ONE = {"early_stopping": False, "random_state": 0}


def test_lightgbm() -> None:
    learner = LightGBMLearner(
        num_leaves=15, learning_rate=0.1, max_iter=30, min_data_in_leaf=20, min_sum_hessian_in_leaf=1e-3, lambda_l2=0.0,
        feature_fraction=1.0, cat_smooth=10.0,
    )  # fmt: skip
    ours = PerTaskModel({"y": "binary"}, learner=learner, **ONE).fit(X, Y)
    n_rounds = ours.fits_["y"].booster.num_trees()
    peer = lgb.LGBMClassifier(
        num_leaves=15, learning_rate=0.1, n_estimators=n_rounds, min_child_samples=20, deterministic=True,
        force_col_wise=True, n_jobs=1, verbosity=-1,
    ).fit(X, Y)  # fmt: skip
    assert n_rounds > 10
    np.testing.assert_array_equal(ours.predict_proba(X), peer.booster_.predict(X)[:, None] * [-1, 1] + [1, 0])
    np.testing.assert_array_equal(ours.predict(X), peer.predict(X))


def test_xgboost() -> None:
    size = {"max_leaves": 15, "learning_rate": 0.3, "max_iter": 20, "max_bin": 256}
    learner = XGBoostLearner(**size, min_child_weight=1.0, reg_lambda=1.0, colsample_bytree=1.0)
    ours = PerTaskModel({"y": "regression"}, learner=learner, **ONE).fit(X, X[:, 1] * 2 + Y)
    peer = xgb.XGBRegressor(
        max_leaves=15, grow_policy="lossguide", max_depth=0, n_estimators=20, tree_method="hist", n_jobs=1
    ).fit(X, X[:, 1] * 2 + Y)
    np.testing.assert_allclose(ours.predict(X), peer.predict(X), rtol=1e-6)


def test_a_scikit_learn_estimator_that_takes_missing_values_reads_the_matrix_as_it_is() -> None:
    forest = RandomForestClassifier(20)
    ours = PerTaskModel({"y": "binary"}, learner=forest, **ONE).fit(X, Y)
    peer = RandomForestClassifier(20, random_state=spawn_seed(0, "y", "own")).fit(X, Y)
    np.testing.assert_array_equal(ours.predict_proba(X)[:, 1], peer.predict_proba(X)[:, 1])


def test_the_linear_learner_is_a_scaled_logistic_regression() -> None:
    ours = PerTaskModel({"y": "binary"}, learner="linear").fit(X, Y)
    peer = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(X.astype(np.float64), Y)
    np.testing.assert_allclose(ours.predict_proba(X), peer.predict_proba(X.astype(np.float64)), rtol=1e-6)


def test_averaging_is_soft_voting() -> None:
    members = {
        "a": LogisticRegression(C=0.01),
        "b": RandomForestClassifier(10, random_state=3),
        "c": LogisticRegression(),
    }
    ours = AveragingEnsemble(
        [(name, PerTaskModel({"y": "binary"}, learner=member, random_state=0)) for name, member in members.items()],
        weights=[1, 2, 3],
    ).fit(X, Y)
    peers = [
        ("a", make_pipeline(StandardScaler(), members["a"])),
        ("b", RandomForestClassifier(10, random_state=spawn_seed(0, "y", "own"))),
        ("c", make_pipeline(StandardScaler(), members["c"])),
    ]
    voting = VotingClassifier(peers, voting="soft", weights=[1, 2, 3]).fit(X.astype(np.float64), Y)
    np.testing.assert_allclose(ours.predict_proba(X), voting.predict_proba(X.astype(np.float64)), rtol=1e-6)
