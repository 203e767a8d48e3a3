"""Calls the next segment through a Ray Serve handle."""

import asyncio
import functools
import logging
from typing import Any

import numpy as np
from ray.exceptions import RayTaskError
from ray.serve.exceptions import BackPressureError
from ray.serve.handle import DeploymentHandle

from cascade.answers import Answers
from cascade.calibration import Policy
from cascade.errors import CascadeError
from cascade.routers import Evidence
from cascade.serving.errors import DeadlineExceeded, Overloaded, Unavailable, request_error
from cascade.serving.telemetry.tracing import current_traceparent

__all__ = ["BY_REFERENCE_BYTES", "SegmentClient"]

# Above this size the object store is quicker than gRPC (benchmarks/experiments/serving/hop_cost.py); it is well below
# the 4 MB at which Ray Serve's gRPC ends.
BY_REFERENCE_BYTES = 1_000_000
BYTES_PER_CHARACTER = 4

logger = logging.getLogger(__name__)


class SegmentClient:
    """Sends small arrays by gRPC, and large ones through the object store, from which Ray frees them.

    If a replica dies while it answers, the call is repeated once, through the handle, which finds another replica or
    waits for the one that Ray Serve starts: rows may be scored twice, and the answers are the same.

    Args:
        handle: of the next segment.
        name: of the next segment, for messages.
    """

    def __init__(self, handle: DeploymentHandle[Any], name: str) -> None:
        self._name = name
        self._run_by_value = handle.options(method_name="run", _by_reference=False)
        self._run_by_reference = handle.options(method_name="run", _by_reference=True)
        self._probe = handle.options(method_name="probe")

    async def probe(self) -> None:
        """Returns when a replica of the next segment, and of each after it, has answered.

        Raises:
            Exception: none has.
        """
        try:
            await _result(self._probe.remote())
        except Exception:  # one of several replicas may have died
            await _result(self._probe.remote())

    async def answer(
        self,
        rows: np.ndarray,
        policy: Policy,
        evidence: Evidence | None,
        timeout_s: float,
        last_stage: int | None = None,
    ) -> Answers:
        """Sends rows on; arguments as of :meth:`Batcher.answer <cascade.serving.batching.batcher.Batcher.answer>`.

        Args:
            rows: (n, ...), C-contiguous.
            policy: travels with them.
            evidence: of n rows, from the segments so far, where the policy needs it.
            timeout_s: seconds until no caller waits for the answers any more; the caller cancels then.
            last_stage: index of the last stage that may run on them; ``None`` for all stages.

        Raises:
            CascadeError: the next segment raised it.
            StageFailed: it raised something else.
            DeadlineExceeded: no time is left for a second call.
            Unavailable: it cannot be reached.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        array = None if evidence is None else evidence.to_array()
        is_large = _bytes(rows) + (0 if array is None else array.nbytes) > BY_REFERENCE_BYTES
        run = self._run_by_reference if is_large else self._run_by_value
        parent = current_traceparent.get()
        send = functools.partial(run.remote, rows, policy.to_json(), array, traceparent=parent, last_stage=last_stage)
        try:
            answers: Answers = await _result(send(timeout_s=timeout_s))
        except CascadeError:
            raise
        except Exception:
            logger.warning(
                "a later segment cannot be reached, trying once more", exc_info=True, extra={"segment": self._name}
            )
        else:
            return answers
        remaining_s = deadline - loop.time()
        if remaining_s <= 0:
            raise DeadlineExceeded(f"no time is left to call {self._name} again")
        try:
            answers = await _result(send(timeout_s=remaining_s))
        except CascadeError:
            raise
        except Exception as error:
            raise Unavailable(f"{self._name} cannot be reached; try again later") from error
        return answers


async def _result(response: Any) -> Any:
    try:
        return await response
    except asyncio.CancelledError:
        response.cancel()
        raise
    except RayTaskError as error:
        raise _stage_error(error) from error
    except BackPressureError as error:
        raise Overloaded("a later stage is overloaded; try again later") from error


def _stage_error(error: RayTaskError) -> CascadeError:
    """What the segment raised, without Ray's report of where, which is not for clients."""
    cause = error.cause
    return request_error(cause if isinstance(cause, Exception) else error)


def _bytes(rows: np.ndarray) -> int:
    if rows.dtype.names is not None:
        return rows.nbytes + sum(_bytes(rows[name]) for name in rows.dtype.names if rows[name].dtype == object)
    if rows.dtype == object:
        return BYTES_PER_CHARACTER * sum(len(text) for text in rows.flat if text is not None)
    return rows.nbytes
