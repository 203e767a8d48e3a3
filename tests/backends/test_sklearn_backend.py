"""The scikit-learn backend: skops files, never a pickle."""

import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import skops.io
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import FixedThresholdClassifier, TunedThresholdClassifierCV
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC
from sklearn.utils import all_estimators

from cascade.backends.config import SklearnConfig
from cascade.backends.sklearn_backend import ANSWERS_THE_LIKELIEST, SklearnBackend
from cascade.errors import ConfigError, WeightsError

RANDOM = np.random.default_rng(0)
ROWS = RANDOM.normal(size=(90, 4))
LABEL = ROWS[:, :3].argmax(axis=1)


def saved(path, model):
    skops.io.dump(model, path)
    return path


def load(path, names=None, **options):
    return SklearnBackend.load(SklearnConfig(type="sklearn", model=path, **options), names)


NAMES = ("ant", "bee", "cow", "dog")


@pytest.mark.parametrize(
    ("classes", "names", "expected"),
    [
        ([0, 1, 2], None, [0, 1, 2]),
        ([3, 7, 20], None, [3, 7, 20]),
        ([0.0, 1.0, 2.0], None, [0, 1, 2]),
        (["ant", "bee", "cow"], ("ant", "bee", "cow"), [0, 1, 2]),
        (["ant", "cow", "dog"], NAMES, [0, 2, 3]),
        (["dog", "ant", "bee"], NAMES, [3, 0, 1]),
        ([0, 2, 3], NAMES, [0, 2, 3]),
        ([5, 6, 7], ("7", "6", "5", "4"), [2, 1, 0]),
        ([1, 2, 3], ("3", "1", "2"), [1, 2, 0]),
        ([0, 1, 2], ("2", "1", "0"), [2, 1, 0]),
        ([0.0, 1.0, 2.0], ("2", "1", "0"), [2, 1, 0]),
    ],
    ids=str,
)
def test_a_class_has_the_same_id_in_every_model(tmp_path, classes, names, expected):
    """By name if the classes have names, otherwise as an id, independently of the model's other classes."""
    model = LogisticRegression().fit(ROWS, np.array(classes)[LABEL])
    said = load(saved(tmp_path / "m.skops", model), names).predict(ROWS)
    ids = dict(zip(classes, expected, strict=True))
    assert said.answer.tolist() == [ids[name] for name in model.predict(ROWS).tolist()]
    assert said.probabilities.shape[1] == (max(expected) + 1 if names is None else len(names))
    own = [ids[name] for name in model.classes_.tolist()]
    np.testing.assert_array_equal(said.probabilities[:, own], model.predict_proba(ROWS))
    assert not np.delete(said.probabilities, own, axis=1).any()
    assert np.mean(said.answer == np.array(expected)[LABEL]) > 0.8


def test_yes_and_no_are_1_and_0(tmp_path):
    model = LogisticRegression().fit(ROWS, LABEL == 1)
    said = load(saved(tmp_path / "m.skops", model), ("no", "yes")).predict(ROWS)
    assert said.answer.tolist() == model.predict(ROWS).astype(int).tolist()


@pytest.mark.parametrize(
    ("classes", "names", "message"),
    [
        (["ant", "bee", "cow"], None, r"classes: \[ant, bee, cow\]"),
        ([-1, 0, 5], None, r"classes: \['-1', '0', '5'\]"),
        ([0, 1, 10_000], None, "too sparse for ids"),
        (["ant", "bee", "cat"], NAMES, r"not in the config's 'classes': \['cat'\]"),
        ([0, 1, 2], ("1", "2", "3"), r"not in the config's 'classes': \['0'\]"),
        ([1, 2, 4], NAMES, r"not in the config's 'classes': \['1', '2', '4'\]"),
    ],
    ids=str,
)
def test_a_class_without_an_id_is_refused_with_what_to_write(tmp_path, classes, names, message):
    path = saved(tmp_path / "m.skops", LogisticRegression().fit(ROWS, np.array(classes)[LABEL]))
    with pytest.raises(ConfigError, match=message):
        load(path, names)


RULES = {
    "threshold": FixedThresholdClassifier(LogisticRegression(), threshold=0.05, response_method="predict_proba"),
    "tuned": TunedThresholdClassifierCV(LogisticRegression(), scoring="balanced_accuracy"),
    "pipeline": make_pipeline(
        StandardScaler(copy=False), FixedThresholdClassifier(LogisticRegression(), threshold=0.05)
    ),
    "support vectors": SVC(probability=True, random_state=0),
}


@pytest.mark.filterwarnings("ignore:The `probability` parameter:FutureWarning")
@pytest.mark.parametrize("kind", RULES)
def test_a_model_with_a_rule_of_its_own_is_not_overruled(tmp_path, kind):
    label = (LABEL == 1).astype(int)
    path = saved(tmp_path / "m.skops", RULES[kind].fit(ROWS.copy(), label))
    backend = load(path, trusted=skops.io.get_untrusted_types(file=path))
    said, chances = backend.predict(ROWS), RULES[kind].predict_proba(ROWS.copy())
    assert said.answer.tolist() == RULES[kind].predict(ROWS.copy()).tolist()
    assert said.probabilities is None
    np.testing.assert_array_equal(said.confidence, chances[np.arange(len(ROWS)), said.answer])
    assert kind == "support vectors" or (said.answer != chances.argmax(axis=1)).any()


