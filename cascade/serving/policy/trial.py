"""Whether the stages can work by a new policy: each is tried with one row before the policy comes into force."""

import asyncio
from dataclasses import replace

import numpy as np

from cascade.calibration import Policy
from cascade.errors import CascadeError, PolicyError
from cascade.routers import NEVER
from cascade.serving.batching.batcher import Batcher
from cascade.serving.errors import StageFailed

__all__ = ["try_out"]

TRIAL_S = 5.0


async def try_out(batcher: Batcher, row: np.ndarray, policy: Policy, current: Policy) -> None:
    """Runs every stage on a row by a new policy, in whichever segment it is.

    A stage that fails on such a row by the current policy as well does not count, nor does one that is too busy to
    answer.

    Args:
        batcher: of the first segment.
        row: (1, ...).
        policy: the new one.
        current: the one in force.

    Raises:
        PolicyError: a stage fails by the new policy, and not by the current one.
    """
    problems = await asyncio.gather(*(_failure(batcher, row, policy, stage) for stage in range(len(policy.stages))))
    for stage, problem in enumerate(problems):
        if problem is not None and await _failure(batcher, row, current, stage) is None:
            raise PolicyError(f"the stages cannot work by this policy: {problem}")


async def _failure(batcher: Batcher, row: np.ndarray, policy: Policy, stage: int) -> CascadeError | None:
    # No stage before it answers the row, so that it comes to the stage, which answers it.
    deferring = replace(policy, thresholds=np.full_like(policy.thresholds, NEVER), defer_below=np.zeros(0))
    try:
        answers = await batcher.answer(row, deferring, timeout_s=TRIAL_S, last_stage=stage)
    except (StageFailed, PolicyError) as error:
        return error
    except CascadeError:
        return None
    return None if answers.stage[0] == stage else StageFailed(f"stage {policy.stages[stage]!r} fails by it")
