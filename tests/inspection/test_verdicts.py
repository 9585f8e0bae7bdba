"""What monitor reports, against its checks one by one; where its verdicts change."""

from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mtl_classic import MultiTaskEstimator, PerTaskModel, Task, monitor, monitor_reference
from mtl_classic.inspection._drift import calibration_ratio, population_stability, share


class Told(MultiTaskEstimator):
    """Scores that the rows bring along."""

    def __init__(self, tasks: Any = None, *, user: Any = None, time: Any = None) -> None:
        self.tasks, self.user, self.time = tasks, user, time

    def fit(self, X: Any, Y: Any, *, sample_weight: Any = None, events: Any = None, plan: Any = None) -> "Told":
        self._start_fit(X, Y, sample_weight)
        return self

    def _scores(self, X: Any, space: str) -> Any:
        return {"n": X["p"].to_numpy(dtype=float)}


def rows(n: int, seed: int, n_users: int = 60) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "user": np.where(rng.random(n) < 0.1, np.nan, rng.integers(0, n_users, n) ** 2),
            "time": rng.permutation(n) * 3 // n,
            "price": np.where(rng.random(n) < 0.2, np.nan, rng.normal(seed, 4, n)),
            "device": rng.choice(["desk", "phone", None], n, p=[0.3, 0.6, 0.1]),
            "p": rng.gamma(2, 1, n),
        }
    ).assign(moves=lambda table: table["time"] - 0.5)


def one_by_one(column: Any) -> tuple[pd.Series, float]:
    """Users, each missing one apart, and Kish's number of rows."""
    alone = pd.Series(-1.0 - np.arange(len(column)), column.index)
    codes = column.fillna(alone)
    return codes, len(codes) ** 2 / (codes.value_counts() ** 2).sum()


def test_the_report_is_that_of_its_checks() -> None:
    before, now, matured = rows(300, 0), rows(400, 1, 80), rows(350, 2)
    y = np.random.default_rng(3).poisson(matured["p"]).astype(float)
    y[(np.arange(350) % 5 == 0) | (matured["time"] == 1)] = np.nan
    model = Told({"n": "count"}, user="user", time="time").fit(before, before["p"].round())
    reference = monitor_reference(model, before)
    report = monitor(model, now, matured, y, reference=reference, alpha=0.1).drop(("overall", "", ""))
    z, n_now, n_before = (
        NormalDist().inv_cdf(1 - 0.05 / len(report)),
        one_by_one(now["user"])[1],
        one_by_one(before["user"])[1],
    )
    known = now["user"].dropna()
    new = int((~known.isin(before["user"])).sum())
    expected: dict[tuple[str, str, str], Any] = {
        ("unseen", "user", ""): (*share(new, len(known), n_now * len(known) / 400, z), reference.columns["user"].unseen)
    }
    for name in ("user", "price", "device", "p", "moves"):
        if name not in ("user", "moves"):
            kept = reference.columns[name]
            told = population_stability(kept.counts, kept.count(now[name]), n_before, n_now, z)
            expected["stability", name, ""] = *told, 0.0
        missing = int(now[name].isna().sum())
        expected["missing", name, ""] = *share(missing, 400, n_now, z), before[name].isna().mean()
    kept = reference.scores["n"]
    expected["stability", "score of n", ""] = (
        *population_stability(kept.counts, kept.count(now["p"]), n_before, n_now, z),
        0.0,
    )
    users = pd.factorize(one_by_one(matured["user"])[0])[0]
    for day, of in (("0", matured["time"] == 0), ("2", matured["time"] == 2), ("all", matured["time"] >= 0)):
        some = (of & ~np.isnan(y)).to_numpy()
        codes = np.unique(users[some], return_inverse=True)[1]
        interval = calibration_ratio(matured["p"].to_numpy()[some], y[some], codes)(z)
        expected["calibration", "n", day] = *interval, 1.0
    assert report.index.tolist() == list(expected)
    told = report[["value", "low", "high", "reference"]].to_numpy(dtype=float)
    np.testing.assert_allclose(told, list(expected.values()), rtol=1e-9)
    one_day = monitor(model, now, matured[matured["time"] == 2], y[matured["time"] == 2], reference=reference)
    assert one_day.loc["calibration"].index.tolist() == [("n", "2")]