@pytest.mark.parametrize("copy", [False, True])
def test_a_pipeline_that_scales_in_place_leaves_the_rows_alone(tmp_path, copy):
    model = make_pipeline(StandardScaler(copy=copy), LogisticRegression()).fit(ROWS.copy(), LABEL)
    backend = load(saved(tmp_path / "m.skops", model))
    rows = ROWS.copy()
    rows.setflags(write=False)
    np.testing.assert_array_equal(backend.predict(rows).probabilities, model.predict_proba(ROWS.copy()))
    np.testing.assert_array_equal(rows, ROWS)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning", "ignore::FutureWarning")
def test_listed_models_answer_the_most_probable_class():
    """Models for which only ``predict_proba`` is called answer its largest column."""
    found = dict(all_estimators(type_filter="classifier"))
    for name in ANSWERS_THE_LIKELIEST - {"VotingClassifier"}:
        model = found[name]().fit(np.abs(ROWS), LABEL)
        chances = model.predict_proba(np.abs(ROWS))
        assert model.predict(np.abs(ROWS)).tolist() == chances.argmax(axis=1).tolist(), name


def test_a_model_of_several_outputs_is_refused(tmp_path):
    path = saved(tmp_path / "m.skops", RandomForestClassifier(2).fit(ROWS, np.stack([LABEL, LABEL], axis=1)))
    with pytest.raises(WeightsError, match="multi-output"):
        load(path, trusted=skops.io.get_untrusted_types(file=path))


def test_pictures_are_flattened(tmp_path):
    backend = load(saved(tmp_path / "m.skops", LogisticRegression().fit(ROWS, LABEL)))
    flat, pictures = backend.predict(ROWS), backend.predict(ROWS.reshape(-1, 2, 2))
    np.testing.assert_array_equal(pictures.probabilities, flat.probabilities)


@pytest.mark.parametrize("model", [RandomForestClassifier(5), HistGradientBoostingClassifier(max_iter=3)], ids=repr)
def test_trees_can_be_loaded(tmp_path, model):
    path = saved(tmp_path / "m.skops", model.fit(ROWS, LABEL))
    said = load(path, trusted=skops.io.get_untrusted_types(file=path)).predict(ROWS)
    assert said.probabilities == pytest.approx(model.predict_proba(ROWS))


def test_texts_go_in_as_objects(tmp_path):
    texts = ["good nice", "bad awful", "nice", "awful"]
    model = make_pipeline(CountVectorizer(), MultinomialNB()).fit(texts, [1, 0, 1, 0])
    backend = load(saved(tmp_path / "m.skops", model))
    assert backend.predict(np.array(["very nice", "so bad"], dtype=object)).answer.tolist() == [1, 0]


class Grenade:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (Path(self.path),)


def test_a_pickle_under_another_name_is_refused_and_never_executed(tmp_path):
    mark, path = tmp_path / "exploded", tmp_path / "m.skops"
    path.write_bytes(pickle.dumps(Grenade(str(mark))))
    with pytest.raises(WeightsError, match="not a whole skops file"):
        load(path)
    assert not mark.exists()
    pickle.loads(path.read_bytes())
    assert mark.exists(), "the test's own grenade is a dud"


def double(rows):
    return rows * 2


def test_untrusted_types_are_named(tmp_path):
    model = make_pipeline(FunctionTransformer(double), LogisticRegression()).fit(ROWS, LABEL)
    path = saved(tmp_path / "m.skops", model)
    with pytest.raises(WeightsError, match=r"double.*list them under the backend's 'trusted'") as caught:
        load(path)
    (name,) = skops.io.get_untrusted_types(file=path)
    assert name in str(caught.value)
    assert load(path, trusted=[name]).predict(ROWS).answer.tolist() == model.predict(ROWS).tolist()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_refused(tmp_path, share):
    path = saved(tmp_path / "m.skops", LogisticRegression().fit(ROWS, LABEL))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(WeightsError, match="not a whole skops file"):
        load(path)


@pytest.mark.parametrize(
    "schema", [None, "", "{", "[]", "{}", '{"__class__": "X", "__module__": "nowhere", "__loader__": "NoNode"}']
)
def test_an_archive_that_is_no_skops_file_is_refused(tmp_path, schema):
    with zipfile.ZipFile(tmp_path / "m.skops", "w") as archive:
        archive.writestr("notes.txt" if schema is None else "schema.json", schema or "")
    with pytest.raises(WeightsError, match="not a whole skops file"):
        load(tmp_path / "m.skops")


@pytest.mark.parametrize("model", [LinearRegression().fit(ROWS, LABEL), CountVectorizer()], ids=repr)
def test_a_model_without_probabilities_is_refused(tmp_path, model):
    with pytest.raises(WeightsError, match="has no predict_proba"):
        load(saved(tmp_path / "m.skops", model))
