"""How much throughput and processor time do metrics and spans cost?

    python -m cascade.benchmarks.experiments.serving.observability_overhead

One row per request over HTTP to the synthetic cascade, both stages in one gateway. Three servers run at the same time
and are loaded by turns, so that any other load on the machine affects all of them: without metrics; with them; and with
spans of one request in a hundred as well, sent to a collector that only counts them. Sought: at most 3 % of the
throughput. Needs wrk, and the extras ``bench`` and ``traces``.
"""

import http.server
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from cascade.benchmarks.analysis.intervals import spread
from cascade.benchmarks.harness.experiment import Figure, Figures, Found, run_experiment
from cascade.benchmarks.harness.servers.server_process import cascade_server
from cascade.benchmarks.harness.servers.server_race import OURS, ServerRace
from cascade.benchmarks.harness.stages import busy_stage
from cascade.benchmarks.harness.synthetic_cascade import (
    calibrated_rounds,
    one_row_requests,
    shuffled_rows,
    write_cascade,
)
from cascade.errors import CascadeError

WITHOUT = OURS
"""Name, in the race, of the server that the others are compared with."""
SETTINGS: dict[str, dict[str, Any]] = {
    WITHOUT: {"metrics": False},
    "metrics": {"metrics": True},
    "metrics_and_spans": {"metrics": True, "traces": {"sample_share": 0.01}},
}
MOST_COST = 0.03
RESAMPLES = 10_000


class Collector(http.server.BaseHTTPRequestHandler):
    """Takes spans and counts their bytes."""

    protocol_version = "HTTP/1.1"
    taken_bytes = 0

    def do_POST(self) -> None:
        """200."""
        Collector.taken_bytes += len(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Writes nothing."""


@contextmanager
def collecting() -> Iterator[str]:
    """Yields the address of a collector."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def cost(repeats: Sequence[dict[str, Any]], name: str) -> dict[str, Any]:
    """The cost of a server's settings, from pairs of the same repeat: shares of throughput and of processor time."""
    pairs = [(repeat[name], repeat[WITHOUT]) for repeat in repeats]
    lost = [1 - ours["requests_per_s"] / theirs["requests_per_s"] for ours, theirs in pairs]
    key = "processor_us_per_request"
    added = [ours[key] / theirs[key] - 1 for ours, theirs in pairs]
    return {"throughput_lost_share": _median(lost), "processor_added_share": _median(added)}


def _median(shares: Sequence[float]) -> dict[str, float]:
    """With the ends of its 95 % interval, by the bootstrap over repeats (percentile method)."""
    drawn = np.random.default_rng(0).choice(np.array(shares), (RESAMPLES, len(shares)))
    low, high = np.percentile(np.median(drawn, axis=1), [2.5, 97.5])
    return {"median": float(np.median(shares)), "low": float(low), "high": float(high)}


def main(
    connections: Annotated[int, typer.Option(min=1)] = 64,
    seconds: Annotated[int, typer.Option(min=1, help="Of one turn.")] = 3,
    repeats: Annotated[int, typer.Option(min=2)] = 16,
    work: Annotated[bool, typer.Option(help="20 and 200 microseconds per row in the stages; else none.")] = True,
) -> Found:
    """Measure the cost of metrics and spans."""
    rounds = calibrated_rounds() if work else [0, 0]
    requests = one_row_requests(shuffled_rows())
    with tempfile.TemporaryDirectory() as folder, collecting() as collector:
        servers = [
            cascade_server(
                write_cascade(Path(folder) / name, rounds, serving={"segments": [list(busy_stage.STAGES)], **settings}),
                requests[0],
                name,
                {"OTEL_EXPORTER_OTLP_ENDPOINT": collector},
            )
            for name, settings in SETTINGS.items()
        ]
        with ServerRace(servers, requests) as race:
            if race.missing:
                raise CascadeError(f"not started: {', '.join(race.missing)}")
            numbers = race.run(connections, seconds, repeats)
    if not Collector.taken_bytes:
        raise CascadeError("no spans came to the collector, so their cost was not measured")
    return {
        "measured": {"settings": SETTINGS, "spans_bytes": Collector.taken_bytes},
        "cost": {name: cost(numbers, name) for name in SETTINGS if name != WITHOUT},
        "summary": spread(numbers),
        "repeats": numbers,
    }


def figures(found: Found) -> Figures:
    """Medians over the repeats."""
    numbers = {}
    for name, seen in found["cost"].items():
        settings = name.replace("_", " ")
        lost, added = seen["throughput_lost_share"]["median"], seen["processor_added_share"]["median"]
        numbers[f"share of the throughput lost, {settings}"] = Figure(lost, MOST_COST)
        numbers[f"share of processor time added, {settings}"] = Figure(added)
    return numbers


if __name__ == "__main__":
    run_experiment(main, figures)
