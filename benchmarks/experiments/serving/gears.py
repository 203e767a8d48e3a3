"""A burst that is more than the best policy bears, with gears and without.

    python -m cascade.benchmarks.experiments.serving.gears

Two stages, of which the second one takes 80 times as long as the first, and labelled rows. Three gears are certified on
one set of rows, other rows are sent: one row a request, at random moments, at half of the capacity of the best gear,
then at three times it, then at half of it again. Sought with gears: p99 within the objective in at least 99 % of the
seconds, accuracy never below the floor, all requests answered in the best gear again within 30 s after the burst. The
same trace without gears stands beside it. Needs the extra ``bench``.
"""

import asyncio
import json
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import orjson
import typer
import yaml
from rich.console import Console
from scipy.stats import binom

from cascade.benchmarks.harness.experiment import RESULTS, run_experiment, save_result
from cascade.benchmarks.harness.lean_http import LeanConnection, LeanHttpTarget, request_bytes
from cascade.benchmarks.harness.server_process import CASCADE_IS_UP, ServerProcess, free_port
from cascade.benchmarks.harness.stages import graded_stage
from cascade.benchmarks.harness.synthetic_cascade import copy_modules
from cascade.benchmarks.http_target import request_body
from cascade.benchmarks.load import ClosedLoop
from cascade.benchmarks.workload import Workload
from cascade.calibration import PolicySet, ScoreTable, calibrate_gears
from cascade.machine.description import describe_machine

PICTURE = Path(__file__).resolve().parents[3] / "docs" / "images" / "gears.png"
STAGE_S = (1e-4, 8e-3)
TARGETS = (0.965, 0.94, 0.9)
FLOOR = TARGETS[-1]
OBJECTIVE_MS = 500.0
CALIBRATION_ROWS, SENT_ROWS = 20_000, 4_000
GEARS = {"floor_accuracy": FLOOR, "step_down_wait_ms": 80.0, "step_up_wait_ms": 50.0}
SERVING: dict[str, Any] = {"max_batch_rows": 4, "max_queue_rows": 1024}
USUAL, BURST = 0.5, 3.0
BACK_WITHIN_S = 30.0
LEAST_SECONDS_WITHIN = 0.99
TIMEOUT_S = 10 * OBJECTIVE_MS / 1e3
WINDOW_S = 5
"""Accuracy is looked at in windows of so many seconds."""
CHANCE = 1e-4
"""A window is below the floor if so few right answers had at most this chance at the floor."""


@dataclass
class Trace:
    """What became of the requests of a trace, in the order in which they ended.

    Attributes:
        due_s: when each was due, from the beginning of the trace.
        latency_ms: from then to its answer; infinite where it had none, or an error.
        right: whether the answer was the label.
        version: of the policy that answered; empty without an answer.
        errors: by status.
    """

    due_s: list[float] = field(default_factory=list)
    latency_ms: list[float] = field(default_factory=list)
    right: list[bool] = field(default_factory=list)
    version: list[str] = field(default_factory=list)
    errors: dict[str, int] = field(default_factory=dict)

    def note(self, due_s: float, latency_ms: float, right: bool, version: str) -> None:
        """Counts a request."""
        self.due_s.append(due_s)
        self.latency_ms.append(latency_ms)
        self.right.append(right)
        self.version.append(version)


class Client:
    """Sends rows of a labelled set at given moments.

    Args:
        port: of the server.
        rows: (n, 8) uint8, as ``graded_stage`` makes them.
    """

    def __init__(self, port: int, rows: np.ndarray) -> None:
        self._port = port
        self._requests = [request_bytes(rows[place : place + 1]) for place in range(len(rows))]
        self._labels = rows[:, graded_stage.LABEL].tolist()
        self._idle: list[LeanConnection] = []

    async def send(self, arrivals_s: np.ndarray) -> Trace:
        """Sends a request at each moment, whatever becomes of the earlier ones."""
        trace, tasks = Trace(), set()
        begin = time.monotonic()
        for turn, due_s in enumerate(arrivals_s.tolist()):
            wait_s = begin + due_s - time.monotonic()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            task = asyncio.create_task(self._ask(turn % len(self._requests), begin, due_s, trace))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks)
        for connection in self._idle:
            connection.close()
        return trace

    async def _ask(self, place: int, begin: float, due_s: float, trace: Trace) -> None:
        try:
            status, body = await asyncio.wait_for(self._answer(self._requests[place]), TIMEOUT_S)
        except (OSError, asyncio.TimeoutError) as error:
            status, body = 0, type(error).__name__.encode()
        if status != 200:
            name = str(status or body.decode())
            trace.errors[name] = trace.errors.get(name, 0) + 1
            trace.note(due_s, float("inf"), right=False, version="")
            return
        latency_ms = 1e3 * (time.monotonic() - begin - due_s)
        answer = orjson.loads(body)
        trace.note(due_s, latency_ms, answer["answer"] == [self._labels[place]], answer["policy_version"])

    async def _answer(self, request: bytes) -> tuple[int, bytes]:
        while self._idle and not self._idle[-1].usable:
            self._idle.pop()
        if self._idle:
            connection = self._idle.pop()
        else:
            loop = asyncio.get_running_loop()
            _, connection = await loop.create_connection(LeanConnection, "127.0.0.1", self._port)
        answer = await connection.ask(request)
        self._idle.append(connection)
        return answer


