"""Does it help to let a free segment wait for more rows? A simulation.

    python -m cascade.benchmarks.experiments.serving.bounded_wait

Requests of one row arrive at random moments (a Poisson process). A batch of n rows takes fixed + n * each. "No wait"
takes the rows that are there; "wait w" begins once a batch is full or its oldest row has waited for w. Every policy
gets the same arrivals, and is compared with no wait.
"""

import numpy as np

from cascade.benchmarks.harness.experiment import Figure, Figures, Found, run_experiment

BATCH_ROWS, REQUESTS, SEED = 64, 200_000, 0
STAGES_MS = {"cheap stage": (0.5, 0.02), "expensive stage": (2.0, 0.2), "accelerator": (5.0, 0.005)}
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


def main() -> Found:
    """Simulate."""
    settings = []
    for stage, (fixed, each) in STAGES_MS.items():
        capacity = BATCH_ROWS / (fixed + each * BATCH_ROWS)  # rows per millisecond, in full batches
        for load in LOADS:
            gaps = np.random.default_rng(SEED).exponential(1 / (load * capacity), REQUESTS)
            arrival = np.cumsum(gaps)
            base = latencies(arrival, fixed, each, 0.0)
            for wait in WAITS_MS:
                waited = latencies(arrival, fixed, each, wait)
                numbers = {
                    "mean_ms_without": base.mean(),
                    "mean_ratio": waited.mean() / base.mean(),
                    "p99_ratio": np.quantile(waited, 0.99) / np.quantile(base, 0.99),
                }
                rounded = {name: round(float(value), 4) for name, value in numbers.items()}
                settings.append({"stage": stage, "load": load, "wait_ms": wait} | rounded)
    return {"batch_rows": BATCH_ROWS, "requests": REQUESTS, "settings": settings}


def figures(found: Found) -> Figures:
    """Of the mean latency with a wait over that without."""
    ratios = [setting["mean_ratio"] for setting in found["settings"]]
    return {
        "least ratio of mean latencies, with a wait over without": Figure(min(ratios)),
        "highest ratio": Figure(max(ratios)),
    }


if __name__ == "__main__":
    run_experiment(main, figures)
