"""Is this version as quick and as small as an earlier one, served?

    git worktree add ../before COMMIT
    python -m cascade.benchmarks.experiments.serving.two_versions --before ../before

The synthetic cascade in this version and in the one of another work tree. Start-up and memory: each is started alone,
by turns. Throughput and processor time per request: both run, and wrk loads them by turns, one row per request. Needs
wrk, and the extra ``bench``.
"""

import os
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import psutil
import typer

from cascade.benchmarks.harness.experiment import Figure, Figures, Found, run_experiment
from cascade.benchmarks.harness.results.result_file import ROOT, commit
from cascade.benchmarks.harness.servers.server_process import ServerProcess, cascade_server
from cascade.benchmarks.harness.servers.server_race import OURS, ServerRace, ratios
from cascade.benchmarks.harness.synthetic_cascade import (
    FUSED,
    calibrated_rounds,
    one_row_requests,
    shuffled_rows,
    write_cascade,
)

CONNECTIONS = 64
SETTLE_S = 2.0
BEFORE = "before"


def started(server: ServerProcess) -> dict[str, float]:
    """Seconds until a server answers, and the memory that its gateways do not share, MiB per gateway."""
    begin = time.perf_counter()
    with server:
        seconds = time.perf_counter() - begin
        time.sleep(SETTLE_S)
        gateways = [process for process in server.family() if "gateway" in " ".join(process.cmdline())]
        return {"start_s": seconds, "gateway_mib": float(np.mean([_own_mib(process) for process in gateways]))}


def _own_mib(process: psutil.Process) -> float:
    return float(process.memory_full_info().uss) / 2**20


def main(
    before: Annotated[Path, typer.Option(exists=True, file_okay=False, help="Work tree of the earlier version.")],
    starts: Annotated[int, typer.Option(min=1, help="Starts of each version.")] = 4,
    seconds: Annotated[int, typer.Option(min=1, help="Of each load.")] = 5,
    repeats: Annotated[int, typer.Option(min=1, help="Loads of each version.")] = 10,
) -> Found:
    """Start and load both versions, by turns."""
    rounds, requests = calibrated_rounds(), one_row_requests(shuffled_rows())
    trees = {OURS: ROOT, BEFORE: before.resolve()}
    with tempfile.TemporaryDirectory() as folder:
        config = write_cascade(Path(folder), rounds, serving=FUSED)

        def servers() -> list[ServerProcess]:
            paths = {
                name: os.pathsep.join([str(tree), os.environ.get("PYTHONPATH", "")]) for name, tree in trees.items()
            }
            return [cascade_server(config, requests[0], name, {"PYTHONPATH": path}) for name, path in paths.items()]

        begun = [{server.name: started(server) for server in servers()} for _ in range(starts)]
        with ServerRace(servers(), requests) as race:
            if race.missing:
                raise typer.BadParameter(f"the version of {before} does not start")
            loads = race.run(CONNECTIONS, seconds, repeats)
    return {
        "commits": {name: commit(tree) for name, tree in trees.items()},
        "starts": begun,
        "loads": loads,
        "over_before": ratios(loads)[BEFORE],
    }


def figures(found: Found) -> Figures:
    """Medians, this version over the earlier one."""

    def of_starts(key: str) -> float:
        return _median([each[OURS][key] for each in found["starts"]]) / _median(
            [each[BEFORE][key] for each in found["starts"]]
        )

    ratio: dict[str, Any] = found["over_before"]
    return {
        "start-up time over that before": Figure(of_starts("start_s"), 1.1),
        "memory per gateway over that before": Figure(of_starts("gateway_mib"), 1.05),
        "requests per second over those before": Figure(ratio["requests_per_s_ratio"]["median"], 0.95, ">="),
        "processor time per request over that before": Figure(ratio["processor_ratio"]["median"], 1.05),
    }


def _median(values: list[float]) -> float:
    return float(np.median(values))


if __name__ == "__main__":
    run_experiment(main, figures)
