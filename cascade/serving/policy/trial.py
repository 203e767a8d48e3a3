"""Whether the stages that run can work by a new policy: tried with one row before it comes into force."""

from dataclasses import replace

import numpy as np

from cascade.calibration import Policy
from cascade.errors import CascadeError, PolicyError
from cascade.routers import NEVER
from cascade.serving.batching.batcher import Batcher
from cascade.serving.errors import StageFailed

__all__ = ["try_out"]

TRIAL_S = 5.0


async def try_out(batcher: Batcher, row: np.ndarray, policy: Policy, present: Policy) -> None:
    """Sends a row through all stages, in all segments, by a new policy.

    Stages that fail on such a row by the present policy as well tell nothing, nor do those that are too busy to answer.

    Args:
        batcher: of the first segment.
        row: (1, ...).
        policy: the new one.
        present: the one in force.

    Raises:
        PolicyError: a stage fails by the new policy, and not by the present one.
    """
    problem = await _failure(batcher, row, policy)
    if problem is not None and await _failure(batcher, row, present) is None:
        raise PolicyError(f"the stages cannot work by this policy: {problem}")


async def _failure(batcher: Batcher, row: np.ndarray, policy: Policy) -> CascadeError | None:
    through_all = replace(policy, thresholds=np.full_like(policy.thresholds, NEVER), defer_below=np.zeros(0))
    try:
        answers = await batcher.answer(row, through_all, timeout_s=TRIAL_S)
    except (StageFailed, PolicyError) as error:
        return error
    except CascadeError:
        return None
    return None if answers.degraded is None else StageFailed("a later stage fails by it")
