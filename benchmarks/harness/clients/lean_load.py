"""One load over HTTP, from one process."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

from cascade.benchmarks.analysis.latencies import Latencies
from cascade.benchmarks.analysis.repeat import Repeat
from cascade.benchmarks.analysis.tally import Tally
from cascade.benchmarks.clients.answers import AnswerReader
from cascade.benchmarks.clients.http_lanes import HttpAddress, HttpLanes
from cascade.benchmarks.errors import TargetError
from cascade.benchmarks.generator.processes import Sender, SenderProcesses, ThisProcess
from cascade.benchmarks.load import ClosedLoop, OpenLoop
from cascade.benchmarks.workload import Workload

__all__ = ["SEED", "load_once", "run_load"]

TIMEOUT_S = 30.0
SEED = 0
"""Of arrivals and of the order of the rows."""
PERCENTILES = (50, 95, 99)
KEPT = (
    "seconds",
    "requests",
    "failed",
    "rows",
    "rows_per_s",
    "requests_per_s",
    "stage_share",
    "accuracy",
    "abstained",
    "mean_cost",
    "errors",
    "policy_versions",
    "send_lag",
    "client",
    "windows",
)


def load_once(
    load: ClosedLoop | OpenLoop,
    address: str,
    workload: Workload,
    stages: Sequence[str],
    processors: Sequence[int] | None = None,
    meanwhile: AbstractContextManager[object] | None = None,
) -> Repeat:
    """The numbers of one load.

    Args:
        load: closed or open loop.
        address: of the server, such as "http://127.0.0.1:8000".
        workload: rows to send.
        stages: names of the cascade's stages.
        processors: of the client alone; by default it shares those of the machine.
        meanwhile: entered while the load runs, without the start of the client.

    Raises:
        TargetError: the server cannot be reached, or no request was answered.
    """
    reader = AnswerReader(stages=frozenset(stages))
    lanes = HttpLanes(HttpAddress(address), "/predict", workload, reader)
    tally = Tally(load, workload, SEED)
    sender = Sender(lanes, workload, timeout_s=TIMEOUT_S)
    # An open loop sends on time even if the server uses all processors: from a process with real-time scheduling.
    apart = load.is_open or processors is not None
    with (
        SenderProcesses(sender, 1, processors) if apart else ThisProcess(sender) as senders,
        meanwhile or nullcontext(),
    ):
        senders.run(load, SEED, tally.add)
    repeat = tally.repeat()
    if not repeat.requests:
        raise TargetError(f"no request was answered ({repeat.messages or 'none was sent'})")
    return repeat


def run_load(
    load: ClosedLoop | OpenLoop,
    address: str,
    workload: Workload,
    stages: Sequence[str],
    connections: int,
    processors: Sequence[int] | None = None,
    meanwhile: AbstractContextManager[object] | None = None,
) -> dict[str, Any]:
    """The numbers of one load as plain values, with all percentiles, whether the requests suffice for them or not.

    Args:
        load: closed or open loop.
        address: of the server.
        workload: rows to send.
        stages: names of the cascade's stages.
        connections: most at a time.
        processors: see :func:`load_once`.
        meanwhile: see there.

    Raises:
        TargetError: see :func:`load_once`.
    """
    load = replace(load, connections=connections)
    repeat = load_once(load, address, workload, stages, processors, meanwhile)
    seen = repeat.latency_ms
    latencies = Latencies.merged([(repeat.histogram, seen["max"], seen["mean"])])
    kept = repeat.model_dump(include={*KEPT})
    percentiles = {f"p{p}": latencies.percentile(p) for p in PERCENTILES}
    return kept | {"latency_ms": percentiles | {"mean": seen["mean"], "max": seen["max"]}}
