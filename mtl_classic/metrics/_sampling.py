"""Tables in which only a share of the negatives was kept: scores and weights that speak of the whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from mtl_classic._core.options import TASK, check_option, list_of
from mtl_classic.metrics._arrays import Floats, as_floats


def correct_sampling(
    scores: Any, sampling_rate: Any, *, sampled_by: str | None = None, descendants: Sequence[str] = ()
) -> Any:
    r"""Probabilities of a model that was trained on a down-sampled table, brought back to the true rate.

    Where all positives and a share :math:`r` of the negatives were kept, the odds are :math:`1 / r` times too high:

    .. math:: \operatorname{logit} p = \operatorname{logit} q + \log r, \qquad p = \frac{r q}{1 - q + r q}

    The shift keeps the order of rows, so that rankings and AUC stay; rates, thresholds and expected amounts need it.

    Parameters
    ----------
    scores : array of shape (n,), or frame of shape (n, n_tasks) as `predict_scores` gives it
        Probabilities in [0, 1]; NaN stays NaN.
    sampling_rate : float or array of shape (n,)
        Share of the negatives that was kept, in (0, 1]; per row where it depended on the row (a column of the table).
    sampled_by : str, default=None
        With a frame: the binary task whose negatives were sampled.
    descendants : sequence of str, default=()
        With a frame: the tasks below it in the funnel. A child's score of the entire space is a product with the
        parent's, P(child) = P(parent) P(child | parent), and what follows a positive is not changed by leaving out
        negatives: so it is multiplied by the parent's p / q. Other columns stay as they are.

    Returns
    -------
    ndarray of shape (n,), or DataFrame
        In the form of ``scores``; the input is not changed.

    Raises
    ------
    ValueError
        Rates outside (0, 1], scores outside [0, 1], a frame without ``sampled_by``, columns that are not there.

    References
    ----------
    G. King, L. Zeng, Logistic regression in rare events data, 2001, doi:10.1093/oxfordjournals.pan.a004868.

    Examples
    --------
    >>> import pandas as pd
    >>> from mtl_classic.metrics import correct_sampling
    >>> correct_sampling([0.5, 0.9], 0.1).round(4).tolist()
    [0.0909, 0.4737]
    >>> scores = pd.DataFrame({"click": [0.5], "buy": [0.1]})
    >>> correct_sampling(scores, 0.1, sampled_by="click", descendants=["buy"]).round(4).values.tolist()
    [[0.0909, 0.0182]]
    """
    if not isinstance(scores, pd.DataFrame):
        q = as_floats(scores, "scores")
        if q.ndim != 1:
            raise ValueError(f"scores has the shape {q.shape}; expected (n,), or a frame of pandas with sampled_by=.")
        return _shifted(q, _check_rate(sampling_rate, len(q)))
    if sampled_by is None:
        raise ValueError(f"scores has the columns {list(scores.columns)}: name the sampled one, sampled_by=.")
    check_option("sampled_by", sampled_by, TASK)
    check_option("descendants", descendants, list_of("names of tasks"))
    unknown = [name for name in (sampled_by, *descendants) if name not in scores.columns]
    if unknown:
        raise ValueError(f"scores has no columns {unknown}; it has {list(scores.columns)}.")
    q = scores[sampled_by].to_numpy(dtype=np.float64)
    p = _shifted(q, _check_rate(sampling_rate, len(q)))
    factor = np.divide(p, q, out=np.ones_like(p), where=q > 0)
    corrected = scores.copy()
    corrected[sampled_by] = p
    for name in descendants:
        corrected[name] = scores[name].to_numpy(dtype=np.float64) * factor
    return corrected


def sampling_weights(y: Any, sampling_rate: Any) -> Floats:
    """Weights by which a down-sampled table counts like the whole one: 1 for positives, 1 / rate for negatives.

    Every metric of `mtl_classic.metrics` takes them as ``sample_weight``: log-loss, calibration and rates are then
    those of the whole table. Soft labels y weigh y + (1 − y) / rate.

    Parameters
    ----------
    y : array of shape (n,)
        0 and 1, or soft labels; NaN is unlabelled and weighs 1 / rate.
    sampling_rate : float or array of shape (n,)
        Share of the negatives that was kept, in (0, 1].

    Returns
    -------
    ndarray of shape (n,), float64

    Raises
    ------
    ValueError
        Rates outside (0, 1], labels outside [0, 1].

    Examples
    --------
    >>> from mtl_classic.metrics import calibration_table, correct_sampling, sampling_weights
    >>> y, scores = [1, 0, 0], [0.5, 0.5, 0.5]
    >>> weight = sampling_weights(y, 0.1)
    >>> weight.tolist()
    [1.0, 10.0, 10.0]
    >>> calibration_table(y, correct_sampling(scores, 0.1), n_bins=1, sample_weight=weight)[["observed", "predicted"]]
         observed  predicted
    bin
    1    0.047619   0.090909
    """
    labels = as_floats(y, "labels")
    rate = _check_rate(sampling_rate, len(labels))
    known = labels[~np.isnan(labels)]
    if ((known < 0) | (known > 1)).any():
        raise ValueError("labels must lie in [0, 1]: only the negatives of binary tasks are sampled.")
    positive = np.where(np.isnan(labels), 0.0, labels)
    return positive + (1.0 - positive) / rate


def _check_rate(sampling_rate: Any, n: int) -> Floats:
    rate = as_floats(sampling_rate, "sampling_rate")
    if rate.shape not in ((), (n,)):
        raise ValueError(f"sampling_rate has the shape {rate.shape}; expected a number or ({n},).")
    wrong = ~((rate > 0) & (rate <= 1))
    if wrong.any():
        raise ValueError(
            f"sampling_rate is the share of negatives that was kept, in (0, 1]; {int(wrong.sum())} values are not, "
            f"such as {rate[wrong].flat[0]:g}. (1 in 10 kept is 0.1, not 10.)"
        )
    return np.broadcast_to(rate, (n,))


def _shifted(q: Floats, rate: Floats) -> Floats:
    known = q[~np.isnan(q)]
    if ((known < 0) | (known > 1)).any():
        raise ValueError("scores must be probabilities in [0, 1] to be corrected for sampling.")
    return rate * q / (1.0 - q + rate * q)
