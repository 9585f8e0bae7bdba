"""The significance test: replicates equal to drawing rows, verdicts as rare as promised where there is nothing."""

import tracemalloc
import weakref

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from mtl_classic import metrics as mc
from mtl_classic.metrics import _significance as sig
from mtl_classic.metrics import _statistics as stats
from mtl_classic.metrics._registry import get_metric, judge
from tests._reference import metrics_bootstrap as slow


def table_of(kind, seed, n=60):
    random = np.random.default_rng(seed)
    scores = random.integers(1, 30, n) / 31
    y = {
        "binary": random.random(n) < scores,
        "count": random.poisson(3 * scores),
        "regression": scores + random.normal(size=n),
        "multiclass": random.integers(0, 3, n),
        "ranking": random.integers(0, 3, n),
    }[kind].astype(float)
    if kind == "multiclass":
        scores = random.dirichlet(np.ones(3), n)
    clusters = random.integers(0, 12, n)
    return y, scores, clusters, clusters * 2 + random.integers(0, 2, n)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        *[("binary", m) for m in ("loss", "brier", "accuracy", "precision", "recall", "f1", "roc_auc")],
        *[("binary", m) for m in ("average_precision", "observed", "predicted", "ratio", "grouped_auc")],
        *[("multiclass", m) for m in ("loss", "accuracy", "macro_f1", "brier")],
        *[("regression", m) for m in ("loss", "rmse", "mae", "r2")],
        *[("count", m) for m in ("loss", "mae", "poisson_deviance")],
        *[("ranking", m) for m in ("loss", "ndcg@3", "map@3", "grouped_auc")],
    ],
)
def test_a_replicate_is_the_metric_of_the_drawn_rows(kind, name):
    y, scores, clusters, groups = table_of(kind, seed=5)
    y[3] = np.nan
    metric = get_metric(name)
    statistic = metric.bind(judge(kind, y, scores, None, groups, metric))
    random = np.random.default_rng(1)
    counts = np.stack([np.bincount(random.integers(0, 12, 12), minlength=12) for _ in range(5)], axis=1)
    fast = statistic.by_cluster(stats.SharedSums(stats.Clusters(clusters, 12)))(counts.astype(float))

    def drawn(y, scores, groups):
        return metric(kind, y, scores, groups=groups)

    for j in range(5):
        expected = slow.replicate(drawn, counts[:, j], clusters, y, scores, groups, n_queries=24)
        assert fast[j] == pytest.approx(expected, rel=1e-10, nan_ok=True)
    assert np.isfinite(fast).all()


def test_sums_that_statistics_share_are_multiplied_once():
    random = np.random.default_rng(0)
    rows, weight = np.arange(300), random.random(300)
    clusters = stats.Clusters(random.integers(0, 40, 300), 40)
    baseline = random.random(300)
    losses = [values for _ in range(stats.SUMS_AT_ONCE) for values in (random.random(300), baseline)]
    shared = stats.SharedSums(clusters)
    replicates = [stats.mean_statistic(rows, values, weight).by_cluster(shared) for values in losses]
    counts = random.integers(0, 3, (40, 7)).astype(float)
    assert len(shared.products(counts)) == stats.SUMS_AT_ONCE + 2  # one each, the baseline's, the weights'
    for values, replicate in zip(losses, replicates, strict=True):
        alone = stats.mean_statistic(rows, values, weight).by_cluster(stats.SharedSums(clusters))
        assert (replicate(counts) == alone(counts)).all()
        assert replicate(2 * counts)[0] == pytest.approx(replicate(counts)[0])  # other draws, other products


def test_calibration_error_replicates_keep_the_bins():
    y, scores, clusters, _ = table_of("binary", seed=2, n=500)
    metric = get_metric("calibration_error")
    statistic = metric.bind(judge("binary", y, scores, None, None, metric))
    ones = np.ones((12, 1))
    assert statistic.by_cluster(stats.SharedSums(stats.Clusters(clusters, 12)))(ones)[0] == pytest.approx(
        mc.expected_calibration_error(y, scores)
    )


