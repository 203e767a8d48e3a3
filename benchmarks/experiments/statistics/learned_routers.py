"""Are learned IDK rules cheaper than plain ones at equal accuracy, on rows that no threshold was chosen on?

    python -m cascade.benchmarks.experiments.statistics.learned_routers [--scores table.npz] [--only table]

On each table, many times: fit every rule's routers on one half of the rows and choose the cheapest thresholds for a
few accuracies; judge them on the other half. A rule's mean curve of accuracy and cost is then read at the accuracies
of the last stage alone less some points, and divided by that of the maximum probability with a temperature. Synthetic
tables are drawn anew every time; for the others random halves are used.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.progress import track

from cascade.benchmarks.experiments.statistics.router_tables import (
    Pair,
    digits,
    draws,
    halves_of,
    hopeless,
    independent,
    nested,
)
from cascade.benchmarks.harness.experiment import Figure, Figures, Found, run_experiment
from cascade.calibration import ScoreTable
from cascade.calibration.certificates.goal import Goal
from cascade.calibration.fitting.router_fitting import RouterChoice, fit_routers
from cascade.calibration.routing_problem import RoutingProblem
from cascade.calibration.search.best_thresholds import Target
from cascade.calibration.search.early_deferral import best_early_deferral
from cascade.calibration.search.grid import Grid
from cascade.calibration.table_confidence import table_evidence
from cascade.cli.shared.console import console
from cascade.errors import InputError
from cascade.routers import EVIDENCE_COLUMNS, Router, new_evidence

# Below 0: a rule that fits the chosen half closely loses more on the other one, and its curve is read further left.
DROPS = (-0.01, -0.005, -0.0025, 0.0, 0.0025, 0.005, 0.01, 0.02, 0.04)
POINTS = (-0.25, -0.5, -1.0)
COMBINATIONS = 100_000  # of thresholds; a coarser search than a calibration's, the same for all rules
BASELINE = "maximum_probability temperature"
BATCH_ROWS = 64
BOOTSTRAPS = 1000


@dataclass(frozen=True)
class Rule:
    """Routers for all stages.

    Attributes:
        first: score or head of the first stage, and calibrator.
        later: those of all later ones.
        two_sided: rows below a second, lower threshold of a stage go to the last one at once.
    """

    first: RouterChoice
    later: RouterChoice
    two_sided: bool = False

    def choices(self, stages: int) -> list[RouterChoice]:
        """Of each of some stages."""
        return [self.first, *[self.later] * (stages - 1)]


def alike(name: str, calibrator: str = "identity", two_sided: bool = False) -> Rule:
    """The same rule for all stages."""
    return Rule((name, calibrator), (name, calibrator), two_sided)


RULES = {
    BASELINE: alike("maximum_probability", "temperature"),
    "maximum_probability": alike("maximum_probability"),
    "maximum_probability platt": alike("maximum_probability", "platt"),
    "maximum_probability isotonic": alike("maximum_probability", "isotonic"),
    "margin": alike("margin"),
    "negative_entropy": alike("negative_entropy"),
    "cost_oblivious": alike("cost_oblivious"),
    "cost_aware": alike("cost_aware"),
    "deferral": alike("deferral"),
    "deferral_network": alike("deferral_network"),
    "agreement": Rule(("maximum_probability", "temperature"), ("agreement", "identity")),
    "two-sided": alike("maximum_probability", "temperature", two_sided=True),
    "two-sided deferral": alike("deferral", two_sided=True),
}


def target_of(problem: RoutingProblem, drop: float) -> Target:
    """The last stage's accuracy less a drop; the most accuracy where no thresholds of a grid have as much."""
    most = float(Grid.of(problem, COMBINATIONS).gain.max())
    return Target(least_gain=min(float(problem.gain[:, -1].mean()) - drop, most))


def cheapest(problem: RoutingProblem, target: Target) -> np.ndarray:
    """Thresholds, of a grid, that reach a target."""
    grid = Grid.of(problem, COMBINATIONS)
    place = target.best(grid.gain.ravel(), grid.cost.ravel())
    assert place is not None  # noqa: S101
    return grid.thresholds(place)


def curve(rule: Rule, first: ScoreTable, second: ScoreTable) -> np.ndarray:
    """(drops, 2): accuracy less the last stage's, in points, and cost over the last stage's, on the second table."""
    found, routers = [], None
    for drop in DROPS:
        if routers is None or (rule.first[0] == "cost_aware" and drop > 0):
            routers = fit_routers(first, rule.choices(first.stages), Goal.of(max_accuracy_drop=max(drop, 0.0)))
        fitted, judged = (RoutingProblem.from_table(table, routers, agreement=False) for table in (first, second))
        target = target_of(fitted, drop)
        if rule.two_sided:
            lowest = best_early_deferral(fitted, target)
            fitted, judged = fitted.deferring_early(lowest), judged.deferring_early(lowest)
            target = target_of(fitted, drop)
        thresholds = cheapest(fitted, target)
        gain, cost = judged.value(thresholds)
        alone = np.broadcast_to(second.cost, second.prediction.shape)[:, -1].mean()
        found.append((100 * (gain - second.correct[:, -1].mean()), cost / alone))
    return np.array(found)


def cost_at(mean_curve: np.ndarray, points: float) -> float:
    """Cost at an accuracy, by lines between the points of a (drops, 2) curve; NaN outside of it."""
    order = np.argsort(mean_curve[:, 0])
    return float(np.interp(points, mean_curve[order, 0], mean_curve[order, 1], left=np.nan, right=np.nan))


