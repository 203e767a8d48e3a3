"""Writes calibration.npz: windows of composites of the 40 faces that the rejector was not trained on."""

from pathlib import Path

import numpy as np

from cascade import datasets
from cascade.backends.detection.haar.grey_windows import grey
from cascade.backends.detection.haar.recipe import HaarRecipe
from cascade.benchmarks.experiments.detection.composites import composite, face_free, labelled_windows
from cascade.errors import ConfigError
from cascade.files.yaml_files import load_yaml_model
from cascade.rows.rows_file import save_rows

COMPOSITES, NEGATIVES, SEED = 200, 120, 7

if __name__ == "__main__":
    for name in ("faces", "cifar10"):
        datasets.fetch(name)
    recipe = load_yaml_model(Path("recipes/rejector.yaml"), HaarRecipe, ConfigError)
    rows, labels = datasets.load("faces", "train")
    unused = rows[len(rows) - recipe.unused_rows :][labels[len(rows) - recipe.unused_rows :] == recipe.positive]
    tiles, random = grey(datasets.load("cifar10", "test").rows), np.random.default_rng(SEED)
    parts = []
    for number in range(COMPOSITES):
        face = int(random.integers(len(unused)))
        made = composite(unused[face], face, face_free(number, tiles, random), random)
        parts.append(labelled_windows(made, NEGATIVES, random))
    windows, label = (np.concatenate(column) for column in zip(*parts, strict=True))
    save_rows(Path("calibration.npz"), windows, label)
