"""How often a check on fresh rows raises an alarm: in vain, and when the traffic has become harder.

    python -m cascade.benchmarks.experiments.statistics.fresh_alarms

For every synthetic family, target, and number of rows: policies are calibrated on independent samples, and each is
checked on a fresh sample. From the same population an alarm is in vain, and its share must be at most delta but for
three standard errors of the simulation (policies whose promise never held, at most a share delta, are counted as
well, and their alarms are right). From a population in which the rows that the first stage gets wrong are twice
as frequent, the share of alarms is the power of the check.
"""

import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.progress import track

from cascade.benchmarks.harness.experiment import RESULTS, run_experiment, save_result
from cascade.benchmarks.harness.populations import FAMILIES, Population, synthetic
from cascade.calibration import InfeasibleTarget, Policy, calibrate
from cascade.calibration.evaluation.fresh_check import check_fresh
from cascade.cli.console import console
from cascade.machine.description import describe_machine

RESULT = RESULTS / "statistics/fresh_alarms.json"
STAGES = 3
DELTA = 0.1
SIZES = ((500, 500), (500, 5000), (2000, 2000))  # rows that calibrate, fresh rows
TARGETS = ({"max_accuracy_drop": 0.03}, {"target_agreement": 0.85}, {"max_cost": 20.0})
MOST_TRIES = 3  # for each sample, where targets are refused


@dataclass(frozen=True, eq=False)
class Traffic:
    """A population, and the same when it has become harder."""

    population: Population
    harder: Population

    @classmethod
    def of(cls, family: str) -> "Traffic":
        population = synthetic(family, STAGES)
        wrong = np.flatnonzero(~population.table.correct[:, 0])
        rows = np.concatenate([np.arange(len(population.table)), wrong])
        return cls(population, Population(f"harder {family}", population.table.take(rows)))


def calibrated(population: Population, rows: int, target: dict[str, float], rng: np.random.Generator) -> Policy | None:
    """A policy certified on a sample; ``None`` where the target was refused again and again."""
    for _ in range(MOST_TRIES):
        try:
            return calibrate(population.sample(rows, rng), delta=DELTA, **target)
        except InfeasibleTarget:
            pass
    return None


def case(traffic: Traffic, target: dict[str, float], sizes: tuple[int, int], samples: int) -> dict[str, Any]:
    """The shares of alarms."""
    rows, fresh_rows = sizes
    vain = found = checked = 0
    for sample in range(samples):
        rng = np.random.default_rng((sample, *sizes))
        policy = calibrated(traffic.population, rows, target, rng)
        if policy is None:
            continue
        checked += 1
        vain += bool(check_fresh(traffic.population.sample(fresh_rows, rng), policy).violated)
        found += bool(check_fresh(traffic.harder.sample(fresh_rows, rng), policy).violated)
    limit = DELTA + 3 * (DELTA * (1 - DELTA) / max(checked, 1)) ** 0.5
    return {
        "population": traffic.population.name,
        "target": target,
        "rows": rows,
        "fresh_rows": fresh_rows,
        "delta": DELTA,
        "policies": checked,
        "vain_alarms": vain / max(checked, 1),
        "alarms_when_harder": found / max(checked, 1),
        "limit": limit,
        "valid": vain <= limit * checked,
    }


def main(
    samples: Annotated[int, typer.Option(min=1, help="Policies for each case.")] = 200,
    out: Annotated[Path, typer.Option(help="Result file to write.")] = RESULT,
) -> None:
    """Simulate."""
    kinds = [Traffic.of(family) for family in FAMILIES]
    cases = list(itertools.product(kinds, TARGETS, SIZES))
    entries = [case(*each, samples) for each in track(cases, "cases", console=console)]
    summary = {
        "cases": len(entries),
        "invalid": sum(not entry["valid"] for entry in entries),
        "largest_share_of_vain_alarms": max(entry["vain_alarms"] for entry in entries),
        "alarms_when_harder": {
            f"{rows} then {fresh}": [
                min(e["alarms_when_harder"] for e in entries if (e["rows"], e["fresh_rows"]) == (rows, fresh)),
                max(e["alarms_when_harder"] for e in entries if (e["rows"], e["fresh_rows"]) == (rows, fresh)),
            ]
            for rows, fresh in SIZES
        },
    }
    result = {"schema_version": 1, "samples": samples, "machine": describe_machine(), "summary": summary}
    save_result(out, result | {"cases": entries})
    typer.echo(json.dumps(summary))


if __name__ == "__main__":
    run_experiment(main)
