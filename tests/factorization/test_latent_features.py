import pickle

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.special import expit
from sklearn.base import clone
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.tree import DecisionTreeClassifier

from mtl_classic._core.exceptions import LabelError, RoleError, TaskError
from mtl_classic._core.targets import encode_targets
from mtl_classic._core.tasks import Task
from mtl_classic.events import EventLog
from mtl_classic.factorization import (
    FactorizationMachineClassifier,
    FactorizationMachineRegressor,
    LatentFeatures,
    MatrixFactorization,
    MultiTaskFactorizationMachine,
    Segments,
    _members,
)
from mtl_classic.factorization._members import LatentMember
from mtl_classic.factorization._out_of_fold import rotation
from mtl_classic.model_selection import Temporal, make_folds
from mtl_classic.multitask import PerTaskModel

TASKS = [Task("buy", "binary"), Task("kind", "multiclass"), Task("rating", "regression")]
IDS = ["user", "item"]


def world(n: int = 8000, seed: int = 0, n_users: int = 150) -> tuple[pd.DataFrame, pd.DataFrame, np.ndarray]:
    rng = np.random.default_rng(seed)
    P, Q = rng.normal(size=(n_users, 3)), rng.normal(size=(100, 3))
    X = pd.DataFrame(
        {"user": rng.integers(0, n_users, n), "item": rng.integers(0, 100, n), "day": rng.integers(0, 60, n)}
    )
    affinity = (P[X["user"]] * Q[X["item"]]).sum(axis=1)
    buy = (rng.random(n) < expit(2 * affinity - 1)).astype(float)
    kind = np.where(affinity > 1, "x", np.where(affinity < -1, "y", "z"))
    Y = pd.DataFrame({"buy": buy, "kind": kind, "rating": affinity + rng.normal(size=n)})
    return X, Y, affinity


def als(**arguments) -> tuple[str, MatrixFactorization]:
    return "als", MatrixFactorization(user="user", item="item", n_factors=4, random_state=0, **arguments)


def machine(kind: str = "classifier", **arguments):
    common = {"categorical": IDS, "exclude": ["day"], "n_factors": 8, "init_scale": 0.1, "random_state": 0, **arguments}
    if kind == "classifier":
        return "fm", FactorizationMachineClassifier(**common)
    return "gibbs", FactorizationMachineRegressor(solver="gibbs", max_iter=30, **common)


def test_scores_of_every_kind_of_model() -> None:
    X, Y, affinity = world()
    models = [
        als(),
        machine(),
        ("kinds", machine()[1]),
        machine("regressor"),
        ("linear", make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression())),
        ("all", PerTaskModel(TASKS, learner="linear")),
    ]
    features = LatentFeatures(models, tasks=TASKS, task={"kinds": "kind"}, cv=3, random_state=0)
    out = features.fit_transform(X, Y)
    assert list(out.columns) == list(features.get_feature_names_out())
    assert features.latent_features_ == [
        "als__score", "als__user_norm", "als__item_norm", "fm__score",
        "kinds__score=x", "kinds__score=y", "kinds__score=z", "gibbs__score", "linear__score",
        "all__buy", "all__kind=x", "all__kind=y", "all__kind=z", "all__rating",
    ]  # fmt: skip
    assert out.notna().all().all()
    wanted = affinity > 1
    floors = {"als__score": 0.7, "fm__score": 0.65, "kinds__score=x": 0.6, "gibbs__score": 0.85}
    for name, floor in floors.items():
        assert roc_auc_score(wanted, out[name]) > floor, name
    assert roc_auc_score(affinity < -1, out["kinds__score=y"]) > 0.6
    served = features.transform(X)
    assert list(served.columns) == list(out.columns)
    np.testing.assert_allclose(served["fm__score"], features.models_["fm"].decision_function(X), rtol=1e-5)
    np.testing.assert_allclose(served["gibbs__score"], features.models_["gibbs"].predict(X), rtol=1e-5)


