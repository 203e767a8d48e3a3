"""Looks after the counts of a process: once a second into its history, now and then to Ray, and refusals to the log."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable

from cascade.serving.batching.batcher import Batcher
from cascade.serving.telemetry.history import History
from cascade.serving.telemetry.metrics import MetricsExport
from cascade.serving.telemetry.observations import ANSWERED, Observations

__all__ = ["Monitor"]

TICK_S = 1.0
# Ray sends on what it was told every ten seconds, by default.
EXPORT_TICKS = 5
LOG_TICKS = 10

logger = logging.getLogger(__name__)


class Monitor:
    """Works off the way of the requests, from a timer.

    Args:
        stats: of the process.
        batcher: of the process.
        export: to Ray; ``None`` for none.
        export_state: notes what the process knows besides; ``None`` if that is nothing.
    """

    def __init__(
        self,
        stats: Observations,
        batcher: Batcher,
        export: MetricsExport | None,
        export_state: Callable[[Observations], None] | None = None,
    ) -> None:
        self.stats = stats
        self.history = History(stats)
        self._batcher = batcher
        self._export = export
        self._export_state = export_state
        self._logged: Counter[tuple[str, str]] = Counter()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins, in the event loop that runs."""
        if self._export_state is not None:
            self._export_state(self.stats)
        self._task = asyncio.get_running_loop().create_task(self._work())

    def stop(self) -> None:
        """Ends."""
        if self._task is not None:
            self._task.cancel()

    def poll(self, tick: int) -> None:
        """What is done at a tick."""
        if self._export_state is not None:
            self._export_state(self.stats)
        self.stats.queue_rows = self._batcher.queue_rows
        self.stats.forwarding_rows = self._batcher.forwarding_rows
        self.history.tick()
        if self._export is not None and tick % EXPORT_TICKS == 0:
            self._export.export()
        if tick % LOG_TICKS == 0:
            self._log_refusals()

    async def _work(self) -> None:
        tick = 0
        while True:
            await asyncio.sleep(TICK_S)
            tick += 1
            try:
                self.poll(tick)
            except Exception:
                # Nobody awaits this task: an error would end it unseen, and the metrics with it.
                logger.exception("the metrics could not be brought up to date")

    def _log_refusals(self) -> None:
        """One line for many: a flood of refusals must not become a flood of the log."""
        refused = self.stats.requests - self._logged
        refused.pop(ANSWERED, None)
        self._logged = self.stats.requests.copy()
        for (status, reason), count in sorted(refused.items()):
            level = logging.WARNING if status >= "500" else logging.INFO
            logger.log(
                level, "requests were refused", extra={"status": int(status), "reason": reason, "requests": count}
            )
