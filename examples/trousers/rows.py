"""Writes calibration.npz (the 20,000 training images that no recipe uses) and test.npz (the 10,000 test images)."""

from pathlib import Path

import numpy as np

from cascade import datasets
from cascade.rows.rows_file import save_rows

UNUSED, TROUSERS = 20_000, 1

if __name__ == "__main__":
    train, test = datasets.load("fashion_mnist", "train"), datasets.load("fashion_mnist", "test")
    for name, rows, labels in [
        ("calibration.npz", train.rows[-UNUSED:], train.labels[-UNUSED:]),
        ("test.npz", test.rows, test.labels),
    ]:
        save_rows(Path(name), rows, (labels == TROUSERS).astype(np.int64))
