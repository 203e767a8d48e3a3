"""Do gears keep the latency within the objective in a burst above the capacity of the best policy?

    python -m cascade.benchmarks.experiments.serving.gears

Two stages, of which the second one takes 80 times as long as the first, and labelled rows. Three gears are certified on
one set of rows, other rows are sent: one row per request, at random moments, at half of the capacity of the best gear,
then at three times it, then at half of it again. Sought with gears: p99 within the objective in at least 99 % of the
seconds, accuracy never below the floor, all requests answered in the best gear again within 30 s after the burst. The
same trace without gears is measured beside it. Needs the extra ``bench``.
"""

import asyncio
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
import yaml
from scipy.stats import binom

from cascade.benchmarks.clients.http_bodies import request_body
from cascade.benchmarks.harness.clients.lean_http import LeanHttpTarget
from cascade.benchmarks.harness.clients.lean_load import run_load
from cascade.benchmarks.harness.clients.trace import Trace, poisson_arrivals, send_trace
from cascade.benchmarks.harness.experiment import Figure, Figures, Found, run_experiment
from cascade.benchmarks.harness.results.result_file import ROOT
from cascade.benchmarks.harness.servers.server_process import cascade_server
from cascade.benchmarks.harness.stages import graded_stage
from cascade.benchmarks.harness.synthetic_cascade import copy_modules
from cascade.benchmarks.load import ClosedLoop
from cascade.benchmarks.workload import Workload
from cascade.calibration import PolicySet, ScoreTable, calibrate_gears
from cascade.cli.shared.console import console

STAGE_S = (1e-4, 8e-3)
TARGETS = (0.965, 0.94, 0.9)
FLOOR = TARGETS[-1]
OBJECTIVE_MS = 500.0
CALIBRATION_ROWS, SENT_ROWS = 20_000, 4_000
GEARS = {"floor_accuracy": FLOOR, "step_down_wait_ms": 80.0, "step_up_wait_ms": 50.0}
SERVING: dict[str, Any] = {"max_batch_rows": 4, "max_queue_rows": 1024}
USUAL, BURST = 0.5, 3.0
CONNECTIONS, MOST_UNDER_WAY = 64, 10_000
BACK_WITHIN_S = 30.0
LEAST_SECONDS_WITHIN = 0.99
TIMEOUT_S = 10 * OBJECTIVE_MS / 1e3
WINDOW_S = 5
"""Accuracy is measured in windows of so many seconds."""
CHANCE = 1e-4
"""A window is below the floor if so few right answers have at most this probability at the floor."""


def write_cascade(folder: Path) -> None:
    """Writes two configurations, modules and the policy set, certified on rows that are not sent."""
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
        "errors": dict(trace.errors),
        "seconds": len(seconds),
        "seconds_within_objective": float((p99 <= OBJECTIVE_MS).mean()),
        "p99_ms": np.quantile(latency, 0.99, method="lower"),
        "p50_ms": np.quantile(latency, 0.5, method="lower"),
        "accuracy": float(right[answered].mean()),
        "accuracy_by_gear": {str(k): float(right[gear == k].mean()) for k in np.unique(gear[answered]).tolist()},
        "least_window_accuracy": min(good / count for good, count in windows),
        "windows_below_floor": sum(bool(binom.cdf(good, count, FLOOR) < CHANCE) for good, count in windows),
        "share_by_gear": {str(k): float((gear[answered] == k).mean()) for k in np.unique(gear[answered]).tolist()},
        "back_after_s": float(later.max() - burst_ends) if len(later) else 0.0,
        "timeline": {
            "second": seconds,
            "p99_ms": p99,
            "arrivals": [int((second == each).sum()) for each in seconds],
            "refused": [int((~answered & (second == each)).sum()) for each in seconds],
            "mean_gear": [_mean(gear[answered & (second == each)]) for each in seconds],
            "accuracy": [_mean(right[answered & (second == each)]) for each in seconds],
        },
    }


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None


