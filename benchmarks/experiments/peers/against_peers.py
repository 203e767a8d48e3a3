r"""How many requests of one row does the gateway answer per second, compared with other servers of the same cascade?

    python -m cascade.benchmarks.experiments.peers.against_peers \
        --mosec-python mosec/bin/python --litserve-python litserve/bin/python --bentoml-python bentoml/bin/python

mosec, LitServe, BentoML and two cascades written by hand for Ray Serve. All serve the same two stages of 20 and 200
microseconds of processor time per row on rows of 3 kB, of which every fifth is deferred. The gateway has the
arrangement of ``cascade plan`` for stages that cost less than a call to another process: both in every gateway, a
gateway per processor. Beside it the arrangement with the second stage in a process of its own (``two_segments``), and
mosec in both ways. Peers have environments of their own: ``python -m venv mosec``, then ``mosec/bin/pip install
"mosec==0.9.*" numpy orjson``, likewise ``"litserve==0.2.*"`` and ``"bentoml==1.4.*"``; one that is not given is not
measured. A peer may have several batch sizes, and the gateway is compared with the fastest of them. Needs wrk, and the
extra ``bench``.
"""

import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from cascade.benchmarks.analysis.intervals import spread
from cascade.benchmarks.harness.experiment import Figure, Figures, Found, run_experiment
from cascade.benchmarks.harness.servers.server_process import ServerProcess
from cascade.benchmarks.harness.servers.server_race import OURS, ServerRace, ratios
from cascade.benchmarks.harness.stages import busy_stage
from cascade.benchmarks.harness.synthetic_cascade import (
    FUSED,
    PROCESSORS,
    STAGE_S,
    STAGES,
    calibrated_rounds,
    one_row_requests,
    shuffled_rows,
    write_cascade,
)
from cascade.errors import CascadeError

HERE = Path(__file__).resolve().parent
WITH_STAGES = {"PYTHONPATH": os.pathsep.join([str(STAGES), *filter(None, [os.environ.get("PYTHONPATH")])])}
"""Peers import the synthetic stages by their file name."""
PROBED_ROWS = 200
TARGETS = {"mosec": 1.2, "mosec_fused": 1.0, "guide_tuned": 10.0, "guide": 50.0}
"""Requests/s of the gateway over those of a peer, at least."""


def new_commands(
    config: Path,
    two_segments: Path,
    rounds: Sequence[int],
    mosec: Path | None,
    mosec_batch: Sequence[str],
    litserve: Path | None,
    bentoml: Path | None,
    guide: bool,
) -> dict[str, list[str]]:
    """By server name, its command without the port; variants of a peer have a name with a space."""
    rounds_text = ",".join(map(str, rounds))
    serve = [sys.executable, "-m", "cascade", "serve"]
    commands = {OURS: [*serve, str(config)], "two_segments": [*serve, str(two_segments)]}
    if mosec is not None:
        script = [str(mosec), str(HERE / "mosec_cascade.py"), "--rounds", rounds_text, "--address", "127.0.0.1"]
        commands |= {f"mosec {batch}": [*script, "--batch", batch] for batch in mosec_batch}
        fused = [*script, "--fused", str(PROCESSORS)]
        commands |= {f"mosec_fused {batch}": [*fused, "--batch", batch] for batch in mosec_batch}
    if litserve is not None:
        commands["litserve"] = [str(litserve), str(HERE / "litserve_cascade.py"), "--rounds", rounds_text]
    if bentoml is not None:
        serve_bento = ["-m", "bentoml", "serve", "bentoml_cascade:Front", "--working-dir", str(HERE)]
        commands["bentoml"] = ["env", f"ROUNDS={rounds_text}", str(bentoml), *serve_bento, "--host", "127.0.0.1"]
    if guide:
        by_hand = [sys.executable, "-m", "cascade.benchmarks.experiments.peers.guide_cascade", str(config)]
        commands |= {"guide_tuned": [*by_hand, "--tuned"], "guide": by_hand}
    return commands


def against_best(repeats: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """By peer, the gateway's figures over those of the peer's fastest variant, and the ratio that is sought."""
    found: dict[str, Any] = {}
    for name, ratio in ratios(repeats).items():
        peer = name.partition(" ")[0]
        speed = ratio["requests_per_s_ratio"]["median"]
        if peer not in found or speed < found[peer]["requests_per_s_ratio"]["median"]:
            found[peer] = ratio | {"variant": name, "target": TARGETS.get(peer)}
    return found


def main(
    mosec_python: Annotated[Path | None, typer.Option(help="Python of an environment with mosec.")] = None,
    mosec_batch: Annotated[list[str], typer.Option(help="Rows per batch of both workers; may be repeated.")] = [  # noqa: B006
        "16,16",
        "32,32",
        "64,64",
    ],
    litserve_python: Annotated[Path | None, typer.Option(help="Python of an environment with LitServe.")] = None,
    bentoml_python: Annotated[Path | None, typer.Option(help="Python of an environment with BentoML.")] = None,
    guide: Annotated[bool, typer.Option(help="Also the Ray Serve guide's version, plain and tuned.")] = True,
    connections: Annotated[list[int], typer.Option(min=1)] = [64, 128],  # noqa: B006
    seconds: Annotated[int, typer.Option(min=1)] = 8,
    repeats: Annotated[int, typer.Option(min=1)] = 5,
) -> Found:
    """Measure one row per request, all servers by turns."""
    rounds, rows = calibrated_rounds(), shuffled_rows()
    requests = one_row_requests(rows)
    with tempfile.TemporaryDirectory() as folder:
        config = write_cascade(Path(folder) / "fused", rounds, serving=FUSED)
        two_segments = write_cascade(Path(folder) / "two_segments", rounds)
        peers = (mosec_python, mosec_batch, litserve_python, bentoml_python, guide)
        commands = new_commands(config, two_segments, rounds, *peers)
        servers = [ServerProcess(name, command, requests[0], WITH_STAGES) for name, command in commands.items()]
        with ServerRace(servers, requests) as race:
            same_answers = race.same_answers_share(PROBED_ROWS)
            if any(share < 1 for share in same_answers.values()):
                raise CascadeError(f"not all servers answer alike: {same_answers}")
            numbers = {str(count): race.run(count, seconds, repeats) for count in connections}
    measured = {server.name.partition(" ")[0] for server in race.servers}
    return {
        "measured": {
            "stage_us_per_row": [seconds * 1e6 for seconds in STAGE_S],
            "deferred_share": 1 / busy_stage.DEFERRED_EVERY,
            "row_bytes": rows[0].nbytes,
            "same_answers_share": same_answers,
            "not_measured": sorted({"mosec", "litserve", "bentoml", "guide", "guide_tuned"} - measured),
        },
        "gateway_against": {count: against_best(seen) for count, seen in numbers.items()},
        "summary": {count: spread(seen) for count, seen in numbers.items()},
        "repeats": numbers,
    }


def figures(found: Found) -> Figures:
    """Medians over the repeats."""
    return {
        f"requests/s over those of {peer.replace('_', ' ')}, {connections} connections": Figure(
            ratio["requests_per_s_ratio"]["median"], ratio["target"], ">="
        )
        for connections, peers in found["gateway_against"].items()
        for peer, ratio in peers.items()
    }


if __name__ == "__main__":
    run_experiment(main, figures)
