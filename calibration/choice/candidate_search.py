"""Which cascades of a pool are worth a closer look.

Three ways, by the number of candidates: all ordered subsets; all subsets, each by rising mean cost; or growth from
good beginnings. The latter two are followed by a local search, since the order by cost is not always the best: a
dearer model that is sure of many more rows pays in front of a cheaper one (rows per unit of cost decide: Baruah,
Burns, Davis, Wu, Real-Time Systems 59, 2023, section 3).
"""

import math
from collections.abc import Callable, Iterator
from itertools import combinations, permutations

import numpy as np

from cascade.calibration.choice.candidate_screen import CandidateScreen, Stages
from cascade.calibration.choice.greedy_cascade import greedy_cascade

__all__ = ["MOST_CANDIDATES", "screen_candidates"]

MOST_CANDIDATES = 6_000
STARTS = 6
SLACKS = 8
ROUNDS = 20

OnCandidates = Callable[[int, int], None]


def screen_candidates(
    screen: CandidateScreen,
    max_stages: int,
    most_candidates: int = MOST_CANDIDATES,
    on_candidates: OnCandidates = lambda done, total: None,
) -> str:
    """Looks at cascades of up to ``max_stages`` models; the screen remembers where they stand.

    Args:
        screen: of the pool.
        max_stages: in [1, M].
        most_candidates: bound up to which everything is looked at.
        on_candidates: called with the steps done and their total.

    Returns:
        What was looked at: "all orders", "all subsets" or "greedy".
    """
    models = screen.pool.models
    counts = [math.comb(models, size) for size in range(max_stages + 1)]
    if sum(count * math.factorial(size) for size, count in enumerate(counts)) <= most_candidates:
        prefixes = [p for size in range(max_stages) for p in permutations(range(models), size)]
        _expand(screen, prefixes, on_candidates)
        return "all orders"
    if sum(counts) <= most_candidates:
        by_cost = np.argsort(screen.pool.cost.mean(axis=0), kind="stable").tolist()
        prefixes = [p for size in range(max_stages) for p in combinations(by_cost, size)]
        _expand(screen, prefixes, on_candidates)
        method, starts = "all subsets", []
    else:
        method, starts = "greedy", _greedy_starts(screen, max_stages)
        # Pairs, as in Lebovitz et al., "Efficient Inference With Model Cascades", TMLR 2023.
        _expand(screen, [p for size in range(min(2, max_stages)) for p in permutations(range(models), size)])
    starts = [*starts, *screen.ranked()[:STARTS]]
    for done, start in enumerate(dict.fromkeys(starts)):
        _improve(screen, start, max_stages)
        on_candidates(done + 1, len(starts))
    return method


def _expand(
    screen: CandidateScreen, prefixes: list[Stages], on_candidates: OnCandidates = lambda done, total: None
) -> None:
    for done, prefix in enumerate(prefixes):
        if not prefix or screen.fits(prefix):
            screen.expand(prefix)
        on_candidates(done + 1, len(prefixes))


def _greedy_starts(screen: CandidateScreen, max_stages: int) -> list[Stages]:
    """Greedy cascades at several slacks: what is left over on easy rows may be spent on hard ones."""
    pool, least = screen.pool, screen.target.least_gain
    gain = pool.gain.mean(axis=0)
    possible = [m for m in range(pool.models) if screen.fits((m,))]
    if not possible:
        return []
    reference = max(possible, key=lambda m: (gain[m], -pool.cost[:, m].mean()))
    slacks = np.linspace(0, max(float(gain[reference] - gain[possible].min()), 0.0), SLACKS).tolist()
    if least is not None:
        slacks.append(float(gain[reference]) - least)
    return [greedy_cascade(screen, reference, slack, max_stages) for slack in slacks]


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
