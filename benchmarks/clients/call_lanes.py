"""Lanes over coroutines: the engine in this process, the handle of a served cascade."""

import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cascade.answers import Answers
from cascade.benchmarks.clients.answers import AnswerReader, InvalidAnswer
from cascade.benchmarks.clients.lane import ANSWERED, INVALID, REFUSED, Done
from cascade.benchmarks.errors import TargetError
from cascade.benchmarks.workload import Workload
from cascade.cascade import Cascade

__all__ = ["CallLane", "HandleLanes", "InProcessLanes"]

Call = Callable[[int, float | None], Awaitable[dict[str, Any]]]
LOOPBACK = "127.0.0.1:"


class CallLane:
    """Awaits a coroutine per request.

    Args:
        call: answers a request, within seconds if they are given, with checked columns; raises :class:`InvalidAnswer`
            for an invalid answer.
        status_of: status of any other exception, and its message; raises it again where it must end the load.
        close: called at the end.
    """

    def __init__(
        self,
        call: Call,
        status_of: Callable[[Exception], tuple[int, str]],
        close: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._call, self._status_of, self._close = call, status_of, close
        self._task: asyncio.Task[None] | None = None

    def send(self, request: int, done: Done, timeout_s: float | None = None) -> None:
        """See ``Lane``."""
        self._task = asyncio.ensure_future(self._run(request, done, timeout_s))

    async def _run(self, request: int, done: Done, timeout_s: float | None) -> None:
        try:
            columns = await self._call(request, timeout_s)
        except InvalidAnswer as error:
            done(INVALID, str(error))
        except Exception as error:
            done(*self._status_of(error))
        else:
            done(ANSWERED, columns)

    def abort(self) -> None:
        """See ``Lane``."""
        if self._task is not None:
            self._task.cancel()

    async def close(self) -> None:
        """See ``Lane``."""
        self.abort()
        if self._close is not None:
            await self._close()


@dataclass(frozen=True, eq=False)
class InProcessLanes:
    """``Cascade.predict`` in a thread, since a backend must not be called by two threads at once.

    Attributes:
        cascade: to measure.
        workload: whose batches are sent.
    """

    cascade: Cascade
    workload: Workload

    async def __call__(self, count: int) -> Sequence[CallLane]:
        """Opens lanes that share one thread."""
        names = [stage.name for stage in self.cascade.stages]
        version = self.cascade.policy.version
        executor = ThreadPoolExecutor(1, thread_name_prefix="target")

        def predict(request: int) -> dict[str, Any]:
            return _columns(self.cascade.predict(self.workload.batches[request].rows), names, version)

        async def call(request: int, timeout_s: float | None) -> dict[str, Any]:  # noqa: ARG001 (nothing can end it)
            return await asyncio.get_running_loop().run_in_executor(executor, predict, request)

        async def close() -> None:
            executor.shutdown(wait=False, cancel_futures=True)

        return [CallLane(call, _reported, close) for _ in range(count)]


def _columns(answers: Answers, names: Sequence[str], version: str) -> dict[str, Any]:
    return {
        "answer": answers.answer.tolist(),
        "stage": [names[k] for k in answers.stage.tolist()],
        "cost": answers.cost.tolist(),
        "abstained": None if answers.abstained is None else answers.abstained.tolist(),
        "policy_version": version,
    }


def _reported(error: Exception) -> tuple[int, str]:
    return REFUSED, f"{type(error).__name__}: {error}"


@dataclass(frozen=True, eq=False)
class HandleLanes:
    """``handle.predict.remote(rows)`` of a Ray Serve application; no HTTP in between.

    Attributes:
        application: its name.
        workload: whose batches are sent.
        reader: of the answers.
    """

    application: str
    workload: Workload
    reader: AnswerReader

    async def __call__(self, count: int) -> Sequence[CallLane]:
        """Joins the running Ray: the one of ``RAY_ADDRESS``, else the one found on this machine.

        Raises:
            TargetError: there is none, or the application does not run there.
        """
        address = prepare_join()
        import ray
        from ray import serve
        from ray.exceptions import RayTaskError
        from ray.serve.exceptions import RayServeException

        if not ray.is_initialized():
            try:
                ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
            except (ConnectionError, ValueError, RuntimeError) as error:
                raise TargetError(
                    f"no running Ray can be joined at {address!r} ({str(error).splitlines()[0]}); start "
                    "'cascade serve CONFIG', or set RAY_ADDRESS"
                ) from error
        try:
            handle = serve.get_app_handle(self.application)
        except RayServeException as error:
            raise TargetError(
                f"the application {self.application!r} does not run in this Ray; start 'cascade serve CONFIG'"
            ) from error

        async def call(request: int, timeout_s: float | None) -> dict[str, Any]:
            batch = self.workload.batches[request]
            return self.reader.check(await handle.predict.remote(batch.rows, timeout_s), len(batch))

        def status_of(error: Exception) -> tuple[int, str]:
            return _reported(error.cause if isinstance(error, RayTaskError) and error.cause is not None else error)

        return [CallLane(call, status_of) for _ in range(count)]


def prepare_join() -> str:
    """Sets what Ray needs to join the Ray of ``cascade serve``, before Ray is loaded; the address to join.

    The Ray that ``cascade serve`` starts requires the user's token, and its node has a loopback address, in whose place
    Ray takes the machine's outer address unless a variable forbids it.

    Raises:
        TargetError: several such Rays run on this machine.
    """
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    if "RAY_AUTH_TOKEN" in os.environ or path.exists():
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    address = os.environ.get("RAY_ADDRESS") or "auto"
    if address == "auto":
        found = _loopback_rays()
        if len(found) > 1:
            raise TargetError(f"several Rays run on this machine; set RAY_ADDRESS to one of {', '.join(sorted(found))}")
        address = found.pop() if found else address
    if address.startswith(LOOPBACK):
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        os.environ["RAY_ADDRESS"] = address
    return address


def _loopback_rays() -> set[str]:
    """Addresses of the Rays of this machine that listen on loopback, from the command lines of their processes."""
    found, flag = set(), f"--gcs-address={LOOPBACK}"
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            command, *arguments = file.read_bytes().decode(errors="replace").split("\0")
            if command.endswith("raylet"):
                found |= {one.partition("=")[2] for one in arguments if one.startswith(flag)}
    return found