def test_unlabelled_rows_are_of_no_class() -> None:
    X = pd.DataFrame({"x": np.random.default_rng(0).normal(size=300)})
    y = pd.Series(np.where(X["x"] > 0.3, "a", "b")).mask(np.arange(300) % 3 == 0)
    model = PerTaskModel({"kind": "multiclass"}, learner="linear", random_state=0).fit(X, y.to_frame("kind"))
    report = monitor(model, X, X, y.to_frame("kind"), reference=monitor_reference(model, X))
    scores = model.predict_scores(X)[y.notna()]
    for label in "ab":
        ratio = scores[f"kind={label}"].sum() / (y == label).sum()
        assert report.loc[("calibration", f"kind={label}", "all"), "value"] == pytest.approx(ratio)


N = 100_000


@pytest.fixture(scope="module")
def plain() -> Any:
    X = pd.DataFrame({"half": np.arange(N) % 2 * 1.0, "id": [f"i{k}" for k in np.arange(N) % 1000], "p": 0.2})
    model = Told({"n": "count"}).fit(X, X["half"])
    model.reference_ = monitor_reference(model, X)
    return model, X


@pytest.mark.parametrize(
    ("ratio", "tolerance", "verdict"),
    [
        *[(ratio, 0.05, "ok") for ratio in (1.02, 1 / 1.02)],
        *[(ratio, 0.05, "watch") for ratio in (1.08, 1.12, 1 / 1.08, 1 / 1.12)],
        *[(ratio, 0.05, "retrain") for ratio in (1.18, 1 / 1.18)],
        *[(ratio, 0.3, "ok") for ratio in (1.25, 1 / 1.25)],
        *[(ratio, 0.0, "watch") for ratio in (1.03, 1 / 1.03)],
        (1.4, 0.3, "retrain"),
    ],
)
def test_verdicts_on_rates(plain: Any, ratio: float, tolerance: float, verdict: str) -> None:
    model, X = plain
    y = (np.arange(N) < N * 0.2 / ratio) * 1.0
    report = monitor(model, X, X, y, tolerance=tolerance)
    assert report["verdict"].to_dict() == dict.fromkeys(report.index, "ok") | {
        ("calibration", "n", "all"): verdict,
        ("overall", "", ""): verdict,
    }
    if verdict != "ok":
        assert (
            f"surely {'above' if ratio > 1 else 'below'} what is right"
            in report.loc[("calibration", "n", "all"), "reason"]
        )


@pytest.mark.parametrize(("points", "verdict"), [(0.04, "ok"), (0.06, "watch"), (0.24, "watch"), (0.26, "retrain")])
def test_verdicts_on_missing_values_and_new_ids(plain: Any, points: float, verdict: str) -> None:
    model, X = plain
    some = np.arange(N) < points * N
    for change, told in (({"half": X["half"].mask(some)}, "missing"), ({"id": X["id"].mask(some, "new")}, "unseen")):
        report = monitor(model, X.assign(**change))
        assert (
            report.loc[(told, next(iter(change)), ""), "verdict"]
            == report.loc[("overall", "", ""), "verdict"]
            == verdict
        )
    half = pd.Series(np.where(some, np.nan, X["half"]))
    fewer = monitor(model, X, reference=monitor_reference(model, X.assign(half=half)))
    assert fewer.loc[("missing", "half", ""), "verdict"] == verdict


@pytest.mark.parametrize(("one", "verdict"), [(0.62, "ok"), (0.68, "watch"), (0.72, "watch"), (0.76, "retrain")])
def test_verdicts_on_shifts(plain: Any, one: float, verdict: str) -> None:
    """A half that becomes a share s has the index (s - 1/2) · logit(s)."""
    model, X = plain
    report = monitor(model, X.assign(half=(np.arange(N) < one * N) * 1.0))
    told = report.loc[("stability", "half", "")]
    assert told["value"] == pytest.approx((one - 0.5) * np.log(one / (1 - one)), rel=1e-2)
    assert told["verdict"] == report.loc[("overall", "", ""), "verdict"] == verdict


