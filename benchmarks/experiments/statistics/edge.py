"""How often do thresholds chosen exactly at their target miss it on future data?

    python -m cascade.benchmarks.experiments.statistics.edge [--samples 100]

Calibration samples from populations whose truth is known (``populations.py``). The policy is the cheapest that reaches
its target on the sample itself (``guarantee="none"``), and counts as a miss if it does not reach it on the population.
With more stages there are more thresholds, and the best on the sample is more often the best by chance.
"""

import itertools
from typing import Annotated, Any

import numpy as np
import typer
from rich.progress import track

from cascade.benchmarks.harness.experiment import Figure, Figures, Found, run_experiment
from cascade.benchmarks.harness.populations import COSTS, FAMILIES, Population, synthetic
from cascade.calibration import calibrate, evaluate
from cascade.cli.shared.console import console
from cascade.errors import InfeasibleTarget

ROWS = 2000
DROP = 0.02


def targets(population: Population) -> dict[str, float]:
    """Values in the middle of the range that can be reached."""
    return {
        "max_accuracy_drop": DROP,
        "target_accuracy": float(population.table.correct[:, -1].mean()) - DROP,
        "target_agreement": float(1 + population.table.agrees[:, 0].mean()) / 2,
    }


def is_missed(population: Population, name: str, value: float, seed: int) -> bool | None:
    """Whether the policy of one sample misses its target; ``None`` if no policy reaches it on the sample."""
    table = population.sample(ROWS, np.random.default_rng((seed, ROWS)))
    try:
        policy = calibrate(table, guarantee="none", **{name: value})  # type: ignore[arg-type]
    except InfeasibleTarget:
        return None
    truth = evaluate(population.table, policy)
    if name == "target_agreement":
        return truth.agreement < value
    least = value if name == "target_accuracy" else float(population.table.correct[:, -1].mean()) - value
    return bool((truth.accuracy or 0.0) < least)


def main(samples: Annotated[int, typer.Option(min=1, help="Calibration samples for each case.")] = 100) -> Found:
    """Simulate."""
    cases: list[dict[str, Any]] = []
    for stages, family in track(list(itertools.product(COSTS, FAMILIES)), "cases", console=console):
        population = synthetic(family, stages)
        for name, value in targets(population).items():
            outcomes = [is_missed(population, name, value, seed) for seed in range(samples)]
            reached = [each for each in outcomes if each is not None]
            share = sum(reached) / max(len(reached), 1)
            cases.append(
                {"population": family, "stages": stages, "target": name, "policies": len(reached), "missed": share}
            )
    return {"samples": samples, "rows": ROWS, "cases": cases}


def figures(found: Found) -> Figures:
    """Least and highest share over families and targets."""
    return {
        f"{kind} share of samples that miss the target, {stages} stages": Figure(
            extreme(case["missed"] for case in found["cases"] if case["stages"] == stages)
        )
        for stages in COSTS
        for kind, extreme in (("least", min), ("highest", max))
    }


if __name__ == "__main__":
    run_experiment(main, figures)
