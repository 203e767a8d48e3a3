r"""What does leaving a share of the rows to a person gain, and are the guarantees satisfied?

    python -m cascade.benchmarks.experiments.statistics.abstention [--samples 100]
    python -m cascade.benchmarks.experiments.statistics.abstention --scores cifar10.npz \
        --out benchmarks/results/statistics/abstention_cifar10.json

Populations are three synthetic families of three stages, or the rows of a real score table: their truth is known. From
each, calibration samples are drawn and policies are certified on them. Every case has the share of the samples for
which a certified policy was found; its mean cost, over that of the last stage alone; the accuracy of the answered rows
and the abstained share on the population; and the share of the samples whose policy violates any of its guarantees,
which must be at most delta but for three standard errors of the simulation.

Two questions: at the accuracy that the last stage alone has on all rows, how cheap can a cascade be; and within half of
the last stage's cost, how accurate.
"""

import itertools
from collections import defaultdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from cascade.benchmarks.harness.experiment import Figure, Figures, Found, run_experiment
from cascade.benchmarks.harness.populations import FAMILIES, Population, synthetic
from cascade.benchmarks.harness.simulation import allowed_share, in_chunks
from cascade.calibration import Identity, ScoreTable
from cascade.calibration.certificates.certification import split_rows
from cascade.calibration.certificates.certifier import Certifier
from cascade.calibration.certificates.goal import Goal
from cascade.calibration.certificates.smoothing import smoothed
from cascade.calibration.routing_problem import RoutingProblem
from cascade.routers import Router, answering_stage

STAGES, ROWS, DELTA = 3, 4000, 0.05
SHARES = (0.0, 0.02, 0.05, 0.1, 0.2)
CHUNK = 10

Case = tuple[str, str, float]
"""Name of the population, kind of the goal, most abstained share."""


def goal_of(population: Population, kind: str, most_abstained: float) -> Goal:
    """The goal of a case."""
    if kind == "cheapest":
        return Goal.of(target_accuracy=float(population.table.correct[:, -1].mean()), max_abstain=most_abstained)
    return Goal.of(max_cost=0.5 * last_cost(population.table), max_abstain=most_abstained)


def last_cost(table: ScoreTable) -> float:
    """Mean cost of a row that the last stage alone answers."""
    return float(np.broadcast_to(table.cost, table.prediction.shape)[:, -1].mean())


def problem_of(table: ScoreTable, goal: Goal) -> RoutingProblem:
    """The problem of a table whose confidences are used as is."""
    return RoutingProblem.from_table(table, (Router(None, Identity()),) * table.stages, False, goal.abstains)


def simulate(population: Population, goal: Goal, samples: range) -> list[dict[str, float]]:
    """Accuracy, abstained share and cost on the population, for each sample with a certified policy."""
    truth, outcomes = problem_of(population.table, goal), []
    for sample in samples:
        table = population.sample(ROWS, np.random.default_rng((sample, ROWS)))
        search, test = split_rows(ROWS, sample)
        found = Certifier(smoothed(problem_of(table.take(search), goal)), problem_of(table.take(test), goal)).certify(
            goal, DELTA
        )
        if found is None:
            continue
        stage = answering_stage(truth.confidence, found.thresholds)
        answered, places = truth.answered(stage), stage[:, None]
        satisfied = (p.margin(float(p.outcome(truth, stage).mean())) >= 0 for p in goal.guarantees(truth, DELTA))
        outcomes.append(
            {
                "accuracy": float(np.take_along_axis(truth.gain, places, axis=1)[answered, 0].mean()),
                "abstained": float(1 - answered.mean()),
                "cost": float(np.take_along_axis(truth.cost, places, axis=1).mean()) / last_cost(population.table),
                "violated": float(not all(satisfied)),
            }
        )
    return outcomes


_known: dict[str, Population] = {}


def _start(scores: Path | None) -> None:
    if scores is None:
        _known.update({family: synthetic(family, STAGES) for family in FAMILIES})
    else:
        _known[scores.stem] = Population(scores.stem, ScoreTable.load(scores))


def _run(case: Case, samples: range) -> list[dict[str, float]]:
    name, kind, share = case
    return simulate(_known[name], goal_of(_known[name], kind, share), samples)


def _entry(case: Case, outcomes: list[dict[str, float]], samples: int) -> dict[str, Any]:
    name, kind, share = case
    population = _known[name]
    violated = sum(outcome["violated"] for outcome in outcomes) / samples
    means = {
        key: float(np.mean([outcome[key] for outcome in outcomes])) if outcomes else None
        for key in ("accuracy", "abstained", "cost")
    }
    return means | {
        "population": name,
        "goal": kind,
        "targets": goal_of(population, kind, share).targets,
        "max_abstain": share,
        "last_stage_accuracy": float(population.table.correct[:, -1].mean()),
        "certified_share": len(outcomes) / samples,
        "violated_share": violated,
        "valid": violated <= allowed_share(DELTA, samples),
    }


def main(
    scores: Annotated[Path | None, typer.Option(help="A real score table with labels, for the synthetic ones.")] = None,
    samples: Annotated[int, typer.Option(min=1, help="Calibration samples for each case.")] = 100,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
) -> Found:
    """Simulate."""
    _start(scores)
    cases = list(itertools.product(_known, ("cheapest", "most accurate"), SHARES))
    outcomes: dict[Case, list[dict[str, float]]] = defaultdict(list)
    for case, outcome in in_chunks(_run, cases, samples, CHUNK, workers, _start, scores):
        outcomes[case] += outcome
    entries = [_entry(case, outcomes[case], samples) for case in cases]
    return {"rows": ROWS, "delta": DELTA, "samples": samples, "cases": entries}


def figures(found: Found) -> Figures:
    """Over all cases."""
    return {
        "cases with more violated guarantees than delta explains": Figure(
            sum(not case["valid"] for case in found["cases"]), 0
        ),
        "highest share of violated guarantees": Figure(max(case["violated_share"] for case in found["cases"])),
    }


if __name__ == "__main__":
    run_experiment(main, figures)
