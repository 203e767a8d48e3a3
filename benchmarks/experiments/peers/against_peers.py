"""One row a request over HTTP: the gateway against mosec, LitServe and two cascades written for Ray Serve by hand.

    python -m cascade.benchmarks.experiments.peers.against_peers \\
        --mosec-python mosec/bin/python --litserve-python litserve/bin/python

All serve the same two stages of 20 and 200 microseconds of processor time a row on rows of 3 kB, of which each fifth is
forwarded. The gateway is arranged as ``cascade plan`` has it for stages that cost less than a call to another process:
both in every gateway, a gateway a processor. Beside it the arrangement with the second stage in a process of its own
(``two_segments``), and mosec in both ways. Peers live in environments of their own: ``python -m venv mosec``, then
``mosec/bin/pip install "mosec==0.9.*" numpy orjson``, likewise ``"litserve==0.2.*"``; one that is not given is not
measured. A peer may have several batch sizes, and the gateway is held against the best of them. Needs wrk, and the
extra ``bench``.
"""

import json
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console

from cascade.benchmarks.harness.experiment import RESULTS, run_experiment, save_result
from cascade.benchmarks.harness.server_process import ServerProcess, free_port
from cascade.benchmarks.harness.server_race import OURS, ServerRace, ratios
from cascade.benchmarks.harness.stages import busy_stage
from cascade.benchmarks.harness.synthetic_cascade import (
    FUSED,
    PROCESSORS,
    STAGE_S,
    STAGES,
    calibrated_rounds,
    write_cascade,
)
from cascade.benchmarks.harness.wrk import Wrk
from cascade.benchmarks.http_target import request_body
from cascade.benchmarks.measurement import spread
from cascade.errors import CascadeError
from cascade.machine.description import describe_machine

HERE = Path(__file__).resolve().parent
STAGES_PATH = {"PYTHONPATH": os.pathsep.join([str(STAGES), *filter(None, [os.environ.get("PYTHONPATH")])])}
"""Peers import the stages of this project by their file name alone."""
ROWS = 1000
PROBED_ROWS = 200
TARGETS = {"mosec": 1.0, "guide_tuned": 10.0, "guide": 50.0}
"""Requests/s of the gateway over those of a peer, at least."""


def new_commands(
    config: Path,
    two_segments: Path,
    rounds: Sequence[int],
    mosec: Path | None,
    mosec_batch: Sequence[str],
    litserve: Path | None,
    guide: bool,
) -> dict[str, list[str]]:
    """By server name, its command without the port; variants of a peer have a name with a space."""
    rounds_text = ",".join(map(str, rounds))
    cascade = [sys.executable, "-c", "from cascade.cli.main import main; main()"]
    commands = {
        name: [*cascade, "serve", str(path), "--host", "127.0.0.1"]
        for name, path in ((OURS, config), ("two_segments", two_segments))
    }
    if mosec is not None:
        script = [str(mosec), str(HERE / "mosec_cascade.py"), "--rounds", rounds_text, "--address", "127.0.0.1"]
        commands |= {f"mosec {batch}": [*script, "--batch", batch] for batch in mosec_batch}
        fused = [*script, "--fused", str(PROCESSORS)]
        commands |= {f"mosec_fused {batch}": [*fused, "--batch", batch] for batch in mosec_batch}
    if litserve is not None:
        commands["litserve"] = [str(litserve), str(HERE / "litserve_cascade.py"), "--rounds", rounds_text]
    if guide:
        by_hand = [sys.executable, "-m", "cascade.benchmarks.experiments.peers.guide_cascade", str(config)]
        commands |= {"guide_tuned": [*by_hand, "--tuned"], "guide": by_hand}
    return commands


def new_folder(parent: str, name: str) -> Path:
    """A folder in another one."""
    folder = Path(parent) / name
    folder.mkdir()
    return folder


