"""Whether a load was steady: whether its parts differ by more than noise."""

import numpy as np
from scipy.stats import ttest_ind_from_stats

__all__ = ["WINDOWS", "steady_from"]

WINDOWS = 20
LEVEL = 0.05
LEAST_DIFFERENCE = 0.1


def steady_from(series: np.ndarray) -> int | None:
    """The first window from which a series is steady.

    The two halves of what follows differ by less than 10 %, or by no more than noise (Welch's t test, level 5 %). A
    quarter of the windows is left out at a time, and half of them at most.

    Args:
        series: (n,) of windows of equal length; NaN where a window has no value.

    Returns:
        0, a quarter or half of n; ``None`` where it never is.
    """
    for start in (0, len(series) // 4, len(series) // 2):
        rest = series[start:]
        first, second = (half[~np.isnan(half)] for half in np.array_split(rest, 2))
        if len(first) < 2 or len(second) < 2:
            return start
        scale = max(abs(first.mean()), abs(second.mean()))
        if scale == 0 or abs(first.mean() - second.mean()) < LEAST_DIFFERENCE * scale:
            return start
        spreads = first.std(ddof=1), second.std(ddof=1)
        sizes = len(first), len(second)
        test = (first.mean(), spreads[0], sizes[0], second.mean(), spreads[1], sizes[1])
        if max(spreads) > 0 and ttest_ind_from_stats(*test, equal_var=False).pvalue > LEVEL:
            return start
    return None
