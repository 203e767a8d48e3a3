"""The way from one segment to the next: a call through a Ray Serve handle."""

import asyncio
import logging
from typing import Any

import numpy as np
from ray.exceptions import RayTaskError
from ray.serve.exceptions import BackPressureError
from ray.serve.handle import DeploymentHandle

from cascade.calibration import Policy
from cascade.engine import Answers
from cascade.errors import CascadeError
from cascade.serving.errors import DeadlineExceeded, Overloaded, Unavailable, request_error
from cascade.serving.telemetry.tracing import current_traceparent

__all__ = ["BY_REFERENCE_BYTES", "Hop"]

# Where the object store begins to be quicker than gRPC (benchmarks/experiments/serving/hop_cost.py), well below the
# 4 MB at which Ray Serve's gRPC ends.
BY_REFERENCE_BYTES = 1_000_000
BYTES_PER_CHARACTER = 4

logger = logging.getLogger(__name__)


class Hop:
    """Asks the next segment: small arrays by gRPC, large ones through the object store, from which Ray frees them.

    A replica that dies while it answers is asked once more, through the handle, which knows of others or waits for
    the one that Ray Serve starts: rows may be scored twice, answers cannot differ.

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
            Exception: whatever tells that there is none.
        """
        try:
            await _result(self._probe.remote())
        except Exception:  # one of several replicas may have died
            await _result(self._probe.remote())

    async def ask(self, rows: np.ndarray, policy: Policy, evidence: np.ndarray | None, timeout_s: float) -> Answers:
        """Sends rows on.

        Args:
            rows: (n, ...), C-contiguous.
            policy: travels with them.
            evidence: (n, W), of the segments so far, where the policy has heads.
            timeout_s: seconds until nobody waits for the answers any more; the caller cancels then.

        Raises:
            CascadeError: what the next segment raised.
            StageFailed: it raised something else.
            Unavailable: it cannot be reached.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        large = _bytes(rows) + (0 if evidence is None else evidence.nbytes) > BY_REFERENCE_BYTES
        run = self._run_by_reference if large else self._run_by_value
        parent = current_traceparent.get()
        try:
            answers: Answers = await _result(run.remote(rows, policy.to_json(), evidence, timeout_s, parent))
        except CascadeError:
            raise
        except Exception:
            logger.warning(
                "a later segment cannot be reached, asking it once more", exc_info=True, extra={"segment": self._name}
            )
        else:
            return answers
        remaining = deadline - loop.time()
        if remaining <= 0:
            raise DeadlineExceeded(f"no time is left to ask {self._name} again")
        try:
            answers = await _result(run.remote(rows, policy.to_json(), evidence, remaining, parent))
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
        raise _of_the_stage(error) from error
    except BackPressureError as error:
        raise Overloaded("a later stage is overloaded; try again later") from error


def _of_the_stage(error: RayTaskError) -> CascadeError:
    """What the segment raised, without Ray's account of where, which is no client's concern."""
    cause = error.cause
    return request_error(cause if isinstance(cause, Exception) else error)


def _bytes(rows: np.ndarray) -> int:
    return BYTES_PER_CHARACTER * sum(map(len, rows.flat)) if rows.dtype == object else rows.nbytes
