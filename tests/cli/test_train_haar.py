"""``cascade train`` with a recipe of ``type: haar``, on a small data set."""

import hashlib

import numpy as np
import pytest

from cascade import datasets
from cascade.backends.config import HaarConfig
from cascade.backends.detection.haar.backend import HaarBackend
from cascade.datasets.registry import Dataset

RECIPE = """
type: haar
dataset: fashion_mnist
positive: 1
classes: [other, bar]
height: 12
width: 12
stages: [3, 3]
negatives_per_stage: 200
pool: 60
tried: 30
min_recall: 0.9
{more}
"""


@pytest.fixture
def recipe(monkeypatch, tmp_path):
    """Writes a recipe; windows of label 1 of its data set have a bright bar."""
    random = np.random.default_rng(0)
    labels = np.arange(1000) % 3
    rows = random.integers(0, 128, (1000, 12, 12), dtype=np.uint8)
    rows[labels == 1, 2:10, 5:8] += 25
    arrays = {"train_rows": rows, "train_labels": labels}
    digests = {name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in arrays.items()}
    monkeypatch.setenv("IDK_CASCADE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(datasets.DATASETS, "fashion_mnist", Dataset("fashion_mnist", lambda *a: arrays, digests))

    def write(more=""):
        path = tmp_path / "recipes" / "bars.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(RECIPE.format(more=more))
        return path

    return write


def test_a_recipe_becomes_a_model_that_a_backend_loads(run, recipe, tmp_path):
    done = run("train", recipe(), "--json")
    assert done.code == 0, done.err
    model = tmp_path / "weights" / "bars.safetensors"
    assert done.json["weights"] == str(model)
    assert done.json["certificate"]["min_recall"] == 0.9
    backend = HaarBackend(HaarConfig(type="haar", model=model), ["other", "bar"])
    rows, labels = datasets.load("fashion_mnist", "train")
    passed = backend.predict(rows).probabilities[:, 1] > 0
    assert passed[labels == 1].mean() > 0.85
    assert not list((tmp_path / "cache" / "training").glob("*"))


def test_stages_are_printed_and_another_file_is_written(run, recipe, tmp_path):
    done = run("train", recipe("form: staged\nfalse_positives: 0.01"), "--weights", tmp_path / "mine.safetensors")
    assert done.code == 0, done.err
    assert "stage 1/2: 3 features in total" in " ".join(done.err.split())
    assert (tmp_path / "mine.safetensors").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("tride: 5", "tride"),
        ("fitting_share: 0.9", "leave positives for boosting"),
        ("unused_rows: 999", "0 rows of label 1, too few"),
    ],
    ids=str,
)
def test_a_recipe_that_cannot_be_used_exits_with_3(run, recipe, more, message):
    done = run("train", recipe(more))
    assert done.code == 3
    assert message in " ".join(done.err.split())


def test_a_missing_recipe_exits_with_3(run, tmp_path):
    done = run("train", tmp_path / "none.yaml")
    assert (done.code, "does not exist" in done.err) == (3, True)
