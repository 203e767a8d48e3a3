"""How often is a certified mean cost violated where rare rows are expensive?

    python -m cascade.benchmarks.experiments.statistics.rare_costs [--samples 1000]

A stage of 1 ms comes before one whose rows take 10 ms, but 600 ms one time in a hundred, independent of the first
stage's prediction. The bound of 600 ms is declared, and budgets lie between the cost of a first stage that answers all
and the mean cost of the last one, the typical cost without a rare row among them. A policy violates its budget if its
mean cost on the population is above it.
"""

import itertools
from typing import Annotated, Any

import numpy as np
import typer
from rich.progress import track

from cascade.benchmarks.harness.experiment import Figure, Figures, Found, run_experiment
from cascade.benchmarks.harness.simulation import allowed_share
from cascade.calibration import ScoreTable
from cascade.calibration.certificates.goal import Goal
from cascade.calibration.split_table import SplitTable
from cascade.cli.shared.console import console

SIZES = (60, 150, 500, 5000)
BUDGETS = (8.0, 11.0, 12.0, 14.0, 16.5)
DELTA = 0.05
FIRST, USUAL, RARE, RARE_SHARE = 1.0, 10.0, 600.0, 0.01
POPULATION = 200_000


def draw(rows: int, rng: np.random.Generator) -> ScoreTable:
    """A table of independent rows."""
    confidence = rng.uniform(0, 1, (rows, 2))
    right = rng.uniform(0, 1, (rows, 2)) < np.column_stack([0.6 + 0.35 * confidence[:, 0], np.full(rows, 0.95)])
    slow = np.where(rng.uniform(0, 1, rows) < RARE_SHARE, RARE, USUAL)
    return ScoreTable(
        prediction=np.where(right, 0, 1),
        confidence=confidence,
        cost=np.column_stack([np.full(rows, FIRST), slow]),
        stage=np.array(["fast", "slow"]),
        label=np.zeros(rows, dtype=int),
        highest_cost=np.array([FIRST, RARE]),
    )


def mean_cost(population: ScoreTable, threshold: float) -> float:
    """Per row, where the first stage accepts from this confidence on, and does not run for a threshold above 1."""
    first = FIRST if threshold <= 1 else 0.0
    return first + float((population.cost[:, 1] * (population.confidence[:, 0] < threshold)).mean())


def case(population: ScoreTable, rows: int, budget: float, samples: int) -> dict[str, Any]:
    """Counts over many draws."""
    goal, certified, violated = Goal("max_cost", budget), 0, 0
    for sample in range(samples):
        table = draw(rows, np.random.default_rng((sample, rows)))
        found = SplitTable.of(table, sample, None, False).fitted(goal).certifier.certify(goal, DELTA)
        if found is not None:
            certified += 1
            violated += mean_cost(population, found.thresholds[0]) > budget
    limit = allowed_share(DELTA, samples)
    return {
        "rows": rows,
        "budget_ms": budget,
        "certified_share": certified / samples,
        "violated_share": violated / samples,
        "limit": limit,
        "valid": violated / samples <= limit,
    }


def main(samples: Annotated[int, typer.Option(min=1, help="Calibration samples for each case.")] = 1000) -> Found:
    """Simulate."""
    population = draw(POPULATION, np.random.default_rng(1))
    cases = [
        case(population, rows, budget, samples)
        for rows, budget in track(list(itertools.product(SIZES, BUDGETS)), "cases", console=console)
    ]
    return {"samples": samples, "delta": DELTA, "cases": cases}


def figures(found: Found) -> Figures:
    """Over all cases."""
    return {
        "cases with more violated budgets than delta explains": Figure(
            sum(not case["valid"] for case in found["cases"]), 0
        ),
        "highest share of violated budgets, delta 0.05": Figure(max(case["violated_share"] for case in found["cases"])),
    }


if __name__ == "__main__":
    run_experiment(main, figures)
