"""Is the choice of a cascade right, honest and fast? On synthetic pools whose truth is known.

    python -m cascade.benchmarks.experiments.statistics.cascade_choice [--draws 40]

A pool is a distribution from which any number of rows can be drawn: rows have a difficulty, models a skill and a cost,
and each model's confidence is its probability to be right, but for some noise. Two models are planted: `dud`, whose
confidence is independent of its answers, and `dominated`, which answers the same as another model at twice its cost.

1. Speed: 10 models in all orders, and 20 models by local search, 10,000 rows, up to four stages.
2. Local search against all orders, over several pools and targets: cost of its best choice over that of theirs.
3. Honesty: many draws of 4,000 rows from one distribution; the interval of each saving against the value of the same
   cascades on a million rows, and the accuracy on the rows that choose and on those that judge against the same.
4. Verdicts: how often a planted model is in the best choice, and how often a verdict is to drop it. (`dominated` can
   be chosen as a second opinion on the few rows with the least confidence of the best model.)
"""

import time
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
import typer
from rich.progress import track

from cascade.benchmarks.harness.experiment import Figure, Figures, Found, run_experiment
from cascade.calibration import ScoreTable, choose_cascade, evaluate
from cascade.calibration.choice.cascade_choice import CascadeChoice, ChosenCascade
from cascade.calibration.choice.verdicts import verdicts
from cascade.cli.shared.console import console

HOP_COST = 0.2
DROP = 0.01
TRUTH_ROWS = 1_000_000
PLANTED = ("dud", "dominated")


def draw(models: int, rows: int, pool: int, seed: int) -> ScoreTable:
    """Rows of one of the distributions: ``models`` by rising cost, the planted ones among them."""
    shape = np.random.default_rng((1, pool))
    honest = models - len(PLANTED)
    skill = np.linspace(0.3, 2.5, honest) + shape.normal(0, 0.1, honest)
    cost = np.geomspace(1, 60, honest) * shape.uniform(0.8, 1.25, honest)
    copied = honest // 2
    skill = np.append(skill, [skill[0], skill[copied]])
    cost = np.append(cost, [cost[copied - 1], 2 * cost[copied]])
    names = np.array([*(f"model{k}" for k in range(honest)), *PLANTED])
    random = np.random.default_rng((2, pool, seed))
    difficulty = random.normal(size=(rows, 1))
    strength = skill - difficulty + 0.7 * random.normal(size=(rows, models))
    sureness = np.abs(strength + 0.5 * random.normal(size=(rows, models)))
    sureness[:, honest] = random.exponential(1.0, rows)
    strength[:, -1], sureness[:, -1] = strength[:, copied], sureness[:, copied]
    by_cost = np.argsort(cost)
    prediction = np.where(strength > 0, 0, 1)[:, by_cost]
    confidence = (1 / (1 + np.exp(-sureness)))[:, by_cost]
    return ScoreTable(prediction, confidence, cost[by_cost], names[by_cost], "ms", np.zeros(rows, dtype=int))


def true_value(population: ScoreTable, cascade: ChosenCascade) -> tuple[float, float]:
    """(accuracy, mean cost with hops) of a cascade with its thresholds, all stages running, on the whole population."""
    part = population.select(cascade.stages)
    seen = evaluate(part, cascade.policy(population))
    reached = 1 - np.cumsum(np.append(0.0, seen.stage_share[:-1]))
    hops = HOP_COST * (np.arange(len(cascade.stages)) > 0)
    return float(seen.accuracy or 0.0), float(reached @ (part.work.mean(axis=0) + hops))


def speed(models: int, rows: int = 10_000) -> dict[str, Any]:
    """Seconds of a choice, for a target of accuracy and for a budget; CPU seconds for a machine that is shared."""
    table = draw(models, rows, pool=0, seed=0)
    found = {}
    for name, target in (("max_accuracy_drop", DROP), ("max_cost", 20.0)):
        start, start_cpu = time.perf_counter(), time.process_time()
        choice = choose_cascade(table, **{name: target}, hop_cost=HOP_COST)  # type: ignore[arg-type]
        found[name] = {
            "seconds": time.perf_counter() - start,
            "cpu_seconds": time.process_time() - start_cpu,
            "method": choice.method,
            "candidates": choice.candidates,
            "best": list(choice.best.stages),
        }
    return {"models": models, "rows": rows, "targets": found}


