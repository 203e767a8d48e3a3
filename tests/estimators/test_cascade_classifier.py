"""The cascade as a scikit-learn classifier."""

import numpy as np
import pytest
import scipy.sparse
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_digits
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, RidgeClassifier, SGDClassifier
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC
from sklearn.utils.estimator_checks import check_estimator

from cascade import Cascade, CascadeClassifier, ConfigError, InfeasibleTarget, Policy

COSTS = (1.0, 10.0)
SHUFFLED = StratifiedKFold(3, shuffle=True, random_state=0)


def classifier(**options):
    stages = [("small", LogisticRegression(max_iter=300)), ("big", ExtraTreesClassifier(20, random_state=0))]
    return CascadeClassifier(stages, **({"costs": COSTS, "cv": SHUFFLED} | options))


@pytest.fixture(scope="module")
def digits():
    rows, labels = load_digits(return_X_y=True)
    return rows[:, 16:48] / 16, np.array([f"digit {label}" for label in labels])


@pytest.fixture(scope="module")
def certified(digits):
    return classifier(max_accuracy_drop=0.03).fit(*digits)


def test_it_is_an_estimator_as_scikit_learn_checks_it():
    stages = [("small", LogisticRegression()), ("big", RandomForestClassifier(5, random_state=0))]
    failed = [
        (check["check_name"], check["exception"])
        for check in check_estimator(
            CascadeClassifier(stages, guarantee="none", costs=COSTS, cv=3), on_fail=None, on_skip=None
        )
        if check["status"] == "failed"
    ]
    assert not failed


def test_rows_are_answered_by_the_first_sure_stage(certified, digits):
    rows, _ = digits
    answers, stage, proba = certified.predict(rows), certified.answering_stage(rows), certified.predict_proba(rows)
    assert set(stage.tolist()) == {0, 1}
    for k, (_, model) in enumerate(certified.stages_):
        own = stage == k
        assert np.array_equal(answers[own], model.predict(rows[own]))
        assert np.allclose(proba[own], model.predict_proba(rows[own]))
    threshold = certified.policy_.thresholds[0]
    assert np.array_equal(stage == 0, certified.stages_[0][1].predict_proba(rows).max(axis=1) >= threshold)


def test_certified_thresholds_come_from_rows_that_no_classifier_was_trained_on(certified, digits):
    rows, labels = digits
    train, held_out = next(SHUFFLED.split(rows, labels))
    assert certified.policy_.certificate["guarantee"] == "certified"
    assert len(certified.score_table_) == len(held_out)
    again = LogisticRegression(max_iter=300).fit(rows[train], labels[train])
    assert np.array_equal(again.predict(rows), certified.stages_[0][1].predict(rows))


def test_without_a_guarantee_all_rows_train_and_calibrate(digits):
    rows, labels = digits
    model = classifier(guarantee="none").fit(rows, labels)
    assert len(model.score_table_) == len(rows)
    whole = LogisticRegression(max_iter=300).fit(rows, labels)
    assert np.array_equal(whole.predict(rows), model.stages_[0][1].predict(rows))
    # Out of fold, the small model is less accurate than on rows that it was trained on.
    assert model.score_table_.correct[:, 0].mean() < whole.score(rows, labels)


def test_fitted_classifiers_are_used_as_they_are(digits):
    rows, labels = digits
    stages = [(name, model.fit(rows[::2], labels[::2])) for name, model in classifier().stages]
    model = CascadeClassifier(stages, cv="prefit", max_accuracy_drop=0.05, costs=COSTS).fit(rows[1::2], labels[1::2])
    assert model.stages_[0][1] is stages[0][1]
    assert len(model.score_table_) == len(rows[1::2])


def test_times_are_measured_where_no_costs_are_given(digits):
    model = classifier(costs=None, max_accuracy_drop=0.05).fit(*digits)
    assert model.score_table_.has_curves
    assert model.policy_.cost_unit == "ms"


def test_it_works_in_cross_validation_grids_and_pipelines(digits):
    rows, labels = digits
    model = classifier(guarantee="none")
    assert cross_val_score(model, rows, labels, cv=2).min() > 0.7
    grid = GridSearchCV(make_pipeline(StandardScaler(), model), {"cascadeclassifier__small__C": [1e-4, 1.0]}, cv=2)
    assert grid.fit(rows, labels).best_params_ == {"cascadeclassifier__small__C": 1.0}


def test_texts_and_sparse_rows():
    texts = [f"{word} {number}" for number in range(150) for word in ("good", "bad")]
    labels = ["yes", "no"] * 150
    stages = [
        ("words", make_pipeline(TfidfVectorizer(), LogisticRegression())),
        ("letters", make_pipeline(TfidfVectorizer(analyzer="char"), LogisticRegression())),
    ]
    model = CascadeClassifier(stages, costs=COSTS, max_accuracy_drop=0.1).fit(texts, labels)
    assert model.predict(["good 7", "bad 7"]).tolist() == ["yes", "no"]
    sparse = scipy.sparse.csr_array(TfidfVectorizer().fit_transform(texts))
    assert classifier(max_accuracy_drop=0.1).fit(sparse, labels).score(sparse, labels) == 1.0


