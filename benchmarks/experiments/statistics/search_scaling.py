"""How do time and peak memory of the threshold search grow with rows and stages?

    python -m cascade.benchmarks.experiments.statistics.search_scaling

Every case runs alone in a process of its own, so that its peak memory is its own. Times are of the search alone; the
table is made before. NumPy should use one thread (OMP_NUM_THREADS=1): then "cpu_seconds" is the time of the search on
an idle machine.
"""

import itertools
import multiprocessing
import resource
import statistics
import time
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from cascade.benchmarks.analysis.intervals import spread
from cascade.benchmarks.harness.experiment import Figure, Figures, Found, run_experiment
from cascade.benchmarks.harness.synthetic_tables import FAMILIES, synthetic_table
from cascade.calibration import calibrate, frontier
from cascade.calibration.calibrators import Identity
from cascade.calibration.routing_problem import RoutingProblem
from cascade.cli.shared.console import console
from cascade.routers import Router

SEED = 0
DROP = 0.005
CASES = (
    # search, rows, stages, most seconds
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
    """Highest resident memory of this process so far."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def alone(*case: Any) -> dict[str, Any]:
    """The same in a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measure, case)


def main(repeats: Annotated[int, typer.Option(min=1)] = 3) -> Iterator[Found]:
    """Measure the threshold search."""
    cases: list[dict[str, Any]] = []
    for (what, rows, stages, limit_s), family in itertools.product(CASES, FAMILIES):
        runs = [alone(what, family, rows, stages) for _ in range(repeats if rows < 1_000_000 else 1)]
        times = {name: [run.pop(name) for run in runs] for name in ("seconds", "cpu_seconds", "peak_bytes")}
        case = {"what": what, "family": family, "rows": rows, "stages": stages, "accepted_s": limit_s}
        case["seconds"] = spread([{"s": each} for each in times["seconds"]])["s"]
        case["cpu_seconds"] = statistics.median(times["cpu_seconds"])
        case["peak_bytes"] = max(times["peak_bytes"])
        cases.append(case | runs[0])
        console.print(cases[-1])
        yield {"max_accuracy_drop": DROP, "seed": SEED, "cases": cases}


def figures(found: Found) -> Figures:
    """The slowest family of each search."""
    slowest: dict[tuple[str, int, int], tuple[float, float | None]] = {}
    for case in found["cases"]:
        key = case["what"], case["rows"], case["stages"]
        seconds = max(case["seconds"]["median"], slowest.get(key, (0.0, None))[0])
        slowest[key] = seconds, case["accepted_s"]
    return {
        f"seconds of {what}, {rows:,} rows and {stages} stages": Figure(*seconds)
        for (what, rows, stages), seconds in slowest.items()
    }


if __name__ == "__main__":
    run_experiment(main, figures)
