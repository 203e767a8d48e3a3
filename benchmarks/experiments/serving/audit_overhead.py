"""How much throughput does the audit of a share of the rows cost at full load?

    python -m cascade.benchmarks.experiments.serving.audit_overhead

One row per request over HTTP to the synthetic cascade, with both stages in every gateway, and with the second one in a
process of its own. A server with the audit and one without run at the same time and are loaded by turns. Beside the
throughput: how many of the drawn rows were audited meanwhile, and the cost of counting per request, drawn rows left
out. Sought: at least 0.98 of the throughput at a share of 1 %. Needs wrk, and the extra ``bench``.
"""

import json
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from cascade.answers import Answers
from cascade.benchmarks.analysis.intervals import spread
from cascade.benchmarks.harness.experiment import Figure, Figures, Found, run_experiment
from cascade.benchmarks.harness.servers.server_process import ServerProcess
from cascade.benchmarks.harness.servers.server_race import OURS, ServerRace, ratios
from cascade.benchmarks.harness.stages import busy_stage
from cascade.benchmarks.harness.synthetic_cascade import (
    FUSED,
    calibrated_rounds,
    one_row_requests,
    shuffled_rows,
    write_cascade,
)
from cascade.calibration import Policy
from cascade.config import AuditConfig
from cascade.serving.audit.auditor import Auditor

ARRANGEMENTS: dict[str, dict[str, Any]] = {"one_process": FUSED, "two_segments": {}}
LEAST_RATIO = 0.98
TIMED_CALLS = 20_000
DRAWN = ("audited_rows", "dropped_rows", "lost_rows")


def counting_us() -> float:
    """Microseconds of counting for a request of one row in a batch of its own, none of whose rows is drawn."""
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


def drawn_rows(address: str, asks: int = 20) -> dict[str, int]:
    """What became of the drawn rows, by the reports of all gateways that answer one of some requests."""
    reports: dict[str, Any] = {}
    for _ in range(asks):
        with urllib.request.urlopen(f"{address}/audit", timeout=10) as response:
            report = json.loads(response.read())
        reports[report["gateway"]] = report["policies"][report["policy_version"]]
    return {name: sum(policy[name] for policy in reports.values()) for name in DRAWN}


def race(
    folder: Path, serving: dict[str, Any], share: float, rounds: list[int], connections: int, seconds: int, repeats: int
) -> dict[str, Any]:
    """One arrangement, audited and not."""
    requests = one_row_requests(shuffled_rows())
    servers = []
    for name, audited in ((OURS, share), ("unaudited", 0.0)):
        config = write_cascade(folder / name, rounds, serving=serving | {"audit": {"share": audited}})
        servers.append(ServerProcess(name, [sys.executable, "-m", "cascade", "serve", str(config)], requests[0]))
    with ServerRace(servers, requests) as running:
        numbers = running.run(connections, seconds, repeats)
        drawn = drawn_rows(servers[0].address)
    return {
        "audited_against_unaudited": ratios(numbers)["unaudited"],
        "drawn": drawn,
        "summary": spread(numbers),
        "repeats": numbers,
    }


def main(
    share: Annotated[float, typer.Option(min=0, max=1)] = 0.01,
    connections: Annotated[int, typer.Option(min=1)] = 64,
    seconds: Annotated[int, typer.Option(min=1)] = 6,
    repeats: Annotated[int, typer.Option(min=1)] = 6,
) -> Found:
    """Measure the throughput with and without an audit."""
    rounds = calibrated_rounds()
    with tempfile.TemporaryDirectory() as folder:
        found = {
            arrangement: race(Path(folder) / arrangement, serving, share, rounds, connections, seconds, repeats)
            for arrangement, serving in ARRANGEMENTS.items()
        }
    return {"counting_us_per_request": counting_us(), "arrangements": found}


def figures(found: Found) -> Figures:
    """Medians over the repeats."""
    throughput = {
        f"throughput with the audit over without, {name.replace('_', ' ')}": Figure(
            seen["audited_against_unaudited"]["requests_per_s_ratio"]["median"], LEAST_RATIO, ">="
        )
        for name, seen in found["arrangements"].items()
    }
    return throughput | {"counting per request, us": Figure(found["counting_us_per_request"])}


if __name__ == "__main__":
    run_experiment(main, figures)