def test_columns_are_those_of_a_fit_on_the_other_folds() -> None:
    X, Y, _ = world(2000)
    plan = make_folds(3, np.zeros(len(X)), random_state=0)
    features = LatentFeatures([machine(), als()], tasks=TASKS)
    out = features.fit_transform(X, Y, plan=plan)
    train, test = plan.splits[1]
    by_hand = machine()[1].fit(X.iloc[train], Y["buy"].iloc[train])
    np.testing.assert_allclose(out["fm__score"].iloc[test], by_hand.decision_function(X.iloc[test]), rtol=1e-5)
    mf = als(tasks=TASKS)[1].fit(X.iloc[train], Y.iloc[train])
    np.testing.assert_allclose(out["als__score"].iloc[test], mf.transform(X.iloc[test])["als__score"], rtol=1e-5)
    for row in (3, 1999):
        flipped = Y.copy()
        flipped.loc[row, "buy"] = 1 - Y.loc[row, "buy"]
        other = LatentFeatures([machine(), als()], tasks=TASKS).fit_transform(X, flipped, plan=plan)
        same = plan.fold == plan.fold[row]
        np.testing.assert_array_equal(out[same], other[same])
        assert not np.array_equal(out[~same], other[~same])


@pytest.mark.parametrize("repeated", [False, True])
def test_a_noise_label_stays_noise(repeated: bool) -> None:
    rng = np.random.default_rng(2)
    n = 20_000
    X = pd.DataFrame({"user": rng.integers(0, 2000, n), "item": rng.integers(0, 200, n)})
    noise = rng.integers(0, 2, n)
    groups = None
    if repeated:  # one label per user: folds must not split users
        noise, groups = rng.integers(0, 2, 2000)[X["user"]], X["user"]
    plan = make_folds(4, noise, groups=groups, random_state=0)
    models = [als(), ("fm", FactorizationMachineClassifier(categorical=IDS, n_factors=8, random_state=0))]
    features = LatentFeatures(models)
    out = features.fit_transform(X, pd.DataFrame({"buy": noise}), plan=plan)
    for name in ("fm__score", "als__score"):
        aucs = [roc_auc_score(noise[plan.fold == k], out[name][plan.fold == k]) for k in range(4)]
        assert np.mean(aucs) == pytest.approx(0.5, abs=0.02), name
    # A learner on top of the columns finds nothing either, while in-sample columns would have told it the label.
    leaky = features.transform(X)
    half = rng.random(n) < 0.5
    for table, bound in ((out, 0.53), (leaky, None)):
        columns = table[["fm__score", "als__score", "als__user_norm"]]
        model = HistGradientBoostingClassifier(max_iter=30, random_state=0).fit(columns[half], noise[half])
        auc = roc_auc_score(noise[~half], model.predict_proba(columns[~half])[:, 1])
        assert auc < bound if bound else auc > 0.55


def test_unlabelled_rows_are_left_out_and_predicted() -> None:
    X, Y, affinity = world()
    Y = Y.mask(np.random.default_rng(0).random(Y.shape) < 0.5)
    out = LatentFeatures([machine(), als()], tasks=TASKS, random_state=0).fit_transform(X, Y)
    assert out.notna().all().all()
    assert roc_auc_score(affinity > 1, out["als__score"]) > 0.65


