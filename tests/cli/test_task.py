"""The rows of a recipe: files of one's own are read, and refused with the reason."""

import numpy as np
import pytest

from cascade.backends.training.recipe import Recipe
from cascade.cli.training.task import load_task
from cascade.errors import ConfigError, DataError

ROWS, LABEL = np.zeros((10, 4)), np.arange(10) % 3


def recipe(folder, **values):
    fixed = {"network": "a:B", "input": {}, "phases": [{"epochs": 1}], "learning_rate": 0.1, "held_out_rows": 4}
    return Recipe.model_validate(fixed | values, context={"folder": folder})


def load(folder, **values):
    return load_task(recipe(folder, **values), lambda note: None)


def test_a_file_of_ones_own_is_judged_on_the_held_out_rows_or_on_a_file_of_test_rows(tmp_path):
    np.savez(tmp_path / "rows.npz", rows=ROWS, label=LABEL)
    np.savez(tmp_path / "test.npz", rows=ROWS[:2], label=LABEL[:2])
    task = load(tmp_path, dataset="rows.npz")
    assert (len(task.rows), task.test_labels.tolist(), task.has_test_rows) == (10, LABEL[6:].tolist(), False)
    task = load(tmp_path, dataset="rows.npz", test_dataset="test.npz")
    assert (len(task.test_rows), task.has_test_rows) == (2, True)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"rows": ROWS}, "no array 'label'"),
        ({"label": LABEL}, "no array 'rows'"),
        ({"rows": ROWS, "label": LABEL[:3]}, "one integer label from 0 for each of its 10 rows"),
        ({"rows": ROWS, "label": LABEL - 1}, "one integer label from 0"),
        ({"rows": ROWS, "label": LABEL + 0.5}, "dtype float64"),
    ],
)
def test_files_that_cannot_be_trained_on_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "rows.npz", **arrays)
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, dataset="rows.npz")


def test_other_files_and_unknown_data_sets_are_refused(tmp_path):
    (tmp_path / "rows.npz").write_text("no archive")
    with pytest.raises(DataError, match="cannot be read as an"):
        load(tmp_path, dataset="rows.npz")
    with pytest.raises(DataError, match="cannot be read"):
        load(tmp_path, dataset="missing.npz")
    with pytest.raises(DataError, match="'imagenet' is not known"):
        load(tmp_path, dataset="imagenet")
    with pytest.raises(ValueError, match="has its own test rows"):
        recipe(tmp_path, dataset="cifar10", test_dataset="test.npz")
