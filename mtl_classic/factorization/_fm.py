"""Factorization machines for one label."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import expit, softmax
from sklearn.base import ClassifierMixin
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, check_is_fitted, column_or_1d

from mtl_classic._core.exceptions import ConstantTaskWarning
from mtl_classic.factorization._fm_base import BaseFactorizationMachine, Labels
from mtl_classic.factorization._registry import learns_in_parts
from mtl_classic.factorization._solvers import Solver

__all__ = ["FactorizationMachineClassifier"]

Array = npt.NDArray[Any]
WITH_PROBABILITIES = ("log", "kl", "probit")


def _has_probabilities(estimator: FactorizationMachineClassifier) -> bool:
    if estimator.loss not in WITH_PROBABILITIES:
        raise AttributeError(
            f"loss={estimator.loss!r} gives no probabilities, only decision_function; those that do: "
            f"{', '.join(WITH_PROBABILITIES)}."
        )
    return True


class FactorizationMachineClassifier(ClassifierMixin, BaseFactorizationMachine):
    r"""Linear model and products of latent vectors, for the probability of classes on sparse data.

    .. math:: s(x) = b + \sum_j w_j x_j + \sum_{j < l} \langle v_j, v_l \rangle x_j x_l, \quad P(y = 1) =
        \frac{1}{1 + e^{-s}}

    with v_j in R^K; or the products between chosen groups of columns only. Several classes have a score each, with
    weights and factors of their own, and share a softmax.

    Parameters
    ----------
    n_factors : int, default=16
        Length K of the latent vectors (of each class for several classes). Multiples of 8 waste nothing; 8, 16 and 32
        are fastest.
    n_members : int, default=1
        Machines that differ by their random numbers, trained side by side and stopped by the loss of their mean score;
        this is the score of one machine with n_members · K factors. It costs n_members fits; on sparse ids four say
        more than one. ``partial_fit`` and warm starts go on with that one machine. Stochastic solvers except ftrl, and
        gibbs, where they are chains: predictions are means over the draws of all.
    loss : {"log", "kl", "hinge", "bpr", "probit"}, default="log"
        ``"log"``: log loss, softmax for several classes. ``"kl"``: the same against soft labels, (n,) or (n, n_classes)
        in [0, 1]. ``"hinge"``: margins. ``"bpr"``: orders rows of a query, P(first above second) = 1 / (1 + exp(s_2 −
        s_1)). ``"probit"``: for ``solver="gibbs"``.
    solver : {"adagrad", "sgd", "adam", "adadelta", "ftrl", "als", "gibbs"} or solver object, default="adagrad"
        What a solver cannot do is refused with the names of those that can. Objects such as ``Ftrl(l1_linear=3.0)``
        have tunables of their own.
    learning_rate : float or None, default=None
        Step length of the stochastic solvers; None is the solver's own (0.05 for Adagrad).
    max_iter : int, default=30
        Most passes over the rows.
    batch_size : int, default=1
        Rows (or pairs, for ``"bpr"``) whose gradients are summed into one step.
    reg_linear, reg_factors : float or dict of field to float, default=1e-4 and 0.03
        Penalties λ: a row of weight s adds s · ½ λ Σ v² of the columns that it contains. Fields that the dict does not
        name have the default.
    dropout : float, default=0.0
        Share of the latent dimensions left out of a training step.
    drop_connect : float, default=0.0
        Share of a row's embedding entries left out of a training step.
    init_scale : float, default=0.01
        Standard deviation of the first factors. Where labels depend on interactions only, a larger one (0.1) leaves the
        plateau at 0 sooner, before early stopping loses its patience.
    fields : dict of field to columns, default=None
        For arrays and CSR column numbers; for frames column names, where each column is a field unless it is named
        here. Fields are needed for groups, and for penalties per field.
    groups : dict of group to fields, default=None
        Groups of fields that ``interactions`` speaks of; None: every field is its own group.
    interactions : "all" or list of pairs of groups, default="all"
        Which products enter the score: of all columns, or between the groups of a pair, as in
        ``[("user", "item")]``. Columns outside have linear weights only.
    categorical : sequence of str, default=()
        Numeric columns of a frame that are categories, such as ids.
    exclude : sequence of str, default=()
        Columns of a frame that are no features.
    query : str or None, default=None
        Column of a frame with the groups that ``loss="bpr"`` compares within; it stays a feature unless excluded.
    time : str or None, default=None
        Column of a frame with the time of the row; no feature. What is learnt is for rows to come, so the validation
        rows are then the latest, not random ones, and serve twice more after the stop: the scores become a + c s with
        the a and c > 0 that fit them best (with 500 of them or more; for several classes c only), because a machine
        is too sure of what it has not seen yet; and one pass over them follows. Stochastic solvers except ftrl. It
        pays where tastes and goods change; where rows of all times say the same, it gains nothing.
    scale : bool, default=True
        Standardize number columns. Without, columns with large numbers make the fit diverge.
    early_stopping : bool, default=True
        Stop when the validation rows no longer improve, and keep the best pass. With fewer than 25 validation rows all
        rows are trained on, for `max_iter` passes.
    validation_fraction : float, default=0.1
        Share of the rows (of the queries for ``"bpr"``) to validate on; with ``time``, .05 keeps more of what is new.
    n_iter_no_change : int, default=2
        Passes without improvement before stopping.
    tol : float, default=0.0
        Improvement that counts.
    warm_start : bool, default=False
        Whether ``fit`` goes on from the last fit's parameters.
    random_state : int, RandomState or None, default=None
        Order of the rows, first factors, validation rows, noise.
    verbose : int, default=0
        Not used; fits are silent.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    factors_ : ndarray of float32, shape (n_columns, K), or (n_columns, n_classes, K)
        The v_j of the encoded columns (standardized ones with ``scale``), n_members · K numbers each for an average; 0
        for columns that no row of the fit contains.
    coef_ : ndarray of float32, shape (n_columns,), or (n_classes, n_columns)
    intercept_ : float, or ndarray of shape (n_classes,)
    fields_ : dict of field to ndarray, or None
        Columns of each field.
    n_iter_ : int
        Passes made.
    best_iter_ : int
        The pass that was kept.
    validation_losses_ : list of float
        After each pass.
    feature_names_in_, n_features_in_

    Notes
    -----
    A pass costs non-zeros × K, some nanoseconds each; parameters take 8 bytes × columns × (K + 1). Fits are serial, and
    for a random_state bit for bit the same. The first fit in a new environment compiles for some seconds; the result is
    cached on disk.

    References
    ----------
    .. [1] S. Rendle (2010). Factorization machines. ICDM. https://doi.org/10.1109/ICDM.2010.127
    .. [2] J. Duchi, E. Hazan, Y. Singer (2011). Adaptive subgradient methods for online learning and stochastic
       optimization. JMLR 12. https://jmlr.org/papers/v12/duchi11a.html

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from mtl_classic.factorization import FactorizationMachineClassifier
    >>> rng = np.random.default_rng(0)
    >>> X = pd.DataFrame({"user": rng.integers(0, 30, 5000), "item": rng.integers(0, 20, 5000)})
    >>> likes = (X["user"] % 2) == (X["item"] % 2)          # taste: no user and no item is better than others
    >>> y = np.where(rng.random(5000) < np.where(likes, 0.9, 0.1), "yes", "no")
    >>> model = FactorizationMachineClassifier(categorical=["user", "item"], init_scale=0.1, random_state=0)
    >>> model.fit(X, y).classes_.tolist()
    ['no', 'yes']
    >>> bool(model.score(X, y) > 0.85)
    True
    >>> model.predict_proba(X).shape
    (5000, 2)
    """

    _losses = ("log", "kl", "hinge", "bpr", "probit")

    def __init__(
        self,
        *,
        n_factors: int = 16,
        n_members: int = 1,
        loss: str = "log",
        solver: str | Solver = "adagrad",
        learning_rate: float | None = None,
        max_iter: int = 30,
        batch_size: int = 1,
        reg_linear: float | Mapping[Any, float] = 1e-4,
        reg_factors: float | Mapping[Any, float] = 0.03,
        dropout: float = 0.0,
        drop_connect: float = 0.0,
        init_scale: float = 0.01,
        fields: Mapping[Any, Any] | None = None,
        groups: Mapping[Any, Any] | None = None,
        interactions: Any = "all",
        categorical: Sequence[str] = (),
        exclude: Sequence[str] = (),
        query: str | None = None,
        time: str | None = None,
        scale: bool = True,
        early_stopping: bool = True,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 2,
        tol: float = 0.0,
        warm_start: bool = False,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.n_factors = n_factors
        self.n_members = n_members
        self.loss = loss
        self.solver = solver
        self.learning_rate = learning_rate
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.reg_linear = reg_linear
        self.reg_factors = reg_factors
        self.dropout = dropout
        self.drop_connect = drop_connect
        self.init_scale = init_scale
        self.fields = fields
        self.groups = groups
        self.interactions = interactions
        self.categorical = categorical
        self.exclude = exclude
        self.query = query
        self.time = time
        self.scale = scale
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose

    @available_if(learns_in_parts)
    def partial_fit(self, X: Any, y: Any, classes: Any = None, *, sample_weight: Any = None, query: Any = None) -> Self:
        """One pass over new rows, on top of what is learnt; solvers ``"als"`` and ``"gibbs"`` have none.

        Each row moves its columns a little. To learn all that a batch says, call this several times with the same rows:
        about half as many as the epochs (``n_iter_``) of a full fit.

        Parameters
        ----------
        X : array, CSR or frame of shape (n, n_features)
            A frame's new values get columns of their own; an array keeps its width. Scales are those of the first call.
        y : array of shape (n,)
        classes : array of shape (n_classes,), default=None
            All classes that will ever come, at the first call; None: those of ``y``. Later the same, or None.
        sample_weight : array of shape (n,), default=None
        query : array of shape (n,), default=None
            As in ``fit``.

        Returns
        -------
        self
        """
        return self._partial_fit(X, y, sample_weight, query, classes=classes)

    def _labels(self, y: Any, *, reset: bool, classes: Any = None, sample_weight: Any = None) -> Labels:
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None.")
        if self.loss == "kl":
            targets = _soft_labels(y)
            if reset:
                self.classes_ = np.arange(2 if targets.ndim == 1 else targets.shape[1])
            elif targets.ndim == 2 and targets.shape[1] != len(self.classes_):
                raise ValueError(f"y has {targets.shape[1]} classes; the fit had {len(self.classes_)}.")
            return Labels(targets, "kl" if targets.ndim == 1 else "softmax")
        y = column_or_1d(y, warn=True)
        if y.dtype == object:  # Python's own booleans and numbers, as a masked column of a frame holds them
            y = pd.Series(y).infer_objects().to_numpy()
        check_classification_targets(y)
        if reset:
            self.classes_ = np.unique(y if classes is None else classes)
        elif classes is not None and not np.array_equal(np.unique(classes), self.classes_):
            raise ValueError(
                f"classes={list(classes)} is not the same as on the last call to partial_fit, or fit: "
                f"{self.classes_.tolist()}. Give all classes at the first call, and later the same or none."
            )
        codes = np.minimum(np.searchsorted(self.classes_, y), len(self.classes_) - 1)
        if (self.classes_[codes] != y).any():
            new = np.unique(y[self.classes_[codes] != y])
            raise ValueError(
                f"y has classes that were not announced: {', '.join(map(str, new))}; expected "
                f"{', '.join(map(str, self.classes_))}. The first partial_fit takes classes=."
            )
        if len(self.classes_) == 1:
            warnings.warn(
                f"All labels are of one class, {self.classes_[0]}: that is what will be predicted.",
                ConstantTaskWarning,
                stacklevel=4,
            )
            codes = codes + 1
        if len(self.classes_) <= 2:
            return Labels(codes, self.loss)
        if self.loss != "log":
            raise ValueError(
                f'loss={self.loss!r} is for two classes, y has {len(self.classes_)}; loss="log" takes any number.'
            )
        return Labels(np.eye(len(self.classes_), dtype=np.float32)[codes], "softmax")

    def decision_function(self, X: Any) -> Array:
        """Scores: log-odds for log loss, margins for hinge, ranks' order for BPR.

        Parameters
        ----------
        X : array, CSR or frame of shape (n, n_features)

        Returns
        -------
        ndarray of float64, shape (n,), or (n, n_classes) for more than two classes
        """
        return self._raw_scores(X)

    def predict(self, X: Any) -> Array:
        """Most probable class.

        Parameters
        ----------
        X : array, CSR or frame of shape (n, n_features)

        Returns
        -------
        ndarray of shape (n,)
        """
        scores = self._raw_scores(X)
        if len(self.classes_) == 1:
            return np.repeat(self.classes_, len(scores))
        return self.classes_[scores.argmax(axis=1) if scores.ndim == 2 else (scores > 0).astype(np.intp)]

    @available_if(_has_probabilities)
    def predict_proba(self, X: Any) -> Array:
        """Probabilities of the classes.

        Parameters
        ----------
        X : array, CSR or frame of shape (n, n_features)

        Returns
        -------
        ndarray of float64, shape (n, n_classes)
        """
        check_is_fitted(self, "_parameters")
        if len(self.classes_) == 1:
            return np.ones((len(self._raw_scores(X)), 1))
        if self._extra is not None:
            positive = self._extra.mean(self._matrix(X))
            return np.column_stack([1 - positive, positive])
        scores = self._raw_scores(X)
        return softmax(scores, axis=1) if scores.ndim == 2 else np.column_stack([expit(-scores), expit(scores)])


def _soft_labels(y: Any) -> Array:
    targets = check_array(y, ensure_2d=False, dtype=np.float64)
    if (targets < 0).any() or (targets > 1).any():
        raise ValueError(f"Soft labels must lie between 0 and 1, got {targets.min():g} … {targets.max():g}.")
    if targets.ndim == 2 and targets.shape[1] == 1:
        targets = targets[:, 0]
    if targets.ndim == 2 and not np.allclose(targets.sum(axis=1), 1, atol=1e-4):
        raise ValueError("Soft labels of several classes must sum to 1 in every row.")
    return targets