def draw(found: Found, path: Path) -> None:
    """Arrivals, p99, gear and accuracy over time, with gears and without."""
    from matplotlib.figure import Figure as Picture

    picture = Picture(figsize=(9, 8), layout="constrained")
    rate, tail, gear, accuracy = picture.subplots(4, 1, sharex=True)
    for name, seen in found["traces"].items():
        line = {key: np.array(values, dtype=float) for key, values in seen["timeline"].items()}
        rate.plot(line["second"], line["arrivals"] - line["refused"], label=f"answered, {name} gears")
        tail.plot(line["second"], np.where(np.isfinite(line["p99_ms"]), line["p99_ms"], np.nan), label=f"{name} gears")
        gear.plot(line["second"], line["mean_gear"], label=f"{name} gears")
        accuracy.plot(line["second"], line["accuracy"], label=f"{name} gears")
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
    picture.savefig(path)


def main(
    burst_seconds: Annotated[float, typer.Option(min=1)] = 60.0,
    before_seconds: Annotated[float, typer.Option(min=1)] = 10.0,
    after_seconds: Annotated[float, typer.Option(min=1)] = 35.0,
) -> Found:
    """Send the trace to a cascade without gears, and to one with them."""
    rows = graded_stage.new_graded_rows(SENT_ROWS, seed=2)
    stages = graded_stage.STAGES
    rate, traces, phases = 0.0, {}, list[tuple[float, float]]()
    with tempfile.TemporaryDirectory() as folder:
        write_cascade(Path(folder))
        gears = PolicySet.load(Path(folder) / "policy.json")
        for kind in ("without", "with"):
            with cascade_server(Path(folder) / f"{kind}.yaml", request_body(rows[:1]), kind) as server:
                if not rate:
                    closed = ClosedLoop(CONNECTIONS, 6.0, warmup_seconds=2)
                    workload = Workload.from_rows(rows, None, 1)
                    rate = run_load(closed, server.address, workload, stages, CONNECTIONS)["requests_per_s"]
                    seconds = (before_seconds, burst_seconds, after_seconds)
                    phases = list(zip(seconds, (USUAL * rate, BURST * rate, USUAL * rate), strict=True))
                    console.print(f"the best gear answers {rate:.0f} requests/s")
                    time.sleep(1)
                target = LeanHttpTarget(server.address, stages, MOST_UNDER_WAY, TIMEOUT_S)
                arrivals = poisson_arrivals(phases)
                trace = asyncio.run(send_trace(target, rows, rows[:, graded_stage.LABEL], arrivals))
            traces[kind] = summary(trace, gears, phases)
            console.print(kind, {key: value for key, value in traces[kind].items() if key != "timeline"})
    measured = {
        "stage_s": STAGE_S,
        "targets": TARGETS,
        "floor": FLOOR,
        "objective_ms": OBJECTIVE_MS,
        "gears": GEARS,
        "serving": SERVING,
        "capacity_per_s": rate,
        "phases": phases,
    }
    return {"measured": measured, "traces": traces}


def figures(found: Found) -> Figures:
    """Of the trace with gears; share of good seconds also without."""
    with_gears, without = found["traces"]["with"], found["traces"]["without"]
    return {
        "share of seconds with p99 within the objective, with gears": Figure(
            with_gears["seconds_within_objective"], LEAST_SECONDS_WITHIN, ">="
        ),
        "the same without gears": Figure(without["seconds_within_objective"]),
        "accuracy": Figure(with_gears["accuracy"], FLOOR, ">="),
        "windows of five seconds with an accuracy below the floor": Figure(with_gears["windows_below_floor"], 0),
        "seconds after the burst until the best gear answers all": Figure(with_gears["back_after_s"], BACK_WITHIN_S),
        "failed requests": Figure(sum(with_gears["errors"].values()), 0),
    }


if __name__ == "__main__":
    run_experiment(main, figures, draw, ROOT / "docs" / "images" / "gears.png")
