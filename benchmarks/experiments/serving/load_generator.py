"""Can the client of ``cascade bench`` be believed: how does it compare with wrk, and what does it show of a pause?

    python -m cascade.benchmarks.experiments.serving.load_generator

Both clients load the same server by turns on the same processors, in a closed loop of many connections and of one.
Found are also: how late requests leave at 1,000 requests/s; what an open loop shows of a server that is stopped for a
second; and of how many equal benchmarks the intervals hold the median of all.
"""

import contextlib
import signal
import tempfile
import threading
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import psutil
import typer

from cascade.benchmarks.analysis.intervals import estimate, spread
from cascade.benchmarks.analysis.repeat import Repeat
from cascade.benchmarks.analysis.tally import Tally
from cascade.benchmarks.clients.answers import AnswerReader
from cascade.benchmarks.clients.http_lanes import HttpAddress, HttpLanes
from cascade.benchmarks.generator.processes import Sender, SenderProcesses
from cascade.benchmarks.harness.clients.wrk import Wrk
from cascade.benchmarks.harness.experiment import Figure, Figures, Found, run_experiment
from cascade.benchmarks.harness.servers.server_process import ServerProcess
from cascade.benchmarks.harness.stages import busy_stage
from cascade.benchmarks.harness.synthetic_cascade import (
    FUSED,
    calibrated_rounds,
    one_row_requests,
    served_synthetic,
    shuffled_rows,
)
from cascade.benchmarks.load import ClosedLoop, Load, OpenLoop
from cascade.benchmarks.workload import Workload
from cascade.cli.shared.console import console

CONNECTIONS = 64
RATE = 1000.0
PAUSE_S = 1.0
COMMANDS, REPEATS_EACH = 20, 4
LEAST_RATIO, MOST_DIFFERENCE_MS, MOST_LAG_MS, LEAST_HELD = 0.8, 0.2, 1.0, 18


class Client:
    """The load generator, with a process that is kept."""

    def __init__(self, senders: SenderProcesses, workload: Workload) -> None:
        self._senders, self._workload, self._seed = senders, workload, 0

    def send(self, load: Load) -> Repeat:
        """The numbers of one load; the next one has another seed."""
        self._seed += 1000
        tally = Tally(load, self._workload, self._seed)
        self._senders.run(load, self._seed, tally.add)
        return tally.repeat()


def main(
    seconds: Annotated[int, typer.Option(min=1, help="Of each load.")] = 5,
    repeats: Annotated[int, typer.Option(min=1, help="Turns with wrk.")] = 3,
) -> Found:
    """Compare the client with wrk, and test what it shows."""
    rows = shuffled_rows()
    workload = Workload.from_rows(rows, None, 1)
    requests = one_row_requests(rows)
    reader = AnswerReader(stages=frozenset(busy_stage.STAGES))
    with served_synthetic(calibrated_rounds(), FUSED) as server, tempfile.TemporaryDirectory() as folder:
        wrk = Wrk([body for body, _ in requests], requests[0][1], Path(folder))
        lanes = HttpLanes(HttpAddress(server.address), "/predict", workload, reader)
        with SenderProcesses(Sender(lanes, workload), 1) as senders:
            client = Client(senders, workload)
            wrk.run(server.url, CONNECTIONS, 2)
            client.send(ClosedLoop(CONNECTIONS, 1.0))
            turns = [turn(client, wrk, server, seconds) for _ in range(repeats)]
            open_loop = client.send(OpenLoop(RATE, 2.0 * seconds, warmup_seconds=1.0))
            paused = during_pause(client, server)
            held = intervals(client)
    return {
        "turns": turns,
        "ratio": spread(
            [{"requests_per_s": one["ours"]["requests_per_s"] / one["wrk"]["requests_per_s"]} for one in turns]
        ),
        "open_loop": plain(open_loop),
        "paused": plain(paused),
        "intervals": held,
    }


def turn(client: Client, wrk: Wrk, server: ServerProcess, seconds: int) -> dict[str, Any]:
    """Both clients, one after the other: with many connections, and with one."""
    theirs = wrk.run(server.url, CONNECTIONS, seconds)
    ours = client.send(ClosedLoop(CONNECTIONS, float(seconds), warmup_seconds=0.2))
    console.print(f"wrk {theirs['requests_per_s']:.0f} requests/s, cascade bench {ours.requests_per_s:.0f}")
    single = wrk.run(server.url, 1, seconds)
    own_single = client.send(ClosedLoop(1, float(seconds), warmup_seconds=0.2))
    return {
        "wrk": theirs,
        "ours": plain(ours),
        "one_connection": {"wrk": single, "ours": plain(own_single)},
    }


def during_pause(client: Client, server: ServerProcess) -> Repeat:
    """An open loop while all processes of the server are stopped for a second."""

    def pause() -> None:
        time.sleep(1.5)
        family = server.family()
        for number in (signal.SIGSTOP, signal.SIGCONT):
            for process in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(number)
            time.sleep(PAUSE_S)

    thread = threading.Thread(target=pause)
    thread.start()
    seen = client.send(OpenLoop(RATE / 4, 4.0))
    thread.join()
    return seen


def intervals(client: Client) -> dict[str, Any]:
    """Equal benchmarks of a few repeats each, and how many intervals hold the median of all repeats."""
    found = [
        [client.send(ClosedLoop(16, 0.5, warmup_seconds=0.1)).requests_per_s for _ in range(REPEATS_EACH)]
        for _ in range(COMMANDS)
    ]
    middle = float(np.median(found))
    estimates = [estimate(values) for values in found]
    held = sum((one.low or 0.0) <= middle <= (one.high or 0.0) for one in estimates)
    return {"requests_per_s": found, "median": middle, "held": held}


def plain(repeat: Repeat) -> dict[str, Any]:
    """The numbers of a load without its windows."""
    return repeat.model_dump(mode="json", exclude={"windows", "histogram"})


def figures(found: Found) -> Figures:
    """Against wrk, send lag, pause, intervals."""
    single = [one["one_connection"] for one in found["turns"]]
    difference = [one["ours"]["latency_ms"]["p50"] - one["wrk"]["latency_ms"]["p50"] for one in single]
    return {
        "requests/s over those of wrk": Figure(found["ratio"]["requests_per_s"]["median"], LEAST_RATIO, ">="),
        "p50 over one connection, ms more than wrk's": Figure(float(np.median(difference)), MOST_DIFFERENCE_MS),
        "send lag p99 at 1,000 requests/s, ms": Figure(found["open_loop"]["send_lag"]["p99_ms"], MOST_LAG_MS),
        "share of a processor at 1,000 requests/s": Figure(found["open_loop"]["client"]["busiest_share"]),
        "largest latency with a server stopped for 1 s, ms": Figure(
            found["paused"]["latency_ms"]["max"], 1e3 * PAUSE_S, ">="
        ),
        "intervals of 20 that hold the median of all": Figure(found["intervals"]["held"], LEAST_HELD, ">="),
    }


if __name__ == "__main__":
    run_experiment(main, figures)
