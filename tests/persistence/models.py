"""Small fitted models of every kind, and rows to predict."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import ExtraTreesRegressor, RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from mtl_classic import (
    AveragingEnsemble,
    FieldEncoder,
    FunnelModel,
    LightGBMLearner,
    MultiTaskModel,
    MultiTaskSearchCV,
    PerTaskModel,
    Segments,
    SklearnLearner,
    TargetStatistics,
    Task,
    TaskGraphModel,
    XGBoostLearner,
    make_funnel,
)
from mtl_classic.ensemble import BaggingEnsemble, BoostingEnsemble, CalibratedModel, ConformalModel, StackingEnsemble
from mtl_classic.factorization import (
    Adadelta,
    Adagrad,
    Adam,
    Als,
    FactorizationMachineClassifier,
    FactorizationMachineRegressor,
    Ftrl,
    Gibbs,
    LatentFeatures,
    MatrixFactorization,
    MultiTaskFactorizationMachine,
    Sgd,
)
from mtl_classic.multitask import SharedTreesModel

KINDS = [
    Task("up", "binary"),
    Task("soft", "binary", loss="kl"),
    Task("color", "multiclass"),
    Task("amount", "regression"),
    Task("visits", "count"),
    Task("order", "ranking", query="list"),
]
LEARNERS = ("lightgbm", "xgboost", "linear", "svm", "forest", "extra_trees", "hist")


def make_rows(n: int = 240, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows with numbers, texts, categories, dates, flags and gaps; labels of all kinds, some missing."""
    rng = np.random.default_rng(seed)
    X = pd.DataFrame(
        {
            "list": np.repeat(np.arange(n // 8), 8),
            "price": rng.gamma(2.0, 5.0, n),
            "rank": np.where(rng.random(n) < 0.1, np.nan, rng.random(n)),
            "shop": rng.choice(["a", "b", "ç"], n),
            "size": pd.Categorical(rng.choice(["S", "M", "L"], n), categories=["S", "M", "L"], ordered=True),
            "day": pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(n) // 12, unit="D"),
            "flag": rng.random(n) < 0.4,
        }
    )
    signal = X["price"] / 10 + rng.normal(size=n)
    Y = pd.DataFrame(
        {
            "up": (signal > 1).astype(float),
            "soft": 1 / (1 + np.exp(-signal)),
            "color": np.where(signal > 1.5, "red", np.where(signal > 0.8, "green", "blue")),
            "amount": signal * 7,
            "visits": rng.poisson(np.exp(signal / 2)).astype(float),
            "order": rng.integers(0, 3, n).astype(float),
        }
    )
    Y.loc[rng.random(n) < 0.2, "amount"] = np.nan
    Y.loc[rng.random(n) < 0.2, "color"] = None
    return X, Y


def _kinds(learner: Any) -> Any:
    X, Y = make_rows()
    return PerTaskModel(KINDS, learner=learner, random_state=0).fit(X, Y), X


def _small_forest() -> Any:
    return _kinds(SklearnLearner(RandomForestClassifier(5), ExtraTreesRegressor(5)))


def _shop(**options: Any) -> Any:
    shop = make_funnel(1200, n_users=120, n_items=40, random_state=0)
    return MultiTaskModel(shop.tasks, **shop.roles, random_state=0, **options).fit(
        shop.X, shop.Y, events=shop.events
    ), shop.X


def _own_log() -> Any:
    shop = make_funnel(1200, n_users=120, n_items=40, delay="2D", random_state=0)
    return MultiTaskModel(shop.tasks, **shop.roles, random_state=0).fit(shop.X, shop.Y), shop.X


def _no_time() -> Any:
    shop = make_funnel(800, n_users=60, n_items=40, random_state=0)
    X = shop.X.drop(columns="time")
    return MultiTaskModel(shop.tasks, user="user", item="item", random_state=0).fit(X, shop.Y), X


def _funnel(**options: Any) -> Any:
    shop = make_funnel(800, n_users=60, n_items=40, random_state=0)
    return FunnelModel(shop.tasks, random_state=0, **options).fit(shop.X, shop.Y), shop.X


def _averaging() -> Any:
    X, Y = make_rows()
    members = [("trees", PerTaskModel(KINDS, random_state=0)), ("linear", PerTaskModel(KINDS, learner="linear"))]
    return AveragingEnsemble(members, weights=[2.0, 1.0]).fit(X, Y), X


def _pipeline() -> Any:
    X, Y = make_rows()
    numbers = ColumnTransformer([("scale", StandardScaler(), ["price"])], remainder="passthrough")
    numbers.set_output(transform="pandas")
    steps: list[tuple[str, Any]] = [
        ("numbers", numbers),
        ("means", TargetStatistics(["shop"], tasks=KINDS[:1], random_state=0)),
    ]
    return Pipeline([*steps, ("model", PerTaskModel({"up": "binary"}, random_state=0))]).fit(X, Y[["up"]]), X


def _bare() -> Any:
    X, Y = make_rows()
    learner = {
        "up": LogisticRegression(), "amount": Ridge(), "visits": LightGBMLearner(num_leaves=4),
        "soft": XGBoostLearner(max_leaves=4),
    }  # fmt: skip
    kinds = {"up": "binary", "amount": "regression", "visits": "count", "soft": "regression"}
    return PerTaskModel(kinds, learner=learner, random_state=0).fit(X, Y[list(kinds)]), X


def _one_label() -> Any:
    X, _ = make_rows()
    numbers = X[["price", "rank"]].to_numpy()
    return PerTaskModel(random_state=0).fit(numbers, np.where(X["price"] > 5, "yes", "no")), numbers


def _machine(cls: Any, **options: Any) -> Any:
    X, Y = make_rows()
    X = X.drop(columns=["day", "flag"])
    machine = make_pipeline(FieldEncoder(categorical=["list"]), cls(max_iter=3, random_state=0, **options))
    target = Y["up"] if cls is FactorizationMachineClassifier else Y["amount"].fillna(0.0)
    return machine.fit(X, target), X


def _machine_on_frame() -> Any:
    X, Y = make_rows()
    options = {"interactions": [("shop", "size")], "categorical": ["list"], "max_iter": 2}
    return FactorizationMachineClassifier(random_state=0, **options).fit(
        X.drop(columns="flag"), Y["color"].fillna("red")
    ), X


def _on_kinds(make: Callable[[Any], Any]) -> Any:
    """An ensemble of linear models and small trees of some kinds."""
    X, Y = make_rows()
    tasks = [task for task in KINDS if task.name in ("up", "color", "amount", "visits")]
    members = [
        ("linear", PerTaskModel(tasks, learner="linear", random_state=0)),
        ("trees", PerTaskModel(tasks, learner=LightGBMLearner(max_iter=20), random_state=0)),
    ]
    return make(members).fit(X, Y[[task.name for task in tasks]]), X


def _frozen(model: Any) -> Any:
    """A member that was fitted before."""
    X, Y = make_rows()
    return FrozenEstimator(model.fit(X, Y[[task.name for task in model.tasks]]))


def _shared_trees(**options: Any) -> Any:
    X, Y = make_rows()
    kinds = {"up": "binary", "amount": "regression", "visits": "count"}
    return SharedTreesModel(kinds, random_state=0, **options).fit(X, Y[list(kinds)]), X


def _task_graph(**options: Any) -> Any:
    X, Y = make_rows()
    kinds = {"up": "binary", "amount": "regression", "color": "multiclass"}
    learner = LightGBMLearner(max_iter=20)
    model = TaskGraphModel(kinds, learner=learner, edges="dense", cv=2, random_state=0, **options)
    return model.fit(X, Y[list(kinds)]), X


def _search() -> Any:
    X, Y = make_rows()
    model = PerTaskModel({"up": "binary"}, learner=LightGBMLearner(max_iter=10), random_state=0)
    space = {"learner__num_leaves": [4, 8]}
    return MultiTaskSearchCV(model, space, strategy="grid", cv=2, random_state=0).fit(X, Y[["up"]]), X


def _segments() -> Any:
    shop = make_funnel(1200, n_users=120, n_items=40, random_state=0)
    model = Segments(n_segments=3, user="user", item="item", cv=2, random_state=0)
    return model.fit(shop.X, shop.Y["view"]), shop.X


def _joint_machine() -> Any:
    X, Y = make_rows()
    kinds = {"up": "binary", "amount": "regression", "color": "multiclass"}
    X = X.drop(columns=["day", "flag"])
    return MultiTaskFactorizationMachine(kinds, max_iter=3, random_state=0).fit(X, Y[list(kinds)]), X


def _latent(model: str) -> Any:
    factors = MatrixFactorization(model, n_factors=4, max_iter=3, random_state=0)
    return _shop(latent=LatentFeatures([("factors", factors)], output="both", cv=2, random_state=0))


MODELS: dict[str, Callable[[], Any]] = {
    **{f"kinds-{learner}": (lambda learner=learner: _kinds(learner)) for learner in ("lightgbm", "xgboost", "linear")},
    "kinds-hist": lambda: _kinds("hist"),
    "kinds-svm": lambda: _kinds("svm"),
    "kinds-forests": _small_forest,
    "fast": _shop,
    "best": lambda: _shop(preset="best", cv=2),
    "own log": _own_log,
    "no time": _no_time,
    "funnel auto": lambda: _funnel(mode="auto", hurdle="auto"),
    "averaging": _averaging,
    "pipeline": _pipeline,
    "learner per task": _bare,
    "frozen": lambda: _on_kinds(
        lambda members: AveragingEnsemble([(name, _frozen(model)) for name, model in members], cv="prefit")
    ),
    "stacking": lambda: _on_kinds(lambda members: StackingEnsemble(members, cv=2, passthrough=True, fallback=False)),
    "bagging": lambda: _on_kinds(lambda members: BaggingEnsemble(members[1][1], 2, max_features=0.7, random_state=0)),
    "boosting": lambda: _on_kinds(lambda members: BoostingEnsemble(members, cv=2, random_state=0)),
    "calibrated": lambda: _on_kinds(lambda members: CalibratedModel(members[1][1], cv=2, random_state=0)),
    "isotonic": lambda: _on_kinds(
        lambda members: CalibratedModel(members[1][1], method={"up": "isotonic"}, cv=2, random_state=0)
    ),
    "conformal": lambda: _on_kinds(lambda members: ConformalModel(members[0][1], cv=2, random_state=0)),
    "shared trees": lambda: _shared_trees(max_iter=20),
    "shared extra trees": lambda: _shared_trees(trees="extra", n_trees=5),
    "task graph": _task_graph,
    "task graph, columns": lambda: _task_graph(combiner="learner"),
    "search": _search,
    "segments": _segments,
    "joint machine": _joint_machine,
    **{f"latent {model}": (lambda model=model: _latent(model)) for model in ("als", "bpr", "logistic", "explicit")},
    "one label": _one_label,
    "machine": lambda: _machine(FactorizationMachineClassifier),
    "machine, regression": lambda: _machine(FactorizationMachineRegressor),
    **{
        f"machine, {type(solver).__name__.lower()}": (
            lambda solver=solver: _machine(FactorizationMachineRegressor, solver=solver)
        )
        for solver in (Adadelta(), Adagrad(), Adam(), Als(), Ftrl(), Gibbs(), Sgd())
    },
    "machine, frame and groups": _machine_on_frame,
}


def outputs(model: Any, X: Any) -> list[np.ndarray]:
    """Everything that a model says about rows, as arrays."""
    methods = ("predict_scores", "predict", "predict_proba", "decision_function", "transform")
    said = []
    for method in methods:
        if hasattr(model, method):
            answer = getattr(model, method)(X)
            answer = answer.toarray() if hasattr(answer, "toarray") else answer
            said += [np.asarray(part) for part in (answer if isinstance(answer, list) else [answer])]
    return said


def same(one: list[np.ndarray], other: list[np.ndarray]) -> bool:
    """Equal bit for bit, dtypes and shapes included."""
    if len(one) != len(other):
        return False
    return all(
        a.dtype == b.dtype
        and a.shape == b.shape
        and (repr(a.tolist()) == repr(b.tolist()) if a.dtype == object else a.tobytes() == b.tobytes())
        for a, b in zip(one, other, strict=True)
    )
