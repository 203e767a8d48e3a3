r"""How often is a certified guarantee violated, over many calibration samples from populations whose truth is known?

    python -m cascade.benchmarks.experiments.statistics.validity
    python -m cascade.benchmarks.experiments.statistics.validity --scores cifar10.npz \
        --out benchmarks/results/statistics/validity_cifar10.json
    python -m cascade.benchmarks.experiments.statistics.validity --stages 5 --samples 200 \
        --out benchmarks/results/statistics/validity_five_stages.json

Populations are three synthetic families, or the rows of a real score table. For every population, number of stages,
number of rows and delta: the share of the samples whose certified policy violates its guarantee on the population,
which must be at most delta but for three standard errors of the simulation. A refused target violates nothing; the
share of refusals is recorded beside it.
"""

import itertools
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from cascade.benchmarks.harness.experiment import Figure, Figures, Found, run_experiment
from cascade.benchmarks.harness.populations import COSTS, FAMILIES, Population, problem, synthetic
from cascade.benchmarks.harness.simulation import allowed_share, in_chunks
from cascade.calibration import ScoreTable
from cascade.calibration.certificates.certification import at_constant_costs, split_rows
from cascade.calibration.certificates.certifier import Certifier
from cascade.calibration.certificates.goal import Goal
from cascade.calibration.certificates.smoothing import smoothed
from cascade.calibration.routing_problem import RoutingProblem
from cascade.routers import answering_stage

SIZES = (500, 2000, 5000)
DELTAS = (0.05, 0.1)
CHUNK = 50

Case = tuple[tuple[str, int], int]
"""Name and number of stages of the population, rows of a sample."""
Counts = Counter[tuple[int, float, str]]


def goals(population: Population) -> list[Goal]:
    """A goal of every kind, each in the middle of what can be reached; and two at once."""
    accuracy, agreement = population.problem().gain.mean(axis=0), population.problem(True).gain.mean(axis=0)
    cost = population.problem().cost.mean(axis=0)

    def within(share: float) -> float:
        return float(cost[0] + share * (cost[-1] - cost[0]))

    return [
        Goal("target_accuracy", float(accuracy[-1]) - 0.03),
        Goal("max_accuracy_drop", 0.02),
        Goal("target_agreement", float(1 + agreement[0]) / 2),
        Goal("max_cost", within(0.4)),
        Goal("max_accuracy_drop", 0.03, Goal("max_cost", within(0.8))),
    ]


def satisfied(goal: Goal, truth: RoutingProblem, stage: np.ndarray) -> bool:
    """Whether all guarantees of a goal are satisfied on the population."""
    return all(
        guarantee.margin(float(guarantee.outcome(truth, stage).mean())) >= 0
        for guarantee in goal.guarantees(truth, DELTAS[0])
    )


def simulate(population: Population, rows: int, samples: range) -> Counts:
    """Counts of "violated" and "certified" for (number of the goal, delta)."""
    asked = goals(population)
    truths = {agreement: population.problem(agreement) for agreement in (False, True)}
    counts: Counts = Counter()
    for sample in samples:
        rng = np.random.default_rng((sample, rows))
        table = population.sample(rows, rng)
        search, test = split_rows(rows, sample)
        certifiers = {
            agreement: Certifier(smoothed(problem(table.take(search), agreement)), problem(table.take(test), agreement))
            for agreement in (False, True)
        }
        for (number, goal), delta in itertools.product(enumerate(asked), DELTAS):
            agreement = goal.gains_agreement(table)
            found = certifiers[agreement].certify(goal, delta)
            if found is not None:
                truth = truths[agreement]
                counts[number, delta, "certified"] += 1
                stage = answering_stage(truth.confidence, found.thresholds)
                # Stages that no row needs do not run, and stages that run cost what they cost at these reach shares.
                spent = at_constant_costs(goal, truth, found.thresholds, truth)
                counts[number, delta, "violated"] += not satisfied(goal, spent, stage)
    return counts


def _populations(scores: Path | None) -> dict[tuple[str, int], Population]:
    if scores is None:
        return {(family, stages): synthetic(family, stages) for family in FAMILIES for stages in COSTS}
    table = ScoreTable.load(scores)
    last = table.stages - 1
    picks = {(0, last), tuple(sorted({0, last // 2, last})), tuple(range(last + 1))}
    return {(scores.stem, len(pick)): Population(scores.stem, table.select(pick)) for pick in picks}


_known: dict[tuple[str, int], Population] = {}


def _start(scores: Path | None) -> None:
    _known.update(_populations(scores))


def _run(case: Case, samples: range) -> Counts:
    key, rows = case
    return simulate(_known[key], rows, samples)


def _entries(key: tuple[str, int], rows: int, samples: int, counts: Counts) -> list[Any]:
    entries = []
    for (number, goal), delta in itertools.product(enumerate(goals(_known[key])), DELTAS):
        certified, violated = (counts[number, delta, what] for what in ("certified", "violated"))
        limit = allowed_share(delta, samples)
        entries.append(
            {
                "population": key[0],
                "stages": key[1],
                "rows": rows,
                "targets": goal.targets,
                "delta": delta,
                "certified_share": certified / samples,
                "violated_share": violated / samples,
                "limit": limit,
                "valid": violated / samples <= limit,
            }
        )
    return entries


def main(
    scores: Annotated[
        Path | None, typer.Option(help="A real score table with labels, in place of the synthetic families.")
    ] = None,
    stages: Annotated[
        list[int] | None, typer.Option(help="Numbers of stages of the populations.", show_default="all")
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Calibration samples for each case.")] = 1000,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
) -> Found:
    """Simulate."""
    _start(scores)
    cases = [(key, rows) for key in _known for rows in SIZES if not stages or key[1] in stages]
    if not cases:
        raise typer.BadParameter(f"no population has {stages} stages; there are {sorted({key[1] for key in _known})}")
    totals: dict[Case, Counts] = {case: Counter() for case in cases}
    for case, counts in in_chunks(_run, cases, samples, CHUNK, workers, _start, scores):
        totals[case].update(counts)
    entries = [entry for (key, rows), counts in totals.items() for entry in _entries(key, rows, samples, counts)]
    return {"samples": samples, "cases": entries}


def figures(found: Found) -> Figures:
    """Over all cases."""
    cases = found["cases"]
    highest = {
        f"highest share of violated guarantees, delta {delta:g}": Figure(
            max(case["violated_share"] for case in cases if case["delta"] == delta)
        )
        for delta in DELTAS
    }
    return highest | {
        "cases": Figure(len(cases)),
        "cases with more violated guarantees than delta explains": Figure(sum(not case["valid"] for case in cases), 0),
    }


if __name__ == "__main__":
    run_experiment(main, figures)
