"""Which policy each gateway of a cascade has in force, as the gateways report it in the log."""

import asyncio
import os
import socket
import time
import uuid
from collections.abc import Callable
from typing import Any, TypeVar

from cascade.errors import CascadeError
from cascade.serving.errors import Unavailable
from cascade.serving.policy.log import PolicyLog, Presence

__all__ = ["GatewayPresence", "call_log"]

CONFIRM_S = 3.0
"""A reload waits this long for the gateways; one that shows no sign of life in that time is gone."""
CONFIRM_POLL_S = 0.05

Value = TypeVar("Value")


async def call_log(function: Callable[..., Value], *arguments: Any) -> Value:
    """Calls a function of the log, which may block, in a thread.

    Raises:
        CascadeError: the function raised it.
        Unavailable: the log cannot be reached.
    """
    try:
        return await asyncio.to_thread(function, *arguments)
    except CascadeError:
        raise
    except Exception as error:
        raise Unavailable(f"the log of policies cannot be reached: {type(error).__name__}") from error


class GatewayPresence:
    """Reports this gateway's revision, and waits for that of the others; every method may raise ``Unavailable``.

    Args:
        log: shared with the other gateways.
    """

    def __init__(self, log: PolicyLog) -> None:
        self._log = log
        self._id = uuid.uuid4().hex[:12]
        self._node = socket.gethostname()
        self._beat = 0

    async def report(self, revision: int) -> None:
        """Reports the revision in force, and that this gateway lives."""
        self._beat += 1
        await call_log(self._log.report, self._id, Presence(self._node, os.getpid(), revision, self._beat))

    async def remove(self) -> None:
        """Removes this gateway's report."""
        await call_log(self._log.forget, self._id)

    async def confirmed(self, revision: int) -> tuple[int, list[dict[str, Any]]]:
        """Waits until all gateways have a revision in force that this one has, for three seconds at most.

        Returns:
            How many gateways have it, and node, pid and revision of those that live and have not.
        """
        await self.report(revision)
        deadline = time.monotonic() + CONFIRM_S
        first = latest = await call_log(self._log.gateways)
        while any(presence.revision < revision for presence in latest.values()) and time.monotonic() < deadline:
            await asyncio.sleep(CONFIRM_POLL_S)
            latest = await call_log(self._log.gateways)
        behind = []
        for name, presence in latest.items():
            if presence.revision >= revision:
                continue
            if presence == first.get(name):
                await call_log(self._log.forget, name)
            else:
                behind.append({"node": presence.node, "pid": presence.pid, "revision": presence.revision})
        return sum(presence.revision >= revision for presence in latest.values()), behind
