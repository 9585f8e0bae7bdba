"""AveragingEnsemble: given, greedy and optimal weights, and the out-of-fold store beneath them."""

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.ensemble import VotingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GroupKFold, TimeSeriesSplit
from sklearn.tree import DecisionTreeClassifier

from mtl_classic import (
    AveragingEnsemble,
    FoldError,
    LightGBMLearner,
    PerTaskModel,
    SklearnLearner,
    StackingEnsemble,
    Task,
    TaskError,
    Temporal,
    make_folds,
)
from mtl_classic._core.losses import task_loss as mean_loss
from mtl_classic.ensemble._selection import _slopes, choose_weights, greedy_weights, make_problem, optimal_weights
from mtl_classic.ensemble._store import latest_rows
from mtl_classic.metrics import ndcg, roc_auc, task_loss
from tests.ensemble.tables import FUNNEL, MIXED, funnel, members, mixed, ranked, trees

LEARNT = ["greedy", "optimize"]


def out_of_fold_loss(task: Any, Y: pd.DataFrame, frame: pd.DataFrame) -> float:
    y, score = Y[task.name], frame.filter(regex=f"^{task.name}(=|$)").to_numpy()
    if task.kind == "multiclass":
        classes = sorted(y.dropna().unique())
        y = y.map({label: k for k, label in enumerate(classes)}).astype(float)
    else:
        score = score[:, 0]
    return task_loss(task.kind, y.to_numpy(dtype=float, na_value=np.nan), score)


def test_uniform_weights_are_soft_voting() -> None:
    X, Y = mixed()
    y = Y["spend"].fillna(0).to_numpy() > 1
    numbers = X[list("abcd")].to_numpy(dtype=np.float32)
    ours = [
        (f"tree{d}", PerTaskModel(learner=SklearnLearner(DecisionTreeClassifier(max_depth=d)), random_state=0))
        for d in (1, 2)
    ]
    peers = [(f"tree{d}", DecisionTreeClassifier(max_depth=d, random_state=0)) for d in (1, 2)]
    for weights in (None, [1.0, 3.0]):
        model = AveragingEnsemble(ours, weights=weights).fit(numbers, y)
        peer = VotingClassifier(peers, voting="soft", weights=weights).fit(numbers, y)
        np.testing.assert_allclose(model.predict_proba(numbers), peer.predict_proba(numbers), rtol=1e-10)


@pytest.mark.parametrize("weights", LEARNT)
def test_learnt_weights_lose_to_no_member_out_of_fold(weights: str) -> None:
    X, Y = mixed()
    model = AveragingEnsemble(members(), weights=weights, cv=3, shrinkage=0.0, random_state=0).fit(X, Y)
    np.testing.assert_allclose(model.weights_.sum(), 1.0)
    assert (model.weights_ >= 0).all(axis=None)
    for task in MIXED:
        own = out_of_fold_loss(task, Y, model.oof_scores_)
        single = [out_of_fold_loss(task, Y, model.oof_predictions_[name]) for name in model.weights_.index]
        assert own <= min(single) + 1e-6
    assert model.score(X, Y) > 0.2


@pytest.mark.parametrize("weights", LEARNT)
def test_shrinkage_pulls_to_uniform(weights: str) -> None:
    X, Y = mixed()
    model = AveragingEnsemble(members(), weights=weights, cv=3, shrinkage=1e9, random_state=0).fit(X, Y)
    np.testing.assert_allclose(model.weights_, 1 / 3, atol=1e-3)


@pytest.mark.parametrize("solve", [greedy_weights, optimal_weights])
@pytest.mark.parametrize("far", [1e3, 1e9, 1e150])
def test_a_member_that_went_astray_neither_counts_nor_hides_the_others(solve: Any, far: float) -> None:
    rng = np.random.default_rng(0)
    y = rng.normal(size=200)
    scores = [y + 0.1 * rng.normal(size=200), y + rng.normal(size=200), np.where(np.arange(200) % 10, y, far)]
    weights = solve(make_problem(Task("spend", "regression"), y, scores, None, None, 10.0), range(3))
    assert weights[0] > 0.75
    assert weights[2] == 0