@pytest.mark.parametrize(
    "big", [ExtraTreesClassifier(20, random_state=0), SGDClassifier(loss="log_loss", random_state=0)]
)
def test_the_written_configuration_answers_the_same(digits, tmp_path, big):
    rows, labels = digits
    model = CascadeClassifier([("small", LogisticRegression(max_iter=300)), ("big", big)], costs=COSTS, cv=SHUFFLED)
    model.set_params(max_accuracy_drop=0.05).fit(rows, labels)
    path = model.to_config(tmp_path / "served")
    answers = Cascade.load(path).predict(rows)
    assert np.array_equal(model.classes_[answers.answer], model.predict(rows))
    assert np.array_equal(answers.stage, model.answering_stage(rows))
    assert Policy.load(path.parent / "policy.json").certificate["model_sha256"].keys() == {"small", "big"}
    with pytest.raises(ConfigError, match="exists"):
        model.to_config(path.parent)


def test_a_data_frame_is_served_by_its_columns(tmp_path):
    pandas = pytest.importorskip("pandas")
    random = np.random.default_rng(0)
    frame = pandas.DataFrame({"age": random.normal(size=600), "city": random.choice(["Bonn", "Oslo"], 600)})
    labels = np.where((frame.age > 0) ^ (frame.city == "Oslo"), "yes", "no")
    columns = ColumnTransformer([("city", OneHotEncoder(), ["city"])], remainder="passthrough")
    stages = [
        (name, make_pipeline(columns, model))
        for name, model in (("small", LogisticRegression()), ("big", ExtraTreesClassifier(20, random_state=0)))
    ]
    model = CascadeClassifier(stages, costs=COSTS, max_accuracy_drop=0.2).fit(frame, labels)
    path = model.to_config(tmp_path / "served")
    answers = Cascade.load(path).predict(frame.iloc[:50])
    assert np.array_equal(model.classes_[answers.answer], model.predict(frame.iloc[:50]))
    records = frame.iloc[:50].to_dict("records")
    assert np.array_equal(Cascade.load(path).predict(records).answer, answers.answer)


def test_the_steps_of_a_pipeline_before_the_cascade_are_served_with_it(digits, tmp_path):
    rows, labels = digits
    pipeline = make_pipeline(StandardScaler(), classifier(max_accuracy_drop=0.05)).fit(rows, labels)
    model = pipeline[-1]
    path = model.to_config(tmp_path / "served", before=pipeline[:-1], rows=rows)
    answers = Cascade.load(path).predict(rows)
    assert np.array_equal(model.classes_[answers.answer], pipeline.predict(rows))
    with pytest.raises(ValueError, match="together"):
        model.to_config(tmp_path / "other", before=pipeline[:-1])
    with pytest.raises(ValueError, match="features"):
        model.to_config(tmp_path / "other", before=pipeline[:-1], rows=rows[:, :3])
    texts = [f"{word} {number}" for number in range(150) for word in ("good", "bad")]
    pipeline = make_pipeline(TfidfVectorizer(), classifier(max_accuracy_drop=0.1)).fit(texts, ["yes", "no"] * 150)
    path = pipeline[-1].to_config(tmp_path / "texts", before=pipeline[:-1], rows=texts)
    assert Cascade.load(path).predict(np.array(["good 7", "bad 7"])).answer.tolist() == [1, 0]


class Frame:
    """Looks like a data frame, as far as it is read here, with names that are no texts."""

    columns = (0, 1)

    def __getitem__(self, name):
        return np.zeros(2)


def test_rows_that_a_configuration_cannot_describe_are_refused(certified, tmp_path, monkeypatch):
    from cascade.estimators.cascade_classifier import _described_row

    assert _described_row(Frame()) is None
    assert _described_row(np.array([["a", 1.0]], dtype=object)) is None
    assert _described_row(np.array(["a", "b"])) == {"dtype": "text"}
    monkeypatch.setattr(certified, "_row", None)
    with pytest.raises(ConfigError, match="cannot be described"):
        certified.to_config(tmp_path / "x")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stages": [("only", LogisticRegression())]}, "at least two stages"),
        ({"costs": (1,)}, "costs must be 2 numbers"),
        ({"cv": "prefitted"}, "cv must be"),
        ({"target_accuracy": 0.9}, "give one of"),
        ({"stages": [("a__b", LogisticRegression()), ("c", LogisticRegression())]}, "must not contain __"),
    ],
)
def test_wrong_parameters_are_named(digits, options, message):
    with pytest.raises(ValueError, match=message):
        classifier().set_params(**options).fit(*digits)


def test_a_target_that_few_rows_cannot_certify_is_refused(digits):
    rows, labels = digits
    with pytest.raises(InfeasibleTarget):
        classifier(max_accuracy_drop=None, target_accuracy=0.99).fit(rows[:200], labels[:200])


def test_a_classifier_without_probabilities_is_named(digits):
    with pytest.raises(Exception, match=r"ridge.*no predict_proba"):
        CascadeClassifier([("ridge", RidgeClassifier()), ("big", SVC())], costs=COSTS).fit(*digits)
