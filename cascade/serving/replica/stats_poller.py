"""A timer that passes the statistics of a process on: to its history, to Ray, and refusals to the log."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable

from cascade.serving.batching.batcher import Batcher
from cascade.serving.telemetry.history import History
from cascade.serving.telemetry.metrics_export import MetricsExport
from cascade.serving.telemetry.observations import ANSWERED, Observations

__all__ = ["StatsPoller"]

TICK_S = 1.0
# Ray exports every ten seconds, by default.
EXPORT_TICKS = 5
LOG_TICKS = 10

logger = logging.getLogger(__name__)


class StatsPoller:
    """Polls the statistics once per second, in the background.

    Args:
        stats: of the process.
        batcher: of the process.
        export: to Ray; ``None`` for none.
        export_state: adds the state of other parts, such as the policy, to the statistics; ``None`` if there are none.
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
        """Starts, in the running event loop."""
        if self._export_state is not None:
            self._export_state(self.stats)
        self._task = asyncio.get_running_loop().create_task(self._work())

    def stop(self) -> None:
        """Stops."""
        if self._task is not None:
            self._task.cancel()

    def poll(self, tick: int) -> None:
        """Does the work of a tick, one per second."""
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
                # The task is not awaited: an error would end it, and the metrics, without a trace.
                logger.exception("the metrics could not be updated")

    def _log_refusals(self) -> None:
        """One line for many refusals, so that they cannot flood the log."""
        refused = self.stats.requests - self._logged
        refused.pop(ANSWERED, None)
        self._logged = self.stats.requests.copy()
        for (status, reason), count in sorted(refused.items()):
            level = logging.WARNING if status >= "500" else logging.INFO
            logger.log(
                level, "requests were refused", extra={"status": int(status), "reason": reason, "requests": count}
            )
