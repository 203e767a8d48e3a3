"""What does a cascade save against its last stage alone, in cost and in time, on rows that did not calibrate it?

    python -m cascade.benchmarks.experiments.costs.cascade_against_biggest [CONFIG] [--scores table.npz]

1. From one score table of the test rows, over many random halves: calibrate on one half at the accuracy of the last
   stage alone (less a small drop), judge on the other half; with and without a certificate.
2. One of these halves is run: the cascade that is certified to lose little, through the engine, and the last stage
   alone on the same held-out rows, in the same thread, taking turns every few batches. The last stage runs at its own
   best batch size ("biggest_ratio"), and at that of the requests ("biggest_same_batch_ratio").
"""

from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.progress import track

from cascade.benchmarks.analysis.intervals import spread
from cascade.benchmarks.harness.experiment import Figure, Figures, Found, run_experiment
from cascade.benchmarks.harness.results.result_file import ROOT
from cascade.benchmarks.harness.simulation import halves, moments
from cascade.benchmarks.overhead import measure_engine
from cascade.benchmarks.workload import Workload
from cascade.calibration import Guarantee, InfeasibleTarget, Policy, ScoreTable, calibrate, evaluate
from cascade.calibration.calibrate import RouterChoice
from cascade.calibration.costs.arrivals import RowsTogether
from cascade.cascade import Cascade, check_table, load_stages
from cascade.cli.shared.console import console
from cascade.cli.shared.inputs import DatasetOption, RowsOption, load_rows
from cascade.collection.collect import collect
from cascade.config import CascadeConfig
from cascade.errors import InputError
from cascade.rows.checks import check_rows

DROPS = (0.0, 0.0005, 0.001, 0.0015, 0.002)
TOLERATED_POINTS = 0.2
CERTIFIED_DROP = 0.002


def judge(policy: Policy, table: ScoreTable) -> tuple[float, float]:
    """(accuracy of the cascade less that of the last stage alone, in points; cost over the last stage's)."""
    seen = evaluate(table, policy)
    if seen.accuracy is None or seen.last_stage_accuracy is None:
        raise InputError("the score table has no labels, so there is no accuracy to compare")
    return 100 * (seen.accuracy - seen.last_stage_accuracy), seen.mean_cost / seen.last_stage_cost


def over_halves(
    table: ScoreTable, routers: list[RouterChoice], splits: list[tuple[np.ndarray, np.ndarray]]
) -> list[dict[str, Any]]:
    """An entry for each drop and guarantee: accuracy and cost on the other half, over all halves."""
    asked: list[tuple[float, Guarantee]] = [*((drop, "none") for drop in DROPS), (CERTIFIED_DROP, "certified")]
    found: dict[tuple[float, Guarantee], list[tuple[float, float]]] = {each: [] for each in asked}
    for first, second in track(splits, "halves", console=console):
        calibration, held_out = table.take(first), table.take(second)
        for drop, guarantee in asked:
            with suppress(InfeasibleTarget):
                policy = calibrate(calibration, max_accuracy_drop=drop, guarantee=guarantee, routers=routers)
                found[drop, guarantee].append(judge(policy, held_out))
    return [
        {"max_accuracy_drop": drop, "guarantee": guarantee, "halves": len(pairs)} | summarize(np.array(pairs))
        for (drop, guarantee), pairs in found.items()
        if pairs
    ]


def summarize(pairs: np.ndarray) -> dict[str, Any]:
    """(halves, 2) accuracy differences in points and cost ratios -> their statistics."""
    points, cost = pairs.T
    return {
        "accuracy_points": moments(points),
        "cost_ratio": moments(cost),
        "share_within_tolerance": float((points >= -TOLERATED_POINTS - 1e-9).mean()),
        "speedup_by_cost": float((1 / cost).mean()),
    }


