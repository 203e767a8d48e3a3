"""Bets on a bounded mean, with bet fractions that aim at a level at the last row.

The capital process begins at 1 and bets on each of n rows: on a row x it is multiplied by 1 + lambda (bound - x), with
the bet fraction lambda. It should reach 1 / delta by the end and may lose everything otherwise, like the hedge of a
digital option. If the sum of the remaining rows were normal, each with standard deviation s, the bet fraction that
reaches it most often would be phi(z) / (u s sqrt(remaining rows)), with u = delta times the capital and z the normal
quantile of u: small near the target, large when it is far and few rows remain. Bet fractions that depend on the capital
and on the remaining rows: Voráček and Orabona, "STaR-Bets: Sequential Target-Recalculating Bets for Tighter Confidence
Intervals", 2025, https://arxiv.org/abs/2505.22422.

The bet fraction changes at the start of blocks, 100 to 200 in all, which grow at first and shrink towards the end. It
depends only on the rows before its block, so it is predictable, and under the null hypothesis the capital process is a
supermartingale, however bad the normal approximation is.
"""

import math
from collections.abc import Iterator

import numpy as np

__all__ = ["highest_capital"]

BLOCK_SHARE = 0.05
"""Rows of a block, as a share of the remaining ones."""
MOST_LOST = 0.9
"""Largest part of the capital that one row may cost."""
LEAST_DEVIATION = 1e-4
LEAST_HOPE = 1e-12
"""Smallest u: below it the process has practically lost, and goes on as if u were this."""


def highest_capital(outcome: np.ndarray, bound: float, delta: float) -> float:
    """The highest capital of bets against the hypothesis that the mean is at least ``bound``; at least 1.

    Args:
        outcome: (n,) in [0, 1], in an order that does not depend on their values.
        bound: in [0, 1).
        delta: the bets end when the capital reaches 1 / delta, which under the hypothesis has probability at most
            delta.
    """
    from scipy.special import ndtri

    total, squares = np.append(0.0, np.cumsum(outcome)), np.append(0.0, np.cumsum(outcome**2))
    log_capital = highest = 0.0
    for start, end in _blocks(len(outcome)):
        if highest >= -math.log(delta):
            break
        # With one row of 1/2, with a variance of 1/4, added to the earlier ones.
        mean = (0.5 + total[start]) / (start + 1)
        deviation = max((0.5 + squares[start]) / (start + 1) - mean**2, LEAST_DEVIATION**2) ** 0.5
        hope = max(delta * math.exp(log_capital), LEAST_HOPE)
        density = math.exp(-(float(ndtri(hope)) ** 2) / 2) / math.sqrt(2 * math.pi)
        bet_fraction = density / (hope * deviation * math.sqrt(len(outcome) - start))
        bet_fraction = min(bet_fraction, MOST_LOST / (1 - bound))
        capital = log_capital + np.cumsum(np.log1p(bet_fraction * (bound - outcome[start:end])))
        log_capital, highest = float(capital[-1]), max(highest, float(capital.max()))
    return math.exp(highest)


def _blocks(rows: int) -> Iterator[tuple[int, int]]:
    """First row of each block, and the row after its last."""
    start = 0
    while start < rows:
        end = start + max(1, min(start, int(BLOCK_SHARE * (rows - start))))
        yield start, end
        start = end
