"""How much of what the stages alone allow the served cascade reaches: the CIFAR-10 ladder over HTTP.

    python -m cascade.benchmarks.experiments.serving.ideal_share

The ideal is a server that costs nothing. A row costs it W = sum_k r_k t_k processor seconds: r_k is the share of rows
that reach stage k, and t_k the processor time a row of stage k, measured in this process, in one thread, on rows that
reach it, in batches of b_k rows. Of a segment whose batches hold B rows, b_k = B r_k / r_f, f being its first stage; B
is ``max_batch_rows``, or all rows under way if that is less. P processors then answer at most P / W rows a second, and
a segment s with P_s threads (``num_cpus`` of its first stage, else 1, times its replicas) at most P_s / W_s; the least
of these is the ideal. The client shares the processors, and nothing is subtracted for it.

Processors that work at the same time share memory and caches, which slows each of them. ``together_share`` holds the
server against an ideal whose stages were measured on all processors at once, one process each.

``processor_share`` leaves throughput aside: W over the processor time a row of all processes of the server.
"""

import contextlib
import functools
import json
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
import uvloop
from rich.console import Console

from cascade.benchmarks.harness.experiment import RESULTS, run_experiment, save_result
from cascade.benchmarks.harness.lean_http import LeanHttpTarget
from cascade.benchmarks.harness.server_process import CASCADE_IS_UP, ServerProcess, free_port
from cascade.benchmarks.http_target import request_body
from cascade.benchmarks.load import ClosedLoop
from cascade.benchmarks.measurement import spread
from cascade.benchmarks.workload import Workload
from cascade.cascade import Cascade
from cascade.cli.inputs import load_rows
from cascade.config import CascadeConfig
from cascade.machine.description import describe_machine
from cascade.rows.checks import check_rows

ROOT = Path(__file__).resolve().parents[3]
TARGET = 0.9
WARMUP_S = 4.0
LEAST_CALLS = 3


