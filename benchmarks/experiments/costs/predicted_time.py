r"""Is the time that calibration predicts for a cascade the time that it takes, in-process and served?

    python -m cascade.benchmarks.experiments.costs.predicted_time letter/config.yaml --rows letter/calibration.npz \
        --held-out letter/held_out.npz --out benchmarks/results/costs/predicted_time_letter.json

The score table is collected twice, with the threads of this process and with one (as replicas of Ray Serve have). For
1, 64 and 1,000 rows together a policy is certified to lose at most a point, and run on rows that had no part in it, by
turns with the last stage alone at its own best batch size. A shared machine may get a quarter faster or slower within
minutes, so the curves are measured anew before each of several rounds: the ratio is that of a prediction and a run of
the same minute, in the median over the rounds; the ratio to the prediction at collection is recorded beside it. With
``--brute-force`` all thresholds of a coarse grid that keep the accuracy are run too, 64 rows together. Served: one row
per request, the capacity in a closed loop, then half of it at random moments; the realised time is that of the stages,
by the replicas' own metrics. ``sklearn_cascades.py`` makes two cascades to try it on. Needs the extra ``bench``.
"""

import itertools
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from cascade.benchmarks.experiments.costs.served_time import CONNECTIONS, served
from cascade.benchmarks.harness.experiment import Figure, Figures, Found, run_experiment
from cascade.calibration import Policy, ScoreTable, calibrate, evaluate
from cascade.calibration.costs.arrivals import RowsTogether
from cascade.cascade import Cascade, check_table, last_stage_alone, last_stage_policy
from cascade.cli.shared.console import console
from cascade.cli.shared.inputs import load_rows
from cascade.collection.measure import measure_curves
from cascade.config import CascadeConfig
from cascade.rows.checks import check_rows

ROUNDS = 5
PASSES = 3
PASS_SECONDS = 0.5
CURVE_SECONDS = 1.0
GRID_QUANTILES = np.linspace(0.05, 0.95, 7)
MOST_CANDIDATES = 150
MOST_RATIO = 1.25


def collected(config: Path, rows: Path, threads: int | None, out: Path) -> ScoreTable:
    """The score table of a configuration, by the command line."""
    asked = [] if threads is None else ["--threads", str(threads)]
    command = [sys.executable, "-m", "cascade", "collect", str(config), "--rows", str(rows), "--out", str(out), *asked]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return ScoreTable.load(out)


def certified(table: ScoreTable, config: CascadeConfig, drop: float, arrivals: Any) -> Policy:
    """Certified to lose at most so much accuracy."""
    return calibrate(table, max_accuracy_drop=drop, routers=check_table(table, config), arrivals=arrivals)