@pytest.mark.parametrize("model", ["als", "fm", "groups"])
def test_vectors_of_the_folds_are_in_one_basis(model: str) -> None:
    X, Y, _ = world(12_000)
    if model == "als":
        member = als()
    elif model == "fm":
        member = machine()
    else:
        member = machine(interactions=[("user", "item")])
    features = LatentFeatures([member], output="both", cv=3, tasks=TASKS, random_state=0)
    out, served = features.fit_transform(X, Y), features.transform(X)
    assert list(out.columns) == list(served.columns)
    vectors = [c for c in out.columns if c[-1].isdigit()]
    width = {"als": 8, "fm": 8, "groups": 16}[model]
    assert len(vectors) == width
    a, b = out[vectors].to_numpy(), served[vectors].to_numpy()
    cosine = (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert np.median(cosine) > 0.75
    if model != "als":  # what a fit with another start gives, unturned
        raw = clone(member[1]).set_params(random_state=1).fit(X, Y["buy"]).transform(X)
        wrong = (raw * b).sum(axis=1) / np.linalg.norm(raw, axis=1) / np.linalg.norm(b, axis=1)
        assert np.median(wrong) < np.median(cosine) - 0.2


def test_each_class_has_a_basis_of_its_own() -> None:
    X, Y, _ = world(12_000)
    features = LatentFeatures([machine(max_iter=8)], output="vectors", cv=2, tasks=TASKS, task="kind", random_state=0)
    out, served = features.fit_transform(X, Y).to_numpy()[:, 3:], features.transform(X).to_numpy()[:, 3:]
    assert out.shape == served.shape == (12_000, 3 * 8)
    for k in range(3):
        a, b = out[:, 8 * k : 8 * k + 8], served[:, 8 * k : 8 * k + 8]
        cosine = (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        assert np.median(cosine) > 0.75


def test_a_fold_that_lacks_a_class_has_no_vectors() -> None:
    X, Y, _ = world(600)
    first = np.arange(600) < 200
    Y = Y[["kind"]].mask(~first & (Y["kind"] == "z"), "x")
    features = LatentFeatures([machine(max_iter=2)], output="vectors", cv=np.where(first, 0, 1), random_state=0)
    out = features.fit_transform(X, Y).iloc[:, 3:]
    assert out.shape == (600, 3 * 8)
    assert out[first].isna().all().all()
    assert out[~first].notna().all().all()


def test_rotation_is_orthogonal_procrustes() -> None:
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    A = rng.normal(size=(30, 4))
    keys = pd.Index([f"u{k}" for k in range(30)])
    R = rotation((keys[5:], A[5:]), (keys[:25], (A @ turn)[:25]))
    np.testing.assert_allclose(R, turn, atol=1e-10)
    nothing = rotation((keys[:5], A[:5]), (keys[10:], A[10:]))
    np.testing.assert_allclose(nothing @ nothing.T, np.eye(4), atol=1e-12)


def test_time_makes_temporal_folds_and_a_log_makes_blocks() -> None:
    X, Y, _ = world()
    out = LatentFeatures([machine()], tasks=TASKS, time="day", cv=4).fit_transform(X, Y)
    first = out["fm__score"].isna()
    assert X["day"][first].max() < X["day"][~first].min()
    assert first.mean() == pytest.approx(0.2, abs=0.03)
    log = EventLog(X.assign(type="buy")[Y["buy"] == 1], user="user", item="item", time="day", event="type")
    plan = make_folds(Temporal(3), Y, time=X["day"])
    features = LatentFeatures([als(), machine()], tasks=TASKS, time="day", output="both")
    both = features.fit_transform(X, Y, events=log, plan=plan)
    assert (both["als__score"].isna() == (plan.fold == -1)).all()
    assert both["fm__score"].notna().equals(both["als__score"].notna())
    block = plan.splits[1][1]
    by_hand = als()[1].fit(X.iloc[block], events=log.before(X["day"].iloc[block].min()))
    expected = by_hand.transform(X.iloc[block])["als__score"]
    np.testing.assert_allclose(both["als__score"].iloc[block], expected, rtol=1e-5)
    served = features.transform(X)
    full = als()[1].fit(X, events=log)
    np.testing.assert_allclose(served["als__score"], full.transform(X)["als__score"], rtol=1e-5)


def test_changing_the_future_changes_nothing() -> None:
    X, Y, _ = world(4000)
    start = pd.Timestamp("2024-01-01")
    X = X.assign(day=start + pd.to_timedelta(X["day"], unit="D"))
    events = X[Y["buy"] == 1]
    log = EventLog(events, user="user", item="item", time="day")
    out = LatentFeatures([als()], output="scores", cv=4).fit_transform(X, events=log)
    for cut in (20, 41):
        moment = start + pd.Timedelta(cut, "D")
        changed = events.assign(item=events["item"].where(events["day"] < moment, 7))
        other = LatentFeatures([als()], output="scores", cv=4).fit_transform(
            X, events=EventLog(changed, user="user", item="item", time="day")
        )
        pd.testing.assert_frame_equal(out[X["day"] <= moment], other[X["day"] <= moment])


def test_observe_reaches_the_models_of_the_log() -> None:
    X, Y, _ = world(3000)
    log = EventLog(X[Y["buy"] == 1], user="user", item="item", time="day")
    features = LatentFeatures([als(), machine()], tasks=TASKS).fit(X, Y, events=log)
    new = pd.DataFrame({"user": [9999], "item": [3], "day": [61]})
    before = features.transform(new)
    features.observe(pd.DataFrame({"user": [9999] * 3, "item": [3, 4, 5], "day": [60] * 3}))
    after = features.transform(new)
    assert before["als__user_norm"][0] == 0 < after["als__user_norm"][0]
    assert before["fm__score"][0] == after["fm__score"][0]
    assert features.as_of_ == 60


def test_events_that_one_model_cannot_read_move_none() -> None:
    X, Y, _ = world(400)
    bought = X[Y["buy"] == 1].assign(amount=1.0)
    log = EventLog(bought, user="user", item="item", time="day")
    features = LatentFeatures([als(), ("weighted", als(weight="amount")[1])], random_state=0)
    before = features.fit(X, events=log).transform(X)
    with pytest.raises(ValueError, match="amount"):
        features.observe(bought.drop(columns="amount"))
    pd.testing.assert_frame_equal(features.transform(X), before)
    assert not features.observe(bought).transform(X).equals(before)


def test_conventions() -> None:
    X, Y, _ = world(1500)
    X.index = X.index + 10
    Y.index = X.index
    features = LatentFeatures([als(), machine()], tasks=TASKS, random_state=0)
    out = features.fit_transform(X, Y)
    assert out.index.equals(X.index)
    pd.testing.assert_frame_equal(out, clone(features).fit_transform(X, Y))
    pd.testing.assert_frame_equal(out, clone(features).set_params(n_jobs=2).fit_transform(X, Y))
    served = features.transform(X)
    pd.testing.assert_frame_equal(served, pickle.loads(pickle.dumps(features)).transform(X))
    one = pd.concat([features.transform(X.iloc[[i]]) for i in range(25)])
    pd.testing.assert_frame_equal(one, served[:25], rtol=1e-5)
    assert features.get_params()["als__n_factors"] == 4
    changed = clone(features).set_params(als__n_factors=2, fm__max_iter=3)
    assert changed.models[0][1].n_factors == 2
    assert changed.fit(X, Y).models_["fm"].max_iter == 3
    unseen = features.transform(pd.DataFrame({"user": [10**6], "item": [10**6], "day": [1]}))
    assert unseen.notna().all().all()
    numbers = np.random.default_rng(0).normal(size=(300, 3))
    arrays = LatentFeatures([("linear", LogisticRegression())]).fit(numbers, numbers[:, 0] > 0)
    assert arrays.transform(numbers).shape == (300, 4)
    assert arrays.get_feature_names_out(["a", "b", "c"]).tolist() == ["a", "b", "c", "linear__score"]
    with pytest.raises(ValueError, match="number of features"):
        arrays.get_feature_names_out(["a", "b"])


def test_classes_that_a_fold_lacks() -> None:
    X, Y, _ = world(600)
    rare = Y.assign(kind=np.where(np.arange(600) == 5, "once", Y["kind"]))
    out = LatentFeatures([machine()], tasks=TASKS, task="kind", random_state=0).fit_transform(X, rare)
    assert out["fm__score=once"].isna().sum() == 0
    assert list(out.columns[3:]) == ["fm__score=once", "fm__score=x", "fm__score=y", "fm__score=z"]


ONE_HOT = make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression())


@pytest.mark.parametrize("model", [machine()[1], ONE_HOT, DecisionTreeClassifier(max_depth=3, random_state=0)])
def test_a_fold_of_two_classes_of_three_speaks_of_three(model) -> None:
    X, Y, _ = world(600)
    first = np.arange(600) < 200
    Y = Y[["kind"]].mask(Y["kind"] == "z", "x").mask(first & (Y["kind"] == "z"), "z")  # no z outside of the first fold
    features = LatentFeatures([("m", model)], cv=np.where(first, 0, 1), random_state=0)
    out = features.fit_transform(X, Y)
    assert list(out.columns) == list(features.get_feature_names_out())
    assert (out.loc[first, "m__score=z"] <= out.loc[first, ["m__score=x", "m__score=y"]].min(axis=1)).all()
    alone = clone(model).fit(X[~first], (Y.loc[~first, "kind"] == "y").astype(int))
    likelier = out.loc[first, "m__score=y"] > out.loc[first, "m__score=x"]
    np.testing.assert_array_equal(likelier, alone.predict(X[first]) == 1)


@pytest.mark.filterwarnings("ignore:All labels are of one class")
@pytest.mark.parametrize("model", [machine()[1], DecisionTreeClassifier(random_state=0)])
def test_a_fold_without_positive_rows_is_sure_of_that(model) -> None:
    X, Y, _ = world(600)
    first = np.arange(600) < 300
    late = (Y["buy"] * first).rename("buy").to_frame()  # the model of the first rows has none
    out = LatentFeatures([("m", model)], tasks={"buy": "binary"}, cv=np.where(first, 0, 1)).fit_transform(X, late)
    assert out.loc[first, "m__score"].max() <= out.loc[~first, "m__score"].min()


def test_pairs_of_a_fold_without_positive_rows_say_nothing() -> None:
    X, Y, _ = world(600)
    early = X["day"] < 30
    late = Y[["buy"]].mask(early, 0.0)  # all labelled, and none bought: no pairs to factorize
    model = als(tasks={"buy": "binary"}, time="day", max_iter=2, cv=3)[1]
    assert model.fit_transform(X, late)["als__score"].isna()[X["day"] < 40].all()
    assert model.fit_transform(X, late)["als__score"].notna()[X["day"] > 50].all()


def test_folds_encode_the_labels_that_they_learn_from(monkeypatch: pytest.MonkeyPatch) -> None:
    X, Y, _ = world(600)
    encoded = []

    def counting(labels, tasks, **arguments):
        encoded.append([task.name for task in tasks])
        return encode_targets(labels, tasks, **arguments)

    monkeypatch.setattr(_members, "encode_targets", counting)
    tasks = [Task("pay", "binary", given="buy"), *TASKS]
    labels = Y.assign(pay=Y["buy"].where(X["day"] > 20))
    LatentFeatures([als(max_iter=2)], tasks=tasks, task="pay", cv=2).fit_transform(X, labels)
    assert encoded == [["pay", "buy"]] * 4  # all rows, who can learn, two folds


def test_models_without_a_seed_have_that_of_the_features() -> None:
    X, Y, _ = world(600)
    tree = make_pipeline(OneHotEncoder(handle_unknown="ignore"), DecisionTreeClassifier(max_features=1))
    models = [("tree", tree), ("pairs", MatrixFactorization(user="user", item="item", random_state=7))]

    def columns(seed: int | None) -> pd.DataFrame:
        features = LatentFeatures(models, tasks={"buy": "binary"}, cv=2, random_state=seed)
        frame = features.fit_transform(X, Y)
        assert features.models_["pairs"].random_state == 7
        assert (features.models_["tree"].steps[-1][1].random_state is None) == (seed is None)
        return frame

    pd.testing.assert_frame_equal(columns(0), columns(0))
    assert not columns(0)["tree__score"].equals(columns(1)["tree__score"])
    columns(None)
    assert tree.steps[-1][1].random_state is None


def test_the_order_of_models_does_not_matter() -> None:
    X, Y, _ = world(600)
    unlabelled = Y[["buy"]].mask(X["day"] < 30)  # folds hold as many labels each, blocks of the log as many rows
    log = EventLog(X.assign(day=X["day"] - 0.5), user="user", item="item", time="day")
    both = [machine(max_iter=1), ("als", MatrixFactorization(n_factors=2, max_iter=2, random_state=0))]
    one, other = (
        LatentFeatures(models, tasks={"buy": "binary"}, cv=3, random_state=0).fit_transform(X, unlabelled, events=log)
        for models in (both, both[::-1])
    )
    pd.testing.assert_frame_equal(one, other[one.columns])


def test_integers_of_numpy_are_numbers_of_folds() -> None:
    X, Y, _ = world(600)
    delayed = [Task("buy", "binary", delay=10)]
    of_python, of_numpy = (
        LatentFeatures([machine(max_iter=1)], tasks=delayed, time="day", cv=cv).fit_transform(X, Y)
        for cv in (3, np.int64(3))
    )
    pd.testing.assert_frame_equal(of_python, of_numpy)
    log = EventLog(X.assign(day=X["day"] - 0.5), user="user", item="item", time="day")
    model = MatrixFactorization(n_factors=2, max_iter=2, random_state=0)
    of_python, of_numpy = (clone(model).set_params(cv=cv).fit_transform(X, events=log) for cv in (3, np.int64(3)))
    pd.testing.assert_frame_equal(of_python, of_numpy)


@pytest.mark.parametrize(
    ("model", "task"), [(machine()[1], "rating"), (machine("regressor")[1], "kind"), (als()[1], "kind")]
)
def test_labels_that_would_be_taken_for_others_are_refused(model, task: str) -> None:
    X, Y, _ = world(100)
    with pytest.raises(TaskError, match=f"learns (classes|numbers); the task '{task}' is of the kind"):
        LatentFeatures([("m", model)], tasks=TASKS, task=task).fit(X, Y)
    if isinstance(model, MatrixFactorization):
        with pytest.raises(TaskError, match="learns numbers"):
            clone(model).set_params(task=task, tasks=TASKS).fit(X, Y)


def test_two_classes_have_one_score_whatever_the_kind_of_the_task() -> None:
    X, Y, _ = world(600)
    settings = {"random_state": 0, "cv": 2}
    named = pd.DataFrame({"buy": Y["buy"].map({0.0: "no", 1.0: "yes"})})
    of_classes = LatentFeatures([machine()], tasks={"buy": "multiclass"}, **settings).fit_transform(X, named)
    pd.testing.assert_frame_equal(of_classes, LatentFeatures([machine()], **settings).fit_transform(X, Y[["buy"]]))


@pytest.mark.filterwarnings("ignore:.* a constant is trained")
def test_classes_of_a_machine_of_several_tasks_are_in_the_order_of_the_full_fit() -> None:
    X, Y, _ = world(600)
    first = np.arange(600) < 200
    Y = Y[["kind", "buy"]].assign(kind=np.where(first, Y["kind"], Y["kind"].replace("z", "x")))
    tasks = {"kind": "multiclass", "buy": "binary"}
    joint = MultiTaskFactorizationMachine(tasks, categorical=IDS, max_iter=2, fallback=False, random_state=0)
    features = LatentFeatures([("fm", joint)], tasks=tasks, cv=np.where(first, 0, 1), random_state=0)
    assert list(features.fit_transform(X, Y).columns) == list(features.get_feature_names_out())


@pytest.mark.filterwarnings("ignore:All labels are of one class")
@pytest.mark.parametrize("labels", [[False, True], ["no", "yes"], [None, "yes"]])
def test_labels_of_any_type(labels: list) -> None:
    X, Y, _ = world(600)
    Y = pd.DataFrame({"buy": Y["buy"] == 1, "rating": Y["rating"]}).mask(
        np.random.default_rng(0).random((600, 2)) < 0.5
    )
    named = Y.assign(buy=Y["buy"].map({False: labels[0], True: labels[1]}).astype(object))
    kinds = {"buy": "binary", "rating": "regression"}
    out = LatentFeatures([machine()], tasks=kinds, task="buy", random_state=0).fit_transform(X, named)
    assert list(out.columns[3:]) == ["fm__score"]
    assert out.notna().all().all()


def test_soft_labels_are_for_models_that_take_them() -> None:
    X, Y, affinity = world(600)
    Y = Y[["buy"]].assign(chance=expit(affinity))
    tasks = [Task("chance", "binary", loss="kl"), Task("buy", "binary")]
    models = [machine(), ("kl", machine(loss="kl")[1])]
    out = LatentFeatures(models, tasks=tasks, task={"kl": "chance"}, cv=3, random_state=0).fit_transform(X, Y)
    assert list(out.columns[3:]) == ["fm__score", "kl__score"]
    for refused in ({"tasks": tasks[:1]}, {"tasks": tasks, "task": "chance"}):
        with pytest.raises(TaskError, match="kl"):
            LatentFeatures([machine()], **refused).fit(X, Y)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"output": "factors"}, ValueError, "output"),
        ({"models": [als(), als()]}, ValueError, "distinct names"),
        ({"models": []}, ValueError, "distinct names"),
        ({"models": [als(), ("als__b", als()[1])]}, ValueError, "must not hold __, .*: als__b"),
        ({"models": [("linear", LogisticRegression())], "output": "vectors"}, ValueError, "no vectors"),
        ({"task": {"bpr": "buy"}}, ValueError, "there are not"),
        ({"task": "click"}, TaskError, "the tasks are buy, kind, rating"),
        ({"tasks": [Task("rating", "regression")]}, TaskError, "learns from"),
        ({"time": "hour"}, RoleError, "hour"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict, error: type, message: str) -> None:
    X, Y, _ = world(100)
    features = LatentFeatures(**({"models": [als()], "tasks": TASKS} | arguments))
    with pytest.raises(error, match=message):
        features.fit_transform(X, Y)