def stage_seconds(cascade: Cascade, k: int, rows: np.ndarray, batch: int, seconds: float) -> float:
    """Processor seconds a row of one stage, in batches of some of the rows that reach it."""
    predict = cascade.stages[k].predict
    places = np.resize(np.arange(len(rows)), -(-len(rows) // batch) * batch).reshape(-1, batch)
    predict(rows[places[0]])
    done, turn, deadline, spent = 0, 0, time.perf_counter() + seconds, 0.0
    while turn < LEAST_CALLS or time.perf_counter() < deadline:
        part = np.ascontiguousarray(rows[places[turn % len(places)]])
        begin = time.process_time()
        predict(part)
        spent += time.process_time() - begin
        done += batch
        turn += 1
    return spent / done


class AllProcessors:
    """Measures stages in as many processes at once as there are processors.

    Args:
        config_path: of the cascade.
        processors: their number P.
    """

    def __init__(self, config_path: Path, processors: int) -> None:
        self.processors = processors
        context = multiprocessing.get_context("spawn")
        self._ready = context.Barrier(processors)
        self._pool = ProcessPoolExecutor(processors, context, _load, (config_path, self._ready))

    def stage_seconds(self, k: int, rows: np.ndarray, batch: int, seconds: float) -> float:
        """Processor seconds a row of one stage, while all processors run it."""
        asked = [self._pool.submit(_stage_rate, k, rows, batch, seconds) for _ in range(self.processors)]
        return self.processors / sum(each.result() for each in asked)

    def close(self) -> None:
        """Ends the processes."""
        self._pool.shutdown()


def _load(config_path: Path, ready: Any) -> None:
    import torch

    torch.set_num_threads(1)
    global _cascade, _ready
    _cascade, _ready = Cascade.load(config_path), ready


def _stage_rate(k: int, rows: np.ndarray, batch: int, seconds: float) -> float:
    """Rows a second by the clock, begun when all processes are there."""
    predict = _cascade.stages[k].predict
    places = np.resize(np.arange(len(rows)), -(-len(rows) // batch) * batch).reshape(-1, batch)
    predict(rows[places[0]])
    _ready.wait()
    begin, calls = time.perf_counter(), 0
    while calls < LEAST_CALLS or time.perf_counter() < begin + seconds:
        predict(np.ascontiguousarray(rows[places[calls % len(places)]]))
        calls += 1
    return calls * batch / (time.perf_counter() - begin)


def batch_sizes(config: CascadeConfig, reached: Sequence[float], under_way: int) -> list[int]:
    """b_k of each stage; see the top."""
    sizes, k = [], 0
    for segment in config.segments:
        rows = min(config.serving.max_batch_rows, under_way)
        sizes += [max(1, round(rows * reached[k + i] / reached[k])) for i in range(len(segment))]
        k += len(segment)
    return sizes


def ideal_rows_per_s(config: CascadeConfig, reached: Sequence[float], row_s: Sequence[float], processors: int) -> float:
    """The least of P / W and P_s / W_s."""
    work = np.asarray(reached) * np.asarray(row_s)
    limits, k = [processors / work.sum()], 0
    for segment in config.segments:
        asked = segment[0].deployment
        replicas = asked.get("num_replicas", 1) if k else config.serving.gateways
        threads = asked.get("ray_actor_options", {}).get("num_cpus", 1) * replicas
        limits.append(max(1.0, min(threads, processors)) / work[k : k + len(segment)].sum())
        k += len(segment)
    return float(min(limits))


def served(
    server: ServerProcess, url: str, workload: Workload, stages: tuple[str, ...], loop: ClosedLoop
) -> dict[str, Any]:
    """Numbers of the served cascade, with the processor seconds a row of server and client."""

    async def run() -> dict[str, Any]:
        target = LeanHttpTarget(url, stages, loop.connections)
        try:
            return (await loop.run(target, workload, stages)).to_dict()
        finally:
            await target.close()

    before, own = server.processor_s(), time.process_time()
    seen = uvloop.run(run())
    return seen | {
        "server_processor_s_per_row": (server.processor_s() - before) / seen["rows"],
        "client_processor_s_per_row": (time.process_time() - own) / seen["rows"],
    }


def main(
    config_path: Annotated[Path, typer.Option("--config")] = ROOT / "examples" / "cifar10" / "config.yaml",
    dataset: Annotated[str, typer.Option()] = "cifar10",
    limit: Annotated[int, typer.Option(min=64, help="Rows that are used.")] = 5000,
    rows_per_request: Annotated[list[int], typer.Option(min=1)] = [64, 1],  # noqa: B006
    rows_under_way: Annotated[int, typer.Option(min=1, help="Of all connections together.")] = 512,
    seconds: Annotated[float, typer.Option(min=0.5, help="Of each turn.")] = 10.0,
    repeats: Annotated[int, typer.Option(min=1)] = 5,
    out: Annotated[Path, typer.Option()] = RESULTS / "serving/ideal_share.json",
) -> None:
    """Measure the stages in this process and the served cascade, by turns."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the server is stopped then, too
    import torch

    torch.set_num_threads(1)
    say = Console(stderr=True).print
    processors = len(os.sched_getaffinity(0))
    cascade, config = Cascade.load(config_path), CascadeConfig.load(config_path)
    rows, label = load_rows(dataset, "test", None, config.classes)
    rows, label = check_rows(rows[:limit], config.rows), None if label is None else label[:limit]
    answered = cascade.predict(rows).stage
    stages = tuple(stage.name for stage in cascade.stages)
    reached = [float((answered >= k).mean()) for k in range(len(stages))]
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "cascade", "serve", str(config_path), "--port", str(port)]
        all_processors = AllProcessors(config_path, processors)
        probe = request_body(rows[:1])
        with (
            contextlib.closing(all_processors),
            ServerProcess("gateway", command, f"{url}/predict", probe, Path(name) / "log", up=CASCADE_IS_UP) as server,
        ):
            for size in rows_per_request:
                connections = max(1, min(rows_under_way // size, 128))
                sizes = batch_sizes(config, reached, connections * size)
                workload = Workload.from_rows(rows, label, size)
                served(server, url, workload, stages, ClosedLoop(connections, WARMUP_S))
                numbers = []
                for repeat in range(repeats):
                    row_s, together_s = (
                        [measured(k, rows[answered >= k], sizes[k], seconds / len(stages)) for k in range(len(stages))]
                        for measured in (functools.partial(stage_seconds, cascade), all_processors.stage_seconds)
                    )
                    seen = served(server, url, workload, stages, ClosedLoop(connections, seconds))
                    ideal = ideal_rows_per_s(config, reached, row_s, processors)
                    work = float(np.dot(reached, row_s))
                    seen |= {
                        "stage_processor_s_per_row": dict(zip(stages, row_s)),
                        "ideal_rows_per_s": ideal,
                        "ideal_share": seen["rows_per_s"] / ideal,
                        "together_s_per_row": dict(zip(stages, together_s)),
                        "together_share": seen["rows_per_s"]
                        / ideal_rows_per_s(config, reached, together_s, processors),
                        "processor_share": work / seen["server_processor_s_per_row"],
                    }
                    numbers.append(seen)
                    say(
                        f"{size} rows a request, repeat {repeat + 1}: {seen['ideal_share']:.2f} of the ideal, "
                        f"{seen['together_share']:.2f} of that of all processors at once"
                    )
                results[str(size)] = {
                    "connections": connections,
                    "batch_rows": dict(zip(stages, sizes)),
                    "summary": spread(numbers),
                    "repeats": numbers,
                }
    shares = {size: seen["summary"]["ideal_share"]["median"] for size, seen in results.items()}
    together = {size: seen["summary"]["together_share"]["median"] for size, seen in results.items()}
    result = {
        "schema_version": 1,
        "measured": {
            "config": config.name,
            "policy_version": cascade.policy.version,
            "data": dataset,
            "seconds": seconds,
        },
        "machine": describe_machine(),
        "processors": processors,
        "reached_share": dict(zip(stages, reached)),
        "rows_per_request": results,
        "reached": {size: share >= TARGET for size, share in shares.items()},
    }
    save_result(out, result)
    typer.echo(json.dumps({"ideal_share": shares, "together_share": together}, sort_keys=True))


if __name__ == "__main__":
    run_experiment(main)
