"""Quick batches in the event loop against all batches in a thread: the same cascade served both ways, in turn.

    python -m cascade.benchmarks.experiments.serving.inline_batches

The synthetic cascade of ``against_peers.py``, one row a request. Of each pair: the ratio of the requests a second that
a closed loop gets, and the ratios of the median and of the 99th percentile of the latency in an open loop at half and
at 70 % of what the closed loop got from threads. Needs the extra ``dev``.
"""

import json
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console

from cascade.benchmarks.experiments.serving.poisson import CONNECTIONS, OPEN_CONNECTIONS, measure
from cascade.benchmarks.harness.experiment import RESULTS, run_experiment, save_result
from cascade.benchmarks.harness.server_process import CASCADE_IS_UP, ServerProcess, free_port
from cascade.benchmarks.harness.stages import busy_stage
from cascade.benchmarks.harness.synthetic_cascade import FUSED, calibrated_rounds, write_cascade
from cascade.benchmarks.http_target import request_body
from cascade.benchmarks.load import ClosedLoop, OpenLoop
from cascade.benchmarks.workload import Workload
from cascade.machine.description import describe_machine

RESULT = RESULTS / "serving/inline_batches.json"
MODES = {"thread": 0.0, "inline": 2.0}
"""Of ``serving.max_inline_ms``."""
SHARES = (0.5, 0.7)


def one_way(rounds: Sequence[int], max_inline_ms: float, rates: Sequence[float], seconds: float) -> dict[str, Any]:
    """Serves the cascade and loads it; without rates, at shares of what it can do."""
    workload = Workload.from_rows(busy_stage.new_rows(1000), None, 1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = write_cascade(folder, rounds, serving=FUSED | {"max_inline_ms": max_inline_ms})
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "cascade", "serve", str(path), "--port", str(port)]
        probe = request_body(workload.batches[0].rows)
        with ServerProcess("gateway", command, f"{url}/predict", probe, folder / "log", up=CASCADE_IS_UP):
            closed = ClosedLoop(CONNECTIONS, seconds, warmup_seconds=2.0)
            capacity = measure(closed, url, workload, busy_stage.STAGES, CONNECTIONS)["requests_per_s"]
            rates = rates or [share * capacity for share in SHARES]
            open_loops = [
                measure(OpenLoop(rate, seconds, 1.0), url, workload, busy_stage.STAGES, OPEN_CONNECTIONS)["latency_ms"]
                for rate in rates
            ]
    return {"requests_per_s": capacity, "rates_per_s": list(rates), "latency_ms": open_loops}


def ratios(thread: dict[str, Any], inline: dict[str, Any]) -> dict[str, float]:
    """Inline over thread."""
    found = {"requests_per_s": inline["requests_per_s"] / thread["requests_per_s"]}
    for share, before, now in zip(SHARES, thread["latency_ms"], inline["latency_ms"], strict=True):
        found |= {f"{name}_at_{share:.0%}": now[name] / before[name] for name in ("p50", "p99")}
    return found


def main(
    seconds: Annotated[float, typer.Option(min=0.1, help="Of each load.")] = 6.0,
    repeats: Annotated[int, typer.Option(min=1, help="Pairs.")] = 4,
    out: Annotated[Path, typer.Option()] = RESULT,
) -> None:
    """Measure in turn."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the server is stopped then, too
    rounds, pairs = calibrated_rounds(), []
    for _ in range(repeats):
        thread = one_way(rounds, MODES["thread"], (), seconds)
        pair = {"thread": thread, "inline": one_way(rounds, MODES["inline"], thread["rates_per_s"], seconds)}
        pairs.append(pair | {"ratios": ratios(**pair)})
        Console(stderr=True).print(pairs[-1]["ratios"])
    columns = {name: [pair["ratios"][name] for pair in pairs] for name in pairs[0]["ratios"]}
    summary = {
        name: {"median": float(np.median(values)), "least": min(values), "most": max(values)}
        for name, values in columns.items()
    }
    result = {"schema_version": 1, "seconds": seconds, "machine": describe_machine(), "pairs": pairs}
    save_result(out, result | {"inline_over_thread": summary})
    typer.echo(json.dumps(summary))


if __name__ == "__main__":
    run_experiment(main)
