"""How much time does one call from a segment to the next take, by the size of its array, by value and by reference?

    python -m cascade.benchmarks.experiments.serving.hop_cost

Starts a Ray of its own for each kind of call: Ray's own actor calls, where a large argument goes through the object
store anyway, and gRPC (``RAY_SERVE_USE_GRPC_BY_DEFAULT=1``), where messages end at 4 MB.
"""

import json
import os
import subprocess
import sys
import time
from typing import Annotated, Any

import numpy as np
import typer

from cascade.benchmarks.harness.experiment import Figure, Figures, Found, run_experiment

SIZES = (3_000, 100_000, 400_000, 1_000_000, 2_000_000, 3_500_000, 8_000_000)
MODES = {"actor_calls": "0", "grpc": "1"}
ONE_MODE = "from cascade.benchmarks.experiments.serving.hop_cost import print_times; print_times({repeats})"


class Echo:
    """Takes the place of the next segment: a few numbers come back."""

    async def run(self, rows: np.ndarray) -> np.ndarray:
        """(n, ...) -> (n,)."""
        return np.zeros(len(rows))


class Caller:
    """Takes the place of a gateway."""

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


def print_times(repeats: int) -> None:
    """Measures in this process's mode, sizes and kinds by turns, and prints JSON."""
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
    serve.shutdown()  # type: ignore[no-untyped-call]
    ray.shutdown()
    typer.echo(json.dumps(found))


def main(repeats: Annotated[int, typer.Option(min=1)] = 10) -> Found:
    """Measure both modes, each in a process of its own."""
    modes = {}
    for mode, value in MODES.items():
        environment = os.environ | {"RAY_SERVE_USE_GRPC_BY_DEFAULT": value, "RAY_USAGE_STATS_ENABLED": "0"}
        command = [sys.executable, "-c", ONE_MODE.format(repeats=repeats)]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        modes[mode] = json.loads(done.stdout.splitlines()[-1])
    return {"modes": modes}


def figures(found: Found) -> Figures:
    """Medians of the smallest and of a large array."""
    return {
        f"{mode.replace('_', ' ')}, {line['bytes']:,} bytes {line['kind'].replace('_', ' ')}, ms": Figure(
            line["median_ms"]
        )
        for mode, lines in found["modes"].items()
        for line in lines
        if line["bytes"] in (SIZES[0], SIZES[3])
    }


if __name__ == "__main__":
    run_experiment(main, figures)
