"""Does a served cascade keep up with 70 % of its capacity for five minutes, at random moments?

    python -m cascade.benchmarks.experiments.serving.poisson

The capacity is measured first, in a closed loop. Sought in the open loop: no error, all requests answered as they come,
p99 within five times p50, flat memory. By default the synthetic cascade, one row per request; ``--config`` and
``--dataset`` take another. Needs the extra ``bench``.

With ``--own-processor`` the gateways of the synthetic cascade have all processors but the last one to themselves, and
the client shares the last one with Ray. Otherwise all share all processors, and the tail is partly the client's.
"""

import os
import tempfile
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import psutil
import typer

from cascade.benchmarks.clients.http_bodies import request_body
from cascade.benchmarks.harness.clients.lean_load import run_load
from cascade.benchmarks.harness.experiment import Figure, Figures, Found, run_experiment
from cascade.benchmarks.harness.servers.memory_watch import MemoryWatch, growth
from cascade.benchmarks.harness.servers.server_process import ServerProcess, cascade_server
from cascade.benchmarks.harness.synthetic_cascade import FUSED, calibrated_rounds, shuffled_rows, write_cascade
from cascade.benchmarks.load import ClosedLoop, OpenLoop
from cascade.benchmarks.workload import Workload
from cascade.cli.shared.console import console
from cascade.cli.shared.inputs import DatasetOption, RowsOption, load_rows
from cascade.config import CascadeConfig
from cascade.rows.checks import check_rows

CONNECTIONS, OPEN_CONNECTIONS = 64, 1024
MOST_P99_OVER_P50 = 5.0
MOST_GROWTH = 0.05
LEAST_ANSWERED = 0.97


def draw(found: Found, path: Path) -> None:
    """Latency percentiles beside memory over time."""
    from matplotlib.figure import Figure as Picture

    picture = Picture(figsize=(9, 3.4), layout="constrained")
    latency, memory = picture.subplots(1, 2)
    for name in ("capacity", "open_loop"):
        seen = found[name]["latency_ms"]
        places = [key for key in seen if key.startswith("p")]
        label = f"{name.replace('_', ' ')}, {found[name]['requests_per_s']:.0f} requests/s"
        latency.plot(places, [seen[key] for key in places], marker="o", label=label)
    latency.set_ylim(bottom=0)
    latency.set_ylabel("latency, ms")
    latency.legend(fontsize="small")
    megabytes = np.array(found["memory"]["bytes"]) / 1e6
    memory.plot(found["memory"]["seconds"], megabytes)
    memory.axvline(found["measured"]["warmup_seconds"], linestyle=":", label="end of the warm-up")
    memory.set_ylim(0, 1.2 * megabytes.max())
    memory.set_xlabel("seconds")
    memory.set_ylabel("memory of all processes, MB")
    memory.legend(fontsize="small")
    picture.suptitle(f"{found['measured']['config']}: {found['measured']['share_of_capacity']:.0%} of capacity")
    picture.savefig(path)


def main(
    config_path: Annotated[Path | None, typer.Option("--config", help="Another cascade, with its own policy.")] = None,
    dataset: DatasetOption = None,
    rows_file: RowsOption = None,
    rows_per_request: Annotated[int, typer.Option(min=1)] = 1,
    share: Annotated[float, typer.Option(min=0.01, help="Of the capacity.")] = 0.7,
    rate: Annotated[float | None, typer.Option(min=0.01, help="Requests/s, instead of the share.")] = None,
    seconds: Annotated[float, typer.Option(min=1)] = 300.0,
    warmup_seconds: Annotated[float, typer.Option(min=1)] = 30.0,
    capacity_seconds: Annotated[float, typer.Option(min=1)] = 15.0,
    own_processor: Annotated[bool, typer.Option(help="The client has a processor of its own.")] = False,
) -> Found:
    """Measure the capacity, then load a share of it."""
    *own, last = sorted(psutil.Process().cpu_affinity())
    if own_processor and not own:
        raise typer.BadParameter("--own-processor needs a machine with at least two processors")
    gateways: dict[str, Any] = {"gateways": len(own)} if own_processor else {}
    client = [last] if own_processor else None
    with tempfile.TemporaryDirectory() as folder:
        path = config_path or write_cascade(Path(folder), calibrated_rounds(), serving=FUSED | gateways)
        config = CascadeConfig.load(path)
        rows, label = shuffled_rows(), None
        if config_path is not None:
            rows, label = load_rows(dataset, "test", rows_file, config.classes)
        workload = Workload.from_rows(check_rows(rows, config.rows), label, rows_per_request)
        stages = tuple(stage.name for stage in config.stages)
        with cascade_server(path, request_body(workload.batches[0].rows)) as server:
            if own_processor:
                pin(server, own, last)
            closed = ClosedLoop(CONNECTIONS, capacity_seconds, warmup_seconds=5.0)
            capacity = run_load(closed, server.address, workload, stages, CONNECTIONS, client)
            rate = rate or share * capacity["requests_per_s"]
            console.print(f"capacity {capacity['requests_per_s']:.0f} requests/s; now {rate:.0f}/s for {seconds:g} s")
            with MemoryWatch(server) as memory:
                loop = OpenLoop(rate, seconds, warmup_seconds)
                seen = run_load(loop, server.address, workload, stages, OPEN_CONNECTIONS, client)
    return {
        "measured": {
            "config": config.name,
            "rows_per_request": rows_per_request,
            "rate_per_s": rate,
            "share_of_capacity": rate / capacity["requests_per_s"],
            "seconds": seconds,
            "warmup_seconds": warmup_seconds,
            "own_processor": own_processor,
        },
        "capacity": capacity,
        "open_loop": seen,
        "memory": {"seconds": memory.seconds, "bytes": memory.bytes},
    }


def pin(server: ServerProcess, own: list[int], last: int) -> None:
    """The gateways on some processors; Ray, and this process, which collects the answers, on the last one."""
    os.sched_setaffinity(0, [last])
    for process in server.family():
        is_gateway = "gateway" in " ".join(process.cmdline()).lower()
        for thread in process.threads():
            os.sched_setaffinity(thread.id, own if is_gateway else [last])


def figures(found: Found) -> Figures:
    """Of the open loop."""
    seen, measured = found["open_loop"], found["measured"]
    lag = seen.get("send_lag")  # not in the oldest results
    named = {
        "failed requests": Figure(sum(seen["errors"].values()), 0),
        # A queue that only grows has a small ratio of percentiles, too.
        "requests answered per second over those sent": Figure(
            seen["requests_per_s"] / measured["rate_per_s"], LEAST_ANSWERED, ">="
        ),
        "p99 over p50 of the latency": Figure(seen["latency_ms"]["p99"] / seen["latency_ms"]["p50"], MOST_P99_OVER_P50),
        "relative growth of memory after the warm-up": Figure(
            growth(found["memory"]["bytes"], int(measured["warmup_seconds"])), MOST_GROWTH
        ),
    }
    return named if lag is None else named | {"p99 of the client's send lag, ms": Figure(lag["p99_ms"])}


if __name__ == "__main__":
    run_experiment(main, figures, draw)
