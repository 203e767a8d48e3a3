"""Does the simulation agree with served cascades?

    cascade collect examples/cifar10/static.yaml --dataset cifar10 --split test --threads 1
    python -m cascade.benchmarks.experiments.costs.simulated_served --scores scores.npz

The CIFAR-10 cascade of plain networks and its last stage alone are served by one and by two gateways
(``served_loads.py``): throughput in a closed loop of 64 connections, and latency at random moments. The simulation
gets what was measured just before, at other loads: the times of each stage's calls in a gateway that has only this
stage, without pauses for the closed loop and with pauses for the open loop; how much slower they are while a second
process runs the same; and the overheads of a request and of a micro-batch. The simulated requests come at the
moments, and take the routes, of the real ones. A client and Ray take a part of the processors, which is measured
while a load runs. The last stage alone also gets a third of the cascade's rate: if its p99 is no lower, the cascade
needs a third of the replicas.

``--measured FILE`` keeps what an earlier result has measured, so that it can be done in pieces (``--gateways``).
Needs the extra ``bench``.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import psutil
import typer

from cascade.benchmarks.experiments.costs.served_loads import CONFIG, CONNECTIONS, measured, open_load, sent_rows
from cascade.benchmarks.harness.clients.lean_load import SEED
from cascade.benchmarks.harness.experiment import Figure, Figures, Found, run_experiment
from cascade.benchmarks.harness.results.result_file import load_result
from cascade.calibration import Policy, PolicySet, ScoreTable
from cascade.calibration.costs.cost_curve import CostCurve
from cascade.cli.shared.inputs import load_rows
from cascade.config import CascadeConfig
from cascade.errors import CascadeError
from cascade.planning.grouping import Transport
from cascade.planning.simulation.deployment import Deployment, Machine, StageTimes
from cascade.planning.simulation.outcome import Outcome
from cascade.planning.simulation.requests import Requests
from cascade.planning.simulation.routes import Routes
from cascade.planning.simulation.simulate import simulate

GATEWAYS = (1, 2)
PROCESSORS = psutil.cpu_count() or 1
TIMES_FEWER = 3.0
MOST_OFF = 0.15
BATCH_ROWS, REQUEST_MS, BATCH_MS = 64, 0.1, 0.2
TRANSPORT = Transport(hop_ms=2.0, batch_rows=BATCH_ROWS, request_ms=REQUEST_MS, batch_ms=BATCH_MS)
SIMULATED_REQUESTS = 40_000
SEEDS = 5  # of the gateway that a request comes to, which the real ones do not report


class Simulated:
    """The simulation of the cascades that were served by a number of gateways.

    Args:
        part: what was measured.
        table: of the rows that were sent.
        policy: of the example.
    """

    def __init__(self, part: Found, table: ScoreTable, policy: Policy) -> None:
        self._part, self._policy = part, policy
        self._table = table

    def predicted(self, seen: Found) -> Found:
        """Throughput and latency of one of the served cascades."""
        closed, opened = seen["closed_loop"], seen["open_loop"]
        client_ms = closed["client"]["processor_us_per_request"] / 1e3
        requests = Requests.closed_loop(CONNECTIONS, SIMULATED_REQUESTS, client_ms=client_ms)
        throughput = self._outcome(seen, "ms", closed["others"], self._routes(seen), requests).rows_per_s
        outcomes = [self._replayed(seen, opened, seed) for seed in range(SEEDS)]
        return {
            "stages": seen["stages"],
            "gateways": seen["gateways"],
            "requests_per_s": throughput,
            "p50_ms": float(np.median([outcome.latency_percentile(50) for outcome in outcomes])),
            "p99_ms": float(np.median([outcome.latency_percentile(99) for outcome in outcomes])),
            "utilisation": outcomes[0].segments[0].utilisation,
            "keeps_up": outcomes[0].keeps_up,
        }

    def _replayed(self, seen: Found, load: Found, seed: int) -> Outcome:
        """The requests of an open loop, at their moments and with their rows."""
        arrival_ms = 1e3 * open_load(load["rate_per_s"], load["seconds"]).due(SEED)
        requests = Requests(arrival_ms, np.ones(len(arrival_ms), dtype=np.int64))
        routes = self._routes(seen).replayed(sent_rows(len(self._table), len(arrival_ms)))
        return self._outcome(seen, "paused_ms", load["others"], routes, requests, seed)

    def _routes(self, seen: Found) -> Routes:
        is_alone = len(seen["stages"]) == 1
        return Routes.of_last_stage(self._table) if is_alone else Routes.of_table(self._table, self._policy)

    def _outcome(
        self, seen: Found, key: str, others: float, routes: Routes, requests: Requests, seed: int = 0
    ) -> Outcome:
        table = self._table.with_curves(curves_of(self._part["calls"], key))
        stages = StageTimes.of_table(table, self._policy, BATCH_ROWS)[-len(seen["stages"]) :]
        machine = Machine(PROCESSORS, seen["gateways"], others, self._part["slowdown"])
        segments = (tuple(range(len(stages))),)
        deployment = Deployment(stages, segments, [seen["gateways"]], TRANSPORT, machine=machine)
        return simulate(deployment, routes, requests, seed)


def curves_of(calls: list[Found], key: str = "ms") -> list[CostCurve]:
    """Cost curves of the stages, from the times of their calls in a gateway.

    Args:
        calls: of each stage, see :func:`~cascade.benchmarks.experiments.costs.served_loads.served_calls`.
        key: "ms" or "paused_ms".
    """
    return [CostCurve.fit(np.array(own["rows"]), np.array(own[key]) - REQUEST_MS - BATCH_MS) for own in calls]


def draw(found: Found, path: Path) -> None:
    """Measured against simulated latency."""
    from matplotlib.figure import Figure as Picture

    picture = Picture(figsize=(5.5, 3.8), layout="constrained")
    panel = picture.subplots()
    pairs = pairs_of(found)
    names = [f"{_short(seen)}\n{seen['gateways']} gateway{'s'[: seen['gateways'] - 1]}" for seen, _ in pairs]
    places = np.arange(len(pairs))
    panel.bar(places - 0.2, [seen["open_loop"]["latency_ms"]["p99"] for seen, _ in pairs], 0.4, label="measured")
    panel.bar(places + 0.2, [guess["p99_ms"] for _, guess in pairs], 0.4, label="simulated")
    panel.set_xticks(places, names, fontsize="small")
    panel.set_ylabel("p99 of the latency, ms")
    panel.legend(fontsize="small")
    picture.savefig(path)


def _short(seen: dict[str, Any]) -> str:
    return "cascade" if len(seen["stages"]) > 1 else "biggest alone"


def main(
    scores: Annotated[Path, typer.Option(exists=True, help="Score table of the CIFAR-10 example, with one thread.")],
    gateways: Annotated[list[int] | None, typer.Option(min=1, help="Numbers to measure; by default 1 and 2.")] = None,
    seconds: Annotated[float, typer.Option(min=1, help="Of each open loop.")] = 30.0,
    share: Annotated[float, typer.Option(min=0.1, max=0.95, help="Rate over the throughput.")] = 0.45,
    earlier: Annotated[
        Path | None, typer.Option("--measured", exists=True, help="Result file whose measurements are kept.")
    ] = None,
) -> Iterator[Found]:
    """Measure, and simulate the same."""
    config, table = CascadeConfig.load(CONFIG), ScoreTable.load(scores)
    policy = PolicySet.load(config.policy).best
    rows, label = load_rows("cifar10", "test", None, config.classes)
    if label is None or table.label is None or not np.array_equal(table.label, label):
        raise CascadeError(f"{scores}: needs the scores of the rows that are sent, the test rows of CIFAR-10 in order")
    found: Found = {"measured": [], "predicted": []}
    if earlier is not None:
        before = load_result(earlier)
        origin = {key: before[key] for key in ("date", "commit", "command")}
        found["measured"] = [{"measured_by": origin, **part} for part in before["found"]["measured"]]
    done = {part["gateways"] for part in found["measured"]}
    for count in sorted(set(GATEWAYS if gateways is None else gateways) - done):
        kept = found["measured"]
        for part in measured(config, policy, rows, count, seconds, share, TIMES_FEWER):
            found["measured"] = [*kept, part]
            yield found
    for part in found["measured"]:
        simulated = Simulated(part, table, policy)
        found["predicted"] += [simulated.predicted(seen) for seen in part["served"]]
    yield found


def pairs_of(found: Found) -> list[tuple[Found, Found]]:
    """What was measured of each served cascade, and what was simulated, as far as that is."""
    served = [seen for part in found["measured"] for seen in part["served"]]
    return list(zip(served, found["predicted"], strict=False))


def figures(found: Found) -> Figures:
    """Errors of the simulation, and the p99 of the biggest model at a third of the rate over the cascade's."""
    named: Figures = {}
    for seen, guess in pairs_of(found):
        case = f"{_short(seen)}, {seen['gateways']} gateways"
        off = guess["requests_per_s"] / seen["closed_loop"]["requests_per_s"] - 1
        named[f"error of the simulated throughput, {case}"] = Figure(abs(off), MOST_OFF)
        off = guess["p99_ms"] / seen["open_loop"]["latency_ms"]["p99"] - 1
        named[f"error of the simulated p99, {case}"] = Figure(abs(off), MOST_OFF)
    served = {(_short(seen), seen["gateways"]): seen for part in found["measured"] for seen in part["served"]}
    for gateways in GATEWAYS:
        whole, alone = served.get(("cascade", gateways)), served.get(("biggest alone", gateways))
        if whole and alone:
            ratio = alone["fewer_replicas"]["latency_ms"]["p99"] / whole["open_loop"]["latency_ms"]["p99"]
            named[f"p99 of the biggest model alone at a third of the rate, over the cascade's, {gateways} gateways"] = (
                Figure(ratio, 1.0, ">=")
            )
    return named


if __name__ == "__main__":
    run_experiment(main, figures, draw)
