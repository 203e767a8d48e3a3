"""What a request may ask for itself: less time, and fewer stages."""

import functools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from cascade.calibration import Policy
from cascade.engine import Answers
from cascade.errors import RowsError
from cascade.routers import ALWAYS, accepted

__all__ = ["StageLimit", "limited_policy", "marked_answers"]


class StageLimit:
    """Reads the last stage that a request lets look at its rows.

    Args:
        stages: names of the cascade's stages.
        least: the first stage that may be the last one; ``None`` for any.
    """

    def __init__(self, stages: Sequence[str], least: str | None = None) -> None:
        self._places = {name: place for place, name in enumerate(stages)}
        self._least = 0 if least is None else self._places[least]

    def place(self, name: str) -> int:
        """Place of the last stage that is asked: the one of that name, or the least that is allowed.

        Raises:
            RowsError: there is no such stage.
        """
        place = self._places.get(name)
        if place is None:
            raise RowsError(f"max_stage must be one of {', '.join(self._places)}; got {name[:40]!r}")
        return max(place, self._least)


# A few policies are in force at a time, and have a few stages.
@functools.lru_cache(maxsize=64)
def limited_policy(policy: Policy, last: int) -> Policy:
    """A policy by which the stage at place ``last`` answers every row that comes to it.

    It travels with the rows like any other. A row whose confidence is NaN still goes on, and none is deferred early.
    """
    if last >= len(policy.thresholds):
        return policy
    thresholds = policy.thresholds.copy()
    thresholds[last] = ALWAYS
    return replace(policy, thresholds=thresholds, defer_below=np.zeros(0), certificate={})


def marked_answers(answers: Answers, policy: Policy, last: int) -> Answers:
    """Marks as degraded the rows that stopped at a stage which was not sure of them.

    Args:
        answers: by ``limited_policy(policy, last)``.
        policy: in force.
        last: place of the stage.
    """
    threshold = policy.threshold(last)
    if threshold is None:
        return answers
    stopped = (answers.stage == last) & ~accepted(answers.confidence, threshold)
    if not stopped.any():
        return answers
    return replace(answers, degraded=stopped if answers.degraded is None else stopped | answers.degraded)