def test_the_interval_of_a_calibration_error_allows_for_noise():
    random = np.random.default_rng(0)
    lows, values = [], []
    for seed in range(20):
        p = random.beta(2, 4, 400)
        y = (random.random(400) < p).astype(float)
        table = mc.evaluate_scores(
            y, p, tasks={"t": "binary"}, metrics="calibration_error", n_replicates=100, random_state=seed
        )
        lows.append(table["low"].iloc[0])
        assert lows[-1] >= 0
        values.append(table["value"].iloc[0])
    assert np.mean(lows) < 0.25 * np.mean(values)  # the scores are the truth, so all of the value is noise


@pytest.mark.parametrize("area", ["roc_auc", "average_precision"])
def test_joining_steps_of_a_curve_changes_the_spread_little(area, monkeypatch):
    random = np.random.default_rng(0)
    n = 20_000
    p = random.beta(1, 3, n)
    y = (random.random(n) < p).astype(float)
    clusters = sig.make_clusters(random.integers(0, 500, n), n, 0)
    other = np.clip(p + 0.1 * random.random(n), 0, 1)

    def spread():
        pair = [stats.CurveStatistic(stats.Curve(np.arange(n), y, s, np.ones(n)), area) for s in (p, other)]
        a, b = sig.bootstrap(pair, clusters, 200, 0)
        return np.array([a.std(), b.std(), (a - b).std(), a.mean(), b.mean()])

    joined = spread()
    monkeypatch.setattr(stats, "MAX_STEPS", 10**9)
    np.testing.assert_allclose(joined, spread(), rtol=0.02)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_equals_the_twin(p_values):
    np.testing.assert_allclose(sig.holm(np.array(p_values)), slow.holm(p_values))


def test_holm_leaves_missing_p_values_out():
    np.testing.assert_allclose(sig.holm(np.array([0.01, np.nan, 0.04])), [0.02, np.nan, 0.04])


def clustered(random, shift=0.0, n_clusters=150, size=6):
    """Losses of two models whose difference has a part that all rows of a cluster share."""
    clusters = np.repeat(np.arange(n_clusters), size)
    hard = random.gamma(2, 1, n_clusters * size)
    difference = random.normal(size=n_clusters)[clusters] + random.normal(size=len(hard)) + shift
    return hard + difference, hard, clusters


def test_the_interval_has_the_right_width():
    own, other, clusters = clustered(np.random.default_rng(0), n_clusters=2000)
    row = mc.compare({"t": own}, {"t": other}, clusters=clusters).loc["t"]
    means = (own - other).reshape(2000, 6).mean(axis=1)
    error = means.std() / np.sqrt(2000)
    assert row["difference"] == pytest.approx(means.mean())
    assert row["difference_high"] - row["difference_low"] == pytest.approx(2 * 1.96 * error, rel=0.1)


def test_rows_taken_for_independent_would_be_too_sure():
    own, other, clusters = clustered(np.random.default_rng(0))
    width = [
        np.subtract(*mc.compare({"t": own}, {"t": other}, clusters=c)[["difference_high", "difference_low"]].loc["t"])
        for c in (clusters, None)
    ]
    assert width[0] > 1.5 * width[1]


def test_false_alarms_are_as_rare_as_promised():
    random = np.random.default_rng(0)
    alarms = 0
    for seed in range(150):
        tasks = {f"t{i}": clustered(random) for i in range(4)}
        table = mc.compare(
            {k: v[0] for k, v in tasks.items()},
            {k: v[1] for k, v in tasks.items()},
            clusters={k: v[2] for k, v in tasks.items()},
            n_replicates=400,
            random_state=seed,
        )
        alarms += (table["verdict"] != "same").any()
    assert alarms / 150 < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 150)


@pytest.mark.parametrize(("shift", "verdict"), [(0.6, "worse"), (-0.6, "better"), (0.0, "same")])
def test_verdicts(shift, verdict):
    own, other, clusters = clustered(np.random.default_rng(4), shift)
    if shift == 0:
        own = other + np.where(np.arange(len(own)) % 2, 0.1, -0.1)
    row = mc.compare({"t": own}, {"t": other}, clusters=clusters).loc["t"]
    assert row["verdict"] == verdict
    assert (row["difference_low"] > 0) == (verdict == "worse")


