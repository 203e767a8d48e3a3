"""How many replicas does a cascade save at scale, against its biggest model alone?

    python -m cascade.benchmarks.experiments.costs.simulated_scale --scores scores.npz

Simulated: the replicas of both for the same p99, for requests in bursts, at rising rates. The times of the stages'
calls are those that ``simulated_served.py`` measured in a gateway, which also compares the simulation with servers.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from cascade.benchmarks.experiments.costs.served_loads import CONFIG
from cascade.benchmarks.experiments.costs.simulated_served import TRANSPORT, curves_of
from cascade.benchmarks.harness.experiment import Figure, Figures, Found, run_experiment
from cascade.benchmarks.harness.results.result_file import RESULTS, ROOT, load_result
from cascade.calibration import Policy, PolicySet, ScoreTable, calibrate
from cascade.cli.shared.console import console
from cascade.config import CascadeConfig
from cascade.planning.served_plan import plan_served
from cascade.planning.simulation.deployment import Deployment, StageTimes
from cascade.planning.simulation.requests import Requests
from cascade.planning.simulation.routes import Routes
from cascade.planning.simulation.simulate import simulate

TIMES_FEWER = 3.0
SERVED = RESULTS / "costs" / "simulated_served.json"
RATES, P99_MS = (100.0, 300.0, 1000.0), 200.0
BURSTS: dict[str, Any] = {"factor": 4.0, "share": 0.1, "burst_s": 1.0}
TRACE_S, LEAST_REQUESTS = 30.0, 15_000
LARGE_RATE, LARGE_REQUESTS, LARGE_SHARE = 200_000.0, 150_000, 0.6


def plans(table: ScoreTable, shipped: Policy) -> Iterator[dict[str, Any]]:
    """The replicas for a p99, with the example's policy and with one of the last stage's own accuracy."""
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
    """Replicas against rate."""
    from matplotlib.figure import Figure as Picture

    picture = Picture(figsize=(5.5, 3.8), layout="constrained")
    panel = picture.subplots()
    for name, style in (("policy of the example", "-"), ("policy without a drop", "--")):
        points = [each for each in found["plans"] if each["policy"] == name]
        rates = [each["rate_per_s"] for each in points]
        own = [sum(each["simulated"]["replicas"]) for each in points]
        panel.plot(rates, own, marker="o", linestyle=style, color="tab:blue", label=f"cascade, {name}")
        if style == "-":
            biggest = [sum(each["biggest_alone"]["replicas"]) for each in points]
            panel.plot(rates, biggest, marker="s", color="tab:red", label="biggest model alone")
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.minorticks_off()
    panel.set_xticks(RATES, [f"{rate:,g}" for rate in RATES])
    panel.set_yticks([2, 5, 10, 20, 50], ["2", "5", "10", "20", "50"])
    panel.set_xlabel("rows/s, in bursts")
    panel.set_ylabel(f"replicas for a p99 of {P99_MS:g} ms")
    panel.legend(fontsize="small")
    picture.savefig(path)


def main(
    scores: Annotated[Path, typer.Option(exists=True, help="Score table of the CIFAR-10 example.")],
    served: Annotated[Path, typer.Option(exists=True, help="Result file of simulated_served.py.")] = SERVED,
) -> Iterator[Found]:
    """Plan for rising rates."""
    policy = PolicySet.load(CascadeConfig.load(CONFIG).policy).best
    measured = load_result(served)
    table = ScoreTable.load(scores).with_curves(curves_of(measured["found"]["measured"][0]["calls"]))
    found: Found = {"measured_by": {key: measured[key] for key in ("date", "commit", "command")}}
    found |= {"large": large(table, policy), "plans": []}
    for plan in plans(table, policy):
        found["plans"].append(plan)
        yield found


def figures(found: Found) -> Figures:
    """Replicas of the biggest model over those of the cascade."""
    named: Figures = {
        "requests simulated per second, thousands of replicas": Figure(found["large"]["requests_per_s_simulated"])
    }
    for plan in found["plans"]:
        case = f"{plan['policy']}, {plan['rate_per_s']:,g} rows/s in bursts"
        named[f"times fewer replicas, simulated, {case}"] = Figure(plan["times_fewer_replicas"], TIMES_FEWER, ">=")
    return named


if __name__ == "__main__":
    run_experiment(main, figures, draw, ROOT / "docs" / "images" / "simulated_scale.png")
