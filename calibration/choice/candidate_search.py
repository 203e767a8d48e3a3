"""Which cascades of a pool are worth a closer look.

All ordered subsets, where they are few enough. Else all pairs, as in Lebovitz et al., "Efficient Inference With Model
Cascades", TMLR 2023, https://openreview.net/forum?id=KPyHNVpear1, followed by a local search from the best of them.
The order by cost is not always the best: a more expensive model that accepts many more rows pays in front of a cheaper
one (rows per unit of cost decide: Baruah, Burns, Davis, Wu, Real-Time Systems 59, 2023, section 3).
"""

import math
from collections.abc import Callable, Iterator
from itertools import permutations

from cascade.calibration.choice.candidate_screen import CandidateScreen, Stages

__all__ = ["MOST_CANDIDATES", "screen_candidates"]

MOST_CANDIDATES = 6_000
STARTS = 6
ROUNDS = 20

OnCandidates = Callable[[int, int], None]


def screen_candidates(
    screen: CandidateScreen,
    max_stages: int,
    most_candidates: int = MOST_CANDIDATES,
    on_candidates: OnCandidates = lambda done, total: None,
) -> str:
    """Screens cascades of up to ``max_stages`` models; the screen keeps their standings.

    Args:
        screen: of the pool.
        max_stages: in [1, M].
        most_candidates: bound up to which all ordered subsets are screened.
        on_candidates: called with the steps done and their total.

    Returns:
        What was screened: "all orders" or "local search".
    """
    models = screen.pool.models
    is_small = sum(math.perm(models, size) for size in range(max_stages + 1)) <= most_candidates
    depth = max_stages if is_small else min(2, max_stages)
    prefixes = [prefix for size in range(depth) for prefix in permutations(range(models), size)]
    steps = len(prefixes) + (0 if is_small else STARTS)
    for done, prefix in enumerate(prefixes, 1):
        if not prefix or screen.fits(prefix):
            screen.expand(prefix)
        on_candidates(done, steps)
    if is_small:
        return "all orders"
    for done, start in enumerate(screen.ranked()[:STARTS], 1):
        _improve(screen, start, max_stages)
        on_candidates(len(prefixes) + done, steps)
    return "local search"


def _improve(screen: CandidateScreen, start: Stages, max_stages: int) -> None:
    """Moves to the best neighbour as long as it is better."""
    best, standing = start, screen.standing(start)
    for _ in range(ROUNDS):
        found = [(screen.standing(n), len(n), n) for n in _neighbours(best, screen.pool.models, max_stages)]
        ranked = sorted((s, size, n) for s, size, n in found if s is not None)
        if not ranked or (standing is not None and ranked[0][0] >= standing):
            return
        standing, _, best = ranked[0]


def _neighbours(stages: Stages, models: int, max_stages: int) -> Iterator[Stages]:
    """Cascades with one model more, one less, one exchanged, or two neighbours swapped."""
    unused = [m for m in range(models) if m not in stages]
    for k in range(len(stages) + 1):
        before, after = stages[:k], stages[k:]
        if len(stages) < max_stages:
            yield from ((*before, m, *after) for m in unused)
        if after:
            yield from ((*before, m, *after[1:]) for m in unused)
        if after and len(stages) > 1:
            yield (*before, *after[1:])
        if len(after) > 1:
            yield (*before, after[1], after[0], *after[2:])