@pytest.mark.parametrize(
    ("replicates", "p"),
    [
        (np.r_[np.full(3, -1.0), np.ones(97)], 0.06),
        (np.r_[0.0, np.full(99, 2.0)], 0.02),  # one at 0 counts for both sides
        (np.linspace(0.1, 1.9, 100), 2 / 101),  # none on the other side: the tail would be .057
        (np.linspace(0.5, 1.5, 100), 2 * norm.cdf(-1 / np.linspace(0.5, 1.5, 100).std())),
        (np.zeros(100), 1.0),
        (np.ones(100), 2.0**-39),  # what 40 clusters agree on by chance
        (np.r_[np.ones(100), np.full(50, np.nan)], 2.0**-39),
    ],
)
def test_p_values_are_those_of_the_construction(replicates, p):
    assert sig._p_value(1.0, replicates, 40) == pytest.approx(p)
    assert sig._p_value(-1.0, -replicates, 40) == pytest.approx(p)


def test_an_interval_is_that_of_the_defined_replicates_if_they_are_the_most():
    replicates = np.r_[np.full(100, np.nan), np.arange(101.0)]
    assert sig._interval(replicates, 0.9) == pytest.approx((5, 95))
    assert np.isnan(sig._interval(replicates[:-1], 0.9)).all()


def test_equal_losses_are_the_same():
    own, _, clusters = clustered(np.random.default_rng(0))
    row = mc.compare({"t": own}, {"t": own.copy()}, clusters=clusters).loc["t"]
    assert (row["difference"], row["p_value"], row["verdict"]) == (0, 1, "same")


def test_holm_takes_back_what_many_tasks_make_by_chance():
    random = np.random.default_rng(2)
    own, other, clusters = clustered(random, 0.25)
    alone = mc.compare({"t": own}, {"t": other}, clusters=clusters).loc["t"]
    assert alone["verdict"] == "worse"
    noise = {f"n{i}": clustered(random) for i in range(60)}
    many = mc.compare(
        {"t": own} | {k: v[0] for k, v in noise.items()},
        {"t": other} | {k: v[1] for k, v in noise.items()},
        clusters=clusters,
    )
    assert many.loc["t", "difference_low"] == alone["difference_low"] > 0
    assert many.loc["t", "verdict"] == "same"
    turned = mc.compare(
        {"t": other} | {k: v[1] for k, v in noise.items()},
        {"t": own} | {k: v[0] for k, v in noise.items()},
        clusters=clusters,
    )
    assert turned.loc["t", "difference_high"] < 0
    assert turned.loc["t", "verdict"] == "same"


def test_a_metric_is_corrected_over_tasks_and_not_over_metrics():
    tables = {f"t{seed}": table_of("binary", seed, n=300) for seed in range(3)}
    y, own = (pd.DataFrame({name: table[k] for name, table in tables.items()}) for k in (0, 1))

    def p_values(columns, metrics):
        found = mc.evaluate_scores(
            y[columns], own[columns], tasks=dict.fromkeys(columns, "binary"), baseline=own[columns] * 0.9 + 0.03,
            metrics=metrics, clusters=np.arange(300) % 30, n_replicates=200,
        )  # fmt: skip
        return found["p_value"].unstack("metric").loc[columns]

    metrics = ["loss", "brier"]
    together, alone = p_values(list(y), metrics), pd.concat([p_values([name], metrics) for name in y])
    for metric in metrics:
        np.testing.assert_allclose(together[metric], sig.holm(alone[metric].to_numpy()))
    assert (together > alone).any().all()


def test_deterministic_and_apart():
    own, other, clusters = clustered(np.random.default_rng(0))
    one = mc.compare({"a": own}, {"a": other}, clusters=clusters)
    two = mc.compare({"b": other, "a": own}, {"b": own, "a": other}, clusters=clusters)
    columns = ["low", "high", "difference_low", "difference_high"]
    np.testing.assert_array_equal(one.loc["a", columns], two.loc["a", columns])
    other_seed = mc.compare({"a": own}, {"a": other}, clusters=clusters, random_state=1)
    assert (one.loc["a", columns] != other_seed.loc["a", columns]).all()


