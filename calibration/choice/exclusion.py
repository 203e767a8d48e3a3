"""Why a model of a pool is not in the best cascade."""

from dataclasses import dataclass
from typing import Literal

from cascade.calibration.choice.candidate_screen import ROUNDING, CandidateScreen

__all__ = ["Exclusion", "Reason", "exclusion"]

Reason = Literal["too slow", "too slow in a cascade", "misses the target", "answers no row", "does not pay"]


@dataclass(frozen=True)
class Exclusion:
    """A model that is left out.

    Attributes:
        reason: the first of these that is true. "too slow": the model alone misses the deadline; "too slow in a
            cascade": every cascade of it and another model does; "misses the target": so does every cascade with it
            that was screened within the deadline; "answers no row": with the best thresholds found the other models of
            its cascades answer all rows; "does not pay": cascades with it were found, and are worse.
        worst_cost: of the model alone, or, where only cascades are too slow, of the fastest cascade.
        better: a model within the deadline that alone dominates this one on the rows that chose: no less gain and no
            more mean cost, and better in one of them; ``None`` if there is none.
    """

    reason: Reason
    worst_cost: float
    better: str | None


def exclusion(
    screen: CandidateScreen, names: tuple[str, ...], model: int, max_stages: int, has_cascade: bool
) -> Exclusion:
    """Finds the reason.

    Args:
        screen: of the rows that chose.
        names: M names.
        model: that is left out, from 0.
        max_stages: most models in a cascade.
        has_cascade: whether a cascade was found that reaches the target and in which the model answers rows.
    """
    pool = screen.pool
    alone = pool.longest((model,))
    if not screen.fits((model,)):
        return Exclusion("too slow", alone, None)
    better = next((names[other] for other in range(pool.models) if _dominates(screen, other, model)), None)
    pairs = [pool.longest((model, other)) for other in range(pool.models) if other != model]
    if max_stages > 1 and pairs and min(pairs) > screen.deadline:
        return Exclusion("too slow in a cascade", min(pairs), better)
    if has_cascade:
        return Exclusion("does not pay", alone, better)
    missed = [standing[0] for stages, standing in screen.standings.items() if model in stages]
    return Exclusion("misses the target" if min(missed) > ROUNDING else "answers no row", alone, better)


def _dominates(screen: CandidateScreen, first: int, second: int) -> bool:
    """Whether one model, which keeps the deadline, is no worse than another, and better in cost or gain."""
    gain, cost = screen.pool.gain.mean(axis=0), screen.pool.cost.mean(axis=0)
    no_worse = gain[first] >= gain[second] and cost[first] <= cost[second]
    return bool(screen.fits((first,)) and no_worse and (gain[first] > gain[second] or cost[first] < cost[second]))
