"""An open loop on a served cascade: 70 % of its capacity for five minutes, at random moments.

    python -m cascade.benchmarks.experiments.serving.poisson

The capacity is measured first, in a closed loop. Sought: no error, all requests answered as they come, p99 within five
times p50, flat memory. By default the synthetic cascade of ``against_peers.py``, one row a request; ``--config`` and
``--dataset`` take another. Needs the extra ``bench``.
"""

import json
import signal
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
import uvloop
from rich.console import Console

from cascade.benchmarks.harness.experiment import RESULTS, run_experiment, save_result
from cascade.benchmarks.harness.lean_http import LeanHttpTarget
from cascade.benchmarks.harness.memory_watch import MemoryWatch, growth
from cascade.benchmarks.harness.server_process import CASCADE_IS_UP, ServerProcess, free_port
from cascade.benchmarks.harness.stages import busy_stage
from cascade.benchmarks.harness.synthetic_cascade import FUSED, calibrated_rounds, write_cascade
from cascade.benchmarks.http_target import request_body
from cascade.benchmarks.load import ClosedLoop, Load, OpenLoop
from cascade.benchmarks.workload import Workload
from cascade.cli.inputs import DatasetOption, RowsOption, load_rows
from cascade.config import CascadeConfig
from cascade.machine.description import describe_machine
from cascade.rows.checks import check_rows

CONNECTIONS = 64
OPEN_CONNECTIONS = 1024
ROWS = 1000
MOST_P99_OVER_P50 = 5.0
MOST_GROWTH = 0.05
LEAST_ANSWERED = 0.97


def measure(load: Load, url: str, workload: Workload, stages: tuple[str, ...], connections: int) -> dict[str, Any]:
    """The numbers of one load over HTTP."""

    async def run() -> dict[str, Any]:
        target = LeanHttpTarget(url, stages, connections)
        await target.open()
        try:
            return (await load.run(target, workload, stages)).to_dict()
        finally:
            await target.close()

    return uvloop.run(run())


def verdict(seen: dict[str, Any], rate: float, memory_growth: float | None) -> dict[str, Any]:
    """What was sought, and whether it was reached."""
    p99_over_p50 = seen["latency_ms"]["p99"] / seen["latency_ms"]["p50"]
    return {
        "p99_over_p50": p99_over_p50,
        "memory_growth": memory_growth,
        "no_error": not seen["errors"],
        # A queue that only grows has a small ratio of percentiles, too.
        "kept_up": seen["requests_per_s"] >= LEAST_ANSWERED * rate,
        "tail_within_target": p99_over_p50 <= MOST_P99_OVER_P50,
        "memory_flat": memory_growth is not None and memory_growth < MOST_GROWTH,
    }


def draw(result: dict[str, Any], path: Path) -> None:
    """Latency percentiles beside memory over time."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), layout="constrained")
    latency, memory = figure.subplots(1, 2)
    for name in ("capacity", "open_loop"):
        seen = result[name]["latency_ms"]
        places = [key for key in seen if key.startswith("p")]
        label = f"{name.replace('_', ' ')}, {result[name]['requests_per_s']:.0f} requests/s"
        latency.plot(places, [seen[key] for key in places], marker="o", label=label)
    latency.set_ylim(bottom=0)
    latency.set_ylabel("latency, ms")
    latency.legend(fontsize="small")
    megabytes = np.array(result["memory"]["bytes"]) / 1e6
    memory.plot(result["memory"]["seconds"], megabytes)
    memory.axvline(result["measured"]["warmup_seconds"], linestyle=":", label="end of the warm-up")
    memory.set_ylim(0, 1.2 * megabytes.max())
    memory.set_xlabel("seconds")
    memory.set_ylabel("memory of all processes, MB")
    memory.legend(fontsize="small")
    figure.suptitle(f"{result['measured']['config']}: {result['measured']['share_of_capacity']:.0%} of capacity")
    figure.savefig(path)


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
    out: Annotated[Path, typer.Option(help="The picture gets the same name.")] = RESULTS / "serving/poisson.json",
) -> None:
    """Measure the capacity, then load a share of it."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the server is stopped then, too
    say = Console(stderr=True).print
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if config_path is None:
            config_path = write_cascade(folder, calibrated_rounds(), serving=FUSED)
            rows, label = busy_stage.new_rows(ROWS), None
        else:
            rows, label = load_rows(dataset, "test", rows_file, CascadeConfig.load(config_path).classes)
        config = CascadeConfig.load(config_path)
        workload = Workload.from_rows(check_rows(rows, config.rows), label, rows_per_request)
        stages = tuple(stage.name for stage in config.stages)
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "cascade", "serve", str(config_path), "--port", str(port)]
        probe = request_body(workload.batches[0].rows)
        with ServerProcess("gateway", command, f"{url}/predict", probe, folder / "log", up=CASCADE_IS_UP) as server:
            closed = ClosedLoop(CONNECTIONS, capacity_seconds, warmup_seconds=5.0)
            capacity = measure(closed, url, workload, stages, CONNECTIONS)
            rate = rate or share * capacity["requests_per_s"]
            say(f"capacity {capacity['requests_per_s']:.0f} requests/s; now {rate:.0f}/s for {seconds:g} s")
            with MemoryWatch(server) as memory:
                loop = OpenLoop(rate, seconds, warmup_seconds)
                seen = measure(loop, url, workload, stages, OPEN_CONNECTIONS)
    result = {
        "schema_version": 1,
        "measured": {
            "config": config.name,
            "rows_per_request": rows_per_request,
            "rate_per_s": rate,
            "share_of_capacity": rate / capacity["requests_per_s"],
            "seconds": seconds,
            "warmup_seconds": warmup_seconds,
        },
        "machine": describe_machine(),
        "capacity": capacity,
        "open_loop": seen,
        "memory": {"seconds": memory.seconds, "bytes": memory.bytes},
        "verdict": verdict(seen, rate, growth(memory.bytes, int(warmup_seconds))),
    }
    save_result(out, result)
    draw(result, out.with_suffix(".png"))
    typer.echo(json.dumps(result["verdict"], sort_keys=True))


if __name__ == "__main__":
    run_experiment(main)
