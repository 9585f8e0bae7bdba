"""The classes that a model file may hold: a name in the file, and where its class lives.

A new estimator is saved by adding its class here, and the classes of what it keeps; nothing else is to be done as long
as their attributes are numbers, texts, containers, arrays, pandas objects and other classes of this table. Names in the
file do not change when a class moves to another module.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from mtl_classic.persistence._errors import ModelFileError

__all__ = ["class_named", "class_names", "name_of_class"]

_HOMES = {
    "mtl_classic._core.tasks": "Task",
    "mtl_classic._core.targets": "OutputForm",
    "mtl_classic.model": "MultiTaskModel",
    "mtl_classic.ensemble": (
        "AveragingEnsemble BaggingEnsemble BoostingEnsemble CalibratedModel ConformalModel StackingEnsemble"
    ),
    "mtl_classic.ensemble._calibration": "_Sloped _Steps _Temperature",
    "mtl_classic.ensemble._matching": "Matching",
    "mtl_classic.ensemble._meta": "LinearMeta SklearnMeta",
    "mtl_classic.ensemble._passthrough": "Passthrough",
    "mtl_classic.multitask": "FunnelModel PerTaskModel SharedTreesModel TaskGraphModel",
    "mtl_classic.multitask._dense_features": "DenseFeatures",
    "mtl_classic.multitask._extra_forest": "ExtraForest",
    "mtl_classic.multitask._joint_objective": "Block",
    "mtl_classic.multitask._linear_combiner": "LinearCombiner",
    "mtl_classic.multitask._vector_trees": "VectorTrees",
    "mtl_classic.learners": "LightGBMLearner SklearnLearner XGBoostLearner",
    "mtl_classic.inspection._reference": "ColumnReference Reference",
    "mtl_classic.learners._columns": "FeatureColumns",
    "mtl_classic.learners._protocol": "ConstantFit",
    "mtl_classic.learners._lightgbm": "LightGBMFit",
    "mtl_classic.learners._xgboost": "XGBoostFit",
    "mtl_classic.learners._sklearn": "SklearnFit",
    "mtl_classic.factorization": (
        "FactorizationMachineClassifier FactorizationMachineRegressor LatentFeatures MatrixFactorization "
        "MultiTaskFactorizationMachine Segments"
    ),
    "mtl_classic.factorization._explicit": "ExplicitFactors",
    "mtl_classic.factorization._feedback": "Ids",
    "mtl_classic.factorization._outputs": "TaskOutput",
    "mtl_classic.factorization._implicit": "ImplicitFactors",
    "mtl_classic.factorization._told": "Told",
    "mtl_classic.factorization._members": "LatentMember",
    "mtl_classic.factorization._problem": "Interactions Parameters",
    "mtl_classic.factorization._design": "Design",
    "mtl_classic.factorization._scaling": "ColumnScaler",
    "mtl_classic.factorization._draws": "Draws",
    "mtl_classic.factorization._chain": "Scale",
    "mtl_classic.factorization._solvers": "Adadelta Adagrad Adam Ftrl Sgd",
    "mtl_classic.factorization._solvers_fieldwise": "Als Gibbs",
    "mtl_classic.events": "Aggregate EventLog HistoryFeatures",
    "mtl_classic.events._column": "Column",
    "mtl_classic.preprocessing": "FieldEncoder TargetStatistics",
    "mtl_classic.preprocessing._blocks": "Hashed Number OneHot",
    "mtl_classic.preprocessing._vocabulary": "Vocabulary",
    "mtl_classic.preprocessing._keys": "KeyCoder",
    "mtl_classic.preprocessing._category_means": "CategoryMeans",
    "mtl_classic.model_selection": "MultiTaskSearchCV Temporal",
    "lightgbm.basic": "Booster",
    "xgboost.core": "Booster",
    "sklearn.pipeline": "FeatureUnion Pipeline",
    "sklearn.compose": "ColumnTransformer TransformedTargetRegressor make_column_selector",
    "sklearn.frozen": "FrozenEstimator",
    "sklearn.impute": "MissingIndicator SimpleImputer",
    "sklearn.preprocessing": (
        "Binarizer FunctionTransformer KBinsDiscretizer LabelBinarizer LabelEncoder MaxAbsScaler MinMaxScaler "
        "Normalizer OneHotEncoder OrdinalEncoder PolynomialFeatures PowerTransformer QuantileTransformer RobustScaler "
        "StandardScaler"
    ),
    "sklearn.cluster": "KMeans MiniBatchKMeans",
    "sklearn.decomposition": "NMF PCA TruncatedSVD",
    "sklearn.linear_model": (
        "BayesianRidge ElasticNet GammaRegressor HuberRegressor Lasso LinearRegression LogisticRegression "
        "PoissonRegressor Ridge RidgeClassifier SGDClassifier SGDRegressor TweedieRegressor"
    ),
    "sklearn.svm": "LinearSVC LinearSVR",
    "sklearn.naive_bayes": "BernoulliNB GaussianNB MultinomialNB",
    "sklearn.dummy": "DummyClassifier DummyRegressor",
    "sklearn.isotonic": "IsotonicRegression",
    "sklearn.calibration": "CalibratedClassifierCV _CalibratedClassifier _SigmoidCalibration",
    "sklearn.tree": "DecisionTreeClassifier DecisionTreeRegressor ExtraTreeClassifier ExtraTreeRegressor",
    "sklearn.tree._tree": "Tree",
    "sklearn.ensemble": (
        "ExtraTreesClassifier ExtraTreesRegressor HistGradientBoostingClassifier HistGradientBoostingRegressor "
        "RandomForestClassifier RandomForestRegressor"
    ),
    "sklearn.ensemble._hist_gradient_boosting.binning": "_BinMapper",
    "sklearn.ensemble._hist_gradient_boosting.predictor": "TreePredictor",
    "sklearn._loss.loss": (
        "HalfBinomialLoss HalfGammaLoss HalfMultinomialLoss HalfPoissonLoss HalfSquaredError HalfTweedieLoss "
        "HalfTweedieLossIdentity"
    ),
    "sklearn.model_selection": (
        "GroupKFold GroupShuffleSplit KFold PredefinedSplit ShuffleSplit StratifiedGroupKFold StratifiedKFold "
        "StratifiedShuffleSplit TimeSeriesSplit"
    ),
}
_MODULES = {f"{home.split('.')[0]}.{name}": home for home, names in _HOMES.items() for name in names.split()}
_STANDS_FOR = {"mtl_classic.learners._text_booster.TextBooster": "lightgbm.Booster"}
_FOUND: dict[str, type] = {}


def class_names() -> tuple[str, ...]:
    """All names that a file may hold."""
    return tuple(sorted(_MODULES))


def class_named(name: Any) -> type:
    """The class of a name in a file; nothing that is not in the table is ever imported.

    Raises
    ------
    ModelFileError
        If the name is not in the table, or its module is not installed.
    """
    if not isinstance(name, str) or name not in _MODULES:
        raise ModelFileError(
            f"The file holds an object of the class {name!r}, which is not among the classes that are loaded; it was "
            f"made by a later version of mtl_classic, or to do harm."
        )
    if name not in _FOUND:
        try:
            _FOUND[name] = getattr(import_module(_MODULES[name]), name.split(".", 1)[1])
        except (ImportError, AttributeError) as error:
            raise ModelFileError(
                f"The file holds an object of the class {name}, which is not installed: {error}."
            ) from None
    return _FOUND[name]


def name_of_class(cls: type) -> str | None:
    """The name of a class in a file, or None if objects of it are not saved; a subclass is another class."""
    if f"{cls.__module__}.{cls.__qualname__}" in _STANDS_FOR:
        return _STANDS_FOR[f"{cls.__module__}.{cls.__qualname__}"]
    name = f"{cls.__module__.split('.')[0]}.{cls.__qualname__}"
    return name if name in _MODULES and class_named(name) is cls else None
