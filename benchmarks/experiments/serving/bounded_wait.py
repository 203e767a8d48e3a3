"""Does it help to let a free segment wait for more rows? A simulation: one row a request, Poisson arrivals.

    python -m cascade.benchmarks.experiments.serving.bounded_wait

A batch of n rows takes fixed + n * each. "No wait" takes what is there; "wait w" begins once a batch is full or its
oldest row has waited for w. Every policy sees the same arrivals, and is held against no wait.
"""

from pathlib import Path

import numpy as np
import typer

from cascade.benchmarks.harness.experiment import RESULTS, run_experiment, save_result

RESULT = RESULTS / "serving/bounded_wait.json"
BATCH_ROWS, REQUESTS, SEED = 64, 200_000, 0
STAGES_MS = {"cheap stage": (0.5, 0.02), "dear stage": (2.0, 0.2), "accelerator": (5.0, 0.005)}
LOADS = (0.05, 0.2, 0.5, 0.8, 0.95)
WAITS_MS = (0.5, 2.0, 5.0)


def latencies(arrival: np.ndarray, fixed: float, each: float, wait: float) -> np.ndarray:
    """(n,) milliseconds from arrival to answer."""
    found, free, first, n = np.empty(len(arrival)), 0.0, 0, len(arrival)
    while first < n:
        full = arrival[first + BATCH_ROWS - 1] if first + BATCH_ROWS <= n else np.inf
        begin = max(free, arrival[first], min(full, arrival[first] + wait))
        last = min(int(np.searchsorted(arrival, begin, side="right")), first + BATCH_ROWS)
        free = begin + fixed + each * (last - first)
        found[first:last] = free - arrival[first:last]
        first = last
    return found


def main(out: Path = RESULT) -> None:
    """Simulate, write the ratios to no wait."""
    lines = []
    for stage, (fixed, each) in STAGES_MS.items():
        capacity = BATCH_ROWS / (fixed + each * BATCH_ROWS)  # rows a millisecond, in full batches
        for load in LOADS:
            gaps = np.random.default_rng(SEED).exponential(1 / (load * capacity), REQUESTS)
            arrival = np.cumsum(gaps)
            base = latencies(arrival, fixed, each, 0.0)
            for wait in WAITS_MS:
                waited = latencies(arrival, fixed, each, wait)
                ratio = {"mean_ratio": waited.mean() / base.mean()}
                ratio["p99_ratio"] = float(np.quantile(waited, 0.99) / np.quantile(base, 0.99))
                setting = {"stage": stage, "load": load, "wait_ms": wait, "mean_ms_without": base.mean()}
                lines.append(
                    {name: round(v, 4) if isinstance(v, float) else v for name, v in (setting | ratio).items()}
                )
    best = min(lines, key=lambda line: line["mean_ratio"])
    result = {"schema_version": 1, "batch_rows": BATCH_ROWS, "requests": REQUESTS, "best": best, "settings": lines}
    save_result(out, result)
    for line in lines:
        typer.echo(" ".join(f"{value}" for value in line.values()))


if __name__ == "__main__":
    run_experiment(main)
