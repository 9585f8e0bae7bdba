"""The hash of tables: of what is in them alone."""

import numpy as np
import pandas as pd
from scipy import sparse

from mtl_classic.model_selection._fingerprint import fingerprint


def table() -> pd.DataFrame:
    columns = {
        "a": np.arange(4.0),
        "b": np.ones(4),
        "s": list("abca"),
        "day": pd.date_range("2024-01-01", periods=4),
    }
    return pd.DataFrame(columns).astype({"s": "category"})


def test_the_layout_in_memory_does_not_count() -> None:
    X, numbers = table(), np.arange(12.0).reshape(3, 4)
    one_by_one = pd.DataFrame({"a": X["a"]})
    for name in ("b", "s", "day"):
        one_by_one[name] = X[name]
    for same in (X.copy(), X[list(X)], one_by_one, X.iloc[::-1].iloc[::-1]):
        assert fingerprint(same, None) == fingerprint(X, None)
    assert fingerprint(np.asfortranarray(numbers)) == fingerprint(numbers)
    wide = sparse.csr_array(numbers)
    for same in (wide.copy(), wide[:], sparse.csr_array((wide.data, wide.indices.astype(np.int64), wide.indptr))):
        assert fingerprint(same) == fingerprint(wide) != fingerprint(2 * wide)


def test_all_else_counts() -> None:
    X = table()
    changed = [
        X.assign(a=[0.0, 1.0, 2.0, 4.0]),
        X.assign(a=[0, 1, 2, 3]),
        X.rename(columns={"a": "b", "b": "a"}),
        X[["b", "a", "s", "day"]],
        X.iloc[[1, 0, 2, 3]],
        X.assign(s=list("abcb")),
        X.set_axis([1, 2, 3, 4]),
        X.to_numpy(),
    ]
    assert len({fingerprint(one) for one in [X, *changed]}) == 9
    assert fingerprint(X, X["a"]) != fingerprint(X, X["b"])
    orders = [("abc", True), ("acb", True), ("abc", False), ("abcd", True)]
    ordered = [X.assign(s=pd.Categorical(X["s"], list(categories), ordered=is_so)) for categories, is_so in orders]
    assert len({fingerprint(one) for one in ordered}) == len({fingerprint(one["s"]) for one in ordered}) == 4
    objects = [[1, 0, None, 1], [True, False, None, True], ["1", "0", None, "1"], [1, "0", None, "1"]]
    assert len({fingerprint(X.assign(s=pd.Series(one, dtype=object))) for one in objects}) == 4
    cut = X.assign(s=pd.cut(X["a"], 2))
    assert fingerprint(cut.copy()) == fingerprint(cut) != fingerprint(cut.assign(s=pd.cut(X["a"], 3)))
    lists = X.assign(s=[[1], [2], [3], [4]])
    assert fingerprint(lists) != fingerprint(lists.assign(s=[[1], [2], [3], [5]]))