def test_labels_are_needed_without_a_log() -> None:
    X, _, _ = world(100)
    with pytest.raises(ValueError, match=r"learn from labels"):
        LatentFeatures([als()]).fit(X)
    log = EventLog(X, user="user", item="item", time="day")
    with pytest.raises(RoleError, match="time"):
        LatentFeatures([als()]).fit(X.drop(columns="day"), events=log)
    assert LatentMember("als", als()[1], "buy", TASKS, None, "scores").has_vectors()


@pytest.mark.parametrize("method", ["fit", "fit_transform"])
@pytest.mark.parametrize("name", ["features", "factors", "segments"])
def test_a_fit_that_fails_changes_nothing(name: str, method: str) -> None:
    X, Y, _ = world(400)
    features = LatentFeatures([als(max_iter=2), machine(max_iter=2)], tasks=TASKS[:1], cv=2, random_state=0)
    factors = als(max_iter=2, tasks=TASKS[:1])[1]
    model = {"features": features, "factors": factors, "segments": Segments(n_segments=2, model=factors)}[name]
    model.fit(X, Y)
    before, state = model.transform(X), set(vars(model))
    with pytest.raises(LabelError, match="no positive rows"):
        getattr(model, method)(X.rename(columns={"day": "week"}).assign(day=1), Y.assign(buy=0.0))
    assert set(vars(model)) == state
    pd.testing.assert_frame_equal(model.transform(X), before)


