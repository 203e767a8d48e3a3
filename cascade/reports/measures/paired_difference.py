"""The difference of two shares on the same rows."""

import numpy as np

from cascade.calibration.evaluation.evaluation import Interval

__all__ = ["paired_difference_interval"]


def paired_difference_interval(better: int, worse: int, rows: int, level: float = 0.95) -> Interval:
    """A two-sided interval of P(only the first is right) - P(only the second is right).

    Wald's interval after half a row is added to each of the four outcomes: Agresti and Min, "Simple improved confidence
    intervals for comparing matched proportions", Statistics in Medicine 24, 2005, https://doi.org/10.1002/sim.1781
    At level 0.95, simulated coverage was at least 0.89 with 10 rows and 0.93 with 40.

    Args:
        better: number of rows that only the first one has right.
        worse: number of rows that only the second one has right.
        rows: n >= 1, all rows.
        level: of the interval, in (0, 1).

    Returns:
        Both ends, in [-1, 1].
    """
    from scipy.special import ndtri

    n = rows + 2
    centre = (better - worse) / n
    deviation = np.sqrt((better + worse + 1) / n - centre**2) / np.sqrt(n)
    half = float(ndtri(0.5 + level / 2) * deviation)
    return max(centre - half, -1.0), min(centre + half, 1.0)
