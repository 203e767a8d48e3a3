"""Writes calibration.npz and held-out.npz: 17,000 and 3,000 of the training images that no recipe uses."""

from pathlib import Path

import numpy as np

from cascade import datasets
from cascade.rows.rows_file import save_rows

UNUSED, HELD_OUT, TROUSERS = 20_000, 3000, 1

if __name__ == "__main__":
    rows, labels = datasets.load("fashion_mnist", "train")
    is_trousers = (labels == TROUSERS).astype(np.int64)
    for name, part in [("calibration.npz", slice(-UNUSED, -HELD_OUT)), ("held-out.npz", slice(-HELD_OUT, None))]:
        save_rows(Path(name), rows[part], is_trousers[part])
