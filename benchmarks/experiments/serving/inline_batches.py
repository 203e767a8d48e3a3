"""What do quick batches in the event loop gain, compared with all batches in a thread?

    python -m cascade.benchmarks.experiments.serving.inline_batches

The synthetic cascade, one row per request, served both ways in turn. Of each pair: the ratio of the requests per second
in a closed loop, and the ratios of the median and of the 99th percentile of the latency in an open loop at half and at
70 % of the closed loop's rate with threads. Needs the extra ``dev``.
"""

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from cascade.benchmarks.analysis.intervals import spread
from cascade.benchmarks.harness.clients.lean_load import run_load
from cascade.benchmarks.harness.experiment import Figure, Figures, Found, run_experiment
from cascade.benchmarks.harness.stages import busy_stage
from cascade.benchmarks.harness.synthetic_cascade import FUSED, calibrated_rounds, served_synthetic
from cascade.benchmarks.load import ClosedLoop, OpenLoop
from cascade.benchmarks.workload import Workload
from cascade.cli.shared.console import console

CONNECTIONS, OPEN_CONNECTIONS = 64, 1024
MODES = {"thread": 0.0, "inline": 2.0}
"""Values of ``serving.max_inline_ms``."""
SHARES = (0.5, 0.7)


def one_way(rounds: Sequence[int], max_inline_ms: float, rates: Sequence[float], seconds: float) -> dict[str, Any]:
    """Serves the cascade and loads it; without rates, at shares of its capacity."""
    workload = Workload.from_rows(busy_stage.new_rows(1000), None, 1)
    stages = busy_stage.STAGES
    with served_synthetic(rounds, FUSED | {"max_inline_ms": max_inline_ms}) as server:
        closed = ClosedLoop(CONNECTIONS, seconds, warmup_seconds=2.0)
        capacity = run_load(closed, server.address, workload, stages, CONNECTIONS)["requests_per_s"]
        rates = rates or [share * capacity for share in SHARES]
        open_loops = [
            run_load(OpenLoop(rate, seconds, 1.0), server.address, workload, stages, OPEN_CONNECTIONS) for rate in rates
        ]
    latency = [seen["latency_ms"] for seen in open_loops]
    return {"requests_per_s": capacity, "rates_per_s": list(rates), "latency_ms": latency}


def ratios(thread: dict[str, Any], inline: dict[str, Any]) -> dict[str, float]:
    """Inline over thread."""
    found = {"requests_per_s": inline["requests_per_s"] / thread["requests_per_s"]}
    for share, before, now in zip(SHARES, thread["latency_ms"], inline["latency_ms"], strict=True):
        found |= {f"{name}_at_{share:.0%}": now[name] / before[name] for name in ("p50", "p99")}
    return found


def main(
    seconds: Annotated[float, typer.Option(min=0.1, help="Of each load.")] = 6.0,
    repeats: Annotated[int, typer.Option(min=1, help="Pairs.")] = 4,
) -> Found:
    """Measure in turn."""
    rounds, pairs = calibrated_rounds(), []
    for _ in range(repeats):
        thread = one_way(rounds, MODES["thread"], (), seconds)
        pair = {"thread": thread, "inline": one_way(rounds, MODES["inline"], thread["rates_per_s"], seconds)}
        pairs.append(pair | {"ratios": ratios(**pair)})
        console.print(pairs[-1]["ratios"])
    return {"pairs": pairs, "inline_over_thread": spread([pair["ratios"] for pair in pairs])}


def figures(found: Found) -> Figures:
    """Medians over the pairs."""
    return {
        f"{name.replace('_', ' ')}, inline over thread": Figure(ratio["median"])
        for name, ratio in found["inline_over_thread"].items()
    }


if __name__ == "__main__":
    run_experiment(main, figures)