def test_sparse_rows_stay_sparse() -> None:
    X, Y, _ = world(600)
    matrix = OneHotEncoder().fit_transform(X[IDS])
    features = LatentFeatures([("fm", FactorizationMachineClassifier(random_state=0, max_iter=2))], cv=2)
    out = features.set_params(random_state=0).fit_transform(matrix, Y["buy"])
    dense = clone(features).fit_transform(matrix.toarray(), Y["buy"])
    assert sparse.issparse(out)
    np.testing.assert_allclose(out.toarray(), dense, rtol=1e-5)
    assert sparse.issparse(features.transform(matrix))


def test_columns_that_are_there_already_are_refused() -> None:
    X, Y, _ = world(300)
    features = LatentFeatures([als(max_iter=2)], tasks=TASKS[:1], cv=2, random_state=0)
    factors = als(max_iter=2, tasks=TASKS[:1])[1]
    segments = Segments(n_segments=2, model=factors)
    for model, name in ((features, "als__score"), (factors, "als__score"), (segments, "user_segment")):
        with pytest.raises(ValueError, match=f"names that would be appended: {name}; rename"):
            model.fit_transform(X.assign(**{name: 1.0}), Y)
        with pytest.raises(ValueError, match=f"names that would be appended: {name}; rename"):
            model.fit(X.assign(**{name: 1.0}), Y).transform(X.assign(**{name: 1.0}))


