"""Servers of the same cascade, loaded by turns: what else the machine does then hits all of them."""

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from cascade.benchmarks.analysis.intervals import spread
from cascade.benchmarks.harness.clients.wrk import Wrk
from cascade.benchmarks.harness.servers.server_process import Probe, ServerProcess
from cascade.benchmarks.running import Running
from cascade.cli.shared.console import console
from cascade.errors import CascadeError

__all__ = ["OURS", "ServerRace", "ratios"]

OURS = "gateway"
WARMUP_S = 3


class ServerRace(Running):
    """Servers that run at the same time.

    Args:
        servers: the one that the others are compared with has the name :data:`OURS`.
        requests: (body, headers) of one row each; wrk sends them in random order.

    Attributes:
        missing: names of the servers that could not be started, each with a line of the reason on standard error.
    """

    def __init__(self, servers: Sequence[ServerProcess], requests: Sequence[Probe]) -> None:
        self.servers, self.missing = servers, list[str]()
        self._bodies, self._headers = [body for body, _ in requests], requests[0][1]

    def _start(self, undo: ExitStack) -> None:
        folder = Path(undo.enter_context(tempfile.TemporaryDirectory()))
        self._wrk = Wrk(self._bodies, self._headers, folder)
        started = []
        for server in self.servers:
            console.print(f"starting {server.name}")
            try:
                undo.enter_context(server)
            except CascadeError as error:
                if server.name == OURS:
                    raise
                self.missing.append(server.name)
                console.print(f"{server.name} is not measured: {error}")
            else:
                started.append(server)
        self.servers = started

    def same_answers_share(self, rows: int) -> dict[str, float]:
        """By peer, the share of the first rows that it answers as the gateway does, by the same stage."""
        given = {server.name: self._answers(server, rows) for server in self.servers}
        return {
            name: float(np.mean([ours == theirs for ours, theirs in zip(given[OURS], answers)]))
            for name, answers in given.items()
            if name != OURS
        }

    def _answers(self, server: ServerProcess, rows: int) -> list[tuple[int, str]]:
        seen = [orjson.loads(server.post(body, self._headers)) for body in self._bodies[:rows]]
        return [(columns["answer"][0], columns["stage"][0]) for columns in seen]

    def run(self, connections: int, seconds: int, repeats: int) -> list[dict[str, Any]]:
        """The numbers of every server, repeat by repeat, after a warm-up; odd repeats go backwards."""
        for server in self.servers:
            self._wrk.run(server.url, connections, WARMUP_S)
        numbers = []
        for repeat in range(repeats):
            turns = self.servers if repeat % 2 == 0 else self.servers[::-1]
            numbers.append({server.name: self._turn(server, connections, seconds) for server in turns})
            rates = ", ".join(f"{name} {seen['requests_per_s']:.0f}/s" for name, seen in numbers[-1].items())
            console.print(f"{connections} connections, repeat {repeat + 1} of {repeats}: {rates}")
        return numbers

    def _turn(self, server: ServerProcess, connections: int, seconds: int) -> dict[str, Any]:
        before = server.processor_s()
        seen = self._wrk.run(server.url, connections, seconds)
        spent = server.processor_s() - before
        # Unlike the throughput, it hardly changes with what else the machine does.
        return seen | {"processor_us_per_request": spent / max(seen["requests"], 1) * 1e6}


def ratios(repeats: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """By peer, median, min and max over the repeats of the gateway's figures over the peer's."""
    peers = [name for name in repeats[0] if name != OURS]
    return {peer: spread([_ratio(repeat[OURS], repeat[peer]) for repeat in repeats]) for peer in peers}


def _ratio(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, float]:
    return {
        "requests_per_s_ratio": ours["requests_per_s"] / max(theirs["requests_per_s"], 1e-9),
        "p99_ratio": ours["latency_ms"]["p99"] / theirs["latency_ms"]["p99"],
        "processor_ratio": ours["processor_us_per_request"] / max(theirs["processor_us_per_request"], 1e-9),
    }
