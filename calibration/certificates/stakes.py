"""Bets on a bounded mean, with stakes that aim at a level at the last row.

The capital process bets on each of n rows. It begins at 1, must be at 1 / delta at the end, and may lose everything
otherwise, like the hedge of a digital option. If the sum of the rows that are left were normal, and each had standard
deviation s, the stake that gets there most often would be phi(z) / (u s sqrt(rows left)), with u = delta times the
capital, and z the normal quantile of u. So it is cautious when it is nearly there, and bold where it is behind and time
runs out. Stakes that depend on the capital and on the rows left: Voráček and Orabona, "STaR-Bets: Sequential
Target-Recalculating Bets for Tighter Confidence Intervals", 2025, https://arxiv.org/abs/2505.22422.

The stake changes at the start of blocks, a hundred or two in all, which grow at first and shrink towards the end. It
depends on the rows before its block only: it is predictable, and under the null hypothesis the capital process is a
supermartingale, however bad the normal approximation is.
"""

import math
from collections.abc import Iterator

import numpy as np

__all__ = ["highest_capital"]

BLOCK_SHARE = 0.05
"""Rows of a block, as a share of those left."""
MOST_LOST = 0.9
"""Part of the capital that a row may take."""
LEAST_DEVIATION = 1e-4
LEAST_HOPE = 1e-12
"""Smallest u; with less the process has lost, and goes on as if it had that much."""


def highest_capital(outcome: np.ndarray, bound: float, delta: float) -> float:
    """The highest capital on the way of bets against "the mean is at least ``bound``"; at least 1.

    Args:
        outcome: (n,) in [0, 1], in an order that does not depend on their values.
        bound: in [0, 1).
        delta: the bets end when the capital reaches 1 / delta, which a mean of at least ``bound`` allows with
            probability at most delta.
    """
    from scipy.special import ndtri

    total, squares = np.append(0.0, np.cumsum(outcome)), np.append(0.0, np.cumsum(outcome**2))
    log_capital = highest = 0.0
    for start, end in _blocks(len(outcome)):
        if highest >= -math.log(delta):
            break
        # As if a row of 1/2, with a variance of 1/4, had been seen before.
        mean = (0.5 + total[start]) / (start + 1)
        deviation = max((0.5 + squares[start]) / (start + 1) - mean**2, LEAST_DEVIATION**2) ** 0.5
        hope = max(delta * math.exp(log_capital), LEAST_HOPE)
        density = math.exp(-(float(ndtri(hope)) ** 2) / 2) / math.sqrt(2 * math.pi)
        stake = density / (hope * deviation * math.sqrt(len(outcome) - start))
        stake = min(stake, MOST_LOST / (1 - bound))
        capital = log_capital + np.cumsum(np.log1p(stake * (bound - outcome[start:end])))
        log_capital, highest = float(capital[-1]), max(highest, float(capital.max()))
    return math.exp(highest)


def _blocks(rows: int) -> Iterator[tuple[int, int]]:
    """Where blocks begin and end."""
    start = 0
    while start < rows:
        end = start + max(1, min(start, int(BLOCK_SHARE * (rows - start))))
        yield start, end
        start = end
