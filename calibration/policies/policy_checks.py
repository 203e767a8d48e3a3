"""Checks that the parts of a policy fit each other."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from cascade.calibration.costs.cost_curve import CostCurve
from cascade.routers import NEVER, Router

__all__ = ["ARRAYS", "contradictions"]


class _Array(NamedTuple):
    """What an array of a policy of K stages holds: K values or K - 1, from 0 up to the highest."""

    for_last: bool
    highest: float
    range_text: str

    def size(self, stages: int) -> int:
        return stages if self.for_last else stages - 1


ARRAYS = {
    "thresholds": _Array(False, NEVER, f"in [0, 1] (or {NEVER!r} for never)"),
    "defer_below": _Array(False, 1.0, "in [0, 1]"),
    "cost": _Array(True, sys.float_info.max, "of at least 0"),
    "cost_per_mflop": _Array(True, sys.float_info.max, "of at least 0"),
    "cost_per_ms": _Array(True, sys.float_info.max, "of at least 0"),
}
"""The arrays of a policy, by name."""


def contradictions(
    stages: Sequence[str],
    routers: Sequence[Router],
    arrays: Mapping[str, np.ndarray],
    curves: Sequence[CostCurve | None],
    abstain_below: float,
) -> Iterator[str]:
    """What does not fit, as texts; arguments as the attributes of ``Policy``, arrays by the names in ``ARRAYS``."""
    count = len(stages)
    if not count or len(set(stages)) < count:
        yield f"a policy needs stages with different names; got {list(stages)}"
    if len(routers) != count:
        yield f"a policy of {count} stages needs {count} routers; got {len(routers)}"
    for name, values in arrays.items():
        array = ARRAYS[name]
        size = array.size(count)
        if values.shape != (size,) or not np.all((values >= 0) & (values <= array.highest)):
            yield f"a policy of {count} stages needs {size} values of {name} {array.range_text}; got {values.tolist()}"
    if curves and len(curves) != count:
        yield f"a policy of {count} stages needs {count} cost curves, or none; got {len(curves)}"
    timed = [curve is not None for curve in curves] or [False] * count
    if any(factor and not has_curve for factor, has_curve in zip(arrays["cost_per_ms"].flat, timed)):
        yield "a stage with cost_per_ms needs a cost_curve"
    if not 0 <= abstain_below <= NEVER:
        yield f"abstain_below must be in [0, 1] (or {NEVER!r} for all rows); got {abstain_below!r}"
    if arrays["defer_below"].any() and abstain_below > 0 and routers and routers[-1].head is not None:
        # A row that is deferred early lacks the evidence of the stages between, which a replay of a table would have.
        yield "early deferral does not go with abstaining by a head of the last stage; leave one of the two out"
    for k, (name, router) in enumerate(zip(stages, routers)):
        if router.head is not None and not router.head.fits(k):
            yield f"the head of stage {name!r} does not fit its place, where {k} stages come before it"
