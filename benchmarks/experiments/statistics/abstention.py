"""Cascades that may abstain: what leaving a share of the rows to a person buys, and whether the promises hold.

    python -m cascade.benchmarks.experiments.statistics.abstention [--samples 100]
    python -m cascade.benchmarks.experiments.statistics.abstention --scores cifar10.npz \\
        --out benchmarks/results/statistics/abstention_cifar10.json

Populations are three synthetic families of three stages, or the rows of a real score table: their truth is known. From
each, calibration samples are drawn and policies certified on them, and for every case stands there: the share of the
samples that a certified policy was found for; its mean cost, over that of the last stage alone; the accuracy of the
answered rows and the abstained share on the population; and the share of the samples whose policy broke any of its
promises, which must be at most delta but for three standard errors of the simulation.

Two questions: at the accuracy that the last stage alone has on all rows, how cheap can a cascade be; and within half of
the last stage's cost, how accurate.
"""

import itertools
import json
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.progress import Progress

from cascade.benchmarks.harness.experiment import RESULTS, run_experiment, save_result
from cascade.benchmarks.harness.populations import FAMILIES, Population, synthetic
from cascade.calibration import Identity, ScoreTable
from cascade.calibration.certificates.certification import split_rows
from cascade.calibration.certificates.certifier import Certifier
from cascade.calibration.certificates.goal import Goal
from cascade.calibration.certificates.smoothing import smoothed
from cascade.calibration.routing_problem import RoutingProblem
from cascade.cli.console import console
from cascade.machine.description import describe_machine
from cascade.routers import Router, answering_stage

RESULT = RESULTS / "statistics/abstention.json"
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
    """The problem of a table whose confidences count as they are."""
    return RoutingProblem.from_table(table, (Router(None, Identity()),) * table.stages, False, goal.abstains)


def simulate(population: Population, goal: Goal, samples: range) -> list[dict[str, float]]:
    """What the certified policy of each sample gives on the population; nothing where none was found."""
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
        kept = (p.margin(float(p.outcome(truth, stage).mean())) >= 0 for p in goal.guarantees(truth, DELTA))
        outcomes.append(
            {
                "accuracy": float(np.take_along_axis(truth.gain, places, axis=1)[answered, 0].mean()),
                "abstained": float(1 - answered.mean()),
                "cost": float(np.take_along_axis(truth.cost, places, axis=1).mean()) / last_cost(population.table),
                "broken": float(not all(kept)),
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
    broken = sum(outcome["broken"] for outcome in outcomes) / samples
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
        "broken_share": broken,
        "valid": broken <= DELTA + 3 * (DELTA * (1 - DELTA) / samples) ** 0.5,
    }


def main(
    scores: Annotated[Path | None, typer.Option(help="A real score table with labels, for the synthetic ones.")] = None,
    samples: Annotated[int, typer.Option(min=1, help="Calibration samples for each case.")] = 100,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
    out: Annotated[Path, typer.Option()] = RESULT,
) -> None:
    """Simulate."""
    _start(scores)
    cases = list(itertools.product(_known, ("cheapest", "most accurate"), SHARES))
    chunks = [range(start, min(start + CHUNK, samples)) for start in range(0, samples, CHUNK)]
    outcomes: dict[Case, list[dict[str, float]]] = defaultdict(list)
    with ProcessPoolExecutor(workers, initializer=_start, initargs=(scores,)) as pool, Progress(console=console) as bar:
        jobs = {pool.submit(_run, case, chunk): case for case, chunk in itertools.product(cases, chunks)}
        task = bar.add_task("samples", total=len(jobs))
        for job in as_completed(jobs):
            outcomes[jobs[job]] += job.result()
            bar.advance(task)
    entries = [_entry(case, outcomes[case], samples) for case in cases]
    summary = {
        "invalid": sum(not entry["valid"] for entry in entries),
        "largest_broken_share": max(entry["broken_share"] for entry in entries),
    }
    result = {"schema_version": 1, "rows": ROWS, "delta": DELTA, "samples": samples, "machine": describe_machine()}
    save_result(out, result | {"summary": summary, "cases": entries})
    typer.echo(json.dumps(summary))


if __name__ == "__main__":
    run_experiment(main)
