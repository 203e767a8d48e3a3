"""The weights of the CIFAR-10 example have the accuracy that was written beside them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from cascade import datasets
from cascade.backends.imports import import_object
from cascade.backends.networks.folding import fold_norms
from cascade.backends.training.recipe import Recipe
from cascade.backends.weights import load_weights
from cascade.errors import ConfigError, DataError
from cascade.yaml_files import load_yaml_model

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "cifar10"
BATCH_ROWS = 50


def build(recipe, weights):
    """The network of a recipe as it is shipped."""
    network = import_object(recipe.network)(**recipe.arguments)
    if recipe.fold_norms:
        fold_norms(network)
    load_weights(weights, network)
    for name, value in recipe.final.items():
        setattr(network, name, value)
    return network.eval().to(memory_format=torch.channels_last)


@pytest.fixture(scope="module")
def test_set():
    try:
        return datasets.load("cifar10", "test")
    except DataError as error:
        pytest.skip(str(error))


def test_there_are_weights():
    assert list((EXAMPLE / "weights").glob("*.safetensors"))


def test_every_file_of_weights_tells_what_it_is():
    for weights in (EXAMPLE / "weights").glob("*.safetensors"):
        facts = json.loads(weights.with_suffix(".json").read_text())
        assert (EXAMPLE / "recipes" / facts["recipe"]).is_file()
        assert facts["checked_rows"] >= 100
        assert 0.5 < facts["checked_accuracy"] <= 1


@pytest.mark.parametrize("name", sorted(path.stem for path in (EXAMPLE / "weights").glob("*.safetensors")))
def test_weights_have_their_recorded_accuracy(name, test_set):
    weights = EXAMPLE / "weights" / f"{name}.safetensors"
    facts = json.loads(weights.with_suffix(".json").read_text())
    recipe = load_yaml_model(EXAMPLE / "recipes" / facts["recipe"], Recipe, ConfigError)
    network = build(recipe, weights)
    n = facts["checked_rows"]
    with torch.inference_mode():
        batches = [recipe.input.tensor(test_set.rows[i : min(i + BATCH_ROWS, n)]) for i in range(0, n, BATCH_ROWS)]
        answers = np.concatenate([network(batch).argmax(dim=1).numpy() for batch in batches])
    assert np.mean(answers == test_set.labels[:n]) == pytest.approx(facts["checked_accuracy"], abs=0.004)
