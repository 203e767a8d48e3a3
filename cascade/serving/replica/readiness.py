"""Whether the later segments can be reached, probed in the background."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

__all__ = ["Readiness"]

EVERY_S = 2.0
RETRY_S = 0.5
TIMEOUT_S = 5.0

logger = logging.getLogger(__name__)


class Readiness:
    """Probes the next segment, and all after it, every few seconds.

    Args:
        probe: returns when the later segments have answered, raises if they cannot; ``None`` if there are none, and
            then the gateway is ready at once.
        every_s: seconds between two probes; half a second while the last one failed.
        timeout_s: seconds after which a probe has failed.

    Attributes:
        is_ready: result of the last probe; false before the first one.
    """

    def __init__(
        self, probe: Callable[[], Awaitable[None]] | None, every_s: float = EVERY_S, timeout_s: float = TIMEOUT_S
    ) -> None:
        self.is_ready = probe is None
        self._probe = probe
        self._every_s = every_s
        self._timeout_s = timeout_s
        self._watching: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Starts to probe, in the running event loop."""
        if self._probe is not None:
            self._watching = asyncio.get_running_loop().create_task(self._watch(self._probe))

    def stop(self) -> None:
        """Stops; from now on the gateway is not ready."""
        self.is_ready = False
        if self._watching is not None:
            self._watching.cancel()

    async def _watch(self, probe: Callable[[], Awaitable[None]]) -> None:
        while True:
            found = await self._succeeds(probe)
            if found is not self.is_ready:
                self.is_ready = found
                level, can = (logging.INFO, "can") if found else (logging.WARNING, "cannot")
                logger.log(level, "the later segments %s be reached", can)
            await asyncio.sleep(self._every_s if found else min(RETRY_S, self._every_s))

    async def _succeeds(self, probe: Callable[[], Awaitable[None]]) -> bool:
        with contextlib.suppress(Exception):
            await asyncio.wait_for(probe(), self._timeout_s)
            return True
        return False
