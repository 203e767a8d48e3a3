"""How the threshold search scales: time and peak memory by rows and stages.

    python -m cascade.benchmarks.experiments.statistics.search_scaling

Every case runs alone in a process of its own, so that its peak memory is its own. Times are of the search alone; the
table is made before. NumPy is to use one thread (OMP_NUM_THREADS=1): then "cpu_seconds" is what the search would take
on a machine that does nothing else.
"""

import json
import multiprocessing
import resource
import statistics
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from cascade.benchmarks.harness.experiment import RESULTS, run_experiment, save_result
from cascade.benchmarks.harness.synthetic_tables import FAMILIES, synthetic_table
from cascade.calibration import calibrate, frontier
from cascade.calibration.calibrators import Identity
from cascade.calibration.routing_problem import RoutingProblem
from cascade.machine.description import describe_machine
from cascade.routers import Router

RESULT = RESULTS / "statistics/search_scaling.json"
SEED = 0
DROP = 0.005
CASES = (
    # what, rows, stages, most seconds that are accepted
    ("calibrate", 20_000, 3, None),
    ("calibrate", 20_000, 4, 5.0),
    ("calibrate", 100_000, 3, None),
    ("calibrate", 100_000, 5, None),
    ("calibrate", 1_000_000, 3, 30.0),
    ("frontier", 20_000, 4, None),
    ("frontier", 100_000, 3, None),
    ("frontier", 100_000, 5, 10.0),
    ("frontier", 1_000_000, 2, None),
    ("frontier", 1_000_000, 3, 30.0),
)


def measure(what: str, family: str, rows: int, stages: int) -> dict[str, Any]:
    """Seconds of one search, and the highest memory of the process until its end."""
    table = synthetic_table(family, rows, stages, SEED)
    problem = RoutingProblem.from_table(table, (Router(None, Identity()),) * stages, agreement=False)
    calibrate(synthetic_table(family, 50, stages, SEED), max_accuracy_drop=1.0)  # imports are not measured
    before = peak_bytes()
    start, cpu_start = time.perf_counter(), time.process_time()
    if what == "calibrate":
        policy = calibrate(table, max_accuracy_drop=DROP)
        seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
        gain, cost = problem.value(policy.thresholds)
        found = {"accuracy": gain, "mean_cost": cost}
    else:
        points = frontier(problem)
        seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
        found = {"points": len(points)}
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "peak_bytes": peak_bytes(),
        "peak_bytes_before": before,
    } | found


def peak_bytes() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def alone(*case: Any) -> dict[str, Any]:
    """The same in a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measure, case)


def main(
    repeats: Annotated[int, typer.Option(min=1)] = 3,
    out: Annotated[Path, typer.Option()] = RESULT,
) -> None:
    """Measure the threshold search."""
    results = []
    for what, rows, stages, limit_s in CASES:
        for family in FAMILIES:
            runs = [alone(what, family, rows, stages) for _ in range(repeats if rows < 1_000_000 else 1)]
            seconds = [run["seconds"] for run in runs]
            found = {
                key: value for key, value in runs[0].items() if key not in ("seconds", "cpu_seconds", "peak_bytes")
            }
            results.append(
                {
                    "what": what,
                    "family": family,
                    "rows": rows,
                    "stages": stages,
                    "seconds": {"median": statistics.median(seconds), "min": min(seconds), "max": max(seconds)},
                    "cpu_seconds": statistics.median(run["cpu_seconds"] for run in runs),
                    "peak_bytes": max(run["peak_bytes"] for run in runs),
                    "accepted_s": limit_s,
                    "within": limit_s is None or statistics.median(seconds) <= limit_s,
                }
                | found
            )
            typer.echo(json.dumps(results[-1]))
    result = {
        "schema_version": 1,
        "measured": {"max_accuracy_drop": DROP, "seed": SEED, "repeats_below_a_million_rows": repeats},
        "machine": describe_machine(),
        "cases": results,
    }
    save_result(out, result)


if __name__ == "__main__":
    run_experiment(main)