def test_models_and_times_that_cannot_be() -> None:
    X, Y, _ = world(300)
    with pytest.raises(TypeError, match=r"a list of \(name, model\)"):
        LatentFeatures([als()[1]]).fit(X, Y)
    with pytest.raises(ValueError, match="must not hold __, nor be those of parameters: cv"):
        LatentFeatures([("cv", als()[1])]).fit(X, Y)
    with pytest.raises(ValueError, match="'day' is the same in all"):
        LatentFeatures([als(max_iter=1)], tasks=TASKS[:1], time="day").fit_transform(X.assign(day=3), Y)
    with pytest.raises(TypeError, match="plan must be a FoldPlan, got int"):
        LatentFeatures([als(max_iter=1)], tasks=TASKS[:1]).fit_transform(X, Y, plan=3)
    with pytest.raises(TypeError, match="n_segments must be an integer of at least 1 or"):
        Segments(n_segments=2.5, model=als()[1]).fit(X, Y)


def test_labels_of_rows_without_weight_deal_no_folds() -> None:
    X, Y, _ = world(1000)
    off = np.arange(1000) % 3 == 0
    features = LatentFeatures([machine()], cv=3, random_state=0)
    other = pd.concat([Y[off].sample(frac=1.0, random_state=0).set_axis(Y.index[off]), Y[~off]]).sort_index()
    columns = [features.fit_transform(X, labels, sample_weight=1.0 - off) for labels in (Y, other)]
    pd.testing.assert_frame_equal(*columns)


def test_one_weight_is_that_of_all_rows() -> None:
    X, Y, _ = world(300)
    features = LatentFeatures([machine()], cv=3, random_state=0)
    columns = [features.fit_transform(X, Y, sample_weight=weight) for weight in (2.0, np.full(300, 2.0))]
    pd.testing.assert_frame_equal(*columns)


def test_amounts_of_minus_one_are_labels():
    X, y = pd.DataFrame({"a": np.arange(10.0)}), np.repeat([-1.0, 1.0], 5)
    features = LatentFeatures([("mean", DummyRegressor())], tasks={"y0": "regression"}, random_state=0).fit(X, y)
    assert features.transform(X)["mean__score"].tolist() == [0.0] * 10
