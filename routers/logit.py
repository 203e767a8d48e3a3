"""The logit: log(c / (1 - c))."""

import numpy as np

__all__ = ["SMALLEST", "logit"]

SMALLEST = 1e-12  # probabilities are kept this far from 0 and 1 before a logarithm


def logit(confidence: np.ndarray, smallest: float = SMALLEST) -> np.ndarray:
    """log(c / (1 - c)), finite also at 0 and 1.

    Args:
        confidence: any shape, in [0, 1].
        smallest: how far from 0 and 1 the confidences are kept.

    Returns:
        The same shape, float64; NaN stays NaN.
    """
    inside = np.clip(np.asarray(confidence, dtype=np.float64), smallest, 1.0 - smallest)
    return np.asarray(np.log(inside) - np.log1p(-inside))
