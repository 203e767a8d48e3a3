"""How often certified promises are broken, over many calibration samples from populations whose truth is known.

    python -m cascade.benchmarks.experiments.statistics.validity
    python -m cascade.benchmarks.experiments.statistics.validity --scores cifar10.npz \\
        --out benchmarks/results/statistics/validity_cifar10.json

Populations are three synthetic families, or the rows of a real score table. For every population, number of stages,
number of rows and delta: the share of the samples whose certified policy breaks its promise on the population, which
must be at most delta but for three standard errors of the simulation. A refused target breaks nothing; the share of
refusals stands beside it.
"""

import itertools
import json
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.progress import Progress

from cascade.benchmarks.harness.experiment import RESULTS, run_experiment, save_result
from cascade.benchmarks.harness.populations import COSTS, FAMILIES, Population, problem, synthetic
from cascade.calibration import ScoreTable
from cascade.calibration.certificates.certification import split_rows
from cascade.calibration.certificates.certifier import Certifier
from cascade.calibration.certificates.goal import Goal
from cascade.calibration.certificates.smoothing import smoothed
from cascade.calibration.routing_problem import RoutingProblem
from cascade.cli.console import console
from cascade.machine.description import describe_machine
from cascade.routers import answering_stage

RESULT = RESULTS / "statistics/validity.json"
SIZES = (500, 2000, 5000)
DELTAS = (0.05, 0.1)
CHUNK = 50


def goals(population: Population) -> list[Goal]:
    """A goal of every kind, each in the middle of what can be reached; and two at once."""
    accuracy, agreement = population.problem().gain.mean(axis=0), population.problem(True).gain.mean(axis=0)
    cost = population.table.cumulative_cost.mean(axis=0)
    within = lambda share: float(cost[0] + share * (cost[-1] - cost[0]))  # noqa: E731
    return [
        Goal("target_accuracy", float(accuracy[-1]) - 0.03),
        Goal("max_accuracy_drop", 0.02),
        Goal("target_agreement", float(1 + agreement[0]) / 2),
        Goal("max_cost", within(0.4)),
        Goal("max_accuracy_drop", 0.03, Goal("max_cost", within(0.8))),
    ]


def kept(goal: Goal, truth: RoutingProblem, stage: np.ndarray) -> bool:
    """Whether all promises of a goal hold on the population."""
    return all(
        guarantee.margin(float(guarantee.outcome(truth, stage).mean())) >= 0
        for guarantee in goal.guarantees(truth, DELTAS[0])
    )


def simulate(population: Population, rows: int, samples: range) -> Counter[tuple[int, float, str]]:
    """Counts of "broken" and "certified" for (number of the goal, delta)."""
    asked = goals(population)
    truths = {agreement: population.problem(agreement) for agreement in (False, True)}
    counts: Counter[tuple[int, float, str]] = Counter()
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
                counts[number, delta, "broken"] += not kept(goal, truth, stage)
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


def _run(key: tuple[str, int], rows: int, samples: range) -> Counter[tuple[int, float, str]]:
    return simulate(_known[key], rows, samples)


def _entries(key: tuple[str, int], rows: int, samples: int, counts: Counter[tuple[int, float, str]]) -> list[Any]:
    entries = []
    for (number, goal), delta in itertools.product(enumerate(goals(_known[key])), DELTAS):
        certified, broken = (counts[number, delta, what] for what in ("certified", "broken"))
        limit = delta + 3 * (delta * (1 - delta) / samples) ** 0.5
        entries.append(
            {
                "population": key[0],
                "stages": key[1],
                "rows": rows,
                "targets": goal.targets,
                "delta": delta,
                "certified_share": certified / samples,
                "broken_share": broken / samples,
                "limit": limit,
                "valid": broken / samples <= limit,
            }
        )
    return entries


def main(
    scores: Annotated[
        Path | None, typer.Option(help="A real score table with labels, in place of the synthetic families.")
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Calibration samples for each case.")] = 1000,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
    out: Annotated[Path, typer.Option()] = RESULT,
) -> None:
    """Simulate."""
    _start(scores)
    cases = list(itertools.product(_known, SIZES))
    totals: dict[tuple[tuple[str, int], int], Counter[tuple[int, float, str]]] = {case: Counter() for case in cases}
    chunks = [range(start, min(start + CHUNK, samples)) for start in range(0, samples, CHUNK)]
    with ProcessPoolExecutor(workers, initializer=_start, initargs=(scores,)) as pool, Progress(console=console) as bar:
        jobs = {pool.submit(_run, *case, chunk): case for case, chunk in itertools.product(cases, chunks)}
        task = bar.add_task("samples", total=samples * len(cases))
        for job in as_completed(jobs):
            totals[jobs[job]].update(job.result())
            bar.advance(task, CHUNK)
    entries = [entry for (key, rows), counts in totals.items() for entry in _entries(key, rows, samples, counts)]
    summary = {
        "cases": len(entries),
        "invalid": sum(not entry["valid"] for entry in entries),
        "largest_broken_share": {d: max(e["broken_share"] for e in entries if e["delta"] == d) for d in DELTAS},
    }
    result = {"schema_version": 1, "samples": samples, "machine": describe_machine(), "summary": summary}
    save_result(out, result | {"cases": entries})
    typer.echo(json.dumps(summary))


if __name__ == "__main__":
    run_experiment(main)
