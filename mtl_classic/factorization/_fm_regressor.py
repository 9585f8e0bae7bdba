"""The factorization machine for numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import RegressorMixin
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import _check_sample_weight, _check_y, column_or_1d

from mtl_classic.factorization._draws import Scale
from mtl_classic.factorization._fm_base import BaseFactorizationMachine, Labels
from mtl_classic.factorization._losses import to_mean
from mtl_classic.factorization._registry import learns_in_parts
from mtl_classic.factorization._solvers import Solver

__all__ = ["FactorizationMachineRegressor"]

Array = npt.NDArray[Any]


class FactorizationMachineRegressor(RegressorMixin, BaseFactorizationMachine):
    r"""Linear model and products of latent vectors, for numbers and counts on sparse data.

    .. math:: s(x) = b + \sum_j w_j x_j + \sum_{j < l} \langle v_j, v_l \rangle x_j x_l

    with v_j in R^K; or the products between chosen groups of columns only. The prediction is s(x) for squared loss,
    whose targets are standardized inside, and exp(s(x)) for counts.

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
    loss : {"squared", "poisson", "bpr"}, default="squared"
        ``"squared"``; ``"poisson"`` for counts, with a log link; ``"bpr"`` orders rows of a query by their labels: the
        prediction is a score.
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
    factors_ : ndarray of float32, shape (n_columns, K)
        The v_j of the encoded columns (standardized ones with ``scale``), n_members · K numbers each for an average,
        for standardized targets; 0 for columns that no row of the fit contains.
    coef_ : ndarray of float32, shape (n_columns,)
    intercept_ : float
    target_mean_, target_scale_ : float
        What targets were standardized by.
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
    >>> from mtl_classic.factorization import FactorizationMachineRegressor
    >>> rng = np.random.default_rng(0)
    >>> X = pd.DataFrame({"user": rng.integers(0, 30, 5000), "item": rng.integers(0, 20, 5000)})
    >>> y = 3 + rng.normal(size=30)[X["user"]] + rng.normal(size=20)[X["item"]] + 0.1 * rng.normal(size=5000)
    >>> model = FactorizationMachineRegressor(categorical=["user", "item"], random_state=0).fit(X, y)
    >>> bool(model.score(X, y) > 0.95)
    True
    """

    _losses = ("squared", "poisson", "bpr")

    def __init__(
        self,
        *,
        n_factors: int = 16,
        n_members: int = 1,
        loss: str = "squared",
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
    def partial_fit(self, X: Any, y: Any, *, sample_weight: Any = None, query: Any = None) -> Self:
        """One pass over new rows, on top of what is learnt; solvers ``"als"`` and ``"gibbs"`` have none.

        Each row moves its columns a little. To learn all that a batch says, call this several times with the same rows:
        about half as many as the epochs (``n_iter_``) of a full fit.

        Parameters
        ----------
        X : array, CSR or frame of shape (n, n_features)
            A frame's new values get columns of their own; an array keeps its width. Scales are those of the first call.
        y : array of shape (n,)
        sample_weight : array of shape (n,), default=None
        query : array of shape (n,), default=None
            As in ``fit``.

        Returns
        -------
        self
        """
        return self._partial_fit(X, y, sample_weight, query)

    def _labels(self, y: Any, *, reset: bool, classes: Any = None, sample_weight: Any = None) -> Labels:
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None.")
        y = np.asarray(_check_y(column_or_1d(y, warn=True), y_numeric=True, estimator=self), dtype=np.float64)
        if self.loss == "poisson" and ((y < 0).any() or (reset and not y.any())):
            raise ValueError(
                f'loss="poisson" needs counts: no negative labels, some positive; the least is '
                f"{y.min():g}, the largest {y.max():g}."
            )
        if reset:
            scale = Scale()
            if self.loss == "squared":
                weight = _check_sample_weight(sample_weight, y, dtype=np.float64, ensure_non_negative=True)
                scale = Scale.of(y, weight)
            self.target_mean_, self.target_scale_ = scale.mean, scale.deviation
        return Labels((y - self.target_mean_) / self.target_scale_, self.loss)

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Mean of the label; a score that orders rows for ``loss="bpr"``.

        Parameters
        ----------
        X : array, CSR or frame of shape (n, n_features)
        return_std : bool, default=False
            Return the standard deviation of the mean between posterior draws too; ``solver="gibbs"`` only.

        Returns
        -------
        ndarray of float64, shape (n,), or a pair of them
        """
        mean = to_mean(self.loss, self._raw_scores(X)) * self.target_scale_ + self.target_mean_
        if not return_std:
            return mean
        if self._extra is None:
            raise ValueError(f'return_std=True needs posterior draws: solver="gibbs", not {self.solver!r}.')
        return mean, self._extra.std(self._matrix(X)) * self.target_scale_
