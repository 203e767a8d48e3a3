"""Confidence intervals by resampling rows."""

import numpy as np

__all__ = ["bootstrap_means", "percentile_interval"]


def bootstrap_means(values: np.ndarray, resamples: int = 1000, seed: int = 0) -> np.ndarray:
    """Means over rows that are drawn with replacement; all columns see the same draws, so they are paired.

    Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 6.

    Args:
        values: (n, J) float.
        resamples: B.
        seed: of the draws.

    Returns:
        (B, J) means.
    """
    n = len(values)
    random = np.random.default_rng(seed)
    counts = (np.bincount(random.integers(0, n, n), minlength=n) for _ in range(resamples))
    return np.stack([count @ values for count in counts]) / n


def percentile_interval(draws: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """The percentile interval of Efron and Tibshirani, chapter 13.

    Args:
        draws: (B,) statistics of the resamples.
        level: in (0, 1).
    """
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
