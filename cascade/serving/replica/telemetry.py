"""The telemetry of a replica: statistics and their export, spans and logs, as configured."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from cascade.answers import Answers
from cascade.calibration import Policy
from cascade.config import CascadeConfig
from cascade.engine import StageRun, Watch
from cascade.serving.batching.batcher import Batcher
from cascade.serving.replica.stats_poller import StatsPoller
from cascade.serving.telemetry.history import History
from cascade.serving.telemetry.logs import set_up_logs
from cascade.serving.telemetry.metrics_export import MetricsExport, new_ray_metric
from cascade.serving.telemetry.observations import Observations
from cascade.serving.telemetry.tracing import Tracing

__all__ = ["Telemetry"]

logger = logging.getLogger(__name__)


class Telemetry:
    """All telemetry of a process.

    Args:
        config: of the cascade.

    Attributes:
        stats: of the process; ``None`` if it does not count.
        tracing: creates spans; ``None`` for none.
        application: name of the application in Ray Serve; may differ from the configuration's.
        replica: its name.
        rank: of the replica among those of its deployment, from 0.

    Raises:
        ConfigError: spans are wanted, and the exporter is not installed.
    """

    def __init__(self, config: CascadeConfig) -> None:
        serving, stages = config.serving, [stage.name for stage in config.stages]
        names, self.rank = _replica()
        self.application = names.get("application", config.name)
        set_up_logs(serving.log_format, names)
        self.replica = names["replica"]
        self.stats = Observations(stages) if serving.metrics else None
        self.tracing = None if serving.traces is None else Tracing(serving.traces, stages, config.name)
        self._poller: StatsPoller | None = None

    @property
    def watch(self) -> Watch | None:
        """Called by the segment after every stage."""
        watches = [part.stage_ran for part in (self.stats, self.tracing) if part is not None]
        if len(watches) < 2:
            return watches[0] if watches else None

        def watch(run: StageRun) -> None:
            for one in watches:
                one(run)

        return watch

    @property
    def history(self) -> History | None:
        """The last minutes; ``None`` without statistics."""
        return None if self._poller is None else self._poller.history

    def start(self, batcher: Batcher, export: Callable[[Observations], None] | None = None) -> None:
        """Starts the background work, in the running event loop.

        Args:
            batcher: of the process.
            export: adds the state of other parts, such as the policy, to the statistics; called once per second.
        """
        if self.stats is not None:
            self._poller = StatsPoller(self.stats, batcher, MetricsExport(self.stats, new_ray_metric), export)
            self._poller.start()

    async def stop(self) -> None:
        """Stops it."""
        if self._poller is not None:
            self._poller.stop()
        if self.tracing is not None:
            # A collector that does not respond must not delay requests that are still being answered.
            await asyncio.to_thread(self.tracing.close)

    async def answered(self, answering: Awaitable[Answers], rows: int, policy: Policy) -> Answers:
        """Awaits the answers of a request, and adds it to the statistics and traces.

        Args:
            answering: not started yet.
            rows: of the request.
            policy: that answers it.
        """
        started = time.perf_counter()
        answers = await (answering if self.tracing is None else self.tracing.route(answering, rows, policy))
        if self.stats is not None:
            self.stats.answered(time.perf_counter() - started, answers)
        return answers


def _replica() -> tuple[dict[str, str], int]:
    """Names and rank of the replica that runs here."""
    from ray import serve

    context = serve.get_replica_context()
    names = {"application": context.app_name, "deployment": context.deployment, "replica": context.replica_tag}
    return names, context.rank.rank
