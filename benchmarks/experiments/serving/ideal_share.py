"""What share of the throughput that the stages of the CIFAR-10 ladder alone allow does it reach over HTTP?

    python -m cascade.benchmarks.experiments.serving.ideal_share

The ideal is a server without a cost of its own. A row costs it W = sum_k r_k t_k processor seconds: r_k is the share of
rows that reach stage k, and t_k the processor time per row of stage k, measured in this process, in one thread, on rows
that reach it, in batches of b_k rows. For a segment with batches of B rows, b_k = B r_k / r_f, where f is its first
stage; B is ``max_batch_rows``, or all rows under way if that is less. P processors then answer at most P / W rows per
second, and a segment s with P_s threads (``num_cpus`` of its first stage, else 1, times its replicas) at most P_s /
W_s; the least of these is the ideal. The client shares the processors, and nothing is subtracted for it.

Processors that work at the same time share memory and caches, which slows each of them. ``together_share`` compares the
server with an ideal whose stages were measured on all processors at once, one process each.

``processor_share`` leaves throughput aside: W over the processor time per row of all processes of the server.
"""

import contextlib
import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from cascade.benchmarks.analysis.intervals import spread
from cascade.benchmarks.clients.http_bodies import request_body
from cascade.benchmarks.harness.clients.lean_load import run_load
from cascade.benchmarks.harness.experiment import Figure, Figures, Found, run_experiment
from cascade.benchmarks.harness.results.result_file import ROOT
from cascade.benchmarks.harness.servers.server_process import ServerProcess, cascade_server
from cascade.benchmarks.load import ClosedLoop
from cascade.benchmarks.workload import Workload
from cascade.cascade import Cascade
from cascade.cli.shared.console import console
from cascade.cli.shared.inputs import load_rows
from cascade.config import CascadeConfig
from cascade.rows.checks import check_rows

TARGET = 0.9
WARMUP_S = 4.0
LEAST_CALLS = 3