def compare(pairs: Iterator[Pair], repeats: int, fresh: bool, title: str) -> dict[str, Any]:
    """Of each rule: its mean curve, and its cost at equal accuracy over the baseline's with a 95 % interval."""
    seen = [
        [curve(rule, first, second) for rule in RULES.values()]
        for first, second in track(pairs, title, total=repeats, console=console)
    ]
    curves = np.array(seen)  # (repeats, rules, drops, 2)
    random = np.random.default_rng(0)
    samples = [random.integers(0, repeats, repeats) for _ in range(BOOTSTRAPS)]
    means = [curves[sample].mean(axis=0) for sample in samples]
    # Halves of one table overlap: Nadeau and Bengio, "Inference for the Generalization Error", Machine Learning 52,
    # 2003, widen the variance of their mean from 1 / J to 1 / J + (rows judged) / (rows fitted).
    widen = 1.0 if fresh else float(np.sqrt(1 + repeats))
    base = list(RULES).index(BASELINE)
    result: dict[str, Any] = {}
    for place, name in enumerate(RULES):
        mean = curves[:, place].mean(axis=0)
        result[name] = {"accuracy_points": mean[:, 0].tolist(), "cost_ratio": mean[:, 1].tolist(), "at": {}}
        for points in POINTS:
            own, other = cost_at(mean, points), cost_at(curves[:, base].mean(axis=0), points)
            ratios = np.array([cost_at(m[place], points) / cost_at(m[base], points) for m in means])
            ratios = ratios[np.isfinite(ratios)]
            if not np.isfinite(own / other) or len(ratios) < BOOTSTRAPS / 2:
                continue
            half = 1.96 * widen * float(ratios.std())
            result[name]["at"][f"{points:g}"] = {
                "cost_ratio": own,
                "over_baseline": own / other,
                "over_baseline_interval": [own / other - half, own / other + half],
            }
    return result


def microseconds_per_row(table: ScoreTable) -> dict[str, float]:
    """Time of a rule of the last but one stage in batches of 64: the median of many, evidence included."""
    assert table.scores is not None  # noqa: S101
    k, rows = table.stages - 2, slice(0, BATCH_ROWS)
    earlier = table_evidence(table)[rows, : k * len(EVIDENCE_COLUMNS)]
    batch = (table.prediction[rows, k], table.confidence[rows, k], np.ascontiguousarray(table.scores[rows, k]))

    def once(router: Router) -> None:
        evidence = None
        if router.head is not None:
            evidence = np.concatenate([earlier, new_evidence(*batch)], axis=1)
        router.confidence(batch[2], None, evidence)

    found = {}
    for name, rule in RULES.items():
        if rule.two_sided:
            continue
        router = fit_routers(table, rule.choices(table.stages), Goal.of(max_accuracy_drop=0.005))[k]
        times = []
        for _ in range(300):
            begin = time.perf_counter()
            once(router)
            times.append(time.perf_counter() - begin)
        found[name] = 1e6 * float(np.median(times)) / BATCH_ROWS
    return found


def main(
    scores: Annotated[
        Path | None, typer.Option(help="A score table with class probabilities, besides the others.")
    ] = None,
    repeats: Annotated[int, typer.Option(min=2, help="Tables drawn, or random halves.")] = 20,
    rows: Annotated[int, typer.Option(min=100, help="Rows of a synthetic table.")] = 2500,
    seed: Annotated[int, typer.Option(min=0)] = 2,
    only: Annotated[
        str | None, typer.Option(help="Name of the one table to compare on, such as the stem of --scores.")
    ] = None,
) -> Found:
    """Compare learned routers with plain ones."""
    families = {family.__name__: family for family in (nested, hopeless, independent)}
    tables = {"digits": digits()}
    if scores is not None:
        tables[scores.stem] = ScoreTable.load(scores)
    if only is not None:
        families = {name: family for name, family in families.items() if name == only}
        tables = {name: table for name, table in tables.items() if name == only}
        if not families and not tables:
            raise InputError(f"--only must name one of the tables; got {only!r}")
    compared = {
        name: compare(draws(family, rows, repeats, seed), repeats, True, name) for name, family in families.items()
    } | {name: compare(halves_of(table, repeats, seed), repeats, False, name) for name, table in tables.items()}
    return {
        "measured": {
            "drops": DROPS,
            "baseline": BASELINE,
            "tables": {
                name: {
                    "rows": len(table),
                    "stage_accuracy": table.correct.mean(axis=0).tolist(),
                    "cost": np.atleast_2d(table.cost).mean(axis=0).tolist(),
                }
                for name, table in (
                    {name: family(np.random.default_rng(seed), 20_000) for name, family in families.items()} | tables
                ).items()
            },
        },
        "microseconds_per_row": microseconds_per_row(hopeless(np.random.default_rng(seed), 5000)),
        "compared": compared,
    }


def figures(found: Found) -> Figures:
    """Cost over the baseline's at an accuracy a quarter of a point below the last stage's."""
    return {
        f"cost over the baseline's at equal accuracy, {table}: {rule}": Figure(seen["at"]["-0.25"]["over_baseline"])
        for table, rules in found["compared"].items()
        for rule, seen in rules.items()
        if "-0.25" in seen["at"] and rule != BASELINE
    }


if __name__ == "__main__":
    run_experiment(main, figures)
