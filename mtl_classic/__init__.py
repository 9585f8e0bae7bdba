"""Multi-task learning with classical models, as scikit-learn estimators.

Public names load on first use: importing the package loads no booster and compiles nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mtl_classic._core.base import MultiTaskEstimator as MultiTaskEstimator
    from mtl_classic._core.exceptions import ConstantTaskWarning as ConstantTaskWarning
    from mtl_classic._core.exceptions import DatesAsNumbersWarning as DatesAsNumbersWarning
    from mtl_classic._core.exceptions import EmptyLogWarning as EmptyLogWarning
    from mtl_classic._core.exceptions import FallbackWarning as FallbackWarning
    from mtl_classic._core.exceptions import FoldError as FoldError
    from mtl_classic._core.exceptions import FunnelConflictError as FunnelConflictError
    from mtl_classic._core.exceptions import FunnelConflictWarning as FunnelConflictWarning
    from mtl_classic._core.exceptions import LabelError as LabelError
    from mtl_classic._core.exceptions import LeakedLabelWarning as LeakedLabelWarning
    from mtl_classic._core.exceptions import LostDigitsWarning as LostDigitsWarning
    from mtl_classic._core.exceptions import RepeatedEventsWarning as RepeatedEventsWarning
    from mtl_classic._core.exceptions import RoleError as RoleError
    from mtl_classic._core.exceptions import RowOrderWarning as RowOrderWarning
    from mtl_classic._core.exceptions import TaskError as TaskError
    from mtl_classic._core.exceptions import UnusedColumnsWarning as UnusedColumnsWarning
    from mtl_classic._core.tasks import Task as Task
    from mtl_classic._core.tasks import infer_tasks as infer_tasks
    from mtl_classic.datasets import load_complete_journey as load_complete_journey
    from mtl_classic.datasets import make_funnel as make_funnel
    from mtl_classic.ensemble import AveragingEnsemble as AveragingEnsemble
    from mtl_classic.ensemble import BaggingEnsemble as BaggingEnsemble
    from mtl_classic.ensemble import BoostingEnsemble as BoostingEnsemble
    from mtl_classic.ensemble import CalibratedModel as CalibratedModel
    from mtl_classic.ensemble import ConformalModel as ConformalModel
    from mtl_classic.ensemble import StackingEnsemble as StackingEnsemble
    from mtl_classic.ensemble import average_over_seeds as average_over_seeds
    from mtl_classic.events import Aggregate as Aggregate
    from mtl_classic.events import EventLog as EventLog
    from mtl_classic.events import HistoryFeatures as HistoryFeatures
    from mtl_classic.events import label_from_events as label_from_events
    from mtl_classic.factorization import FactorizationMachineClassifier as FactorizationMachineClassifier
    from mtl_classic.factorization import FactorizationMachineRegressor as FactorizationMachineRegressor
    from mtl_classic.factorization import LatentFeatures as LatentFeatures
    from mtl_classic.factorization import MatrixFactorization as MatrixFactorization
    from mtl_classic.factorization import MultiTaskFactorizationMachine as MultiTaskFactorizationMachine
    from mtl_classic.factorization import Segments as Segments
    from mtl_classic.inspection import monitor as monitor
    from mtl_classic.inspection import monitor_reference as monitor_reference
    from mtl_classic.inspection import permutation_importance as permutation_importance
    from mtl_classic.inspection import plot_affinity as plot_affinity
    from mtl_classic.inspection import plot_importance as plot_importance
    from mtl_classic.inspection import plot_task_graph as plot_task_graph
    from mtl_classic.learners import Learner as Learner
    from mtl_classic.learners import LightGBMLearner as LightGBMLearner
    from mtl_classic.learners import SklearnLearner as SklearnLearner
    from mtl_classic.learners import XGBoostLearner as XGBoostLearner
    from mtl_classic.metrics import evaluate as evaluate
    from mtl_classic.metrics import evaluate_scores as evaluate_scores
    from mtl_classic.model import MultiTaskModel as MultiTaskModel
    from mtl_classic.model_selection import CrossFit as CrossFit
    from mtl_classic.model_selection import FoldPlan as FoldPlan
    from mtl_classic.model_selection import MultiTaskSearchCV as MultiTaskSearchCV
    from mtl_classic.model_selection import Temporal as Temporal
    from mtl_classic.model_selection import cross_fit as cross_fit
    from mtl_classic.model_selection import make_folds as make_folds
    from mtl_classic.model_selection import multitask_scorer as multitask_scorer
    from mtl_classic.multitask import FunnelModel as FunnelModel
    from mtl_classic.multitask import PerTaskModel as PerTaskModel
    from mtl_classic.multitask import SharedTreesModel as SharedTreesModel
    from mtl_classic.multitask import TaskGraphModel as TaskGraphModel
    from mtl_classic.multitask import task_affinity as task_affinity
    from mtl_classic.persistence import ModelFileError as ModelFileError
    from mtl_classic.persistence import load_model as load_model
    from mtl_classic.persistence import save_model as save_model
    from mtl_classic.preprocessing import FieldEncoder as FieldEncoder
    from mtl_classic.preprocessing import TargetStatistics as TargetStatistics
    from mtl_classic.serving import CompiledModel as CompiledModel
    from mtl_classic.serving import predict_scores_in_chunks as predict_scores_in_chunks
    from mtl_classic.serving import top_k as top_k
    from mtl_classic.serving import write_scores as write_scores

__version__ = "0.1.0"

# Where each public name lives. A test keeps this table, the imports above and `__all__` in step with the packages.
_PARTS: dict[str, tuple[str, ...]] = {
    "mtl_classic._core.base": ("MultiTaskEstimator",),
    "mtl_classic._core.exceptions": (
        "ConstantTaskWarning",
        "DatesAsNumbersWarning",
        "EmptyLogWarning",
        "FallbackWarning",
        "FoldError",
        "FunnelConflictError",
        "FunnelConflictWarning",
        "LabelError",
        "LeakedLabelWarning",
        "LostDigitsWarning",
        "RepeatedEventsWarning",
        "RoleError",
        "RowOrderWarning",
        "TaskError",
        "UnusedColumnsWarning",
    ),
    "mtl_classic._core.tasks": ("Task", "infer_tasks"),
    "mtl_classic.datasets": ("load_complete_journey", "make_funnel"),
    "mtl_classic.ensemble": (
        "AveragingEnsemble",
        "BaggingEnsemble",
        "BoostingEnsemble",
        "CalibratedModel",
        "ConformalModel",
        "StackingEnsemble",
        "average_over_seeds",
    ),
    "mtl_classic.events": ("Aggregate", "EventLog", "HistoryFeatures", "label_from_events"),
    "mtl_classic.factorization": (
        "FactorizationMachineClassifier",
        "FactorizationMachineRegressor",
        "LatentFeatures",
        "MatrixFactorization",
        "MultiTaskFactorizationMachine",
        "Segments",
    ),
    "mtl_classic.inspection": (
        "monitor",
        "monitor_reference",
        "permutation_importance",
        "plot_affinity",
        "plot_importance",
        "plot_task_graph",
    ),
    "mtl_classic.learners": ("Learner", "LightGBMLearner", "SklearnLearner", "XGBoostLearner"),
    "mtl_classic.metrics": ("evaluate", "evaluate_scores"),
    "mtl_classic.model": ("MultiTaskModel",),
    "mtl_classic.model_selection": (
        "CrossFit",
        "FoldPlan",
        "MultiTaskSearchCV",
        "Temporal",
        "cross_fit",
        "make_folds",
        "multitask_scorer",
    ),
    "mtl_classic.multitask": ("FunnelModel", "PerTaskModel", "SharedTreesModel", "TaskGraphModel", "task_affinity"),
    "mtl_classic.persistence": ("ModelFileError", "load_model", "save_model"),
    "mtl_classic.preprocessing": ("FieldEncoder", "TargetStatistics"),
    "mtl_classic.serving": ("CompiledModel", "predict_scores_in_chunks", "top_k", "write_scores"),
}
_HOME = {name: part for part, names in _PARTS.items() for name in names}

__all__ = [
    "Aggregate",
    "AveragingEnsemble",
    "BaggingEnsemble",
    "BoostingEnsemble",
    "CalibratedModel",
    "CompiledModel",
    "ConformalModel",
    "ConstantTaskWarning",
    "CrossFit",
    "DatesAsNumbersWarning",
    "EmptyLogWarning",
    "EventLog",
    "FactorizationMachineClassifier",
    "FactorizationMachineRegressor",
    "FallbackWarning",
    "FieldEncoder",
    "FoldError",
    "FoldPlan",
    "FunnelConflictError",
    "FunnelConflictWarning",
    "FunnelModel",
    "HistoryFeatures",
    "LabelError",
    "LatentFeatures",
    "LeakedLabelWarning",
    "Learner",
    "LightGBMLearner",
    "LostDigitsWarning",
    "MatrixFactorization",
    "ModelFileError",
    "MultiTaskEstimator",
    "MultiTaskFactorizationMachine",
    "MultiTaskModel",
    "MultiTaskSearchCV",
    "PerTaskModel",
    "RepeatedEventsWarning",
    "RoleError",
    "RowOrderWarning",
    "Segments",
    "SharedTreesModel",
    "SklearnLearner",
    "StackingEnsemble",
    "TargetStatistics",
    "Task",
    "TaskError",
    "TaskGraphModel",
    "Temporal",
    "UnusedColumnsWarning",
    "XGBoostLearner",
    "average_over_seeds",
    "cross_fit",
    "evaluate",
    "evaluate_scores",
    "infer_tasks",
    "label_from_events",
    "load_complete_journey",
    "load_model",
    "make_folds",
    "make_funnel",
    "monitor",
    "monitor_reference",
    "multitask_scorer",
    "permutation_importance",
    "plot_affinity",
    "plot_importance",
    "plot_task_graph",
    "predict_scores_in_chunks",
    "save_model",
    "task_affinity",
    "top_k",
    "write_scores",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its home, once."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
