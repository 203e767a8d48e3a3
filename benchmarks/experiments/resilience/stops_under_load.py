"""Does a loaded cascade that gets a signal answer its requests, exit with 0 and leave no process?

    python -m cascade.benchmarks.experiments.resilience.stops_under_load --stops 100

Clients send requests without a pause, over connections that they keep and that they open anew, to a cascade of two
segments. Meanwhile ``cascade serve`` gets a signal. Sought, for each stop: every request that was sent is answered
rightly (a client that is refused a connection has sent none), exit code 0, and after ten seconds none of the processes
is left. Needs the extra ``bench``.
"""

import asyncio
import random
import signal
import time
from collections.abc import Iterator
from typing import Annotated, Any

import psutil
import typer
import uvloop

from cascade.benchmarks.harness.clients.labelled_load import LabelledLoad
from cascade.benchmarks.harness.experiment import Figure, Figures, Found, run_experiment
from cascade.benchmarks.harness.servers.server_process import ServerProcess
from cascade.benchmarks.harness.stages import busy_stage
from cascade.benchmarks.harness.synthetic_cascade import calibrated_rounds, served_synthetic
from cascade.cli.shared.console import console

SERVING: dict[str, Any] = {"gateways": 2, "metrics": False}
STAGE_S = (0.5e-3, 5e-3)
"""Processor time per row: long enough that some rows are always between the segments."""
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


def main(
    stops: Annotated[int, typer.Option(min=1, help="Number of stops; the signals by turns.")] = 100,
) -> Iterator[Found]:
    """Start a cascade, load it, stop it, many times."""
    rounds = calibrated_rounds(STAGE_S)
    rows = busy_stage.new_rows(1000)
    measured = {"stage_s": STAGE_S, "serving": SERVING, "clients": CLIENTS, "most_left_s": MOST_LEFT_S}
    results: list[dict[str, Any]] = []
    for turn in range(stops):
        with served_synthetic(rounds, SERVING) as server:
            load = LabelledLoad("127.0.0.1", server.port, rows)
            results.append(uvloop.run(stop_once(server, load, SIGNALS[turn % len(SIGNALS)])))
        console.print(turn, results[-1])
        yield {"measured": measured, "stops": results}


def figures(found: Found) -> Figures:
    """Over all stops."""
    stops = found["stops"]
    longest = None if any(seen["gone_s"] is None for seen in stops) else max(seen["gone_s"] for seen in stops)
    return {
        "stops": Figure(len(stops)),
        "requests": Figure(sum(seen["sent"] for seen in stops)),
        "requests that were not answered rightly": Figure(sum(seen["sent"] - seen["right"] for seen in stops), 0),
        "stops with another exit code than 0": Figure(sum(seen["exit_code"] != 0 for seen in stops), 0),
        "seconds until all processes were gone, the longest": Figure(longest, found["measured"]["most_left_s"]),
    }


if __name__ == "__main__":
    run_experiment(main, figures)
