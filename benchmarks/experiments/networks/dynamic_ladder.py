"""Is the CIFAR-10 ladder cheaper with a dynamic network in the middle than with the static one?

    python -m cascade.benchmarks.experiments.networks.dynamic_ladder [--splits 100]

Every stage answers the test rows once; the convolutions of the static ones are packed, as those of dynamic networks
are. Then, on many random halves: each ladder is calibrated on one half to lose little against its last stage, which all
ladders share, certified and not, and is judged on the other half. The same with floating-point operations as cost and
with measured time.
"""

from contextlib import suppress
from math import nan
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.progress import track

from cascade import datasets
from cascade.backends.config import TorchConfig
from cascade.benchmarks.experiments.networks.dynamic_networks import EXAMPLE
from cascade.benchmarks.harness.experiment import Figure, Figures, Found, run_experiment
from cascade.benchmarks.harness.results.result_file import ROOT
from cascade.benchmarks.harness.simulation import halves
from cascade.calibration import Guarantee, InfeasibleTarget, ScoreTable, calibrate, evaluate
from cascade.cascade import load_stages
from cascade.cli.shared.console import console
from cascade.collection.collect import collect
from cascade.config import CascadeConfig
from cascade.stage import Stage

STATIC = ROOT / "examples" / "cifar10" / "static.yaml"
MIDDLE = 2  # place of the stage that is exchanged
DROPS = (0.0, 0.001, 0.002, 0.005, 0.01, 0.02)
CERTIFIED_DROPS = (0.005, 0.01, 0.02)


def stages_of(config_path: Path) -> list[Stage]:
    """The stages of a config, as fast as they can be."""
    config = CascadeConfig.load(config_path)
    stages = [
        stage.model_copy(update={"backend": stage.backend.model_copy(update={"packed": True})})
        if isinstance(stage.backend, TorchConfig)
        else stage
        for stage in config.stages
    ]
    return load_stages(stages, config_path.resolve().parent, config.classes)


def all_stages() -> tuple[list[Stage], list[str]]:
    """The static ladder's stages and all dynamic networks; the names of those that take turns in the middle."""
    static = stages_of(STATIC)
    dynamic = [stages_of(config)[MIDDLE] for config in sorted(EXAMPLE.glob("*.yaml"))]
    return [*static, *dynamic], [stage.name for stage in (static[MIDDLE], *dynamic)]


def ladder(table: ScoreTable, middle: str) -> ScoreTable:
    """The four stages with one of those that take turns."""
    names = [str(name) for name in table.stage[:4]]
    names[MIDDLE] = middle
    return table.select(names)


def compare(table: ScoreTable, middles: list[str], splits: int, seed: int) -> list[dict[str, Any]]:
    """An entry for each target: the cost of each ladder on the halves that judge, and how they differ."""
    asked: list[tuple[float, Guarantee]] = [
        *((drop, "none") for drop in DROPS),
        *((drop, "certified") for drop in CERTIFIED_DROPS),
    ]
    seen: dict[tuple[float, Guarantee], dict[str, list[tuple[float, float]]]] = {
        each: {name: [] for name in middles} for each in asked
    }
    for first, second in track(halves(len(table), splits, seed), table.cost_unit, console=console):
        for drop, guarantee in asked:
            for name in middles:
                point = judged(ladder(table, name), first, second, drop, guarantee)
                seen[drop, guarantee][name].append(point)
    return [
        {"max_accuracy_drop": drop, "guarantee": guarantee, "ladders": summary(points)}
        for (drop, guarantee), points in seen.items()
    ]


def judged(
    table: ScoreTable, first: np.ndarray, second: np.ndarray, drop: float, guarantee: Guarantee
) -> tuple[float, float]:
    """(accuracy less the last stage's, in points; mean cost) on the second half; nan where there is no policy."""
    with suppress(InfeasibleTarget):
        policy = calibrate(table.take(first), max_accuracy_drop=drop, guarantee=guarantee)
        found = evaluate(table.take(second), policy)
        points = 100 * ((found.accuracy or nan) - (found.last_stage_accuracy or nan))
        return points, found.mean_cost
    return nan, nan


def summary(points: dict[str, list[tuple[float, float]]]) -> dict[str, Any]:
    """Of each ladder; costs over the static ladder's on the same halves, where both found a policy."""
    static = np.array(next(iter(points.values())))
    found = {}
    for name, values in points.items():
        own = np.array(values)
        both = ~np.isnan(own[:, 1] + static[:, 1])
        ratio = own[both, 1] / static[both, 1]
        found[name] = {
            "halves": int(both.sum()),
            "accuracy_points": float(own[both, 0].mean()) if both.any() else None,
            "mean_cost": float(own[both, 1].mean()) if both.any() else None,
            "cost_over_static": {"mean": float(ratio.mean()), "std": float(ratio.std())} if both.any() else None,
            "share_cheaper": float((ratio < 1).mean()) if both.any() else None,
        }
    return found


def main(
    splits: Annotated[int, typer.Option(min=1, help="Random halves.")] = 100,
    rows: Annotated[int, typer.Option(min=500, help="Test rows.")] = 10000,
    threads: Annotated[int, typer.Option(min=1)] = 1,
    seed: int = 0,
) -> Found:
    """Compare the ladder with a dynamic stage with the static one."""
    torch.set_num_threads(threads)
    stages, middles = all_stages()
    test = datasets.load("cifar10", "test")
    result: dict[str, Any] = {"options": {"splits": splits, "rows": rows, "seed": seed}, "cost": {}}
    for kind in ("flops", "time"):
        table = collect(stages, test.rows[:rows], test.labels[:rows], cost=kind, keep_scores=False)
        costs = np.broadcast_to(table.cost, table.prediction.shape).mean(axis=0)
        result["stage_accuracy"] = dict(zip(table.stage.tolist(), table.correct.mean(axis=0).tolist(), strict=True))
        result["cost"][kind] = {
            "unit": table.cost_unit,
            "stage_cost": dict(zip(table.stage.tolist(), costs.tolist(), strict=True)),
            "targets": compare(table, middles, splits, seed),
        }
    return result


def figures(found: Found) -> Figures:
    """Cost over the static ladder's, for drops of half a point and of one point."""
    return {
        f"cost in {kind} over the static ladder's, {name}, {100 * target['max_accuracy_drop']:g} points"
        + (" certified" if target["guarantee"] == "certified" else ""): Figure(ladder["cost_over_static"]["mean"])
        for kind, seen in found["cost"].items()
        for target in seen["targets"]
        if target["max_accuracy_drop"] in (0.005, 0.01)
        for name, ladder in target["ladders"].items()
        if name.endswith("net32") and ladder["cost_over_static"] and name != "resnet32"
    }


if __name__ == "__main__":
    run_experiment(main, figures)
