"""Stops under load: what becomes of the requests, of the exit code, and of the processes.

    python -m cascade.benchmarks.experiments.resilience.stops_under_load --stops 100

Clients send requests without a pause, over connections that they keep and that they open anew, to a cascade of two
segments. Meanwhile ``cascade serve`` gets a signal. Sought, for each stop: every request that was sent is answered
rightly (who is refused a connection has sent none), exit code 0, and after ten seconds none of the processes is left.
Needs the extra ``bench``.
"""

import asyncio
import json
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer
import uvloop
from rich.console import Console

from cascade.benchmarks.harness.experiment import RESULTS, run_experiment, save_result
from cascade.benchmarks.harness.labelled_load import LabelledLoad
from cascade.benchmarks.harness.server_process import CASCADE_IS_UP, ServerProcess, free_port
from cascade.benchmarks.harness.stages import busy_stage
from cascade.benchmarks.harness.synthetic_cascade import calibrated_rounds, write_cascade
from cascade.benchmarks.http_target import request_body
from cascade.machine.description import describe_machine

SERVING: dict[str, Any] = {"gateways": 2, "metrics": False}
STAGE_S = (0.5e-3, 5e-3)
"""Processor time a row: long enough that some rows are always between the segments."""
SIGNALS = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT")
CLIENTS = 16
LOAD_S = 2.0
MOST_LEFT_S = 10.0
LOOK_S = 0.05


async def stop_once(server: ServerProcess, load: LabelledLoad, name: str) -> dict[str, Any]:
    """Loads a server, sends it a signal, and waits until all of it is gone."""
    until = asyncio.Event()
    clients = asyncio.create_task(load.run(CLIENTS, until))
    await asyncio.sleep(LOAD_S + random.random())
    family = server.family()
    begin = time.monotonic()
    family[0].send_signal(getattr(signal, name))
    ended_s = None
    alive = family
    while alive and time.monotonic() - begin < 6 * MOST_LEFT_S:
        alive = [process for process in alive if _lives(process)]
        if ended_s is None and server.exit_code() is not None:
            ended_s = time.monotonic() - begin
        await asyncio.sleep(LOOK_S)
    gone_s = time.monotonic() - begin
    until.set()
    await clients
    account = load.account.to_dict()
    refused = account["unanswered"].pop("refused", 0)
    return account | {
        "signal": name,
        "sent": account["sent"] - refused,
        "refused_connections": refused,
        "exit_code": server.exit_code(),
        "ended_s": ended_s,
        "gone_s": None if alive else gone_s,
    }


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def verdict(seen: dict[str, Any]) -> dict[str, bool]:
    """What was sought."""
    return {
        "all_answered_rightly": seen["right"] == seen["sent"],
        "exit_code_0": seen["exit_code"] == 0,
        "nothing_left": seen["gone_s"] is not None and seen["gone_s"] <= MOST_LEFT_S,
    }


def main(
    stops: Annotated[int, typer.Option(min=1, help="How many; the signals by turns.")] = 100,
    out: Annotated[Path, typer.Option()] = RESULTS / "resilience/stops_under_load.json",
) -> None:
    """Start a cascade, load it, stop it, again and again."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the server is stopped then, too
    say = Console(stderr=True).print
    rounds = calibrated_rounds(STAGE_S)
    rows = busy_stage.new_rows(1000)
    results: list[dict[str, Any]] = []
    for turn in range(stops):
        with tempfile.TemporaryDirectory() as folder:
            config = write_cascade(Path(folder), rounds, "busy_stage", SERVING)
            port = free_port()
            command = [sys.executable, "-m", "cascade", "serve", str(config), "--port", str(port)]
            url, log = f"http://127.0.0.1:{port}/predict", Path(folder) / "log"
            probe = request_body(rows[:1])
            with ServerProcess("gateway", command, url, probe, log, up=CASCADE_IS_UP) as server:
                load = LabelledLoad("127.0.0.1", port, rows)
                seen = uvloop.run(stop_once(server, load, SIGNALS[turn % len(SIGNALS)]))
        results.append(seen | {"verdict": verdict(seen)})
        say(f"{turn}: {json.dumps(results[-1], sort_keys=True)}")
        _save(results, out)
    typer.echo(json.dumps(_summary(results), sort_keys=True))


def _summary(results: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        name: {
            "stops": len(chosen),
            "requests": sum(seen["sent"] for seen in chosen),
            "not_answered_rightly": sum(seen["sent"] - seen["right"] for seen in chosen),
            "longest_gone_s": max(seen["gone_s"] or float("inf") for seen in chosen),
            **{key: sum(seen["verdict"][key] for seen in chosen) for key in chosen[0]["verdict"]},
        }
        for name in SIGNALS
        if (chosen := [seen for seen in results if seen["signal"] == name])
    }


def _save(results: list[dict[str, Any]], out: Path) -> None:
    result = {
        "schema_version": 1,
        "measured": {"stage_s": STAGE_S, "serving": SERVING, "clients": CLIENTS, "most_left_s": MOST_LEFT_S},
        "machine": describe_machine(),
        "summary": _summary(results),
        "stops": results,
    }
    save_result(out, result)


if __name__ == "__main__":
    run_experiment(main)
