"""What the audit of a share of the rows costs at full load: one row a request over HTTP, with and without it.

    python -m cascade.benchmarks.experiments.serving.audit_overhead

The two stages of ``against_peers.py``, both in every gateway, and with the second one in a process of its own. Both
servers run at the same time and are loaded by turns. Beside the throughput: how many of the drawn rows were audited
meanwhile, and what counting costs a request, drawn rows left out. Sought: at least 0.98 of the throughput at a share of
1 %. Needs wrk, and the extra ``bench``.
"""

import json
import signal
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console

from cascade.benchmarks.harness.experiment import RESULTS, run_experiment, save_result
from cascade.benchmarks.harness.server_process import ServerProcess, free_port
from cascade.benchmarks.harness.server_race import OURS, ServerRace, ratios
from cascade.benchmarks.harness.stages import busy_stage
from cascade.benchmarks.harness.synthetic_cascade import FUSED, calibrated_rounds, write_cascade
from cascade.benchmarks.harness.wrk import Wrk
from cascade.benchmarks.http_target import request_body
from cascade.benchmarks.measurement import spread
from cascade.calibration import Policy
from cascade.config import AuditConfig
from cascade.engine import Answers
from cascade.machine.description import describe_machine
from cascade.serving.audit.auditor import Auditor

ARRANGEMENTS: dict[str, dict[str, Any]] = {"one_process": FUSED, "two_segments": {}}
LEAST_RATIO = 0.98
ROWS = 1000
TIMED_CALLS = 20_000
DRAWN = ("audited_rows", "dropped_rows", "lost_rows")


def counting_us() -> float:
    """Microseconds that a request of one row in a batch of its own pays when none of its rows is drawn."""
    auditor = Auditor(AuditConfig(share=1e-12), 2, 2)
    policy = Policy.from_thresholds(busy_stage.STAGES, np.array([busy_stage.THRESHOLD]))
    row = busy_stage.new_rows(1)
    answers = Answers.empty(1)

    def seconds() -> float:
        begin = time.perf_counter()
        for _ in range(TIMED_CALLS):
            auditor.draw(row, policy)
            auditor.decided(policy, answers)
        return (time.perf_counter() - begin) / TIMED_CALLS

    return min(seconds() for _ in range(10)) * 1e6


def drawn_rows(url: str, asks: int = 20) -> dict[str, int]:
    """What became of the drawn rows, of all gateways that are met."""
    met: dict[str, Any] = {}
    for _ in range(asks):
        with urllib.request.urlopen(url.replace("/predict", "/audit"), timeout=10) as response:
            report = json.loads(response.read())
        met[report["gateway"]] = report["policies"][report["policy_version"]]
    return {name: sum(policy[name] for policy in met.values()) for name in DRAWN}


def race(
    folder: Path, serving: dict[str, Any], share: float, rounds: list[int], connections: int, seconds: int, repeats: int
) -> dict[str, Any]:
    """One arrangement, audited and not."""
    rows = busy_stage.new_rows(ROWS)[np.random.default_rng(1).permutation(ROWS)]
    parts = [request_body(rows[index : index + 1]) for index in range(ROWS)]
    bodies, headers = [body for body, _ in parts], parts[0][1]
    servers = []
    for name, audited in ((OURS, share), ("unaudited", 0.0)):
        own = folder / name
        own.mkdir(parents=True)
        config = write_cascade(own, rounds, serving=serving | {"audit": {"share": audited}})
        port = free_port()
        command = [sys.executable, "-c", "from cascade.cli.main import main; main()", "serve", str(config)]
        url = f"http://127.0.0.1:{port}/predict"
        servers.append(ServerProcess(name, [*command, "--port", str(port)], url, parts[0], own / "log"))
    with ServerRace(servers, bodies, headers, Wrk(bodies, headers, folder), Console(stderr=True).print) as running:
        numbers = running.run(connections, seconds, repeats)
        drawn = drawn_rows(servers[0].url)
    ratio = ratios(numbers)["unaudited"]
    return {
        "audited_against_unaudited": ratio,
        "reached": ratio["requests_per_s_ratio"]["median"] >= LEAST_RATIO,
        "drawn": drawn,
        "summary": spread(numbers),
        "repeats": numbers,
    }


def main(
    share: Annotated[float, typer.Option(min=0, max=1)] = 0.01,
    connections: Annotated[int, typer.Option(min=1)] = 64,
    seconds: Annotated[int, typer.Option(min=1)] = 6,
    repeats: Annotated[int, typer.Option(min=1)] = 6,
    out: Annotated[Path, typer.Option()] = RESULTS / "serving/audit_overhead.json",
) -> None:
    """Measure the throughput with and without an audit."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers are stopped then, too
    rounds = calibrated_rounds()
    with tempfile.TemporaryDirectory() as name:
        found = {
            arrangement: race(Path(name) / arrangement, serving, share, rounds, connections, seconds, repeats)
            for arrangement, serving in ARRANGEMENTS.items()
        }
    result = {
        "schema_version": 1,
        "measured": {"share": share, "connections": connections, "seconds": seconds, "rows_per_request": 1},
        "machine": describe_machine(),
        "counting_us_per_request": counting_us(),
        "arrangements": found,
    }
    save_result(out, result)
    said = {name: {key: seen[key] for key in ("audited_against_unaudited", "drawn")} for name, seen in found.items()}
    typer.echo(json.dumps(said | {"counting_us_per_request": result["counting_us_per_request"]}, sort_keys=True))


if __name__ == "__main__":
    run_experiment(main)
