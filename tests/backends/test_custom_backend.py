"""A user's class as a backend."""

import sys

import numpy as np
import pytest

from cascade.backends.code.imports import import_object
from cascade.backends.config import CustomConfig
from cascade.backends.custom_backend import CustomBackend
from cascade.backends.fake_backend import FakeBackend
from cascade.backends.loading import load_backend
from cascade.cascade import load_stages
from cascade.config import StageConfig
from cascade.errors import ConfigError
from cascade.prediction import Prediction

MODULE = """
import numpy as np
from cascade.prediction import Prediction

class Returns:
    def __init__(self, result):
        self.result = result
    def predict(self, rows):
        return self.result

class Doubles:
    def predict(self, rows):
        rows *= 2
        return rows

class Shop:
    class Inner:
        def predict(self, rows):
            return np.full((len(rows), 2), 0.5)

class Bounded(Doubles):
    def __init__(self, most):
        self.most = most

    def highest_row_cost(self, rows):
        return self.most


class Silent:
    pass

class Stubborn:
    def __init__(self):
        raise ValueError("not today")

predict = 3
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "users_own.py").write_text(MODULE)
    (tmp_path / "users_broken.py").write_text("def (:\n")
    (tmp_path / "users_needy.py").write_text("import no_such_package\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("users_own", "users_broken", "users_needy"):  # of another test's folder
        monkeypatch.delitem(sys.modules, name, raising=False)
    return "users_own"


def build(path, **arguments):
    return CustomBackend(CustomConfig(type="custom", object=path, arguments=arguments))


ROWS = np.zeros((2, 3))


@pytest.mark.parametrize(
    "result", [np.array([[0.1, 0.9], [0.8, 0.2]]), [[0.1, 0.9], [0.8, 0.2]]], ids=["array", "list"]
)
def test_probabilities_become_a_prediction(module, result):
    said = build(f"{module}:Returns", result=result).predict(ROWS)
    assert said.answer.tolist() == [1, 0]
    assert said.probabilities.tolist() == [[0.1, 0.9], [0.8, 0.2]]


def test_a_prediction_is_passed_on(module):
    own = Prediction(np.array([4, 5]), confidence=np.array([0.5, 0.6]), cost=np.array([1.0, 2.0]))
    assert build(f"{module}:Returns", result=own).predict(ROWS) is own


@pytest.mark.parametrize("result", [np.array([[0.2], [0.7]], np.float32), [[0.2], [0.7]]], ids=["array", "list"])
def test_one_column_is_the_probability_of_class_1(module, result):
    said = build(f"{module}:Returns", result=result).predict(ROWS)
    np.testing.assert_allclose(said.probabilities, [[0.8, 0.2], [0.3, 0.7]], rtol=1e-6)
    assert said.answer.tolist() == [0, 1]


def test_a_model_may_write_to_its_rows(module):
    rows = np.ones((2, 3))
    rows.setflags(write=False)
    assert build(f"{module}:Doubles").predict(rows).probabilities.tolist() == [[2.0, 2.0, 2.0]] * 2
    assert (rows == 1).all()


def test_a_nested_class_may_be_named(module):
    assert build(f"{module}:Shop.Inner").predict(ROWS).probabilities.shape == (2, 2)


@pytest.mark.parametrize(
    "result",
    [
        np.full(2, 0.5),
        np.full((2, 2, 2), 0.5),
        [[0.5, 0.5], [1.0]],
        np.zeros((2, 0)),
        None,
        "yes",
        [["a", "b"], ["c", "d"]],
    ],
    ids=str,
)
def test_what_is_neither_probabilities_nor_a_prediction_is_refused_with_the_name_of_the_class(module, result):
    with pytest.raises(ConfigError, match=r"users_own:Returns.predict must return \(n, C\)"):
        build(f"{module}:Returns", result=result).predict(ROWS)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("users_own:Nothing", "cannot be imported"),
        ("users_own:Shop.Outer", "cannot be imported"),
        ("users_own_not:Returns", "cannot be imported"),
        ("users_broken:Model", "cannot be imported"),
        ("users_needy:Model", "no_such_package"),
        ("users_own:Silent", "has no method predict"),
        ("users_own:Returns", "cannot be built"),
        ("users_own:predict", "cannot be built"),
        ("users_own:Stubborn", "not today"),
        (".users_own:Returns", "cannot be"),
    ],
)
def test_an_unusable_class_is_a_config_error(module, path, message):
    with pytest.raises(ConfigError, match=message):
        build(path)


@pytest.mark.parametrize("path", ["users_own", "users_own:", ":Returns", ""])
def test_a_path_of_another_form_is_refused(path):
    with pytest.raises(ConfigError, match="must have the form"):
        import_object(path)


@pytest.fixture
def two_folders(tmp_path, monkeypatch):
    """Descriptions of one class in two folders, each with a module of its own by the same name; the path is of both."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "twice", raising=False)
    stages = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        folder.mkdir()
        (folder / "twice.py").write_text(f"class Model:\n    name = {folder.name!r}\n    predict = print\n")
        sys.path.append(str(folder))
        backend = {"type": "custom", "object": "twice:Model"}
        values = {"name": "own", "backend": backend}
        stages.append((StageConfig.model_validate(values, context={"folder": folder}), folder))
    yield stages
    sys.modules.pop("twice", None)


def test_a_module_beside_the_configuration_goes_before_one_of_its_name_on_the_python_path(two_folders):
    stage, folder = two_folders[1]
    assert load_stages([stage], folder)[0].backend.model.name == "two"


def test_another_module_of_the_name_that_this_process_has_imported_is_refused(two_folders):
    load_stages([two_folders[0][0]], two_folders[0][1])
    with pytest.raises(ConfigError, match=r"'twice' of this configuration is .*two.twice.py, .*one.twice.py"):
        load_stages([two_folders[1][0]], two_folders[1][1])


def test_the_fake_backend_looks_rows_up_and_counts():
    config = CustomConfig(
        type="custom",
        object="cascade.backends.fake_backend:FakeBackend",
        arguments={"probabilities": [[0.9, 0.1], [0.4, 0.6]]},
    )
    backend = load_backend(config)
    assert backend.predict(np.array([[[1]], [[0]], [[1]]])).answer.tolist() == [1, 0, 1]
    assert isinstance(backend.model, FakeBackend)
    assert backend.model.batches == [3]


def test_a_bound_of_the_cost_is_what_the_class_declares(module):
    assert build(f"{module}:Doubles").highest_row_cost(ROWS) == np.inf
    assert build(f"{module}:Bounded", most=7).highest_row_cost(ROWS) == 7.0
    for wrong in ("7", -1.0, np.nan, None, True):
        with pytest.raises(ConfigError, match=r"Bounded.highest_row_cost must return a number of at least 0"):
            build(f"{module}:Bounded", most=wrong).highest_row_cost(ROWS)
