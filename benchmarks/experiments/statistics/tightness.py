"""What does a certificate cost: which part of the best possible saving do certified thresholds give up?

    python -m cascade.benchmarks.experiments.statistics.tightness [--samples 100]

Three stages of cost 1 : 6 : 30, an allowed drop of 2 points. The oracle has the thresholds that are best on the whole
population; the saving is against the last stage alone. The certified policy of ``calibrate`` is compared with

- a plain split: half of the rows propose the empirical frontier, the others test the accuracy with exact binomials
  (against the true accuracy of the last stage less the drop, which it is given);
- the floor: the population's own frontier, tested on all rows. No other choice of candidates can do better.
"""

from collections.abc import Callable
from typing import Annotated

import numpy as np
import typer
from rich.progress import track

from cascade.benchmarks.harness.experiment import Figure, Figures, Found, run_experiment
from cascade.benchmarks.harness.populations import FAMILIES, Population, problem, synthetic
from cascade.calibration import ScoreTable
from cascade.calibration.certificates.certification import Certified, certify, split_rows
from cascade.calibration.certificates.certifier import Certifier
from cascade.calibration.certificates.goal import Goal
from cascade.calibration.certificates.smoothing import smoothed
from cascade.calibration.routing_problem import RoutingProblem
from cascade.calibration.search.best_thresholds import best_thresholds
from cascade.calibration.search.grid import Grid
from cascade.cli.shared.console import console
from cascade.routers import NEVER

SIZES = (500, 2000, 5000, 20_000)
STAGES, DROP, DELTA = 3, 0.02, 0.05
GRID = 200_000
LONGEST = 400

Scheme = Callable[[ScoreTable, int], Certified | None]


def frontier_thresholds(of: RoutingProblem) -> list[np.ndarray]:
    """Thresholds of the empirical frontier, the most accurate first."""
    grid = Grid.of(of, GRID)
    points = grid.frontier()[::-1]
    spread = np.unique(np.linspace(0, len(points) - 1, LONGEST).round().astype(int))
    return [grid.thresholds(points[place]) for place in spread]


def schemes(population: Population) -> dict[str, Scheme]:
    """The policies that are compared, each a function of a sample and a seed."""
    goal = Goal("max_accuracy_drop", DROP)
    accuracy = Goal("target_accuracy", float(population.table.correct[:, -1].mean()) - DROP)
    truth = population.problem()
    ideal = frontier_thresholds(truth)

    def ours(table: ScoreTable, seed: int) -> Certified | None:
        search, test = split_rows(len(table), seed)
        return Certifier(smoothed(problem(table.take(search))), problem(table.take(test))).certify(goal, DELTA)

    def plain(table: ScoreTable, seed: int) -> Certified | None:
        search, test = np.array_split(np.random.default_rng(seed).permutation(len(table)), 2)
        proposing = problem(table.take(search))
        return certify(accuracy, problem(table.take(test)), frontier_thresholds(proposing), DELTA, proposing)

    def floor(table: ScoreTable, _: int) -> Certified | None:
        return certify(goal, problem(table), ideal, DELTA, truth)

    return {"certified": ours, "plain split": plain, "floor": floor}


def given_up(population: Population, thresholds: list[np.ndarray]) -> np.ndarray:
    """The part of the oracle's saving that each of some thresholds gives up."""
    truth = population.problem()
    alone = float(np.atleast_2d(population.table.cost)[:, -1].mean())
    never = np.full(STAGES - 1, NEVER)  # drops nothing
    oracle = best_thresholds(truth, Goal("max_accuracy_drop", DROP).search_target(truth))
    oracle = never if oracle is None else oracle
    best = alone - truth.value(oracle)[1]
    # A saving may be negative: the early stages are paid for and answer little.
    return np.array([1 - (alone - truth.value(each)[1]) / best for each in thresholds])


def main(samples: Annotated[int, typer.Option(min=2, help="Calibration samples for each case.")] = 100) -> Found:
    """Compare."""
    cases = []
    for family in FAMILIES:
        population = synthetic(family, STAGES)
        last = float(population.table.correct[:, -1].mean())
        for rows in SIZES:
            tables = [population.sample(rows, np.random.default_rng((seed, rows))) for seed in range(samples)]
            for name, scheme in schemes(population).items():
                found = [
                    scheme(table, seed)
                    for seed, table in enumerate(track(tables, f"{family} {rows} {name}", console=console))
                ]
                thresholds = [np.full(STAGES - 1, NEVER) if each is None else each.thresholds for each in found]
                lost = given_up(population, thresholds)
                violated = [population.problem().value(each)[0] < last - DROP for each in thresholds]
                cases.append(
                    {
                        "population": family,
                        "rows": rows,
                        "scheme": name,
                        "given_up": float(lost.mean()),
                        "standard_error": float(lost.std(ddof=1) / samples**0.5),
                        "nothing_saved": sum(bool((each == NEVER).all()) for each in thresholds),
                        "violated_share": float(np.mean(violated)),
                    }
                )
                console.print(cases[-1])
    return {"samples": samples, "drop": DROP, "delta": DELTA, "cases": cases}


SOUGHT = {
    ("smooth", 500): 0.47,
    ("smooth", 2000): 0.175,
    ("smooth", 5000): 0.098,
    ("smooth", 20000): 0.049,
    ("miscalibrated", 500): 0.68,
    ("miscalibrated", 2000): 0.255,
}
"""By family and rows: most that a certificate gives up."""


def figures(found: Found) -> Figures:
    """Of every family."""
    return {
        f"share of the best saving given up, {scheme}, {c['population']}, {c['rows']:,} rows": Figure(
            c["given_up"], SOUGHT.get((c["population"], c["rows"])) if scheme == "certified" else None
        )
        for scheme in ("certified", "plain split", "floor")
        for c in found["cases"]
        if c["scheme"] == scheme
    }


if __name__ == "__main__":
    run_experiment(main, figures)
