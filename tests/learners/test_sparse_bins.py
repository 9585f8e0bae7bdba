"""Sparse bins of LightGBM, built column by column, write beside their memory on subsets: dense tables have none."""

import numpy as np
import pytest
from scipy import sparse

from mtl_classic import FunnelModel, HistoryFeatures, LightGBMLearner, make_funnel
from mtl_classic.learners._columns import FeatureColumns


def test_dense_tables_have_no_sparse_bins_unless_asked_for() -> None:
    X = np.eye(200, 4)
    for table, params, expected in (
        (X, None, False), (X, {"is_enable_sparse": True}, True), (sparse.csr_matrix(X), None, None),
    ):  # fmt: skip
        columns = FeatureColumns().fit(table)
        binned = LightGBMLearner(params=params).bin(columns.transform(table))
        assert binned.params.get("is_enable_sparse") is expected


@pytest.mark.slow
def test_a_funnel_on_columns_that_are_mostly_zero() -> None:
    """With sparse bins this ended in "Check failed: right_count", or in a segmentation fault."""
    shop = make_funnel(100_000, n_users=20_000, n_items=3000, random_state=0)
    table = HistoryFeatures(**shop.roles).fit_transform(shop.X, events=shop.events)
    for seed in range(3):
        model = FunnelModel(shop.tasks, **shop.roles, random_state=seed).fit(table, shop.Y)
        assert np.isfinite(model.predict_scores(table.head(1000)).to_numpy()).all()
