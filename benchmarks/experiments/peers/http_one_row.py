"""How many requests of one row does the gateway answer per second, compared with the Ray Serve guide's way?

    python -m cascade.benchmarks.experiments.peers.http_one_row CONFIG --dataset cifar10

Both serve the same cascade. They run at the same time and are loaded by turns, so that any other load on the machine
affects both. Needs wrk, and the extra ``bench``.
"""

import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from cascade.benchmarks.analysis.intervals import spread
from cascade.benchmarks.harness.experiment import Figure, Figures, Found, run_experiment
from cascade.benchmarks.harness.servers.server_process import ServerProcess
from cascade.benchmarks.harness.servers.server_race import OURS, ServerRace, ratios
from cascade.benchmarks.harness.synthetic_cascade import one_row_requests
from cascade.calibration import Policy
from cascade.cascade import check_models
from cascade.cli.shared.inputs import DatasetOption, RowsOption, load_rows
from cascade.config import CascadeConfig
from cascade.rows.checks import check_rows

PROBED_ROWS = 200
SEED = 0


def main(
    config_path: Annotated[Path, typer.Argument(metavar="CONFIG")],
    policy_path: Annotated[Path | None, typer.Option("--policy")] = None,
    dataset: DatasetOption = None,
    rows_file: RowsOption = None,
    connections: Annotated[int, typer.Option(min=1)] = 64,
    seconds: Annotated[int, typer.Option(min=1)] = 10,
    repeats: Annotated[int, typer.Option(min=1)] = 5,
    bodies: Annotated[int, typer.Option(min=1, help="Different rows that are sent.")] = 1000,
    tuned: Annotated[bool, typer.Option(help="Also the guide's version in throughput mode, behind HAProxy.")] = False,
) -> Found:
    """Measure one row per request, the gateway and the guide's version by turns."""
    config = CascadeConfig.load(config_path)
    policy_path = policy_path or config.policy
    policy = check_models(Policy.load(policy_path), config.stages)
    rows = check_rows(load_rows(dataset, "test", rows_file, config.classes)[0], config.rows)
    requests = one_row_requests(rows[np.random.default_rng(SEED).permutation(len(rows))[:bodies]])
    guide = [sys.executable, "-m", "cascade.benchmarks.experiments.peers.guide_cascade"]
    common = [str(config_path), "--policy", str(policy_path)]
    commands = {
        OURS: [sys.executable, "-m", "cascade", "serve", *common, "--host", "127.0.0.1"],
        "guide": [*guide, *common],
        **({"guide_tuned": [*guide, *common, "--tuned"]} if tuned else {}),
    }
    servers = [ServerProcess(name, command, requests[0]) for name, command in commands.items()]
    with ServerRace(servers, requests) as race:
        same_answers = race.same_answers_share(PROBED_ROWS)
        numbers = race.run(connections, seconds, repeats)
    return {
        "measured": {
            "config": config.name,
            "policy_version": policy.version,
            "row_bytes": config.rows.row_bytes,
            "same_answers_share": same_answers,
            "not_measured": race.missing,
        },
        "gateway_against": ratios(numbers),
        "summary": spread(numbers),
        "repeats": numbers,
    }


def figures(found: Found) -> Figures:
    """Medians over the repeats."""
    return {
        f"requests/s over those of {peer.replace('_', ' ')}": Figure(ratio["requests_per_s_ratio"]["median"])
        for peer, ratio in found["gateway_against"].items()
    }


if __name__ == "__main__":
    run_experiment(main, figures)
