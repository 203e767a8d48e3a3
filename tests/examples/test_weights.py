"""The weights of the examples have the recorded accuracy, and every recipe can be started."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from cascade import datasets
from cascade.backends.code.imports import import_object
from cascade.backends.detection.haar.model import HaarModel
from cascade.backends.detection.haar.recipe import HaarRecipe
from cascade.backends.files.weights import load_weights
from cascade.backends.networks.folding import fold_norms
from cascade.backends.training.recipe import Recipe
from cascade.backends.training.trainer import Trainer
from cascade.errors import ConfigError, DataError
from cascade.files.yaml_files import load_yaml_model

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
HAAR = [path for name in ("faces", "trousers") for path in sorted((EXAMPLES / name / "weights").glob("*.safetensors"))]
WEIGHTS = sorted(set(EXAMPLES.glob("*/weights/*.safetensors")) - set(HAAR))
RECIPES = sorted(EXAMPLES.glob("dynamic/recipes/*.yaml"))
BATCH_ROWS = 50


def name_of(path):
    return f"{path.parent.parent.name}/{path.stem}"


def build(recipe, weights):
    """The network of a recipe as it is shipped."""
    network = import_object(recipe.network)(**recipe.arguments)
    if recipe.fold_norms:
        fold_norms(network)
    load_weights(weights, network)
    for name, value in recipe.final.items():
        setattr(network, name, value)
    return network.eval().to(memory_format=torch.channels_last)


def judged_rows(recipe):
    try:
        return datasets.load(recipe.dataset, "test")
    except DataError as error:
        pytest.skip(str(error))


def test_there_are_weights():
    assert {path.parent.parent.name for path in WEIGHTS} == {
        "cifar10",
        "clips",
        "conditional",
        "dynamic",
        "gestures",
        "shapes",
    }


@pytest.mark.parametrize("weights", WEIGHTS, ids=name_of)
def test_every_weights_file_describes_itself(weights):
    facts = json.loads(weights.with_suffix(".json").read_text())
    assert (weights.parent.parent / "recipes" / facts["recipe"]).is_file()
    assert facts["checked_rows"] >= 100
    assert 0.5 < facts["checked_accuracy"] <= 1


@pytest.mark.parametrize("path", HAAR, ids=name_of)
def test_every_haar_cascade_is_of_its_recipe(path):
    model = HaarModel.load(path)
    recipe = load_yaml_model(path.parent.parent / "recipes" / f"{path.stem}.yaml", HaarRecipe, ConfigError)
    assert HaarRecipe.model_validate(model.facts["recipe"]) == recipe
    assert len(model) <= sum(recipe.stages)
    assert path.stat().st_size < 100_000


@pytest.mark.parametrize("path", RECIPES, ids=name_of)
def test_a_training_of_every_dynamic_recipe_can_be_begun(path, tmp_path):
    recipe = load_yaml_model(path, Recipe, ConfigError)
    phases = [phase.model_copy(update={"epochs": 1}) for phase in recipe.phases]
    short = {"start_from": (), "phases": phases, "batch_rows": 2, "held_out_rows": 2, "crop_padding": 1}
    random = np.random.default_rng(0)
    rows, labels = random.integers(0, 256, (4, 8, 8, 3), dtype=np.uint8), random.integers(0, 10, 4)
    trainer = Trainer(recipe.model_copy(update=short), rows, labels, tmp_path / "checkpoint.safetensors", tmp_path)
    trainer.fit()
    assert all(np.isfinite(record["loss"]) for record in trainer.history)
    assert all(start.weights.stem in {p.stem for p in (*WEIGHTS, *RECIPES)} for start in recipe.start_from)


@pytest.mark.parametrize("weights", WEIGHTS, ids=name_of)
def test_weights_have_their_recorded_accuracy(weights):
    facts = json.loads(weights.with_suffix(".json").read_text())
    recipe = load_yaml_model(weights.parent.parent / "recipes" / facts["recipe"], Recipe, ConfigError)
    network, test_set = build(recipe, weights), judged_rows(recipe)
    n = facts["checked_rows"]
    with torch.inference_mode():
        batches = [recipe.input.tensor(test_set.rows[i : min(i + BATCH_ROWS, n)]) for i in range(0, n, BATCH_ROWS)]
        answers = np.concatenate([network(batch).argmax(dim=1).numpy() for batch in batches])
    assert np.mean(answers == test_set.labels[:n]) == pytest.approx(facts["checked_accuracy"], abs=0.004)
