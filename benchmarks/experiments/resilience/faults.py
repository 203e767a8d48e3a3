"""Is every request answered rightly while parts of a cascade are killed, hang, raise or are abused?

    python -m cascade.benchmarks.experiments.resilience.faults   # all on one node
    python -m cascade.benchmarks.experiments.resilience.faults --fault kill_segment --fault hang
    python -m cascade.benchmarks.experiments.resilience.faults --fault kill_node   # starts two Ray nodes

Several clients send labelled rows all the time. Sought: no wrong answer; no request without an answer, but for those on
connections that a killed gateway cut; service back without an operator; no processes, file descriptors or memory left
behind. A fault is a coroutine of ``fault_scenes.py``. Needs the extra ``bench``.
"""

import asyncio
import contextlib
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer
import uvloop

from cascade.benchmarks.clients.http_bodies import request_body
from cascade.benchmarks.experiments.resilience.fault_scenes import (
    CUT_CONNECTIONS,
    FAULTS,
    HARMLESS,
    TWO_NODES,
    Fault,
    Scene,
)
from cascade.benchmarks.harness.clients.labelled_load import LabelledLoad
from cascade.benchmarks.harness.experiment import Figure, Figures, Found, run_experiment
from cascade.benchmarks.harness.servers.ray_nodes import RayNodes
from cascade.benchmarks.harness.servers.server_process import cascade_server
from cascade.benchmarks.harness.stages import busy_stage
from cascade.benchmarks.harness.synthetic_cascade import calibrated_rounds, write_cascade
from cascade.cli.shared.console import console

STAGE_S = (2e-4, 2e-3)
"""Slow enough for a client on the same machine to send three times the capacity of the cascade."""
SERVING: dict[str, Any] = {"gateways": 2, "request_timeout_s": 3.0, "max_queue_rows": 256}
CLIENTS = 16
BEFORE_S = 3.0
SETTLE_S = 5.0


async def run_fault(scene: Scene, fault: Fault) -> dict[str, Any]:
    """Loads, injects, and goes on loading until the fault is over and a little longer."""
    before = scene.resources()
    load = LabelledLoad("127.0.0.1", scene.server.port, scene.rows)
    until = asyncio.Event()
    clients = asyncio.create_task(load.run(CLIENTS, until))
    await asyncio.sleep(BEFORE_S)
    early = len(load.account.failed_at)
    begin = time.monotonic()
    await fault(scene)
    await asyncio.sleep(SETTLE_S)
    until.set()
    await clients
    await asyncio.sleep(SETTLE_S)
    after = scene.resources()
    return load.account.to_dict() | {
        "failed_before": early,
        "recovered_s": load.account.recovered_s(begin),
        "leaked": {name: after[name] - before[name] for name in before},
        "before": before,
        "fault": {name: dict(value) if isinstance(value, Counter) else value for name, value in scene.seen.items()},
    }


def verdict(name: str, seen: dict[str, Any]) -> dict[str, bool]:
    """Whether each of the aims is reached."""
    cut = seen["unanswered"].get("cut", 0) if name in CUT_CONNECTIONS else 0
    flood = seen["fault"].get("flood", {}).get("errors", {})
    lost = sum(seen["unanswered"].values()) + flood.get("timeout", 0) + flood.get("connection", 0)
    return {
        "no_wrong_answer": seen["wrong"] == 0,
        "all_answered": lost == cut,
        "errors_are_clear": not seen["unclear"],
        "recovered": seen["recovered_s"] is not None,
        "others_unharmed": name not in HARMLESS or seen["right"] == seen["sent"],
    }


def run_faults(names: list[str], two_nodes: bool, scale: float) -> dict[str, Any]:
    """Injects faults one after the other into one cascade under load."""
    results: dict[str, Any] = {}
    with contextlib.ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory()))
        nodes = running.enter_context(RayNodes(folder)) if two_nodes else None
        last = {"num_replicas": 2, "max_replicas_per_node": 1} if two_nodes else {}
        config = write_cascade(folder, calibrated_rounds(STAGE_S), "faulty_stage", SERVING, {"large": last})
        rows = busy_stage.new_rows(1000)
        server = cascade_server(config, request_body(rows[:1]), environment=nodes.environment if nodes else None)
        running.enter_context(server)
        for name in names:
            scene = Scene(server, rows, scale, nodes)
            scene.wait_for_replicas(SERVING["gateways"] + last.get("num_replicas", 1))
            seen = uvloop.run(run_fault(scene, FAULTS[name]))
            results[name] = seen | {"verdict": verdict(name, seen)}
            console.print(name, {key: value for key, value in results[name].items() if key != "before"})
    return results


def main(
    fault: Annotated[list[str], typer.Option(help="Which; may be repeated [default: all on one node].")] = [],  # noqa: B006
    scale: Annotated[float, typer.Option(min=0.01, max=1, help="Of long faults; below 1 for a quick run.")] = 1.0,
) -> Found:
    """Inject faults one after the other into a cascade under load."""
    unknown = [name for name in fault if name not in FAULTS]
    if unknown:
        raise typer.BadParameter(f"there is no fault {unknown[0]!r}; there are {', '.join(FAULTS)}")
    chosen = fault or [name for name in FAULTS if name not in TWO_NODES]
    results: dict[str, Any] = {}
    for two_nodes in (False, True):
        names = [name for name in chosen if (name in TWO_NODES) == two_nodes]
        if names:
            results |= run_faults(names, two_nodes, scale)
    measured = {"stage_s": STAGE_S, "serving": SERVING, "clients": CLIENTS, "scale": scale}
    return {"measured": measured, "faults": results}


def figures(found: Found) -> Figures:
    """Over all faults."""
    faults = found["faults"].values()
    missed = sum(not reached for seen in faults for reached in seen["verdict"].values())
    unanswered = sum(
        sum(seen["unanswered"].values()) - (seen["unanswered"].get("cut", 0) if name in CUT_CONNECTIONS else 0)
        for name, seen in found["faults"].items()
    )
    return {
        "requests": Figure(sum(seen["sent"] for seen in faults)),
        "wrong answers": Figure(sum(seen["wrong"] for seen in faults), 0),
        "requests without an answer, but for connections that a killed gateway cut": Figure(unanswered, 0),
        "aims that a fault missed": Figure(missed, 0),
    }


if __name__ == "__main__":
    run_experiment(main, figures)