def poisson_arrivals(phases: list[tuple[float, float]], seed: int = 0) -> np.ndarray:
    """Moments of arrivals, of phases of (seconds, rate a second)."""
    random = np.random.default_rng(seed)
    parts, start = [], 0.0
    for seconds, rate in phases:
        parts.append(start + np.sort(random.uniform(0, seconds, random.poisson(rate * seconds))))
        start += seconds
    return np.concatenate(parts)


def write_cascade(folder: Path) -> Path:
    """Writes config, modules and the policy set, certified on rows that are not sent."""
    copy_modules(folder, "graded_stage")
    stages = [
        {
            "name": name,
            "backend": {
                "type": "custom",
                "object": "graded_stage:GradedStage",
                "arguments": {"seconds_per_row": STAGE_S[place], "stage": place},
            },
            "router": {"calibrator": "identity"},
        }
        for place, name in enumerate(graded_stage.STAGES)
    ]
    config = {"name": "graded", "rows": {"shape": [8], "dtype": "uint8"}, "stages": stages}
    rows = graded_stage.new_graded_rows(CALIBRATION_ROWS, seed=1)
    table = ScoreTable(
        rows[:, [graded_stage.SMALL, graded_stage.LARGE]].astype(np.int64),
        np.stack([graded_stage.graded_confidence(rows), np.full(len(rows), graded_stage.LARGE_ACCURACY)], axis=1),
        1e3 * np.array(STAGE_S),
        np.array(graded_stage.STAGES),
        "ms",
        rows[:, graded_stage.LABEL].astype(np.int64),
    )
    calibrate_gears(table, [{"target_accuracy": target} for target in TARGETS]).save(folder / "policy.json")
    for name, serving in (("with", SERVING | {"gears": GEARS}), ("without", SERVING)):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(config | {"serving": serving}), encoding="utf-8")
    return folder


async def capacity(url: str, rows: np.ndarray, seconds: float) -> float:
    """Requests/s that the server answers in a closed loop."""
    target = LeanHttpTarget(url, graded_stage.STAGES, 64)
    try:
        loop = ClosedLoop(64, seconds, warmup_seconds=2)
        return (await loop.run(target, Workload.from_rows(rows, None, 1), graded_stage.STAGES)).requests_per_s
    finally:
        await target.close()