def test_new_ids_are_compared_with_how_many_there_were(plain: Any) -> None:
    model, X = plain
    reference = monitor_reference(model, X)
    reference.columns["id"].unseen = 0.3
    for share_of_new, verdict in ((0.0, "ok"), (0.34, "ok"), (0.36, "watch"), (0.56, "retrain")):
        report = monitor(model, X.assign(id=X["id"].mask(np.arange(N) < share_of_new * N, "new")), reference=reference)
        assert report.loc[("overall", "", ""), "verdict"] == verdict


def test_the_age_is_that_at_the_latest_row() -> None:
    X = pd.DataFrame({"time": [3.0, 12.0, 5.0], "p": 1.0})
    dated = X.assign(time=pd.Timestamp("2024-01-01") + pd.to_timedelta(X["time"], "D"))

    def age(rows: Any, as_of: Any, max_age: Any = None) -> Any:
        model = Told({"n": "count"}, time="time").fit(rows, X["p"])
        model.as_of_ = as_of
        report = monitor(model, rows, reference=monitor_reference(model, rows), max_age=max_age)
        return tuple(report.loc[("age", "log", ""), ["value", "verdict"]]) if "age" in report.index else None

    assert age(X, 7.0) == (5.0, "ok")
    assert age(X, 7.0, 5) == (5.0, "ok")
    assert age(X, 7.0, 4.9) == (5.0, "watch")
    assert age(X, None) is None
    assert age(dated, pd.Timestamp("2024-01-11")) == (2.0, "ok")
    assert age(dated, pd.Timestamp("2024-01-10 23:59")) == (pytest.approx(2 + 1 / 1440), "watch")
    assert age(dated, pd.Timestamp("2024-01-06"), "7D") == (7.0, "ok")


@pytest.mark.parametrize(("n_lost", "more"), [(4, ""), (5, ""), (6, " and 1 more"), (7, " and 2 more")])
def test_the_gravest_checks_are_named_once(n_lost: int, more: str) -> None:
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(900, 8))).add_prefix("c").assign(p=1.0, time=np.arange(900))
    model = Told({"n": "count"}, time="time").fit(X, X["p"])
    now = X.assign(c7=X["c7"].mask(np.arange(900) < 150))  # not as grave
    now.iloc[:, :n_lost] = np.nan
    report = monitor(model, now, reference=monitor_reference(model, X))
    overall = report.loc[("overall", "", "")]
    assert overall["verdict"] == "retrain"
    assert overall["reason"] == ", ".join(f"missing of c{k}" for k in range(min(n_lost, 5))) + more
    days = monitor(model, X, X.assign(time=np.arange(900) // 300), X["p"] * 2, reference=monitor_reference(model, X))
    assert (days.loc["calibration"]["verdict"] == "retrain").sum() == 4
    assert days.loc[("overall", "", ""), "reason"] == "calibration of n"


def test_contradictory_labels_are_settled_as_in_fitting() -> None:
    X = pd.DataFrame({"x": np.random.default_rng(0).normal(size=200)})
    Y = pd.DataFrame({"click": (X["x"] > 0) * 1.0, "buy": np.arange(200) % 2 * 1.0})
    tasks = [Task("click", "binary"), Task("buy", "binary", given="click")]
    model = PerTaskModel(tasks, learner="linear", on_conflict="drop", random_state=0).fit(X, Y)
    report, scores = monitor(model, X, X, Y, reference=monitor_reference(model, X)), model.predict_scores(X)
    kept = (Y["click"] == 1) | (Y["buy"] == 0)
    ratio = scores["buy"][kept].sum() / Y["buy"][kept].sum()
    assert report.loc[("calibration", "buy", "all"), "value"] == pytest.approx(ratio)
