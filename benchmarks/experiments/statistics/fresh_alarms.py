"""How often does a check on fresh rows raise an alarm: falsely, and after the data have become harder?

    python -m cascade.benchmarks.experiments.statistics.fresh_alarms

For every synthetic family, target, and number of rows: policies are calibrated on independent samples, and each is
checked on a fresh sample. From the same population an alarm is false, and the share of false alarms must be at most
delta but for three standard errors of the simulation (policies whose guarantee is violated, at most a share delta, are
counted as well, and their alarms are right). From a population in which the rows that the first stage gets wrong are
twice as frequent, the share of alarms is the power of the check.
"""

import itertools
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import typer
from rich.progress import track

from cascade.benchmarks.harness.experiment import Figure, Figures, Found, run_experiment
from cascade.benchmarks.harness.populations import FAMILIES, Population, synthetic
from cascade.benchmarks.harness.simulation import allowed_share
from cascade.calibration import InfeasibleTarget, Policy, calibrate
from cascade.calibration.evaluation.fresh_check import check_fresh
from cascade.cli.shared.console import console

STAGES = 3
DELTA = 0.1
SIZES = ((500, 500), (500, 5000), (2000, 2000))  # rows that calibrate, fresh rows
TARGETS = ({"max_accuracy_drop": 0.03}, {"target_agreement": 0.85}, {"max_cost": 20.0})
MOST_TRIES = 3  # for each sample, where targets are refused


@dataclass(frozen=True, eq=False)
class Traffic:
    """A population, and a harder one of the same rows."""

    population: Population
    harder: Population

    @classmethod
    def of(cls, family: str) -> "Traffic":
        """A synthetic family; in the harder population rows that the first stage gets wrong are twice as frequent."""
        population = synthetic(family, STAGES)
        wrong = np.flatnonzero(~population.table.correct[:, 0])
        rows = np.concatenate([np.arange(len(population.table)), wrong])
        return cls(population, Population(f"harder {family}", population.table.take(rows)))


def calibrated(population: Population, rows: int, target: dict[str, float], rng: np.random.Generator) -> Policy | None:
    """A policy certified on a sample; ``None`` where the target was refused on several samples."""
    for _ in range(MOST_TRIES):
        try:
            return calibrate(population.sample(rows, rng), delta=DELTA, **target)  # type: ignore[arg-type]
        except InfeasibleTarget:
            pass
    return None


def case(traffic: Traffic, target: dict[str, float], sizes: tuple[int, int], samples: int) -> dict[str, Any]:
    """The shares of alarms."""
    rows, fresh_rows = sizes
    false = detected = checked = 0
    for sample in range(samples):
        rng = np.random.default_rng((sample, *sizes))
        policy = calibrated(traffic.population, rows, target, rng)
        if policy is None:
            continue
        checked += 1
        false += bool(check_fresh(traffic.population.sample(fresh_rows, rng), policy).violated)
        detected += bool(check_fresh(traffic.harder.sample(fresh_rows, rng), policy).violated)
    limit = allowed_share(DELTA, checked)
    return {
        "population": traffic.population.name,
        "target": target,
        "rows": rows,
        "fresh_rows": fresh_rows,
        "delta": DELTA,
        "policies": checked,
        "false_alarms": false / max(checked, 1),
        "alarms_when_harder": detected / max(checked, 1),
        "limit": limit,
        "valid": false <= limit * checked,
    }


def main(samples: Annotated[int, typer.Option(min=1, help="Policies for each case.")] = 200) -> Found:
    """Simulate."""
    kinds = [Traffic.of(family) for family in FAMILIES]
    cases = list(itertools.product(kinds, TARGETS, SIZES))
    return {"samples": samples, "cases": [case(*each, samples) for each in track(cases, "cases", console=console)]}


def figures(found: Found) -> Figures:
    """Over all cases; the power by sample sizes."""
    cases = found["cases"]
    numbers = {
        "cases": Figure(len(cases)),
        "cases with more false alarms than delta explains": Figure(sum(not case["valid"] for case in cases), 0),
        "highest share of false alarms, delta 0.1": Figure(max(case["false_alarms"] for case in cases)),
    }
    for sizes in SIZES:
        power = [case["alarms_when_harder"] for case in cases if (case["rows"], case["fresh_rows"]) == sizes]
        for kind, extreme in (("least", min), ("highest", max)):
            name = f"{kind} share of alarms on harder data, {sizes[0]} rows to calibrate and {sizes[1]} to check"
            numbers[name] = Figure(extreme(power))
    return numbers


if __name__ == "__main__":
    run_experiment(main, figures)
