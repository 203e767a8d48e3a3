"""The batcher of a replica: its segment's models, loaded, with the limits of the configuration."""

from pathlib import Path

from cascade.cascade import load_stages
from cascade.config import CascadeConfig
from cascade.engine import Segment
from cascade.serving.batching.batcher import Batcher, BatcherOptions
from cascade.serving.batching.observer import Observer
from cascade.serving.batching.segment_client import SegmentClient
from cascade.serving.batching.steps import SegmentSteps
from cascade.serving.replica.segment_deployment import max_replicas, uses_gpu
from cascade.serving.replica.telemetry import Telemetry

__all__ = ["check_not_stuck", "new_batcher"]

# Of the next segment: one runs, one waits.
CALLS_PER_REPLICA = 2

# Longer than any batch; no caller waits for one that runs longer than twice the longest request.
MIN_STUCK_S = 60.0


def new_batcher(
    config: CascadeConfig,
    folder: Path,
    index: int,
    client: SegmentClient | None,
    telemetry: Telemetry,
    observer: Observer | None = None,
) -> Batcher:
    """The batcher of a segment; loads its models.

    Args:
        config: of the cascade.
        folder: of the configuration file.
        index: of the segment.
        client: of the next segment; ``None`` for the last one.
        telemetry: of the process.
        observer: is called with what becomes of the rows.
    """
    serving = config.serving
    first = sum(len(segment) for segment in config.segments[:index])
    segment = Segment(load_stages(config.segments[index], folder, config.classes), first, telemetry.watch)
    options = BatcherOptions(
        serving.max_batch_rows,
        serving.max_queue_rows,
        fallback=first + len(segment.stages) - 1 if serving.on_failure == "degrade" else None,
        partial=index > 0,
        max_forwards=CALLS_PER_REPLICA * max_replicas(config, index + 1),
        # A thread waits for a GPU, while the event loop reads requests.
        max_inline_s=0.0 if uses_gpu(config, index) else serving.max_inline_ms / 1e3,
    )
    forward = None if client is None else client.answer
    return Batcher(SegmentSteps(segment), forward, options, observer, telemetry.stats, telemetry.tracing)


def check_not_stuck(batcher: Batcher, config: CascadeConfig) -> None:
    """Checks the running batch.

    Raises:
        RuntimeError: it has been running for longer than any batch does.
    """
    limit_s = max(MIN_STUCK_S, 2 * config.serving.request_timeout_s)
    if batcher.running_s > limit_s:
        raise RuntimeError(f"a batch has been running for {batcher.running_s:.0f} s, longer than {limit_s:.0f} s")