@pytest.mark.parametrize("kind", ["ranking", "regression", "binary", "count", "multiclass"])
@pytest.mark.parametrize("solve", [greedy_weights, optimal_weights])
def test_heavy_rows_choose_the_members_of_every_kind(kind: str, solve: Any) -> None:
    rng = np.random.default_rng(0)
    y, query = rng.integers(0, 2 if kind == "binary" else 3, 1000).astype(float), np.repeat(np.arange(200), 5)
    sure = (
        np.eye(3)[y.astype(int)] * 0.7 + 0.1
        if kind == "multiclass"
        else np.clip(y, 0.1, 0.9 if kind == "binary" else 9)
    )
    heavy = query < 20
    wide = heavy[:, None] if kind == "multiclass" else heavy
    vague = rng.permutation(sure)
    scores = [np.where(wide, sure, vague), np.where(wide, vague, sure)]
    weight = np.where(heavy, 100.0, 1.0)
    task = Task("y", kind, query="q" if kind == "ranking" else None)
    problem = make_problem(task, y, scores, weight, query, 1.0)
    assert solve(problem, range(2))[0] > 0.6
    assert solve(make_problem(task, y, scores, None, query, 1.0), range(2))[0] < 0.4
    losses = [problem.loss(part) for part in problem.parts]
    np.testing.assert_allclose(losses, [mean_loss(kind, y, score, weight, query) for score in scores], rtol=1e-6)


