"""Exceptions and value objects cross processes: they survive a pickle round trip."""

import importlib
import inspect
import pickle
import pkgutil

import numpy as np
import pytest

import cascade
from cascade.answers import Answers
from cascade.backends.images import ImageInput
from cascade.backends.training.recipe import Recipe
from cascade.calibration import Identity, Isotonic, OperatingPoint, Platt, Temperature
from cascade.datasets import Split
from cascade.errors import CascadeError, InfeasibleTarget, InputError
from cascade.prediction import Prediction
from cascade.routers import Agreement, Router


def exception_classes():
    found = set()
    for module in pkgutil.walk_packages(cascade.__path__, "cascade."):
        if module.name.rpartition(".")[2] == "errors":
            members = inspect.getmembers(importlib.import_module(module.name), inspect.isclass)
            found |= {kind for _, kind in members if issubclass(kind, CascadeError)}
    return sorted(found, key=lambda kind: kind.__name__)


ARGUMENTS = {
    "InfeasibleTarget": ("no policy reaches accuracy 1", 0.75),
    "StageError": ("small", "its model returned NaN"),
    "MethodNotAllowed": ("'/predict' has the methods POST; got 'GET'", "POST"),
}


@pytest.mark.parametrize("kind", exception_classes())
def test_exceptions_survive_pickling(kind):
    error = kind(*ARGUMENTS.get(kind.__name__, ("what went wrong",)))
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == str(error)
    assert again.args == error.args
    assert vars(again) == vars(error)


def test_the_exit_codes_are_those_of_the_reference():
    codes = {kind.__name__: kind.exit_code for kind in exception_classes()}
    assert codes["InfeasibleTarget"] == 4
    assert codes["CheckFailed"] == 5
    assert codes["ObjectiveMissed"] == 6
    assert {kind.exit_code for kind in exception_classes() if issubclass(kind, InputError)} == {3}
    assert {"ConfigError", "DataError", "PolicyError", "RowsError", "ScoreTableError", "WeightsError"} <= codes.keys()


def test_an_infeasible_target_carries_the_nearest():
    again = pickle.loads(pickle.dumps(InfeasibleTarget("too high", 0.5)))
    assert (str(again), again.nearest) == ("too high", 0.5)
    assert InfeasibleTarget("no").nearest is None


N = np.arange(3)
VALUES = [
    Prediction(N, np.eye(3)),
    Prediction(N, confidence=N / 3, cost=N * 1.0),
    Answers(N, N, N / 3, N * 2.0),
    OperatingPoint(np.array([0.5]), 0.9, 2.0),
    Split(np.eye(3), N),
    Router("margin", Temperature(2.0)),
    Router(None, Identity()),
    Router(None, Identity(), Agreement()),
    Platt(1.5, -1.0),
    Isotonic((0.0, 0.5), (0.1, 0.9)),
    ImageInput(mean=(1.0,), std=(2.0,)),
    Recipe(network="a:B", input=ImageInput(), phases=[{"epochs": 1}], learning_rate=0.1),
]


def content(value):
    if isinstance(value, tuple):
        return [content(part) for part in value]
    if isinstance(value, np.ndarray):
        return (value.tolist(), value.dtype.str)
    return {name: content(part) for name, part in vars(value).items()} if hasattr(value, "__dict__") else value


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_value_objects_survive_pickling(value):
    again = pickle.loads(pickle.dumps(value))
    assert type(again) is type(value)
    assert content(again) == content(value)


@pytest.mark.parametrize("value", VALUES[:4], ids=lambda value: type(value).__name__)
def test_values_that_hold_arrays_compare_by_identity(value):
    assert value == value
    assert value != pickle.loads(pickle.dumps(value))
    assert len({value, value}) == 1