def local_search_against_all(pools: Sequence[int], models: int = 8, rows: int = 4000) -> dict[str, Any]:
    """Cost of the choice by local search over that of the choice among all orders, on the rows that choose."""
    ratios = []
    for pool in track(pools, "local search against all orders", console=console):
        table = draw(models, rows, pool, seed=0)
        for drop in (0.0, DROP, 0.05):
            local, full = (
                choose_cascade(table, max_accuracy_drop=drop, hop_cost=HOP_COST, most_candidates=most).best
                for most in (0, 1_000_000)
            )
            ratios.append(local.chosen_cost / full.chosen_cost)
    return {
        "pools": len(pools),
        "models": models,
        "cost_ratio": {"median": float(np.median(ratios)), "max": max(ratios), "min": min(ratios)},
        "share_equal": float(np.mean(np.isclose(ratios, 1.0, atol=1e-3))),
    }


def honesty(draws: int, models: int = 6, rows: int = 4000) -> dict[str, Any]:
    """Savings and accuracies of choices from many draws, against the truth."""
    population = draw(models, TRUTH_ROWS, pool=1, seed=10_000)
    covered: dict[str, list[bool]] = {"one model": [], "full ladder": []}
    choosing, judging = [], []
    in_best, dropped = dict.fromkeys(PLANTED, 0), dict.fromkeys(PLANTED, 0)
    for seed in track(range(draws), "honesty", console=console):
        choice = choose_cascade(draw(models, rows, 1, seed), max_accuracy_drop=DROP, hop_cost=HOP_COST, seed=seed)
        accuracy, cost = true_value(population, choice.best)
        choosing.append(choice.best.chosen_gain - accuracy)
        judging.append(choice.best.gain - accuracy)
        for name, other in (("one model", choice.best_single), ("full ladder", choice.full_ladder)):
            if other is not None:
                saving = 1 - cost / true_value(population, other.cascade)[1]
                low, high = other.comparison.cost_saving_interval
                covered[name].append(low <= saving <= high)
        for planted in PLANTED:
            in_best[planted] += planted in choice.best.stages
            dropped[planted] += is_dropped(choice, planted)
    return {
        "draws": draws,
        "models": models,
        "rows": rows,
        "interval_covers_true_saving": {name: float(np.mean(found)) for name, found in covered.items() if found},
        "accuracy_on_choosing_rows_less_truth_points": summary(choosing),
        "accuracy_on_judging_rows_less_truth_points": summary(judging),
        "planted_in_best_choice": {name: count / draws for name, count in in_best.items()},
        "planted_verdict_to_drop": {name: count / draws for name, count in dropped.items()},
    }


def is_dropped(choice: CascadeChoice, name: str) -> bool:
    """Whether a verdict is to drop a model."""
    return any(f"({name})" in text and "drop" in text for text in verdicts(choice))


def summary(differences: list[float]) -> dict[str, float]:
    """In percentage points."""
    points = 100 * np.array(differences)
    return {"mean": float(points.mean()), "standard_error": float(points.std(ddof=1) / np.sqrt(len(points)))}


def main(
    draws: Annotated[int, typer.Option(min=2, help="Draws for the honesty.")] = 40,
    pools: Annotated[int, typer.Option(min=1, help="Pools for the local search.")] = 6,
) -> Found:
    """Measure the choice of a cascade on pools whose truth is known."""
    return {
        "speed": [speed(10), speed(20)],
        "local_search_against_all_orders": local_search_against_all(range(2, 2 + pools)),
        "honesty": honesty(draws),
    }


def figures(found: Found) -> Figures:
    """Speed, and the honesty of intervals and accuracies."""
    honesty = found["honesty"]
    numbers = {
        f"seconds to choose among {case['models']} models, the slower target": Figure(
            max(target["seconds"] for target in case["targets"].values())
        )
        for case in found["speed"]
    }
    numbers["cost of the choice by local search over that of all orders, highest"] = Figure(
        found["local_search_against_all_orders"]["cost_ratio"]["max"]
    )
    for name, share in honesty["interval_covers_true_saving"].items():
        numbers[f"share of the 95 % intervals that cover the true saving, against {name}"] = Figure(share)
    for rows in ("choosing", "judging"):
        points = honesty[f"accuracy_on_{rows}_rows_less_truth_points"]["mean"]
        numbers[f"accuracy on the {rows} rows less the truth, points"] = Figure(points)
    return numbers


if __name__ == "__main__":
    run_experiment(main, figures)
