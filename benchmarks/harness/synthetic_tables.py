"""Synthetic score tables of any size, for the experiments on the threshold search."""

import numpy as np

from cascade.calibration import ScoreTable

FAMILIES = ("shared_difficulty", "independent", "overconfident", "specialists")


def synthetic_table(family: str, rows: int, stages: int, seed: int) -> ScoreTable:
    """A score table whose later stages are better, each three times as expensive as the one before it.

    Args:
        family: which rows a stage gets wrong. "shared_difficulty": hard rows are hard for all stages, as with models of
            one architecture; "independent": the stages err independently; "overconfident": as the first, but the first
            stages' confidences are far too high, and rounded to thousandths, so that many are equal; "specialists":
            each row is easy for some stages and hard for others.
        rows: n.
        stages: K.
        seed: of everything random.
    """
    random = np.random.default_rng((FAMILIES.index(family), seed))
    skill = np.linspace(1.0, 3.2, stages)
    difficulty = random.normal(0.0, 1.6, (rows, 1 if family in ("shared_difficulty", "overconfident") else stages))
    if family == "independent":
        difficulty = 0.3 * difficulty
    ease = skill - difficulty + (random.normal(0.0, 1.2, (rows, stages)) if family == "specialists" else 0.0)
    right = random.random((rows, stages)) < 1 / (1 + np.exp(-2 * ease))
    sharpness = np.linspace(6.0, 2.0, stages) if family == "overconfident" else 2.0
    confidence = 1 / (1 + np.exp(-sharpness * ease - random.normal(0.0, 0.7, (rows, stages))))
    if family == "overconfident":
        confidence = np.round(confidence, 3)
    cost = 3.0 ** np.arange(stages)
    names = np.array([f"stage{k}" for k in range(stages)])
    return ScoreTable(np.where(right, 0, 1), confidence, cost, names, "ms", np.zeros(rows, dtype=int))
