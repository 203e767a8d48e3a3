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
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from cascade.backends.config import SklearnConfig
from cascade.backends.errors import WeightsError
from cascade.backends.sklearn_backend import SklearnBackend

RANDOM = np.random.default_rng(0)
ROWS = RANDOM.normal(size=(90, 4))
LABEL = ROWS[:, :3].argmax(axis=1)


def saved(path, model):
    skops.io.dump(model, path)
    return path


def load(path, **options):
    return SklearnBackend(SklearnConfig(type="sklearn", model=path, **options))


@pytest.mark.parametrize(
    ("classes", "expected"),
    [([0, 1, 2], [0, 1, 2]), ([3, 7, 20], [3, 7, 20]), ([-1, 0, 5], [-1, 0, 5]), (["ant", "bee", "cow"], [0, 1, 2])],
)
def test_answers_are_integer_classes_or_places_of_other_classes(tmp_path, classes, expected):
    model = LogisticRegression().fit(ROWS, np.array(classes)[LABEL])
    said = load(saved(tmp_path / "m.skops", model)).predict(ROWS)
    assert said.probabilities == pytest.approx(model.predict_proba(ROWS))
    names = dict(zip(model.classes_.tolist(), expected, strict=True))
    assert said.answer.tolist() == [names[name] for name in model.predict(ROWS).tolist()]
    assert said.answer.dtype == np.int64
    assert np.mean(said.answer == np.array(expected)[LABEL]) > 0.8


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


def test_types_that_nobody_trusted_are_named(tmp_path):
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
