"""What one call from a segment to the next costs, by the size of its array, by value and by reference.

    python -m cascade.benchmarks.experiments.serving.hop_cost

Starts a Ray of its own for each kind of call: Ray's own actor calls, where a large argument goes through the object
store anyway, and gRPC (``RAY_SERVE_USE_GRPC_BY_DEFAULT=1``), where messages end at 4 MB.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from cascade.benchmarks.harness.experiment import RESULTS, run_experiment, save_result

RESULT = RESULTS / "serving/hop_cost.json"
SIZES = (3_000, 100_000, 400_000, 1_000_000, 2_000_000, 3_500_000, 8_000_000)
MODES = {"actor_calls": "0", "grpc": "1"}


class Echo:
    """Stands for the next segment: a few numbers come back."""

    async def run(self, rows: np.ndarray) -> np.ndarray:
        return np.zeros(len(rows))


class Caller:
    """Stands for a gateway."""

    def __init__(self, following: Any) -> None:
        self._runs = {
            kind: following.options(method_name="run", _by_reference=kind == "by_reference")
            for kind in ("by_value", "by_reference")
        }

    async def measure(self, size: int, kind: str, repeats: int) -> list[float]:
        """Milliseconds of each call."""
        rows, seconds = np.zeros((64, size // 64), dtype=np.uint8), []
        for _ in range(repeats):
            start = time.perf_counter()
            await self._runs[kind].remote(rows)
            seconds.append(time.perf_counter() - start)
        return [1000 * each for each in seconds]


def measure_here(repeats: int) -> list[dict[str, Any]]:
    """In this process's mode, sizes and kinds by turns."""
    import ray
    from ray import serve

    ray.init(address="local", num_cpus=2, include_dashboard=False, object_store_memory=256 << 20, log_to_driver=False)
    serve.start(proxy_location="Disabled")
    callee = serve.deployment(name="echo")(Echo).bind()
    handle = serve.run(serve.deployment(name="caller")(Caller).bind(callee), route_prefix=None)
    found = []
    for size in SIZES:
        times: dict[str, list[float]] = {"by_value": [], "by_reference": []}
        for turn in range(6):
            for kind, measured in times.items():
                try:
                    new = handle.measure.remote(size, kind, repeats).result(timeout_s=120)
                except Exception:  # beyond gRPC's limit
                    new = []
                measured += new if turn else []
        found += [
            {"bytes": size, "kind": kind, "median_ms": float(np.median(times[kind])), "calls": len(times[kind])}
            for kind in times
            if times[kind]
        ]
    serve.shutdown()
    ray.shutdown()
    return found


def main(
    repeats: Annotated[int, typer.Option(min=1)] = 10,
    out: Annotated[Path, typer.Option()] = RESULT,
    here: Annotated[bool, typer.Option(help="Measure in this process only, print JSON.")] = False,
) -> None:
    """Measure both modes, each in a process of its own."""
    if here:
        typer.echo(json.dumps(measure_here(repeats)))
        return
    from cascade.machine.description import describe_machine

    result: dict[str, Any] = {"schema_version": 1, "machine": describe_machine(), "modes": {}}
    for mode, value in MODES.items():
        environment = os.environ | {"RAY_SERVE_USE_GRPC_BY_DEFAULT": value, "RAY_USAGE_STATS_ENABLED": "0"}
        command = [
            sys.executable,
            "-m",
            "cascade.benchmarks.experiments.serving.hop_cost",
            "--here",
            "--repeats",
            str(repeats),
        ]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        result["modes"][mode] = json.loads(done.stdout.splitlines()[-1])
    save_result(out, result)
    for mode, lines in result["modes"].items():
        for line in lines:
            typer.echo(f"{mode:12} {line['bytes']:>9} bytes {line['kind']:13} {line['median_ms']:7.2f} ms")


if __name__ == "__main__":
    run_experiment(main)
