"""The rows of a recipe: of a known data set, or of files of one's own."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cascade import datasets
from cascade.backends.training.recipe import Recipe
from cascade.errors import ConfigError, DataError

__all__ = ["Task", "load_task"]


class Task(NamedTuple):
    """What a training learns from, and what it is judged on.

    Attributes:
        rows: (n, ...) training rows, the held-out ones last.
        labels: (n,) int64, from 0.
        test_rows: (m, ...); the held-out rows if there are no others.
        test_labels: (m,) int64.
        has_test_rows: whether the test rows were kept out of the training altogether.
    """

    rows: np.ndarray
    labels: np.ndarray
    test_rows: np.ndarray
    test_labels: np.ndarray
    has_test_rows: bool


def load_task(recipe: Recipe, on_note: Callable[[str], None]) -> Task:
    """Loads the rows of a recipe; a known data set is fetched if it is not in the cache.

    Raises:
        ConfigError: a file does not hold rows and labels that can be trained on.
        DataError: the data set is not known, or cannot be fetched or read.
    """
    if not recipe.dataset.endswith(".npz"):
        datasets.fetch(recipe.dataset, on_note=on_note)
        return Task(*datasets.load(recipe.dataset, "train"), *datasets.load(recipe.dataset, "test"), True)
    rows, labels = _read(Path(recipe.dataset))
    if recipe.test_dataset:
        return Task(rows, labels, *_read(recipe.test_dataset), True)
    held_out = slice(len(rows) - recipe.held_out_rows, None)
    return Task(rows, labels, rows[held_out], labels[held_out], False)


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            if missing := {"rows", "label"} - set(file.files):
                raise ConfigError(f"{path} has no array {sorted(missing)[0]!r}; it must have 'rows' and 'label'")
            rows, labels = file["rows"], file["label"]
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} cannot be read as an .npz file: {error}") from error
    if labels.shape != (len(rows),) or labels.dtype.kind not in "iu" or (len(labels) and labels.min() < 0):
        raise ConfigError(
            f"{path} needs one integer label from 0 for each of its {len(rows)} rows; "
            f"got shape {labels.shape} and dtype {labels.dtype}"
        )
    return rows, labels.astype(np.int64)
