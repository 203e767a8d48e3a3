"""One row a request over HTTP: the gateway against the cascade written as the Ray Serve guide suggests.

    python -m cascade.benchmarks.experiments.peers.http_one_row CONFIG --dataset cifar10

Both run at the same time and are loaded by turns, so that what else the machine does hits both. Needs wrk, and the
extra ``bench``.
"""

import json
import signal
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from cascade.benchmarks.harness.experiment import RESULTS, run_experiment, save_result
from cascade.benchmarks.harness.server_process import ServerProcess, free_port
from cascade.benchmarks.harness.server_race import OURS, ServerRace, ratios
from cascade.benchmarks.harness.wrk import Wrk
from cascade.benchmarks.http_target import request_body
from cascade.benchmarks.measurement import spread
from cascade.calibration import Policy
from cascade.cascade import check_models
from cascade.cli.inputs import DatasetOption, RowsOption, load_rows
from cascade.config import CascadeConfig
from cascade.machine.description import describe_machine
from cascade.rows.checks import check_rows

PROBED_ROWS = 200
SEED = 0


def new_servers(
    config: Path, policy: Path, tuned: bool, probe: tuple[bytes, dict[str, str]], folder: Path
) -> list[ServerProcess]:
    """The gateway first, then what it is held against."""
    cascade = [sys.executable, "-c", "from cascade.cli.main import main; main()"]
    guide = [sys.executable, "-m", "cascade.benchmarks.experiments.peers.guide_cascade"]
    common = [str(config), "--policy", str(policy)]
    commands = {OURS: [*cascade, "serve", *common, "--host", "127.0.0.1"], "guide": [*guide, *common]}
    if tuned:
        commands["guide_tuned"] = [*guide, *common, "--tuned"]
    servers = []
    for name, command in commands.items():
        port = free_port()
        url = f"http://127.0.0.1:{port}/predict"
        servers.append(ServerProcess(name, [*command, "--port", str(port)], url, probe, folder / f"{name}.log"))
    return servers


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
    out: Annotated[Path, typer.Option()] = RESULTS / "peers/http_one_row.json",
) -> None:
    """Measure one row a request, the gateway and the guide's version by turns."""
    config = CascadeConfig.load(config_path)
    policy_path = policy_path or config.policy
    policy = check_models(Policy.load(policy_path), config.stages)
    rows = check_rows(load_rows(dataset, "test", rows_file, config.classes)[0], config.rows)
    chosen = np.random.default_rng(SEED).permutation(len(rows))[:bodies]
    parts = [request_body(rows[index : index + 1]) for index in chosen]
    contents, headers = [body for body, _ in parts], parts[0][1]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers are stopped then, too
    with tempfile.TemporaryDirectory() as name:
        servers = new_servers(config_path, policy_path, tuned, parts[0], Path(name))
        wrk = Wrk(contents, headers, Path(name))
        with ServerRace(servers, contents, headers, wrk, Console(stderr=True).print) as race:
            same_answers = race.same_answers_share(PROBED_ROWS)
            numbers = race.run(connections, seconds, repeats)
    result = {
        "schema_version": 1,
        "measured": {
            "config": config.name,
            "policy_version": policy.version,
            "rows_per_request": 1,
            "row_bytes": config.rows.row_bytes,
            "connections": connections,
            "seconds": seconds,
            "data": dataset or (rows_file.name if rows_file else ""),
            "same_answers_share": same_answers,
            "not_measured": race.missing,
        },
        "machine": describe_machine(),
        "gateway_against": ratios(numbers),
        "summary": spread(numbers),
        "repeats": numbers,
    }
    save_result(out, result)
    typer.echo(json.dumps(result["gateway_against"], sort_keys=True))


if __name__ == "__main__":
    run_experiment(main)
