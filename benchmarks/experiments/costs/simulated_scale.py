"""Does the simulation agree with served cascades, and how many replicas does a cascade save at scale?

    cascade collect examples/cifar10/static.yaml --dataset cifar10 --split test --threads 1
    python -m cascade.benchmarks.experiments.costs.simulated_scale --scores scores.npz

Part one, measured: the CIFAR-10 cascade and its last stage alone, served by one and by two gateways; throughput in a
closed loop, and p99 at random moments. The simulation gets the stage times that were measured just before, in one
process with one thread, and the processors that neither the client nor Ray used. The last stage alone gets a third of
the cascade's rate: if its p99 is no lower, the cascade needs a third of the replicas.

Part two, simulated: the replicas of both for the same p99, for requests in bursts, at rising rates.

``--measured FILE`` takes part one from an earlier result. Needs the extra ``bench``.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import psutil
import typer

from cascade.benchmarks.experiments.costs.served_loads import (
    CONFIG,
    CONNECTIONS,
    OPEN_CONNECTIONS,
    Others,
    serving,
    slowdown,
)
from cascade.benchmarks.harness.clients.lean_load import run_load
from cascade.benchmarks.harness.experiment import Figure, Figures, Found, run_experiment
from cascade.benchmarks.harness.results.result_file import ROOT, load_result
from cascade.benchmarks.harness.servers.server_process import ServerProcess
from cascade.benchmarks.load import ClosedLoop, OpenLoop
from cascade.benchmarks.workload import Workload
from cascade.calibration import Policy, PolicySet, ScoreTable, calibrate
from cascade.calibration.costs.cost_curve import CostCurve
from cascade.cascade import load_stages
from cascade.cli.shared.console import console
from cascade.cli.shared.inputs import load_rows
from cascade.collection.measure import measure_curves, use_threads
from cascade.config import CascadeConfig
from cascade.planning.grouping import Transport
from cascade.planning.served_plan import plan_served
from cascade.planning.simulation.deployment import Deployment, Machine, StageTimes
from cascade.planning.simulation.outcome import Outcome
from cascade.planning.simulation.requests import Requests
from cascade.planning.simulation.routes import Routes
from cascade.planning.simulation.simulate import simulate

GATEWAYS = (1, 2)
CURVE_S, LARGEST = 12.0, 64  # calls of 64 rows of the last stage take a second
TIMES_FEWER = 3.0
MOST_OFF = 0.15
TRANSPORT = Transport(hop_ms=2.0, batch_rows=64, request_ms=0.1)
SIMULATED_REQUESTS = 40_000
RATES, P99_MS = (100.0, 300.0, 1000.0), 200.0
BURSTS: dict[str, Any] = {"factor": 4.0, "share": 0.1, "burst_s": 1.0}
TRACE_S, LEAST_REQUESTS = 30.0, 15_000
LARGE_RATE, LARGE_REQUESTS, LARGE_SHARE = 200_000.0, 150_000, 0.6


def measured(config: CascadeConfig, policy: Policy, rows: np.ndarray, seconds: float, share: float) -> Iterator[Found]:
    """Part one, step by step."""
    stages = load_stages(config.stages, CONFIG.parent, config.classes)
    use_threads(1)
    curves = measure_curves(stages, rows, largest=LARGEST, seconds=CURVE_S).curves
    found: Found = {
        "curves": [curve.to_dict() for curve in curves],
        "slowdown": slowdown(stages[-1], rows, batch=1, calls=40),
        "served": [],
    }
    del stages
    whole, alone = policy.stages, policy.stages[-1:]
    for gateways in GATEWAYS:
        rate = None
        for names in (whole, alone):
            one = policy if names == whole else Policy.from_thresholds(names, np.zeros(0))
            with serving(one, gateways, rows) as (server, workload):
                seen = _loads(server, workload, one.stages, seconds, share, rate)
            rate = seen["rate_per_s"] / TIMES_FEWER
            found["served"].append({"stages": list(names), "gateways": gateways, **seen})
            yield found


def _loads(
    server: ServerProcess,
    workload: Workload,
    stages: tuple[str, ...],
    seconds: float,
    share: float,
    rate: float | None,
) -> dict[str, Any]:
    warm = ClosedLoop(CONNECTIONS, 2.0)
    run_load(warm, server.address, workload, stages, CONNECTIONS)
    closed_others, others = Others(server), Others(server)
    load = ClosedLoop(CONNECTIONS, seconds / 2)
    closed = run_load(load, server.address, workload, stages, CONNECTIONS, meanwhile=closed_others)
    rate = rate or share * closed["requests_per_s"]
    seen = run_load(OpenLoop(rate, seconds), server.address, workload, stages, OPEN_CONNECTIONS, meanwhile=others)
    return {
        "capacity_per_s": closed["requests_per_s"],
        "capacity_others": closed_others.processors,
        "rate_per_s": rate,
        "answered_per_s": seen["requests_per_s"],
        "latency_ms": seen["latency_ms"],
        "requests": seen["requests"],
        "errors": seen["errors"],
        "others": others.processors,
        "gateway_processor_s": others.gateway_s,
    }


def predicted(found: Found, table: ScoreTable, policy: Policy) -> list[dict[str, Any]]:
    """Throughput and p99 of each served cascade, simulated."""
    curves = [CostCurve.fit(np.array(each["rows"]), np.array(each["ms"])) for each in found["curves"]]
    timed = table.with_curves(curves)
    predictions = []
    for seen in found["served"]:
        is_alone = len(seen["stages"]) == 1
        stages = StageTimes.of_table(timed, policy, TRANSPORT.batch_rows)[-1 if is_alone else 0 :]
        routes = Routes.of_last_stage(timed) if is_alone else Routes.of_table(timed, policy)

        def simulated(others: float, requests: Requests) -> Outcome:
            machine = Machine(psutil.cpu_count() or 1, seen["gateways"], others, found["slowdown"])  # noqa: B023
            segments = (tuple(range(len(stages))),)  # noqa: B023
            deployment = Deployment(stages, segments, [seen["gateways"]], TRANSPORT, machine=machine)  # noqa: B023
            return simulate(deployment, routes, requests)  # noqa: B023

        closed = simulated(seen["capacity_others"], Requests.closed_loop(CONNECTIONS, SIMULATED_REQUESTS))
        opened = simulated(seen["others"], Requests.at_rate(seen["rate_per_s"], SIMULATED_REQUESTS))
        predictions.append(
            {
                "stages": seen["stages"],
                "gateways": seen["gateways"],
                "capacity_per_s": closed.rows_per_s,
                "p50_ms": opened.latency_percentile(50),
                "p99_ms": opened.latency_percentile(99),
                "utilisation": opened.segments[0].utilisation,
                "keeps_up": opened.keeps_up,
            }
        )
    return predictions


def plans(table: ScoreTable, shipped: Policy) -> Iterator[dict[str, Any]]:
    """Part two: the replicas for a p99, with the example's policy and with one of the last stage's own accuracy."""
    order = np.random.default_rng(0).permutation(len(table))
    half = len(order) // 2
    equal = calibrate(table.take(order[:half]), max_accuracy_drop=0.0, guarantee="none")
    cases = [("policy of the example", shipped, table), ("policy without a drop", equal, table.take(order[half:]))]
    for name, policy, rows in cases:
        for rate in reversed(RATES):
            requests = Requests.in_bursts(rate, max(LEAST_REQUESTS, int(TRACE_S * rate)), **BURSTS)
            with console.status(name) as status:
                plan = plan_served(rows, policy, TRANSPORT, requests, P99_MS, progress=status.update)
            yield {"policy": name, "rate_per_s": rate, "p99_ms": P99_MS, **plan.to_dict()}


def large(table: ScoreTable, policy: Policy) -> dict[str, Any]:
    """One simulation with thousands of replicas, for its speed."""
    routes, stages = Routes.of_table(table, policy), StageTimes.of_table(table, policy, TRANSPORT.batch_rows)
    row_ms = float(sum(routes.work.mean(axis=0) * [stage.call_ms[1] for stage in stages]))
    replicas = int(LARGE_RATE * row_ms / 1e3 / LARGE_SHARE)
    requests = Requests.in_bursts(LARGE_RATE, LARGE_REQUESTS, 2.0, 0.2, 0.2)
    found = simulate(Deployment(stages, (tuple(range(len(stages))),), [replicas], TRANSPORT), routes, requests)
    return {"replicas": replicas, "requests_per_s_simulated": LARGE_REQUESTS / found.wall_s, **found.to_dict()}


def draw(found: Found, path: Path) -> None:
    """Measured against simulated latency, and replicas against rate."""
    from matplotlib.figure import Figure as Picture

    picture = Picture(figsize=(9.5, 3.8), layout="constrained")
    left, right = picture.subplots(1, 2)
    pairs = list(zip(found["measured"]["served"], found["predicted"], strict=True))
    names = [f"{_short(seen)}\n{seen['gateways']} gateway{'s'[: seen['gateways'] - 1]}" for seen, _ in pairs]
    places = np.arange(len(pairs))
    left.bar(places - 0.2, [seen["latency_ms"]["p99"] for seen, _ in pairs], 0.4, label="measured")
    left.bar(places + 0.2, [guess["p99_ms"] for _, guess in pairs], 0.4, label="simulated")
    left.set_xticks(places, names, fontsize="small")
    left.set_ylabel("p99 of the latency, ms")
    left.set_yscale("log")
    left.legend(fontsize="small")
    for name, style in (("policy of the example", "-"), ("policy without a drop", "--")):
        points = [each for each in found["plans"] if each["policy"] == name]
        rates = [each["rate_per_s"] for each in points]
        right.plot(
            rates,
            [sum(each["simulated"]["replicas"]) for each in points],
            marker="o",
            linestyle=style,
            color="tab:blue",
            label=f"cascade, {name}",
        )
        if style == "-":
            biggest = [sum(each["biggest_alone"]["replicas"]) for each in points]
            right.plot(rates, biggest, marker="s", color="tab:red", label="biggest model alone")
    if found["plans"]:
        right.set_xscale("log")
        right.set_yscale("log")
    right.set_xlabel("rows/s, in bursts")
    right.set_ylabel(f"replicas for a p99 of {P99_MS:g} ms")
    right.legend(fontsize="small")
    picture.savefig(path)


def _short(seen: dict[str, Any]) -> str:
    return "cascade" if len(seen["stages"]) > 1 else "biggest alone"


def main(
    scores: Annotated[Path, typer.Option(exists=True, help="Score table of the CIFAR-10 example, with one thread.")],
    seconds: Annotated[float, typer.Option(min=1, help="Of each open loop.")] = 16.0,
    share: Annotated[float, typer.Option(min=0.1, max=0.95, help="Rate over the throughput.")] = 0.45,
    with_plans: Annotated[bool, typer.Option(help="Part two, which needs no quiet machine.")] = True,
    earlier: Annotated[
        Path | None, typer.Option("--measured", exists=True, help="Take part one from this result file.")
    ] = None,
) -> Iterator[Found]:
    """Measure, simulate the same, and plan."""
    config, table = CascadeConfig.load(CONFIG), ScoreTable.load(scores)
    policy = PolicySet.load(config.policy).best
    found: Found = {"plans": []}
    if earlier is not None:
        before = load_result(earlier)
        origin = {key: before[key] for key in ("date", "commit", "command")}
        found["measured"] = {"measured_by": origin, **before["found"]["measured"]}
    else:
        rows, _ = load_rows("cifar10", "test", None, config.classes)
        for seen in measured(config, policy, rows, seconds, share):
            found["measured"] = seen
            yield {**found, "predicted": []}
    found["predicted"] = predicted(found["measured"], table, policy)
    yield found
    if with_plans:
        curves = [CostCurve.fit(np.array(e["rows"]), np.array(e["ms"])) for e in found["measured"]["curves"]]
        timed = table.with_curves(curves)
        found["large"] = large(timed, policy)
        for plan in plans(timed, policy):
            found["plans"].append(plan)
            yield found


def figures(found: Found) -> Figures:
    """Errors of the simulation, and replicas of the biggest model over those of the cascade."""
    named: Figures = {}
    pairs = list(zip(found["measured"]["served"], found["predicted"], strict=False))
    for seen, guess in pairs:
        case = f"{_short(seen)}, {seen['gateways']} gateways"
        off = guess["capacity_per_s"] / seen["capacity_per_s"] - 1
        named[f"error of the simulated throughput, {case}"] = Figure(abs(off), MOST_OFF)
        if len(seen["stages"]) > 1:
            off = guess["p99_ms"] / seen["latency_ms"]["p99"] - 1
            named[f"error of the simulated p99, {case}"] = Figure(abs(off), MOST_OFF)
    served = {(_short(seen), seen["gateways"]): seen for seen in found["measured"]["served"]}
    for gateways in GATEWAYS:
        whole, alone = served.get(("cascade", gateways)), served.get(("biggest alone", gateways))
        if whole and alone:
            ratio = alone["latency_ms"]["p99"] / whole["latency_ms"]["p99"]
            named[f"p99 of the biggest model alone at a third of the rate, over the cascade's, {gateways} gateways"] = (
                Figure(ratio, 1.0, ">=")
            )
    for plan in found["plans"]:
        case = f"{plan['policy']}, {plan['rate_per_s']:,g} rows/s in bursts"
        named[f"times fewer replicas, simulated, {case}"] = Figure(plan["times_fewer_replicas"], TIMES_FEWER, ">=")
    if "large" in found:
        named["requests simulated per second, thousands of replicas"] = Figure(
            found["large"]["requests_per_s_simulated"]
        )
    return named


if __name__ == "__main__":
    run_experiment(main, figures, draw, ROOT / "docs" / "images" / "simulated_scale.png")
