"""Servers of the same cascade, loaded by turns: what else the machine does then hits all of them."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import numpy as np
import orjson
from typing_extensions import Self

from cascade.benchmarks.harness.server_process import ServerProcess
from cascade.benchmarks.harness.wrk import Wrk
from cascade.benchmarks.measurement import spread
from cascade.errors import CascadeError

__all__ = ["OURS", "ServerRace", "ratios"]

OURS = "gateway"
WARMUP_S = 3


@dataclass
class ServerRace:
    """Servers that run at the same time.

    Attributes:
        servers: the gateway among them.
        bodies: of one row each.
        headers: of every request.
        wrk: sends random ones of the bodies.
        say: takes a line for a person.
        missing: names of the servers that could not be started; ``say`` was told why.
    """

    servers: Sequence[ServerProcess]
    bodies: Sequence[bytes]
    headers: dict[str, str]
    wrk: Wrk
    say: Callable[[str], None] = print
    missing: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        with ExitStack() as running:
            started = []
            for server in self.servers:
                self.say(f"starting {server.name}")
                try:
                    running.enter_context(server)
                except CascadeError as error:
                    if server.name == OURS:
                        raise
                    self.missing.append(server.name)
                    self.say(f"{server.name} is not measured: {error}")
                else:
                    started.append(server)
            self.servers = started
            self._running = running.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running.close()

    def same_answers_share(self, rows: int) -> dict[str, float]:
        """By peer, the share of the first rows that it answers as the gateway does, by the same stage."""
        said = {server.name: self._answers(server, rows) for server in self.servers}
        return {
            name: float(np.mean([ours == theirs for ours, theirs in zip(said[OURS], answers)]))
            for name, answers in said.items()
            if name != OURS
        }

    def _answers(self, server: ServerProcess, rows: int) -> list[tuple[int, str]]:
        seen = [orjson.loads(server.post(body, self.headers)) for body in self.bodies[:rows]]
        return [(columns["answer"][0], columns["stage"][0]) for columns in seen]

    def run(self, connections: int, seconds: int, repeats: int) -> list[dict[str, Any]]:
        """The numbers of every server, repeat by repeat, after a warm-up; odd repeats go backwards."""
        for server in self.servers:
            self.wrk.run(server.url, connections, WARMUP_S)
        numbers = []
        for repeat in range(repeats):
            turns = self.servers if repeat % 2 == 0 else self.servers[::-1]
            numbers.append({server.name: self._turn(server, connections, seconds) for server in turns})
            rates = ", ".join(f"{name} {seen['requests_per_s']:.0f}/s" for name, seen in numbers[-1].items())
            self.say(f"{connections} connections, repeat {repeat + 1} of {repeats}: {rates}")
        return numbers

    def _turn(self, server: ServerProcess, connections: int, seconds: int) -> dict[str, Any]:
        before = server.processor_s()
        seen = self.wrk.run(server.url, connections, seconds)
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