def test_few_clusters_prove_nothing():
    own, other = np.ones(500) + 0.01 * np.random.default_rng(0).random(500), np.zeros(500)
    few, enough = (mc.compare({"t": own}, {"t": other}, clusters=np.arange(500) % m).loc["t"] for m in (5, 12))
    assert few["verdict"] == "same"
    assert few["difference_low"] > 0
    assert enough["verdict"] == "worse"
    clusters = np.arange(500) % 12
    weightless = mc.compare({"t": own}, {"t": other}, clusters=clusters, sample_weight=(clusters < 5) * 1.0)
    assert weightless.loc["t", "verdict"] == "same"


def test_pairs_that_were_read_are_not_kept():
    """Hundreds of pairs of a large table are compared in the memory of one."""
    random = np.random.default_rng(4)
    losses = {name: random.gamma(1.0, 1.0, (2, 500)) for name in "abcd"}
    clusters, weight = random.integers(0, 40, 500), random.integers(0, 3, 500).astype(float)
    made = []

    def pairs():
        for name, (own, other) in losses.items():
            assert all(pair() is None for pair in made[:-1])  # the last one read may still have a name
            own = own.copy()
            made.append(weakref.ref(own))
            yield name, own, other, weight

    streamed = sig.compare_pairs(pairs(), clusters=clusters)
    own, other = ({name: both[k] for name, both in losses.items()} for k in (0, 1))
    pd.testing.assert_frame_equal(
        streamed, mc.compare(own, other, clusters=clusters, sample_weight=weight), check_exact=True
    )


def test_sums_of_pairs_that_were_compared_are_not_kept(monkeypatch):
    monkeypatch.setattr(sig, "BATCH_SIZE", 10_000)  # two pairs
    losses, peaks = np.random.default_rng(0).random((2, 4000)), []
    for n_pairs in (20, 80):
        tracemalloc.start()
        sig.compare_pairs(((str(k), *losses, None) for k in range(n_pairs)), n_replicates=100)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


def test_many_small_comparisons_are_made_in_batches_to_the_same_bit(monkeypatch):
    y, scores, clusters, _ = table_of("binary", seed=0, n=400)
    sizes, bootstrap = [], sig.bootstrap

    def counting(statistics, *others):
        sizes.append(len(statistics))
        return bootstrap(statistics, *others)

    def judged():
        by, baseline = np.arange(400) % 40, np.full(400, 0.5)
        tasks = {"a": "binary"}
        return mc.evaluate_scores(y, scores, tasks=tasks, baseline=baseline, by=by, clusters=clusters, n_replicates=100)

    whole = judged()
    monkeypatch.setattr(sig, "bootstrap", counting)
    monkeypatch.setattr(sig, "BATCH_SIZE", 1000)  # some three slices of three metrics: their replicates are the most
    pd.testing.assert_frame_equal(judged(), whole, check_exact=True)
    assert sum(sizes) == 40 * 3 * 2
    assert max(sizes) <= 24


def test_many_rows_are_joined_at_random(monkeypatch):
    own, other = (np.tile(losses[:300], 4) for losses in clustered(np.random.default_rng(0))[:2])
    wide = mc.compare({"t": own}, {"t": other}).loc["t"]
    monkeypatch.setattr(sig, "MAX_CLUSTERS", 300)
    joined = mc.compare({"t": own}, {"t": other}).loc["t"]
    width = [row["difference_high"] - row["difference_low"] for row in (wide, joined)]
    assert width[0] != width[1]
    assert width[1] == pytest.approx(width[0], rel=0.15)  # twice as wide if those 300 apart were joined


