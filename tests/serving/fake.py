"""A model whose scores are columns of the rows, so that a test knows them."""

from typing import Any

import numpy as np
import pandas as pd


class Known:
    """Scores are the columns named ``score_…``; rows seen at a time are counted."""

    def __init__(self, roles: dict[str, str] | None = None, shift: float = 0.0) -> None:
        self.roles_ = {} if roles is None else roles
        self.shift = shift
        self.largest = self.n_rows = 0

    def predict_scores(self, X: Any, space: str = "entire") -> pd.DataFrame:
        self.largest, self.n_rows = max(self.largest, len(X)), self.n_rows + len(X)
        names = [name for name in X.columns if str(name).startswith("score_")]
        return X[names].rename(columns=lambda name: name.removeprefix("score_")) + self.shift


def candidates(n: int = 5000, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "user": rng.integers(0, 60, n),
            "item": [f"i{k}" for k in rng.integers(0, 400, n)],
            "margin": rng.random(n),
            "score_buy": rng.integers(0, 50, n) / 50,  # many ties
            "score_spend": rng.gamma(2.0, 5.0, n),
        },
        index=rng.permutation(n),
    )
