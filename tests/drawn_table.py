"""Score tables of three models of rising skill, to draw calibration samples from."""

import numpy as np

from cascade.calibration import ScoreTable


def draw(rng, rows, ties=False, harder=0.0):
    """Three models of rising skill on rows of random difficulty; the truth is known from a large draw."""
    difficulty = rng.normal(size=rows) + harder
    confidence, right = np.empty((rows, 3)), np.empty((rows, 3), dtype=bool)
    for k, skill in enumerate((0.8, 1.7, 2.6)):
        ease = skill - difficulty
        confidence[:, k] = 1 / (1 + np.exp(-1.7 * (ease + 0.5 * rng.normal(size=rows))))
        right[:, k] = rng.random(rows) < 1 / (1 + np.exp(-2.2 * ease))
    if ties:
        confidence = np.round(confidence * 8) / 8
    prediction = np.where(right, 0, np.arange(1, 4))
    return ScoreTable(
        prediction, confidence, np.array([1.0, 6.0, 30.0]), np.array(["a", "b", "c"]), label=np.zeros(rows, dtype=int)
    )