def timed(cascade: Cascade, workload: Workload, seconds: float, repeats: int) -> list[dict[str, Any]]:
    """Measured and predicted times of each repeat."""
    numbers = []
    for _ in track(range(repeats), "timed repeats", console=console):
        seen = measure_engine(cascade, workload, seconds).to_dict()
        predicted = cascade.policy.predicted_ms(RowsTogether((len(workload.batches[0]),)))
        last = seen["stage_ms_per_row"][cascade.stages[-1].name]
        numbers.append(
            seen
            | {
                "biggest_same_batch_ratio": last / seen["ms_per_row"],
                "predicted_ms_per_row": predicted,
                "predicted_over_realised": None if predicted is None else predicted / seen["ms_per_row"],
            }
        )
    return numbers


def main(
    config_path: Annotated[Path, typer.Argument(metavar="[CONFIG]")] = ROOT / "examples" / "cifar10" / "config.yaml",
    scores: Annotated[Path | None, typer.Option(help="Score table of these rows; collected if not given.")] = None,
    dataset: DatasetOption = None,
    rows_file: RowsOption = None,
    splits: Annotated[int, typer.Option(min=1)] = 100,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    rows_per_request: Annotated[int, typer.Option(min=1)] = 64,
    timed_drop: Annotated[
        float, typer.Option(min=0, max=1, help="Certified drop of the cascade that is timed.")
    ] = CERTIFIED_DROP,
    seconds: Annotated[float, typer.Option(min=0.01, help="Length of a timed repeat.")] = 60.0,
    repeats: Annotated[int, typer.Option(min=0)] = 3,
) -> Found:
    """Compare a cascade with its last stage alone."""
    config = CascadeConfig.load(config_path)
    stages = load_stages(config.stages, config_path.resolve().parent, config.classes)
    rows, label = load_rows(dataset or (None if rows_file else "cifar10"), "test", rows_file, config.classes)
    rows = check_rows(rows, config.rows)
    table = collect(stages, rows, label, batch_rows=rows_per_request) if scores is None else ScoreTable.load(scores)
    if len(table) != len(rows):
        raise InputError(f"the score table must be of the same rows: it has {len(table)}, the data {len(rows)}")
    routers = check_table(table, config)
    pairs = halves(len(rows), splits, seed)
    first, second = pairs[0]
    policy = calibrate(table.take(first), max_accuracy_drop=timed_drop, routers=routers)
    points, cost_ratio = judge(policy, table.take(second))
    workload = Workload.from_rows(rows[second], None if label is None else label[second], rows_per_request)
    numbers = timed(Cascade(stages, policy, config.rows), workload, seconds, repeats)
    return {
        "measured": {
            "config": config.name,
            "data": dataset or (rows_file.name if rows_file else "cifar10"),
            "rows": len(rows),
            "table_sha256": table.digest,
            "cost_unit": table.cost_unit,
            "stage_accuracy": dict(zip(table.stage.tolist(), table.correct.mean(axis=0).tolist())),
            "stage_cost": dict(zip(table.stage.tolist(), np.mean(np.atleast_2d(table.cost), axis=0).tolist())),
            "tolerated_points": TOLERATED_POINTS,
        },
        "over_halves": over_halves(table, routers, pairs),
        "timed": {
            "max_accuracy_drop": timed_drop,
            "policy_version": policy.version,
            "accuracy_points": points,
            "cost_ratio": cost_ratio,
            "summary": spread(numbers) if numbers else None,
            "repeats": numbers,
        },
    }


def figures(found: Found) -> Figures:
    """Of the timed cascade, and of the halves with a certificate."""
    timed_at, numbers = found["timed"], found["timed"]["summary"] or {}
    ratios = {
        "the last stage at the same batch size": "biggest_same_batch_ratio",
        "the last stage at its own best batch size": "biggest_ratio",
    }
    drop = 100 * timed_at["max_accuracy_drop"]
    found_ratios = {
        f"times less time than {name}, certified to lose at most {drop:g} points": Figure(numbers[key]["median"])
        for name, key in ratios.items()
        if key in numbers
    }
    return found_ratios | {
        "accuracy less the last stage's on held-out rows, points": Figure(timed_at["accuracy_points"]),
        "share of the halves within 0.2 points, certified": Figure(
            next((h["share_within_tolerance"] for h in found["over_halves"] if h["guarantee"] == "certified"), None)
        ),
    }


if __name__ == "__main__":
    run_experiment(main, figures)