def seconds_per_row(
    cascade: Cascade, k: int, rows: np.ndarray, batch: int, seconds: float, clock: Callable[[], float], wait: Any = None
) -> float:
    """Seconds per row of one stage by a clock, in batches of some of the rows that reach it.

    Args:
        cascade: with the stage.
        k: index of the stage.
        rows: that reach it.
        batch: rows of a call.
        seconds: least time of the measurement.
        clock: of processor time or of wall time.
        wait: called after the first batch, until all processes are there.
    """
    predict = cascade.stages[k].predict
    places = np.resize(np.arange(len(rows)), -(-len(rows) // batch) * batch).reshape(-1, batch)
    predict(rows[places[0]])
    if wait is not None:
        wait()
    calls, spent, deadline = 0, 0.0, time.perf_counter() + seconds
    while calls < LEAST_CALLS or time.perf_counter() < deadline:
        part = np.ascontiguousarray(rows[places[calls % len(places)]])
        begin = clock()
        predict(part)
        spent += clock() - begin
        calls += 1
    return spent / (calls * batch)


class AllProcessors:
    """Measures stages in as many processes at once as there are processors.

    Args:
        config_path: of the cascade.
        processors: their number P.
    """

    def __init__(self, config_path: Path, processors: int) -> None:
        self.processors = processors
        context = multiprocessing.get_context("spawn")
        ready = context.Barrier(processors)
        self._pool = ProcessPoolExecutor(processors, context, _load, (config_path, ready))

    def seconds_per_row(self, k: int, rows: np.ndarray, batch: int, seconds: float) -> float:
        """Wall seconds per row of one stage, while all processors run it."""
        asked = [self._pool.submit(_one_processor, k, rows, batch, seconds) for _ in range(self.processors)]
        return self.processors / sum(1 / each.result() for each in asked)

    def close(self) -> None:
        """Ends the processes."""
        self._pool.shutdown()


_loaded: list[tuple[Cascade, Any]] = []
"""The cascade and the barrier of a measuring process."""


def _load(config_path: Path, ready: Any) -> None:
    import torch

    torch.set_num_threads(1)
    _loaded.append((Cascade.load(config_path), ready))


def _one_processor(k: int, rows: np.ndarray, batch: int, seconds: float) -> float:
    ((cascade, ready),) = _loaded
    return seconds_per_row(cascade, k, rows, batch, seconds, time.perf_counter, ready.wait)


def batch_sizes(config: CascadeConfig, reached: Sequence[float], under_way: int) -> list[int]:
    """b_k of each stage, as the module describes it."""
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


@dataclass(frozen=True, eq=False)
class Comparison:
    """A served cascade beside its stages.

    Attributes:
        cascade: in this process.
        config: of the cascade.
        rows: that are sent.
        answered: (n,) the stage that answers each of them.
        processors: P.
    """

    cascade: Cascade
    config: CascadeConfig
    rows: np.ndarray
    answered: np.ndarray
    processors: int

    @property
    def stages(self) -> tuple[str, ...]:
        """Names."""
        return tuple(stage.name for stage in self.cascade.stages)

    @property
    def reached(self) -> list[float]:
        """r_k of each stage."""
        return [float((self.answered >= k).mean()) for k in range(len(self.stages))]

    def served(self, server: ServerProcess, workload: Workload, loop: ClosedLoop) -> dict[str, Any]:
        """Numbers of the served cascade, with the processor seconds per row of server and client."""
        before, own = server.processor_s(), time.process_time()
        seen = run_load(loop, server.address, workload, self.stages, loop.connections)
        return seen | {
            "server_processor_s_per_row": (server.processor_s() - before) / seen["rows"],
            "client_processor_s_per_row": (time.process_time() - own) / seen["rows"],
        }

    def repeat(
        self, server: ServerProcess, all_processors: AllProcessors, workload: Workload, loop: ClosedLoop
    ) -> dict[str, Any]:
        """The stages in this process, on all processors at once, and the served cascade."""
        reached, turn_s = self.reached, loop.seconds / len(self.stages)
        sizes = batch_sizes(self.config, reached, loop.connections * workload.rows_per_request)
        reaching = [self.rows[self.answered >= k] for k in range(len(self.stages))]
        row_s = [
            seconds_per_row(self.cascade, k, part, sizes[k], turn_s, time.process_time)
            for k, part in enumerate(reaching)
        ]
        together_s = [all_processors.seconds_per_row(k, part, sizes[k], turn_s) for k, part in enumerate(reaching)]
        seen = self.served(server, workload, loop)
        ideal, together = (
            ideal_rows_per_s(self.config, reached, each, self.processors) for each in (row_s, together_s)
        )
        return seen | {
            "stage_processor_s_per_row": dict(zip(self.stages, row_s)),
            "ideal_rows_per_s": ideal,
            "ideal_share": seen["rows_per_s"] / ideal,
            "together_s_per_row": dict(zip(self.stages, together_s)),
            "together_share": seen["rows_per_s"] / together,
            "processor_share": float(np.dot(reached, row_s)) / seen["server_processor_s_per_row"],
        }


def main(
    config_path: Annotated[Path, typer.Option("--config")] = ROOT / "examples" / "cifar10" / "config.yaml",
    dataset: Annotated[str, typer.Option()] = "cifar10",
    limit: Annotated[int, typer.Option(min=64, help="Rows that are used.")] = 5000,
    rows_per_request: Annotated[list[int], typer.Option(min=1)] = [64, 1],  # noqa: B006
    rows_under_way: Annotated[int, typer.Option(min=1, help="Of all connections together.")] = 512,
    seconds: Annotated[float, typer.Option(min=0.5, help="Of each turn.")] = 10.0,
    repeats: Annotated[int, typer.Option(min=1)] = 5,
) -> Found:
    """Measure the stages in this process and the served cascade, by turns."""
    import torch

    torch.set_num_threads(1)
    cascade, config = Cascade.load(config_path), CascadeConfig.load(config_path)
    rows, label = load_rows(dataset, "test", None, config.classes)
    rows, label = check_rows(rows[:limit], config.rows), None if label is None else label[:limit]
    processors = len(os.sched_getaffinity(0))
    comparison = Comparison(cascade, config, rows, cascade.predict(rows).stage, processors)
    results: dict[str, Any] = {}
    with (
        contextlib.closing(AllProcessors(config_path, processors)) as all_processors,
        cascade_server(config_path, request_body(rows[:1])) as server,
    ):
        for size in rows_per_request:
            workload, numbers = Workload.from_rows(rows, label, size), []
            loop = ClosedLoop(max(1, min(rows_under_way // size, 128)), seconds)
            comparison.served(server, workload, replace(loop, seconds=WARMUP_S))
            for _ in range(repeats):
                numbers.append(comparison.repeat(server, all_processors, workload, loop))
                shares = {name: numbers[-1][name] for name in ("ideal_share", "together_share")}
                console.print(f"{size} rows per request: {shares}")
            results[str(size)] = {
                "connections": loop.connections,
                "summary": spread(numbers),
                "repeats": numbers,
            }
    return {
        "measured": {"config": config.name, "policy_version": cascade.policy.version},
        "processors": processors,
        "reached_share": dict(zip(comparison.stages, comparison.reached)),
        "rows_per_request": results,
    }


def figures(found: Found) -> Figures:
    """Medians over the repeats."""
    numbers = {}
    for size, seen in found["rows_per_request"].items():
        rows = f"{size} rows per request" if size != "1" else "1 row per request"
        numbers[f"share of the ideal, {rows}"] = Figure(seen["summary"]["ideal_share"]["median"], TARGET, ">=")
        together = seen["summary"]["together_share"]["median"]
        numbers[f"the same, stages measured on all processors at once, {rows}"] = Figure(together)
    return numbers


if __name__ == "__main__":
    run_experiment(main, figures)
