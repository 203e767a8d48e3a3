"""``cascade train`` and ``cascade data`` on a small data set: the reported accuracy is that of the written weights."""

import hashlib
import json

import numpy as np
import pytest

from cascade import datasets
from cascade.backends.config import TorchConfig
from cascade.backends.files.weights import read_facts
from cascade.backends.torch_backend import TorchBackend
from cascade.datasets.registry import Dataset

RECIPE = """
network: cascade.backends.networks.resnet:CifarResNet
arguments: {{depth: 8, width: 4}}
input: {{layout: nhwc, mean: [128, 128, 128], std: [64, 64, 64]}}
phases: [{{epochs: 12}}]
held_out_rows: 16
batch_rows: 16
learning_rate: 0.05
crop_padding: 0
{more}
"""


@pytest.fixture
def toy(monkeypatch, tmp_path):
    """A data set in place of CIFAR-10, whose classes are shades; its cache folder is ``cache``."""
    random = np.random.default_rng(0)
    arrays = {}
    for split, n in (("train", 80), ("test", 40)):
        labels = random.integers(0, 2, n)
        rows = random.integers(0, 256, (n, 8, 8, 3))
        arrays |= {f"{split}_rows": (rows // (1 + 3 * labels[:, None, None, None])).astype(np.uint8)}
        arrays |= {f"{split}_labels": labels}
    digests = {name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in arrays.items()}
    monkeypatch.setenv("IDK_CASCADE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(datasets.DATASETS, "cifar10", Dataset("cifar10", lambda *a: arrays, digests))
    return arrays


@pytest.mark.parametrize(
    "more",
    ["", "fold_norms: true\nprecision: float32", "stored_precision: float16", "stored_precision: int8"],
    ids=["plain", "folded", "half", "int8"],
)
def test_the_shipped_weights_have_the_accuracy_that_was_written_beside_them(run, toy, tmp_path, more):
    recipe = tmp_path / "recipes" / "toy.yaml"
    recipe.parent.mkdir()
    recipe.write_text(RECIPE.format(more=more))
    done = run("train", recipe, "--threads", 1, "--json")
    assert done.code == 0, done.err
    assert "epoch" not in done.err
    weights = tmp_path / "weights" / "toy.safetensors"
    assert done.json["weights"] == str(weights)
    facts = json.loads(weights.with_suffix(".json").read_text())
    assert facts["test_accuracy"] == done.json["test_accuracy"] > 0.6
    assert len(facts["history"]) == 12
    assert facts["checked_rows"] == 40
    assert list((tmp_path / "cache" / "training").iterdir()) == []
    assert read_facts(weights)["folded"] == ("true" if "fold" in more else "false")
    config = TorchConfig(
        type="torch",
        network="cascade.backends.networks.resnet:CifarResNet",
        arguments={"depth": 8, "width": 4},
        weights=weights,
        input={"mean": [128] * 3, "std": [64] * 3},
    )
    prediction = TorchBackend(config).predict(toy["test_rows"])
    assert np.mean(prediction.answer == toy["test_labels"]) == pytest.approx(facts["test_accuracy"], abs=0.026)


def test_the_weights_stay_in_the_folder_of_a_recipe_of_ones_own(run, toy, tmp_path):
    """They were written to the folder above it."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "toy.yaml").write_text(RECIPE.format(more=""))
    done = run("train", folder / "toy.yaml", "--threads", 1, "--json")
    assert done.json["weights"] == str(folder / "weights" / "toy.safetensors")
    assert not (tmp_path / "weights").exists()


def test_a_training_that_diverges_stops_and_leaves_no_weights(run, toy, tmp_path):
    recipe = tmp_path / "recipes" / "toy.yaml"
    recipe.parent.mkdir()
    recipe.write_text(RECIPE.format(more="weight_decay: 1.0e+20"))
    done = run("train", recipe, "--threads", 1)
    assert done.code == 3
    assert "not finite" in done.err
    assert "learning_rate" in done.err
    assert not (tmp_path / "weights").exists()


def test_data_is_fetched_once_and_counted(run, toy, tmp_path):
    done = run("data", "cifar10", "--json")
    assert done.code == 0
    assert done.json["rows"] == {"train": 80, "test": 40}
    assert done.json["folder"] == str(tmp_path / "cache" / "cifar10")


def test_a_changed_source_exits_with_3(run, toy, monkeypatch):
    changed = toy | {"test_labels": toy["test_labels"] + 1}
    digests = datasets.DATASETS["cifar10"].sha256
    monkeypatch.setitem(datasets.DATASETS, "cifar10", Dataset("cifar10", lambda *a: changed, digests))
    result = run("data", "cifar10")
    assert (result.code, "test_labels has SHA-256" in result.err) == (3, True)


def test_each_epoch_prints_a_line(run, toy, tmp_path):
    recipe = tmp_path / "recipes" / "toy.yaml"
    recipe.parent.mkdir()
    recipe.write_text(RECIPE.format(more=""))
    done = run("train", recipe, "--threads", 1)
    assert done.code == 0, done.err
    history = json.loads((tmp_path / "weights" / "toy.json").read_text())["history"]
    lines = [line for line in done.err.splitlines() if line.startswith("epoch ") and "held out accuracy" in line]
    assert len(lines) == len(history) == 12
    assert lines[2].startswith(f"epoch 3/12: loss {history[2]['loss']:g}, seconds ")