def summary(trace: Trace, gears: PolicySet, phases: list[tuple[float, float]]) -> dict[str, Any]:
    """The numbers of a trace."""
    due, latency, right = np.array(trace.due_s), np.array(trace.latency_ms), np.array(trace.right)
    gear = np.array([{policy.version: k for k, policy in enumerate(gears.gears)}.get(v, -1) for v in trace.version])
    second = due.astype(int)
    seconds = np.unique(second)
    p99 = np.array([np.quantile(latency[second == each], 0.99, method="lower") for each in seconds])
    burst_ends = phases[0][0] + phases[1][0]
    later = due[(gear > 0) & (due >= burst_ends)]
    answered = gear >= 0
    windows = [
        (int(right[chosen].sum()), int(chosen.sum()))
        for chosen in (answered & (second // WINDOW_S == each) for each in np.unique(second // WINDOW_S))
        if chosen.any()
    ]
    return {
        "requests": len(due),
        "errors": trace.errors,
        "seconds": len(seconds),
        "seconds_within_objective": float((p99 <= OBJECTIVE_MS).mean()),
        "p99_ms": _finite(np.quantile(latency, 0.99, method="lower")),
        "p50_ms": _finite(np.quantile(latency, 0.5, method="lower")),
        "accuracy": float(right[answered].mean()),
        "accuracy_by_gear": {str(k): float(right[gear == k].mean()) for k in np.unique(gear[answered]).tolist()},
        "least_window_accuracy": min(good / count for good, count in windows),
        "windows_below_floor": sum(bool(binom.cdf(good, count, FLOOR) < CHANCE) for good, count in windows),
        "share_by_gear": {str(k): float((gear[answered] == k).mean()) for k in np.unique(gear[answered]).tolist()},
        "back_after_s": float(later.max() - burst_ends) if len(later) else 0.0,
        "timeline": {
            "second": seconds.tolist(),
            "p99_ms": [_finite(each) for each in p99],
            "arrivals": [int((second == each).sum()) for each in seconds],
            "refused": [int((~answered & (second == each)).sum()) for each in seconds],
            "mean_gear": [_mean(gear[answered & (second == each)]) for each in seconds],
            "accuracy": [_mean(right[answered & (second == each)]) for each in seconds],
        },
    }


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None


def draw(result: dict[str, Any], path: Path) -> None:
    """Arrivals, p99, gear and accuracy over time, with gears and without."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 8), layout="constrained")
    rate, tail, gear, accuracy = figure.subplots(4, 1, sharex=True)
    for name, seen in result["traces"].items():
        line = seen["timeline"]
        blank = {key: np.array(values, dtype=float) for key, values in line.items()}
        rate.plot(line["second"], blank["arrivals"] - blank["refused"], label=f"answered, {name} gears")
        tail.plot(line["second"], blank["p99_ms"], label=f"{name} gears")
        gear.plot(line["second"], blank["mean_gear"], label=f"{name} gears")
        accuracy.plot(line["second"], blank["accuracy"], label=f"{name} gears")
    rate.plot(line["second"], line["arrivals"], color="black", linestyle=":", label="sent")
    rate.set_ylabel("requests/s")
    tail.axhline(OBJECTIVE_MS, color="black", linestyle=":", label="objective")
    tail.set_yscale("log")
    tail.set_ylabel("p99 of a second, ms\n(a gap: errors)")
    gear.set_ylabel("gear (0 is the best)")
    accuracy.axhline(FLOOR, color="black", linestyle=":", label="floor")
    accuracy.set_ylabel("accuracy")
    accuracy.set_xlabel("seconds")
    for axes in (rate, tail, gear, accuracy):
        axes.legend(fontsize="small", loc="lower right" if axes is accuracy else "upper right")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def verdict(seen: dict[str, Any]) -> dict[str, bool]:
    """What was sought."""
    return {
        "p99_within_objective": seen["seconds_within_objective"] >= LEAST_SECONDS_WITHIN,
        "accuracy_above_floor": not seen["windows_below_floor"] and seen["accuracy"] >= FLOOR,
        "back_in_time": seen["back_after_s"] <= BACK_WITHIN_S,
        "no_error": not seen["errors"],
    }


def main(
    burst_seconds: Annotated[float, typer.Option(min=1)] = 60.0,
    before_seconds: Annotated[float, typer.Option(min=1)] = 10.0,
    after_seconds: Annotated[float, typer.Option(min=1)] = 35.0,
    out: Annotated[Path, typer.Option()] = RESULTS / "serving/gears.json",
    picture: Annotated[Path, typer.Option()] = PICTURE,
) -> None:
    """Send the trace to a cascade without gears, and to one with them."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the server is stopped then, too
    say = Console(stderr=True).print
    rows = graded_stage.new_graded_rows(SENT_ROWS, seed=2)
    rate, traces, phases = 0.0, {}, []
    with tempfile.TemporaryDirectory() as name:
        folder = write_cascade(Path(name))
        gears = PolicySet.load(folder / "policy.json")
        for kind in ("without", "with"):
            port = free_port()
            url = f"http://127.0.0.1:{port}"
            command = [sys.executable, "-m", "cascade", "serve", str(folder / f"{kind}.yaml"), "--port", str(port)]
            probe = request_body(rows[:1])
            with ServerProcess(kind, command, f"{url}/predict", probe, folder / "log", up=CASCADE_IS_UP):
                if not rate:
                    rate = asyncio.run(capacity(url, rows, 6.0))
                    phases = [
                        (before_seconds, USUAL * rate),
                        (burst_seconds, BURST * rate),
                        (after_seconds, USUAL * rate),
                    ]
                    say(f"the best gear answers {rate:.0f} requests/s")
                    time.sleep(1)
                trace = asyncio.run(Client(port, rows).send(poisson_arrivals(phases)))
            traces[kind] = summary(trace, gears, phases)
            say(kind, {key: value for key, value in traces[kind].items() if key != "timeline"})
    result = {
        "schema_version": 1,
        "measured": {
            "stage_s": STAGE_S,
            "targets": TARGETS,
            "floor": FLOOR,
            "objective_ms": OBJECTIVE_MS,
            "gears": GEARS,
            "serving": SERVING,
            "capacity_per_s": rate,
            "phases": phases,
        },
        "machine": describe_machine(),
        "traces": traces,
        "verdict": verdict(traces["with"]),
    }
    save_result(out, result)
    draw(result, picture)
    typer.echo(json.dumps(result["verdict"], sort_keys=True))


if __name__ == "__main__":
    run_experiment(main)
