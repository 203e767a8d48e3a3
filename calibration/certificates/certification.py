"""Certification: thresholds whose guarantees are satisfied with a stated probability.

One part of the rows proposes a sequence of thresholds, from the safest to the least safe. The other part tests them one
by one, each at the full level delta, and stops at the first that fails. Fixed-sequence testing: thresholds that violate
their guarantee are certified only if the test of the *first* such thresholds in the sequence errs, which has
probability at most delta (Maurer, Hothorn, Lehmacher 1995; for risk control Angelopoulos et al., "Learn then Test",
Ann. Appl. Stat. 2025, section 3.2, https://arxiv.org/abs/2110.01052). Several guarantees at once need no split of
delta: thresholds pass if every test passes, and to certify thresholds that violate a guarantee, the test of that
guarantee must err (intersection-union test, Berger, "Multiparameter hypothesis testing and acceptance sampling",
Technometrics 24, 1982). The rows must be independent draws from the same distribution as future data; the probability
is over the draw of all of them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from cascade.calibration.certificates.goal import Goal
from cascade.calibration.routing_problem import RoutingProblem
from cascade.routers import answering_stage

__all__ = ["Certified", "at_constant_costs", "certify", "split_rows", "split_strata"]

SEARCH_SHARE = 0.15


@dataclass(frozen=True, eq=False)
class Certified:
    """The last thresholds in a sequence that passed.

    Attributes:
        thresholds: (K - 1,); with abstaining (K,), the last one ``abstain_below``.
        stage: (n,) int, the stage that answers each of the testing rows; K where none does.
        p_values: of the test of each guarantee; 0 for one that holds by construction.
    """

    thresholds: np.ndarray
    stage: np.ndarray
    p_values: tuple[float, ...]


def split_rows(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Splits rows at random into those that search and those that test.

    Args:
        rows: n, at least 2.
        seed: of the split.

    Returns:
        Two arrays of indices, each with at least one.
    """
    order = np.random.default_rng(seed).permutation(rows)
    cut = max(1, round(SEARCH_SHARE * rows))
    return order[:cut], order[cut:]


def split_strata(strata: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Like :func:`split_rows`, on the rows of each of two kinds, so that both parts have rows of both.

    Args:
        strata: (n,) bool, the kind of each row; at least 2 rows of the first (``True``).
        seed: of the split.
    """
    parts = []
    for kind in (True, False):
        rows = np.flatnonzero(strata == kind)
        if len(rows):
            parts.append([rows[places] for places in split_rows(len(rows), seed)])
    search, test = (np.concatenate(each) for each in zip(*parts, strict=True))
    return search, test


def certify(
    goal: Goal,
    problem: RoutingProblem,
    sequence: Sequence[np.ndarray],
    delta: float,
    proposing: RoutingProblem,
    constructed: Callable[[np.ndarray], Sequence[bool]] | None = None,
) -> Certified | None:
    """Tests thresholds in their order, up to the first that fails.

    A mean cost that depends on the reach shares is tested as a mean over rows that is never below it, and equal to it
    at the reach shares of the proposing rows (:meth:`RoutingProblem.priced_at`).

    Args:
        goal: the thresholds must reach all of its targets.
        problem: rows that had no part in the choice of the sequence.
        sequence: thresholds (K - 1,), safest first.
        delta: in (0, 1).
        proposing: rows that proposed the sequence.
        constructed: returns which of the targets thresholds reach by construction; these are not tested. By default
            none.

    Returns:
        The last thresholds that passed; ``None`` if the first failed.
    """
    passed = None
    for thresholds in sequence:
        stage = answering_stage(problem.confidence, thresholds)
        priced = at_constant_costs(goal, problem, thresholds, proposing)
        guarantees = goal.guarantees(priced, delta)
        certain = [False] * len(guarantees) if constructed is None else constructed(thresholds)
        p_values = tuple(
            0.0 if is_certain else guarantee.p_value(guarantee.outcome(priced, stage))
            for guarantee, is_certain in zip(guarantees, certain, strict=True)
        )
        if not all(p_value <= delta for p_value in p_values):  # also where one is NaN
            break
        passed = Certified(thresholds, stage, p_values)
    return passed


def at_constant_costs(
    goal: Goal, problem: RoutingProblem, thresholds: np.ndarray, proposing: RoutingProblem
) -> RoutingProblem:
    """The problem on which a goal is tested at some thresholds; arguments as of :func:`certify`."""
    if "max_cost" not in goal.targets:
        return problem
    return problem.priced_at(thresholds, None if proposing.prices is None else proposing.shares(thresholds))