def test_each_task_has_its_own_clusters():
    random = np.random.default_rng(0)
    own, other = (dict(zip("ab", random.normal(size=(2, 600)), strict=True)) for _ in range(2))
    clusters = {"a": np.arange(600) // 3, "b": np.arange(600) % 50}
    together = mc.compare(own, other, clusters=clusters).drop(columns=["p_value", "verdict"])
    for name, mine in clusters.items():
        alone = mc.compare({name: own[name]}, {name: other[name]}, clusters=mine).loc[name, together.columns]
        pd.testing.assert_series_equal(together.loc[name], alone, check_dtype=False)


def test_every_cluster_may_be_drawn():
    for last in (0, 29):
        table = mc.compare({"t": np.arange(30) == last}, {"t": np.zeros(30)}).loc["t"]
        assert (
            table["high"] == table["difference_high"] == pytest.approx(0.1)
        )  # three times, of the one row that has a loss


@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
def test_the_level_is_that_of_intervals_and_verdicts(level):
    random = np.random.default_rng(0)
    other = random.gamma(2, 1, 400)
    own = {f"t{k}": other + random.normal(k / 200, 1, 400) for k in range(0, 40, 2)}
    table = mc.compare(own, dict.fromkeys(own, other), level=level)
    width = (norm.ppf((1 + level) / 2) * 2 / 20) * pd.Series({name: (mine - other).std() for name, mine in own.items()})
    np.testing.assert_allclose(table["difference_high"] - table["difference_low"], width, rtol=0.15)
    spread = (norm.ppf((1 + level) / 2) * 2 / 20) * pd.Series({name: mine.std() for name, mine in own.items()})
    np.testing.assert_allclose(table["high"] - table["low"], spread, rtol=0.15)
    above, sure = table["difference_low"] > 0, table["p_value"] <= 1 - level
    assert (above & ~sure).any()
    assert ((table["verdict"] == "worse") == (above & sure)).all()
    assert (table["verdict"] == "worse").any()


def test_a_missing_cluster_is_a_row_on_its_own():
    clusters = sig.make_clusters(np.array(["a", None, "a", None], dtype=object), 4, 0)
    assert clusters.n == 3
    assert clusters.codes[0] == clusters.codes[2]
    assert len(set(clusters.codes)) == 3


def test_unlabelled_and_weightless_rows_do_not_count():
    own, other, clusters = clustered(np.random.default_rng(0), 0.3)
    keep = np.arange(len(own)) % 3 > 0
    masked, weight = np.where(keep, own, np.nan), keep.astype(float)
    expected = mc.compare({"t": own[keep]}, {"t": other[keep]}, clusters=clusters[keep])
    for table in (
        mc.compare({"t": masked}, {"t": other}, clusters=clusters),
        mc.compare({"t": own}, {"t": np.where(keep, other, np.nan)}, clusters=clusters),
        mc.compare({"t": own}, {"t": other}, clusters=clusters, sample_weight=weight),
        mc.compare({"t": own}, {"t": other}, clusters=clusters, sample_weight={"t": weight}),
    ):
        np.testing.assert_allclose(
            table.drop(columns="verdict").astype(float), expected.drop(columns="verdict").astype(float), rtol=1e-10
        )


def test_a_task_without_labels_has_no_verdict():
    table = mc.compare({"a": np.full(20, np.nan), "b": np.arange(20.0)}, {"a": np.ones(20), "b": np.arange(20.0)[::-1]})
    assert table.loc["a"].isna().all()
    assert table.loc["b", "verdict"] == "same"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mc.compare({"a": [1.0]}, {"b": [1.0]}), "No baseline losses for the tasks a"),
        (lambda: mc.compare({"a": [1.0]}, {"a": [1.0, 2.0]}), "shapes .1,. and .2,."),
        (lambda: mc.compare({"a": [[1.0]]}, {"a": [[1.0]]}), "expected .n,. twice"),
        (lambda: mc.compare({"a": [1.0]}, {"a": [1.0]}, n_replicates=10), "at least 100"),
        (lambda: mc.compare({"a": [1.0]}, {"a": [1.0]}, level=95), "level must be a number above 0 and below 1"),
        (lambda: mc.compare({"a": [1.0]}, {"a": [1.0]}, level=0.0), "level must be a number above 0 and below 1"),
        (lambda: mc.compare({"a": [1.0]}, {"a": [1.0]}, level=1.0), "level must be a number above 0 and below 1"),
        (lambda: mc.compare({"a": [1.0]}, {"a": [1.0]}, clusters=[1, 2]), "clusters have 2 rows"),
        (lambda: mc.compare(*[{"a": [1.0, 2.0], "b": [1.0]}] * 2, clusters=[1, 2]), "clusters have 2 rows"),
    ],
)
def test_wrong_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