def batches_of(rows: np.ndarray, size: int) -> list[np.ndarray]:
    """Whole batches, from all rows over and over if there are too few."""
    whole = np.resize(np.arange(len(rows)), max(len(rows) // size, 1) * size)
    return [np.ascontiguousarray(rows[part]) for part in whole.reshape(-1, size)]


class Runner:
    """Runs cascades by turns on the same batches.

    Args:
        cascades: that are compared.
        batches: of rows.
    """

    def __init__(self, cascades: Sequence[Cascade], batches: Sequence[np.ndarray]) -> None:
        self._cascades, self._batches = cascades, batches

    def row_ms(self, passes: int, seconds: float) -> np.ndarray:
        """(passes, cascades) milliseconds per row."""
        found = np.empty((passes, len(self._cascades)))
        for turn in range(-1, passes):  # the first one warms up
            for place, cascade in enumerate(self._cascades):
                spent, rows = 0.0, 0
                for batch in itertools.islice(itertools.cycle(self._batches), max(turn, 0), None):
                    begin = time.perf_counter()
                    cascade.predict(batch)
                    spent, rows = spent + time.perf_counter() - begin, rows + len(batch)
                    if spent > seconds / len(self._cascades):
                        break
                found[turn, place] = spent / rows * 1e3
        return found


def in_process(cascade: Cascade, known: np.ndarray, rows: np.ndarray, together: int) -> dict[str, Any]:
    """Predicted and realised time, beside the last stage alone.

    Args:
        cascade: with its policy.
        known: rows that curves are measured on.
        rows: other ones, to run on.
        together: rows of a call.
    """
    arrivals = RowsTogether((together,))
    runner = Runner([cascade, last_stage_alone(cascade)], batches_of(rows, together))
    times, predictions = np.empty((ROUNDS, 2)), np.empty(ROUNDS)
    for turn in range(ROUNDS):
        measured = measure_curves(cascade.stages, known, seconds=CURVE_SECONDS, seed=turn)
        now = replace(cascade.policy, curves=measured.curves)
        predictions[turn] = now.predicted_ms(arrivals) or np.nan
        times[turn] = np.median(runner.row_ms(PASSES, 2 * PASS_SECONDS), axis=0)
    realised, ratios = np.median(times, axis=0), predictions / times[:, 0]
    at_collection = cascade.policy.predicted_ms(arrivals)
    last = cascade.policy.last_stage_ms(arrivals)
    return {
        "rows_together": together,
        "stages_run": [s for s, runs in zip(cascade.policy.stages, cascade.policy.runs, strict=True) if runs],
        "predicted_ms": float(np.median(predictions)),
        "realised_ms": float(realised[0]),
        "predicted_over_realised": float(np.median(ratios)),
        "predicted_over_realised_range": [float(ratios.min()), float(ratios.max())],
        "predicted_at_collection_over_realised": at_collection / realised[0] if at_collection else None,
        "last_stage_predicted_ms": last,
        "last_stage_ms": float(realised[1]),
        "less_than_last_stage": float(np.median(times[:, 1] / times[:, 0])),
        "less_than_last_stage_range": [float(v) for v in np.quantile(times[:, 1] / times[:, 0], [0, 1])],
    }


def brute_force(cascade: Cascade, table: ScoreTable, held_out: np.ndarray, together: int) -> dict[str, Any]:
    """The policy's realised time over the least of all thresholds of a grid that are as accurate on the table."""
    policy = cascade.policy
    least = evaluate(table, policy).accuracy or 0.0
    axes = [np.append(np.quantile(table.confidence[:, k], GRID_QUANTILES), 2.0) for k in range(table.stages - 1)]
    axes = [np.append(axis, t) for axis, t in zip(axes, policy.thresholds, strict=True)]
    never = policy.thresholds.max(initial=1.0)
    candidates = []
    for thresholds in itertools.product(*axes):
        other = replace(policy, thresholds=np.minimum(thresholds, max(never, np.nextafter(1.0, 2.0))), certificate={})
        seen = evaluate(table, other)
        if (seen.accuracy or 0.0) >= least:
            candidates.append((seen.mean_cost, other))
    # Thresholds with a far higher mean cost are not run.
    candidates.sort(key=lambda pair: pair[0])
    tried = [Cascade(cascade.stages, other, cascade.rows) for _, other in candidates[:MOST_CANDIDATES]]
    times = Runner([cascade, *tried], batches_of(held_out, together)).row_ms(3, 0.12 * (1 + len(tried)))
    realised = np.median(times, axis=0)
    best = int(np.argmin(realised))
    pair = [cascade, [cascade, *tried][best]]
    again = Runner(pair, batches_of(held_out, together)).row_ms(ROUNDS * PASSES, 2 * PASS_SECONDS)
    return {
        "rows_together": together,
        "thresholds_run": len(tried),
        "as_accurate": len(candidates),
        "ours_over_best": float(np.median(again[:, 0] / again[:, 1])),
        "best_thresholds": pair[1].policy.thresholds.tolist(),
    }


def main(
    config_path: Annotated[Path, typer.Argument(metavar="CONFIG")],
    rows_file: Annotated[Path, typer.Option("--rows", help="Labelled rows to calibrate on.")],
    held_out: Annotated[Path, typer.Option(help="Labelled rows to run on.")],
    drop: Annotated[float, typer.Option(help="Most accuracy lost.")] = 0.01,
    together: Annotated[str, typer.Option(help="Rows together in-process, with commas.")] = "1,64,1000",
    with_brute_force: Annotated[bool, typer.Option("--brute-force")] = False,
    with_served: Annotated[bool, typer.Option("--served/--no-served")] = True,
    served_together: Annotated[int, typer.Option(help="Rows together that the served policy is for.")] = CONNECTIONS,
    seconds: Annotated[float, typer.Option(help="Of each served load.")] = 12.0,
) -> Iterator[Found]:
    """Predict, run, compare."""
    config = CascadeConfig.load(config_path)
    rows, label = load_rows(None, "test", held_out, config.classes)
    rows = check_rows(rows, config.rows)
    known = check_rows(load_rows(None, "test", rows_file, config.classes)[0], config.rows)
    entry: dict[str, Any] = {"config": config.name, "drop": drop, "in_process": []}
    with tempfile.TemporaryDirectory() as folder:
        table = collected(config_path, rows_file, None, Path(folder) / "scores.npz")
        entry["curves"] = dict(zip(table.stage.tolist(), map(str, table.curves), strict=True))
        entry["measured_on"] = table.curve_machine
        for size in map(int, together.split(",")):
            arrivals = RowsTogether((size,))
            policy = certified(table, config, drop, arrivals)
            policy.save(Path(folder) / "policy.json")
            cascade = Cascade.load(config_path, Path(folder) / "policy.json")
            entry["in_process"].append(in_process(cascade, known, rows, size))
            yield entry
            console.print(entry["in_process"][-1])
            if with_brute_force and size == 64:
                entry["brute_force"] = brute_force(cascade, table, rows, size)
                console.print(entry["brute_force"])
        if with_served:
            table = collected(config_path, rows_file, 1, Path(folder) / "served.npz")
            policy = certified(table, config, drop, RowsTogether((served_together,)))
            entry["served"] = served(config_path, policy, rows, label, seconds, half_load=True)
            alone = served(config_path, last_stage_policy(policy), rows, label, seconds, half_load=False)
            entry["served"]["last_stage_rows_per_s"] = alone["capacity_rows_per_s"]
            entry["served"]["against_last_stage"] = (
                entry["served"]["capacity_rows_per_s"] / alone["capacity_rows_per_s"]
            )
            console.print(entry["served"])
    yield entry


def figures(found: Found) -> Figures:
    """Medians over the rounds. The error factor is the ratio or its inverse, whichever is above 1."""
    numbers: Figures = {}

    def add(ratio: float | None, where: str) -> None:
        numbers[f"predicted over realised time, {where}"] = Figure(ratio)
        factor = max(ratio, 1 / ratio) if ratio else None
        numbers[f"error factor of the prediction, {where}"] = Figure(factor, MOST_RATIO)

    for seen in found["in_process"]:
        rows = f"{seen['rows_together']:,} rows together" if seen["rows_together"] > 1 else "1 row"
        add(seen["predicted_over_realised"], rows)
        numbers[f"times less time than the last stage alone, {rows}"] = Figure(seen["less_than_last_stage"])
    if "brute_force" in found:
        best = found["brute_force"]["ours_over_best"]
        numbers["time over that of the best thresholds of a grid, 64 rows together"] = Figure(best)
    if "served" in found:
        add(found["served"]["predicted_over_realised"], "served at half of the capacity")
        numbers["served requests/s over the last stage alone"] = Figure(
            found["served"]["against_last_stage"], 2.0, ">="
        )
    return numbers


if __name__ == "__main__":
    run_experiment(main, figures)