def test_a_problem_holds_the_rows_that_count_and_knows_them() -> None:
    y, weight = np.array([0.0, np.nan, 1, 1, 0, 1]), np.array([1.0, 1, 0, 2, 3, 4])
    scores = [np.linspace(0, 1, 6), np.array([0.5, 0.5, 0.5, 0.5, np.nan, 0.5])]
    problem = make_problem(Task("y", "binary"), y, scores, weight, np.arange(6) // 2, 10.0)
    assert problem.rows.tolist() == [0, 3, 5]
    part = problem.within(np.array([5, 4, 3]))
    assert (part.rows.tolist(), part.y.tolist(), part.weight.tolist()) == ([3, 5], [1, 1], [2, 4])
    assert part.groups is not None
    assert part.groups.tolist() == [1, 2]
    np.testing.assert_allclose(part.parts, [[0.6, 1.0], [0.5, 0.5]])
    assert problem.distance(np.array([1.0, 0.0])) == pytest.approx(10 / 3 * 0.5)
    assert problem.distance(np.array([0.5, 0.5])) == 0


@pytest.mark.parametrize("method", LEARNT)
def test_the_dearest_member_for_what_it_brings_is_left_out_first(method: str) -> None:
    rng = np.random.default_rng(0)
    y = rng.normal(size=(2, 400))
    noise = [0.5, 0.6, 1.5]  # the first is the best, a little, and dear; the last is hardly of use
    problems = [
        make_problem(
            Task(f"t{j}", "regression"), own, [own + s * rng.normal(size=400) for s in noise], None, None, 10.0
        )
        for j, own in enumerate(y)
    ]
    costs = [5.0, 1.0, 1.0]
    free = choose_weights(problems, method, max_members=None, costs=costs)
    assert (free[:2] > 0.2).all()
    np.testing.assert_allclose(free.sum(axis=0), 1)
    within = choose_weights(problems, method, max_members=2, costs=costs)
    assert (within[0] == 0).all()
    assert (within[1] > 0.7).all()
    (one,) = np.flatnonzero(choose_weights(problems, method, max_members=0.5, costs=costs).any(axis=1))
    assert one == 1  # the last that is left stays, whatever it costs


def test_members_within_a_budget_are_judged_by_whole_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    y, queries = rng.integers(0, 3, 800).astype(float), np.arange(800) // 4
    members = [y + s * rng.normal(size=800) for s in (1.0, 1.3)]
    problem = make_problem(Task("grade", "ranking", query="q"), y, members, None, queries, 10.0)
    assert choose_weights([problem], "greedy", max_members=None, costs=[1, 1]).all()
    monkeypatch.setattr("mtl_classic.ensemble._selection.BUDGET_ROWS", 200)  # every fourth row: lists of one
    assert choose_weights([problem], "greedy", max_members=1, costs=[1, 1])[0] == 1  # the better one


@pytest.mark.parametrize("kind", ["regression", "binary", "count", "multiclass"])
def test_slopes_of_the_weights_are_those_of_the_loss(kind: str) -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(-1 if kind == "multiclass" else 0, 2 if kind == "binary" else 3, 50).astype(float)  # -1: no class
    scores = list(rng.dirichlet([1, 1, 1], (3, 50)) if kind == "multiclass" else rng.uniform(0.1, 0.9, (3, 50)))
    problem = make_problem(Task("y", kind), y, scores, rng.random(50), None, 1.0)
    at, step = np.array([0.2, 0.5, 0.3]), 1e-6 * np.eye(3)
    loss = [[problem.loss(np.tensordot(at + sign * d, problem.parts, axes=1)) for sign in (1, -1)] for d in step]
    found = _slopes(problem, problem.parts, np.tensordot(at, problem.parts, axes=1))
    np.testing.assert_allclose(found, [(up - down) / 2e-6 for up, down in loss], rtol=1e-5)


@pytest.mark.parametrize("weights", LEARNT)
def test_the_budget_is_shared_by_the_tasks_and_unused_members_are_not_fitted(weights: str) -> None:
    X, Y = mixed()
    free = AveragingEnsemble(members(), weights=weights, cv=3, random_state=0).fit(X, Y)
    assert len(free.estimators_) > 1
    one = clone(free).set_params(max_members=1).fit(X, Y)
    assert list(one.named_estimators_) == [one.weights_.index[one.weights_["buy"].argmax()]]
    np.testing.assert_allclose(one.weights_.max(), 1.0)
    dear = clone(free).set_params(max_members=2, costs={"linear": 9.0}).fit(X, Y)
    assert list(dear.named_estimators_) == ["shallow", "deep"]


def test_weights_chosen_on_held_out_rows_for_fitted_members() -> None:
    X, Y = mixed(900)
    fitted = [(name, m.fit(X[:600], Y[:600])) for name, m in members()]
    before = [m.predict_scores(X) for _, m in fitted]
    model = AveragingEnsemble(fitted, weights="greedy", cv="prefit").fit(X[600:], Y[600:])
    assert model.weights_.shape == (3, 4)
    for (_, m), scores in zip(fitted, before, strict=True):
        pd.testing.assert_frame_equal(m.predict_scores(X), scores)


def test_rows_that_no_fold_covers_are_counted_and_stay_nan() -> None:
    X, Y = mixed()
    model = AveragingEnsemble(members(), weights="greedy", cv=TimeSeriesSplit(3)).fit(X, Y)
    assert model.n_uncovered_ == int((model.fold_ < 0).sum()) == 150
    assert model.oof_predictions_[model.fold_ < 0].isna().all(axis=None)
    assert model.oof_predictions_[model.fold_ >= 0].notna().all(axis=None)


def test_folds_are_in_time_where_the_members_name_one() -> None:
    X, Y = mixed()
    X["day"] = np.arange(len(X)) // 10
    model = AveragingEnsemble(members(time="day"), weights="greedy", cv=3).fit(X, Y)
    assert (np.diff(model.fold_) >= 0).all()
    same = AveragingEnsemble(members(time="day"), weights="greedy", cv=Temporal(3)).fit(X, Y)
    pd.testing.assert_frame_equal(model.weights_, same.weights_)


@pytest.mark.parametrize("weights", LEARNT)
def test_of_folds_in_time_the_last_one_weighs(weights: str) -> None:
    """A column that says all until the last block and nothing there: over all folds both members would count."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"a": rng.normal(size=1200), "day": np.arange(1200) // 10})
    X["near"] = X["a"] + rng.normal(size=1200)
    X["old"] = X["a"].where(X["day"] < 90, rng.normal(size=1200))
    Y = pd.DataFrame({"y": X.pop("a") + rng.normal(size=1200)})
    pair = [
        ("near", PerTaskModel(learner="linear", time="day", exclude=["old"])),
        ("old", PerTaskModel(learner="linear", time="day", exclude=["near"])),
    ]
    model = AveragingEnsemble(pair, weights=weights, cv=Temporal(3), shrinkage=10.0, random_state=0).fit(X, Y)
    assert model.weights_.loc["near", "y"] > 0.9


@pytest.mark.parametrize(("roles", "pull"), [({}, 10.0), ({"time": "day"}, 100.0)])
def test_held_out_rows_pull_to_uniform_as_folds_do(roles: dict[str, str], pull: float) -> None:
    X, Y = mixed(400)
    X["day"] = np.arange(400)
    fitted = [(name, m.fit(X[:200], Y[:200])) for name, m in members(**roles)]
    found, same, other = (
        AveragingEnsemble(fitted, weights="optimize", cv="prefit", shrinkage=s).fit(X[200:], Y[200:]).weights_
        for s in (None, pull, 110 - pull)
    )
    pd.testing.assert_frame_equal(found, same, check_exact=True)
    assert (found - other).abs().to_numpy().max() > 0.05


class Loud(PerTaskModel):
    """Ranks as it would, in units of its own."""

    factor = 1.0

    def _scores(self, X: Any, space: str) -> Any:
        return {name: self.factor * score for name, score in super()._scores(X, space).items()}


class Silent(Loud):
    factor = 0.0


class Louder(Loud):
    factor = 1000.0


def test_the_units_of_a_ranking_do_not_count() -> None:
    X, Y, tasks = ranked(60)

    def fit(*kinds: type[Loud]) -> AveragingEnsemble:
        few = {"tasks": tasks[:1], "learner": LightGBMLearner(num_leaves=4), "random_state": 0}
        trio = [(c, kind(exclude=[c], **few)) for c, kind in zip("abc", kinds, strict=True)]
        return AveragingEnsemble(trio, weights="greedy", cv=2, random_state=0).fit(X, Y[["grade"]])

    plain, loud = fit(Loud, Loud, Silent), fit(Loud, Louder, Silent)
    assert (plain.weights_["grade"] > 0.05).all()
    np.testing.assert_allclose(loud.weights_, plain.weights_)
    np.testing.assert_allclose(loud.oof_scores_, plain.oof_scores_)
    each = [member.predict_scores(X)["grade"] for member in plain.estimators_]
    mean = sum(w * (e - e.mean()) / (e.std(ddof=0) or 1) for w, e in zip(plain.weights_["grade"], each, strict=True))
    for model in (plain, loud):
        np.testing.assert_allclose(model.predict_scores(X)["grade"], mean, atol=1e-12)


def test_members_that_infer_other_tasks_are_refused() -> None:
    X, y = np.arange(20.0)[:, None], np.arange(20) % 2
    pair = [("told", PerTaskModel({"y0": "regression"}, learner="linear")), ("not", PerTaskModel(learner="linear"))]
    with pytest.raises(TaskError, match=r"y0 \(regression\).*y0 \(binary\)"):
        AveragingEnsemble(pair).fit(X, y)


def test_what_an_earlier_fit_learnt_out_of_fold_goes() -> None:
    X, Y = mixed(200)
    model = AveragingEnsemble(members(), weights="greedy", cv=2, random_state=0).fit(X, Y)
    learnt = {name for name in vars(model) if name.endswith("_")}
    gone = learnt - set(vars(model.set_params(weights=None).fit(X, Y)))
    assert gone == {"oof_predictions_", "oof_scores_", "fold_", "temporal_", "n_uncovered_"}


def test_folds_before_the_last_count_where_it_has_too_few_labels() -> None:
    fold = np.repeat([-1, 0, 1, 2], 10)
    for least, rows in ((10, fold == 2), (11, fold >= 1), (99, fold >= 0)):
        chosen = latest_rows(fold, True, lambda rows, least=least: len(rows) >= least)
        np.testing.assert_array_equal(chosen, np.flatnonzero(rows))
    for answer in (False, True):
        rows = latest_rows(fold, False, lambda rows, answer=answer: answer)
        np.testing.assert_array_equal(rows, np.flatnonzero(fold >= 0))


def test_a_plan_is_used_in_place_of_cv() -> None:
    X, Y = mixed()
    plan = make_folds(2, Y, random_state=5)
    model = AveragingEnsemble(members(), weights="greedy", cv=4).fit(X, Y, plan=plan)
    np.testing.assert_array_equal(model.fold_, plan.fold)


@pytest.mark.parametrize("weights", LEARNT)
def test_threads_change_nothing(weights: str) -> None:
    X, Y = mixed(300)
    one, two = (AveragingEnsemble(members(), weights=weights, cv=2, n_jobs=n, random_state=0).fit(X, Y) for n in (1, 2))
    pd.testing.assert_frame_equal(one.oof_predictions_, two.oof_predictions_, check_exact=True)
    pd.testing.assert_frame_equal(one.predict_scores(X), two.predict_scores(X), check_exact=True)


class Flaky(PerTaskModel):
    """Fails after a number of fits, as a night job that is killed."""

    left = 0
    fits = 0

    def fit(self, X: Any, Y: Any, **params: Any) -> PerTaskModel:
        if Flaky.left == 0:
            raise KeyboardInterrupt
        Flaky.left -= 1
        Flaky.fits += 1
        return super().fit(X, Y, **params)


def test_a_stopped_fit_goes_on_where_it_was(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    X, Y = mixed(200)
    pair = [(name, Flaky(MIXED, learner=trees(d), random_state=0)) for name, d in (("a", 1), ("b", 2))]
    model = AveragingEnsemble(pair, weights="optimize", shrinkage=1e6, cv=3, memory=str(tmp_path), random_state=0)
    Flaky.left, Flaky.fits = 4, 0
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, Y)
    Flaky.left = 100
    resumed = clone(model).fit(X, Y).predict_scores(X)
    assert Flaky.fits == 2 * 3 + 2
    Flaky.left = 0
    pd.testing.assert_frame_equal(clone(model).fit(X, Y).predict_scores(X), resumed)
    with pytest.raises(KeyboardInterrupt):  # other labels are another fit
        clone(model).fit(X, Y.assign(spend=Y["spend"] + 1))
    monkeypatch.setattr("mtl_classic._core.versions.version", lambda _: "99.0")
    with pytest.raises(KeyboardInterrupt):  # so is that of another version
        clone(model).fit(X, Y)


def test_members_whose_seeds_are_drawn_are_kept_apart(tmp_path: Any) -> None:
    X, Y = mixed(200)
    tree = SklearnLearner(DecisionTreeClassifier(max_features=1), None)
    pair = [(name, PerTaskModel({"buy": "binary"}, learner=tree)) for name in "ab"]
    model = AveragingEnsemble(pair, memory=str(tmp_path)).fit(X, Y[["buy"]])
    first, second = (member.predict_scores(X) for member in model.estimators_)
    assert not first.equals(second)
    pd.testing.assert_frame_equal(clone(model).fit(X, Y[["buy"]]).estimators_[0].predict_scores(X), first)


def test_children_stay_at_or_below_their_parents() -> None:
    X, Y = funnel()
    model = AveragingEnsemble(members(FUNNEL), weights="greedy", cv=3, random_state=0).fit(X, Y)
    entire, conditional = (model.predict_scores(X, space) for space in ("entire", "conditional"))
    assert (entire["buy"] <= entire["click"]).all()
    assert (conditional["buy"] >= entire["buy"]).all()


@pytest.mark.parametrize("kind", [AveragingEnsemble, StackingEnsemble])
def test_rankings_are_weighed_by_their_queries(kind: Any) -> None:
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(900, 3)), columns=list("abc")).assign(query=np.arange(900) // 9)
    Y = pd.DataFrame({"grade": np.clip(np.round(X["a"] + rng.normal(size=900)), 0, 3), "other": X["b"]})
    tasks = [Task("grade", "ranking", query="query"), Task("other", "regression")]
    noise = LightGBMLearner(num_leaves=2, learning_rate=1e-6)
    pair = [("good", PerTaskModel(tasks, random_state=0)), ("bad", PerTaskModel(tasks, learner=noise, random_state=0))]
    settings = {"weights": "greedy"} if kind is AveragingEnsemble else {"fallback": False}
    model = kind(pair, cv=3, random_state=0, **settings).fit(X, Y)
    assert model.weights_.loc["good", "grade"] > 0.5
    assert (pd.Series(model.fold_).groupby(X["query"]).nunique() == 1).all()
    scores = model.predict_scores(X)["grade"]
    assert ndcg(Y["grade"], scores, X["query"]) > ndcg(Y["grade"], rng.normal(size=900), X["query"]) + 0.1


def test_copies_and_pickles_predict_alike() -> None:
    X, Y = mixed(300)
    model = AveragingEnsemble(members(), weights="greedy", cv=2, random_state=0).fit(X, Y)
    scores = model.predict_scores(X)
    pd.testing.assert_frame_equal(pickle.loads(pickle.dumps(model)).predict_scores(X), scores)
    pd.testing.assert_frame_equal(clone(model).fit(X, Y).predict_scores(X), scores)


def test_weights_of_rows_and_one_label() -> None:
    X, Y = mixed(300, missing=0.0)
    weight = np.r_[np.ones(150), np.zeros(150)]
    model = AveragingEnsemble(members([MIXED[1]]), weights="greedy", cv=2, random_state=0)
    model.fit(X, Y[["spend"]], sample_weight=weight)
    assert model.predict(X).columns.tolist() == ["spend"]
    flat = AveragingEnsemble([("linear", PerTaskModel(learner="linear"))], weights="greedy", cv=2)
    assert flat.fit(X[list("abcd")].to_numpy(), Y["spend"].to_numpy()).predict(X[list("abcd")]).shape == (300,)


def test_noise_stays_at_chance() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(20_000, 4)), rng.integers(0, 2, 20_000)
    pair = [("linear", PerTaskModel(learner="linear")), ("tree", PerTaskModel(learner=trees(4), random_state=0))]
    model = AveragingEnsemble(pair, weights="greedy", cv=4, random_state=0).fit(X, y)
    aucs = [roc_auc(y[model.fold_ == k], model.oof_scores_["y0"][model.fold_ == k]) for k in range(4)]
    assert abs(np.mean(aucs) - 0.5) < 0.02


@pytest.mark.parametrize("how", ["groups", "splitter"])
def test_a_label_of_the_group_is_not_learnt_across_groups(how: str) -> None:
    rng = np.random.default_rng(0)
    group = rng.integers(0, 60, 3000)
    X = pd.DataFrame({"id": group.astype(float), "noise": rng.normal(size=3000)})
    Y = pd.DataFrame({"label": rng.permutation(np.arange(60) % 2)[group]})
    tree = [("tree", PerTaskModel(learner=trees(12), random_state=0))]
    plan = make_folds(GroupKFold(5), Y, groups=group) if how == "splitter" else None
    grouped = AveragingEnsemble(tree, weights="greedy", groups="id", random_state=0).fit(X, Y, plan=plan)
    mixed_up = AveragingEnsemble(tree, weights="greedy", random_state=0).fit(X, Y)
    assert roc_auc(Y["label"], mixed_up.oof_scores_["label"]) > 0.9
    by_fold = [
        roc_auc(Y["label"][grouped.fold_ == k], grouped.oof_scores_["label"][grouped.fold_ == k]) for k in range(5)
    ]
    assert np.mean(by_fold) < 0.65


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"weights": "best"}, ValueError, "greedy"),
        ({"weights": [1.0]}, ValueError, "3 non-negative numbers"),
        ({"weights": [1.0, -1.0, 1.0]}, ValueError, "3 non-negative numbers"),
        ({"weights": [1.0, np.inf, 1.0]}, ValueError, "3 non-negative numbers"),
        ({"weights": [0.0, 0.0, 0.0]}, ValueError, "not all zero"),
        ({"cv": "fitted"}, ValueError, "prefit"),
        ({"weights": "greedy", "cv": Temporal(2), "groups": "a"}, FoldError, "kept whole, but Temporal"),
        ({"max_members": 2}, ValueError, "learnt weights"),
        ({"weights": "greedy", "max_members": 0}, ValueError, "max_members must be an integer of at least 1"),
        ({"costs": {"forest": 1.0}}, ValueError, "unknown members: forest"),
        ({"costs": {"deep": -1.0}}, ValueError, "costs must be finite and not negative"),
        ({"costs": {"deep": np.nan}}, ValueError, "costs must be finite and not negative"),
        ({"shrinkage": -1.0}, ValueError, "shrinkage must be a number of at least 0"),
        ({"estimators": []}, ValueError, "at least one"),
        ({"estimators": [("tree", DecisionTreeClassifier())]}, TypeError, "multi-task estimator"),
        ({"estimators": [*members(), ("other", PerTaskModel({"buy": "binary"}))]}, TaskError, "same tasks"),
    ],
)
def test_what_cannot_work_is_refused_first(change: dict[str, Any], error: type[Exception], message: str) -> None:
    X, Y = mixed(50)
    with pytest.raises(error, match=message):
        AveragingEnsemble(**({"estimators": members()} | change)).fit(X, Y)


def test_weights_may_be_given_per_task() -> None:
    X, Y = mixed(400)
    weights = {task.name: [1.0 + k, 0.0, 1.0] for k, task in enumerate(MIXED)}
    model = AveragingEnsemble(members(), weights=weights).fit(X, Y)
    for name, column in weights.items():
        np.testing.assert_allclose(model.weights_[name], np.array(column) / np.sum(column))
    assert len(model.estimators_) == 2
    with pytest.raises(ValueError, match="weights must name every task"):
        AveragingEnsemble(members(), weights={MIXED[0].name: [1, 0, 0]}).fit(X, Y)


def test_members_without_names_are_refused() -> None:
    X, Y = mixed(60)
    for given in ([PerTaskModel(), PerTaskModel()], {"one": PerTaskModel()}):
        with pytest.raises(TypeError, match=r"estimators must be a list of \(name, estimator\)"):
            AveragingEnsemble(given).fit(X, Y)


def test_prefit_members_that_read_different_columns() -> None:
    X, Y = mixed(400)
    one = PerTaskModel(MIXED, learner="linear").fit(X[["b", "a"]], Y)
    other = PerTaskModel(MIXED, learner="linear").fit(X[["a", "c"]], Y)
    model = AveragingEnsemble([("one", one), ("other", other)], weights=[3, 1], cv="prefit").fit(X, Y)
    assert model.feature_names_in_.tolist() == ["a", "b", "c"]
    mean = (3 * one.predict_scores(X)["spend"] + other.predict_scores(X)["spend"]) / 4
    np.testing.assert_allclose(model.predict_scores(X[["c", "b", "a"]])["spend"], mean)
    np.testing.assert_allclose(model.predict_scores(X[["a", "b", "c"]].to_numpy())["spend"], mean)
    with pytest.raises(ValueError, match="X lacks columns .*: c"):
        model.fit(X[["a", "b"]], Y)


def test_prefit_members_must_be_fitted_and_may_be_frozen() -> None:
    X, Y = mixed(400)
    member = PerTaskModel(MIXED, learner="linear")
    with pytest.raises(NotFittedError, match='cv="prefit" takes fitted members.*FrozenEstimator'):
        AveragingEnsemble([("one", member)], cv="prefit").fit(X, Y)
    frozen = [("one", FrozenEstimator(member.fit(X, Y)))]
    model = clone(AveragingEnsemble(frozen, cv="prefit")).fit(X, Y)
    pd.testing.assert_frame_equal(model.predict_scores(X), member.predict_scores(X))
    with pytest.raises(TypeError, match='Frozen members.*cv="prefit"'):
        AveragingEnsemble(frozen, weights="greedy").fit(X, Y)


def test_what_is_no_plan_is_refused_by_equal_weights_too() -> None:
    X = np.arange(20.0)[:, None]
    model = AveragingEnsemble([("one", PerTaskModel({"y": "regression"}, learner="linear"))])
    with pytest.raises(TypeError, match="plan must be a FoldPlan, got int"):
        model.fit(X, X[:, 0], plan=5)  # type: ignore[arg-type]
    with pytest.raises(FoldError, match="plan is for 10 rows, but X has 20"):
        model.fit(X, X[:, 0], plan=make_folds(2, X[:10, 0], random_state=0))


def test_a_memory_tells_apart_which_of_two_ordered_categories_is_positive(tmp_path: Any) -> None:
    X = np.random.default_rng(0).normal(size=(200, 1))
    label = np.where(X[:, 0] > 0, "high", "low")
    members = [("linear", PerTaskModel({"y": "binary"}, learner="linear", random_state=0))]
    model = AveragingEnsemble(members, weights="greedy", cv=2, memory=str(tmp_path), random_state=0)
    for categories in (["low", "high"], ["high", "low"]):
        Y = pd.DataFrame({"y": pd.Categorical(label, categories, ordered=True)})
        assert (model.fit(X, Y).predict(X)["y"] == label).mean() > 0.9
        assert model.score(X, Y) > 0.5
