"""How much time does the gateway add to the first stage's own, for rows that the first stage accepts?

    python -m cascade.benchmarks.experiments.serving.added_latency

The synthetic cascade, one connection, one row per request. Request, stage in this process and ``GET /health`` (the cost
of HTTP alone) take turns, so that any other load on the machine affects all of them. Sought: at most 1 ms at the
median.
"""

import socket
import time
from collections.abc import Callable
from typing import Annotated

import numpy as np
import orjson
import typer

from cascade.benchmarks.clients.http_bodies import HEADER_END, request_bytes
from cascade.benchmarks.harness.experiment import Figure, Figures, Found, run_experiment
from cascade.benchmarks.harness.stages import busy_stage
from cascade.benchmarks.harness.synthetic_cascade import calibrated_rounds, served_synthetic
from cascade.errors import CascadeError

HEALTH = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1" + HEADER_END
MOST_ADDED_MS = 1.0
ROWS = 1000
WARMUP = 200


def ask(connection: socket.socket, request: bytes) -> bytes:
    """The body of the response, over a blocking socket, the cheapest client."""
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


def timed(call: Callable[[], object]) -> float:
    """Seconds of a call."""
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def percentiles_ms(seconds: list[float]) -> dict[str, float]:
    """p50, p95 and p99 in milliseconds."""
    return {f"p{p}": float(np.percentile(seconds, p)) * 1e3 for p in (50, 95, 99)}


def main(requests: Annotated[int, typer.Option(min=100, help="That are counted.")] = 5000) -> Found:
    """Measure the latency of rows that the first stage accepts."""
    rounds = calibrated_rounds()
    stage, _ = busy_stage.new_stages(rounds)
    rows = busy_stage.new_rows(ROWS)
    rows = rows[rows[:, 0, 0, 0] % busy_stage.DEFERRED_EVERY != 0]
    times: dict[str, list[float]] = {"request": [], "stage": [], "health": []}
    with served_synthetic(rounds) as server, socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for index in range(WARMUP + requests):
            row = rows[index % len(rows)][None]
            request = request_bytes(row)
            if index < WARMUP:
                stages = orjson.loads(ask(connection, request))["stage"]
                if stages != [busy_stage.STAGES[0]]:
                    raise CascadeError(f"the first stage must accept these rows; they were answered by {stages}")
                continue
            times["request"].append(timed(lambda: ask(connection, request)))  # noqa: B023
            times["stage"].append(timed(lambda: stage.predict(row)))  # noqa: B023
            times["health"].append(timed(lambda: ask(connection, HEALTH)))
    latency = {name: percentiles_ms(seconds) for name, seconds in times.items()}
    added = latency["request"]["p50"] - latency["stage"]["p50"]
    return {"latency_ms": latency, "added_ms_p50": added, "added_to_http_ms_p50": added - latency["health"]["p50"]}


def figures(found: Found) -> Figures:
    """Medians."""
    return {
        "p50 added by the gateway, ms": Figure(found["added_ms_p50"], MOST_ADDED_MS),
        "p50 added to that of HTTP alone, ms": Figure(found["added_to_http_ms_p50"]),
    }


if __name__ == "__main__":
    run_experiment(main, figures)
