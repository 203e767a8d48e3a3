"""What the gateway adds to the first stage's own time: one connection, one row a request, rows answered there.

    python -m cascade.benchmarks.experiments.serving.added_latency

The synthetic cascade of ``against_peers.py``. Request, stage in this process and ``GET /health`` (what HTTP alone
costs) take turns, so that what else the machine does hits all of them. Sought: at most 1 ms at the median.
"""

import json
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import orjson
import typer

from cascade.benchmarks.harness.experiment import RESULTS, run_experiment, save_result
from cascade.benchmarks.harness.lean_http import HEADER_END, request_bytes
from cascade.benchmarks.harness.server_process import ServerProcess, free_port
from cascade.benchmarks.harness.stages import busy_stage
from cascade.benchmarks.harness.synthetic_cascade import calibrated_rounds, write_cascade
from cascade.benchmarks.http_target import request_body
from cascade.errors import CascadeError
from cascade.machine.description import describe_machine

HEALTH = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1" + HEADER_END
MOST_ADDED_MS = 1.0
ROWS = 1000
WARMUP = 200


def ask(connection: socket.socket, request: bytes) -> bytes:
    """The body of the answer, over a blocking socket: nothing costs the client less."""
    connection.sendall(request)
    answer = b""
    while True:
        part = connection.recv(65536)
        if not part:
            raise CascadeError("the server closed the connection")
        answer += part
        head, end, body = answer.partition(HEADER_END)
        if end and len(body) >= int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0]):
            return body


def timed(call: Callable[[], Any]) -> float:
    """Seconds of a call."""
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def percentiles_ms(seconds: list[float]) -> dict[str, float]:
    """p50, p95 and p99 in milliseconds."""
    return {f"p{p}": float(np.percentile(seconds, p)) * 1e3 for p in (50, 95, 99)}


def main(
    requests: Annotated[int, typer.Option(min=100, help="Counted ones.")] = 5000,
    out: Annotated[Path, typer.Option()] = RESULTS / "serving/added_latency.json",
) -> None:
    """Measure the latency of rows that the first stage answers."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the server is stopped then, too
    rounds = calibrated_rounds()
    stage, _ = busy_stage.new_stages(rounds)
    rows = busy_stage.new_rows(ROWS)
    rows = rows[rows[:, 0, 0, 0] % busy_stage.FORWARDED_EVERY != 0]
    times: dict[str, list[float]] = {"request": [], "stage": [], "health": []}
    with tempfile.TemporaryDirectory() as name:
        config = write_cascade(Path(name), rounds)
        port = free_port()
        command = [sys.executable, "-m", "cascade", "serve", str(config), "--port", str(port)]
        url = f"http://127.0.0.1:{port}/predict"
        with (
            ServerProcess("gateway", command, url, request_body(rows[:1]), Path(name) / "log"),
            socket.create_connection(("127.0.0.1", port)) as connection,
        ):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for index in range(WARMUP + requests):
                row = rows[index % len(rows)][None]
                request = request_bytes(row)
                if index < WARMUP:
                    stages = orjson.loads(ask(connection, request))["stage"]
                    if stages != [busy_stage.STAGES[0]]:
                        raise CascadeError(f"the first stage must answer these rows; they were answered by {stages}")
                    continue
                times["request"].append(timed(lambda: ask(connection, request)))  # noqa: B023
                times["stage"].append(timed(lambda: stage.predict(row)))  # noqa: B023
                times["health"].append(timed(lambda: ask(connection, HEALTH)))
    seen = {name: percentiles_ms(seconds) for name, seconds in times.items()}
    added = seen["request"]["p50"] - seen["stage"]["p50"]
    result = {
        "schema_version": 1,
        "measured": {"requests": requests, "connections": 1, "rows_per_request": 1},
        "machine": describe_machine(),
        "latency_ms": seen,
        "added_ms_p50": added,
        "added_to_http_ms_p50": added - seen["health"]["p50"],
        "reached": added <= MOST_ADDED_MS,
    }
    save_result(out, result)
    typer.echo(json.dumps({key: result[key] for key in ("latency_ms", "added_ms_p50", "reached")}, sort_keys=True))


if __name__ == "__main__":
    run_experiment(main)
