"""A detector of bright squares on dark ground, of two fake stages, and images for it."""

from pathlib import Path

import numpy as np

from cascade.calibration import Policy
from cascade.prediction import Prediction

CONFIG = """
name: squares
rows: {shape: SHAPE, dtype: uint8}
classes: [ground, square]
stages:
  - name: mean
    backend: {type: custom, object: "bright_squares:Mean"}
    router: {calibrator: identity}
  - name: border
    backend: {type: custom, object: "bright_squares:Border"}
    router: {calibrator: identity}
detection: {min_size: 12, stride: 2, scale_factor: 1.2}
serving: {SERVING}
"""
POLICY = Policy.from_thresholds(("mean", "border"), np.array([0.9]))


class Mean:
    """Surely ground where the middle of a window is dark, else undecided."""

    def predict(self, rows):
        grey = rows if rows.ndim == 3 else rows.mean(axis=3)
        bright = grey[:, 4:8, 4:8].reshape(len(rows), -1).mean(axis=1) > 128
        return Prediction.from_probabilities(np.where(bright, 0.4, 0.02)[:, None])


class Border:
    """The share of the pixels that are as in a bright 8 x 8 square in the middle of 12 x 12 dark pixels."""

    def predict(self, rows):
        grey = rows if rows.ndim == 3 else rows.mean(axis=3)
        square = np.zeros((12, 12))
        square[2:10, 2:10] = 255
        share = 1 - np.abs(grey - square).mean(axis=(1, 2)) / 255
        return Prediction.from_probabilities(np.where(share > 0.8, share, 0.1)[:, None])


def write_config(folder, shape="[12, 12]", serving=""):
    """A configuration, its policy, and this module beside them."""
    text = CONFIG.replace("SHAPE", shape).replace("SERVING", serving)
    (folder / "config.yaml").write_text(text)
    (folder / "bright_squares.py").write_text(Path(__file__).read_text(encoding="utf-8"))
    POLICY.save(folder / "policy.json")
    return folder / "config.yaml"


def picture(squares=((30, 20, 16),), height=80, width=120):
    """Dark ground with bright squares (x, y, size)."""
    image = np.full((height, width), 20, dtype=np.uint8)
    for x, y, size in squares:
        image[y : y + size, x : x + size] = 240
    return image
