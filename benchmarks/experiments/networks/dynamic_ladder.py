"""The CIFAR-10 ladder with a dynamic network in the middle, against the same ladder with the static one.

    python -m cascade.benchmarks.experiments.networks.dynamic_ladder [--splits 100]

Every stage answers the test rows once; the convolutions of the static ones are packed, as those of dynamic networks
are. Then, on many random halves: each ladder is calibrated on one half to lose
little against its last stage, which all ladders share, certified and not, and is judged on the other half. The same
with floating-point operations as cost and with measured time.
"""

import json
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.progress import track

from cascade import datasets
from cascade.backends.config import TorchConfig
from cascade.benchmarks.experiments.networks.dynamic_networks import EXAMPLE, ROOT
from cascade.benchmarks.harness.experiment import RESULTS, run_experiment, save_result
from cascade.calibration import Guarantee, InfeasibleTarget, ScoreTable, calibrate, evaluate
from cascade.cascade import load_stages
from cascade.cli.console import console
from cascade.collection.collect import collect
from cascade.config import CascadeConfig
from cascade.machine.description import describe_machine
from cascade.stage import Stage

STATIC = ROOT / "examples" / "cifar10" / "config.yaml"
RESULT = RESULTS / "networks/dynamic_ladder.json"
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
    """An entry a target: what each ladder costs on the halves that judge, and how they differ."""
    asked: list[tuple[float, Guarantee]] = [
        *((drop, "none") for drop in DROPS),
        *((drop, "certified") for drop in CERTIFIED_DROPS),
    ]
    seen: dict[tuple[float, Guarantee], dict[str, list[tuple[float, float]]]] = {
        each: {name: [] for name in middles} for each in asked
    }
    for split in track(range(splits), table.cost_unit, console=console):
        order = np.random.default_rng((seed, split)).permutation(len(table))
        first, second = order[: len(table) // 2], order[len(table) // 2 :]
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
        return 100 * (found.accuracy - found.last_stage_accuracy), found.mean_cost
    return float("nan"), float("nan")


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
    out: Path = RESULT,
) -> None:
    """Hold the ladder with a dynamic stage against the static one."""
    torch.set_num_threads(threads)
    stages, middles = all_stages()
    test = datasets.load("cifar10", "test")
    result: dict[str, Any] = {
        "machine": describe_machine(),
        "options": {"splits": splits, "rows": rows, "seed": seed},
        "cost": {},
    }
    for kind in ("flops", "time"):
        table = collect(stages, test.rows[:rows], test.labels[:rows], cost=kind, keep_scores=False)
        costs = np.broadcast_to(table.cost, table.prediction.shape).mean(axis=0)
        result["stage_accuracy"] = dict(zip(table.stage.tolist(), table.correct.mean(axis=0).tolist(), strict=True))
        result["cost"][kind] = {
            "unit": table.cost_unit,
            "stage_cost": dict(zip(table.stage.tolist(), costs.tolist(), strict=True)),
            "targets": compare(table, middles, splits, seed),
        }
    save_result(out, result)
    console.print_json(json.dumps(result))


if __name__ == "__main__":
    run_experiment(main)