def new_servers(
    commands: dict[str, list[str]], probe: tuple[bytes, dict[str, str]], folder: Path
) -> list[ServerProcess]:
    """A server a command, each on a port of its own."""
    servers = []
    for name, command in commands.items():
        port = free_port()
        url = f"http://127.0.0.1:{port}/predict"
        log = folder / f"{name.replace(' ', '_')}.log"
        servers.append(ServerProcess(name, [*command, "--port", str(port)], url, probe, log, STAGES_PATH))
    return servers


def against_best(repeats: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """By peer, the gateway's figures over those of the peer's fastest variant, and whether the target is reached."""
    found: dict[str, Any] = {}
    for name, ratio in ratios(repeats).items():
        peer = name.partition(" ")[0]
        speed = ratio["requests_per_s_ratio"]["median"]
        if peer not in found or speed < found[peer]["requests_per_s_ratio"]["median"]:
            target = TARGETS.get(peer)
            found[peer] = ratio | {"variant": name, "target": target, "reached": target is None or speed >= target}
    return found


def main(
    mosec_python: Annotated[Path | None, typer.Option(help="Python of an environment with mosec.")] = None,
    mosec_batch: Annotated[list[str], typer.Option(help="Rows a batch of both workers; may be repeated.")] = [  # noqa: B006
        "16,16",
        "32,32",
        "64,64",
    ],
    litserve_python: Annotated[Path | None, typer.Option(help="Python of an environment with LitServe.")] = None,
    guide: Annotated[bool, typer.Option(help="Also the Ray Serve guide's version, plain and tuned.")] = True,
    connections: Annotated[list[int], typer.Option(min=1)] = [64, 128],  # noqa: B006
    seconds: Annotated[int, typer.Option(min=1)] = 8,
    repeats: Annotated[int, typer.Option(min=1)] = 5,
    out: Annotated[Path, typer.Option()] = RESULTS / "peers/against_peers.json",
) -> None:
    """Measure one row a request, all servers by turns."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers are stopped then, too
    say = Console(stderr=True).print
    rounds = calibrated_rounds()
    # In the order of a shuffle, so that the first ones, which are compared, are like all.
    rows = busy_stage.new_rows(ROWS)[np.random.default_rng(1).permutation(ROWS)]
    parts = [request_body(rows[index : index + 1]) for index in range(ROWS)]
    bodies, headers = [body for body, _ in parts], parts[0][1]
    with tempfile.TemporaryDirectory() as name:
        config = write_cascade(new_folder(name, "fused"), rounds, serving=FUSED)
        two_segments = write_cascade(new_folder(name, "two_segments"), rounds)
        commands = new_commands(config, two_segments, rounds, mosec_python, mosec_batch, litserve_python, guide)
        servers = new_servers(commands, parts[0], Path(name))
        with ServerRace(servers, bodies, headers, Wrk(bodies, headers, Path(name)), say) as race:
            same_answers = race.same_answers_share(PROBED_ROWS)
            numbers = {str(count): race.run(count, seconds, repeats) for count in connections}
    measured = {server.name.partition(" ")[0] for server in race.servers}
    result = {
        "schema_version": 1,
        "measured": {
            "stage_us_per_row": [seconds * 1e6 for seconds in STAGE_S],
            "forwarded_share": 1 / busy_stage.FORWARDED_EVERY,
            "rows_per_request": 1,
            "row_bytes": rows[0].nbytes,
            "seconds": seconds,
            "same_answers_share": same_answers,
            "not_measured": sorted({"mosec", "litserve", "guide", "guide_tuned"} - measured),
        },
        "machine": describe_machine(),
        "gateway_against": {count: against_best(seen) for count, seen in numbers.items()},
        "summary": {count: spread(seen) for count, seen in numbers.items()},
        "repeats": numbers,
    }
    save_result(out, result)
    typer.echo(json.dumps(result["gateway_against"], sort_keys=True))
    if any(share < 1 for share in same_answers.values()):
        raise CascadeError(f"not all servers answer alike: {same_answers}")


if __name__ == "__main__":
    run_experiment(main)
