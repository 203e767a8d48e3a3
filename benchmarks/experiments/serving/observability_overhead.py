"""What metrics and spans cost: one row a request over HTTP, with and without them.

    python -m cascade.benchmarks.experiments.serving.observability_overhead

The synthetic cascade of ``against_peers.py``, both stages in one gateway. Three servers run at the same time and are
loaded by turns, so that what else the machine does hits all of them: without metrics; with them; and with spans of one
request in a hundred as well, sent to a collector that only counts them. Sought: at most 3 % of the throughput. Needs
wrk, and the extras ``bench`` and ``traces``.
"""

import http.server
import json
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console

from cascade.benchmarks.harness.experiment import RESULTS, run_experiment, save_result
from cascade.benchmarks.harness.server_process import ServerProcess, free_port
from cascade.benchmarks.harness.server_race import OURS, ServerRace
from cascade.benchmarks.harness.stages import busy_stage
from cascade.benchmarks.harness.synthetic_cascade import calibrated_rounds, write_cascade
from cascade.benchmarks.harness.wrk import Wrk
from cascade.benchmarks.http_target import request_body
from cascade.benchmarks.measurement import spread
from cascade.errors import CascadeError
from cascade.machine.description import describe_machine

WITHOUT = OURS
"""The name under which the race has the server that the others are held against."""
SETTINGS: dict[str, dict[str, Any]] = {
    WITHOUT: {"metrics": False},
    "metrics": {"metrics": True},
    "metrics_and_spans": {"metrics": True, "traces": {"sample_share": 0.01}},
}
ROWS = 1000
MOST_COST = 0.03
RESAMPLES = 10_000


class Collector(http.server.BaseHTTPRequestHandler):
    """Takes spans and forgets them."""

    protocol_version = "HTTP/1.1"
    taken_bytes = 0

    def do_POST(self) -> None:
        Collector.taken_bytes += len(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def collecting() -> Iterator[str]:
    """Yields the address of a collector."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def new_servers(folder: Path, rounds: Sequence[int], probe: tuple[bytes, dict[str, str]]) -> Iterator[ServerProcess]:
    """One for each of :data:`SETTINGS`."""
    for name, settings in SETTINGS.items():
        place = folder / name
        place.mkdir()
        serving = {"segments": [list(busy_stage.STAGES)], **settings}
        config, port = write_cascade(place, rounds, serving=serving), free_port()
        command = [sys.executable, "-m", "cascade", "serve", str(config), "--port", str(port)]
        yield ServerProcess(name, command, f"http://127.0.0.1:{port}/predict", probe, folder / f"{name}.log")


def cost(repeats: Sequence[dict[str, Any]], name: str) -> dict[str, Any]:
    """What a server's settings cost, from pairs of the same repeat: shares of throughput and of processor time."""
    without = [repeat[WITHOUT] for repeat in repeats]
    seen = [repeat[name] for repeat in repeats]
    lost = [1 - ours["requests_per_s"] / theirs["requests_per_s"] for ours, theirs in zip(seen, without)]
    key = "processor_us_per_request"
    spent = [ours[key] / theirs[key] - 1 for ours, theirs in zip(seen, without)]
    return {"throughput_lost_share": _median(lost), "processor_added_share": _median(spent)}


def _median(shares: Sequence[float]) -> dict[str, float]:
    """With the ends of its 95 % interval, by the bootstrap over repeats (percentile method)."""
    drawn = np.random.default_rng(0).choice(np.array(shares), (RESAMPLES, len(shares)))
    low, high = np.percentile(np.median(drawn, axis=1), [2.5, 97.5])
    return {"median": float(np.median(shares)), "low": float(low), "high": float(high)}


def main(
    connections: Annotated[int, typer.Option(min=1)] = 64,
    seconds: Annotated[int, typer.Option(min=1, help="Of one turn.")] = 3,
    repeats: Annotated[int, typer.Option(min=2)] = 16,
    work: Annotated[bool, typer.Option(help="20 and 200 microseconds a row in the stages; else none.")] = True,
    out: Annotated[Path, typer.Option()] = RESULTS / "serving/observability_overhead.json",
) -> None:
    """Measure what metrics and spans cost."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers are stopped then, too
    rounds = calibrated_rounds() if work else [0, 0]
    parts = [request_body(row[None]) for row in busy_stage.new_rows(ROWS)]
    contents, headers = [body for body, _ in parts], parts[0][1]
    with tempfile.TemporaryDirectory() as name, collecting() as collector:
        servers = list(new_servers(Path(name), rounds, parts[0]))
        for server in servers:
            server.environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector}
        wrk = Wrk(contents, headers, Path(name))
        with ServerRace(servers, contents, headers, wrk, Console(stderr=True).print) as race:
            if race.missing:
                raise CascadeError(f"not started: {', '.join(race.missing)}")
            numbers = race.run(connections, seconds, repeats)
    if not Collector.taken_bytes:
        raise CascadeError("no spans came to the collector, so their cost was not measured")
    costs = {name: cost(numbers, name) for name in SETTINGS if name != WITHOUT}
    result = {
        "schema_version": 1,
        "measured": {
            "rows_per_request": 1,
            "connections": connections,
            "seconds": seconds,
            "work": work,
            "sample_share": SETTINGS["metrics_and_spans"]["traces"]["sample_share"],
            "spans_bytes": Collector.taken_bytes,
        },
        "machine": describe_machine(),
        "cost": costs,
        "sought": {"throughput_lost_share": MOST_COST},
        "summary": spread(numbers),
        "repeats": numbers,
    }
    save_result(out, result)
    typer.echo(json.dumps(costs, sort_keys=True))


if __name__ == "__main__":
    run_experiment(main)
