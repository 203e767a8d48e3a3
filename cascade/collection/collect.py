"""Collection of a score table: every stage predicts every row once, and is timed."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cascade.calibration import ScoreTable
from cascade.calibration.exact_binomial import exact_interval
from cascade.collection.collected_stage import CollectedStage
from cascade.collection.measure import LARGEST_CALL, SECONDS_A_STAGE, MeasuredCurves, measure_curves
from cascade.collection.meter import SECONDS_PER_HOUR, CostKind, Meter
from cascade.collection.partial_collection import PartialCollection
from cascade.collection.stage_run import StageRun
from cascade.collection.stage_scores import StageScores, check_first_batch, score_table
from cascade.errors import InputError
from cascade.rows.labels import checked_ids
from cascade.stage import Stage

__all__ = ["collect", "with_measured_curves"]

LEAST_COST = 1e-12
CHANCE_TAIL = 1e-3


def collect(
    stages: Sequence[Stage],
    rows: np.ndarray,
    label: Any = None,
    *,
    classes: Sequence[str] | None = None,
    batch_rows: int = 64,
    cost: CostKind = "time",
    price_per_hour: float | None = None,
    keep_scores: bool = True,
    partial: Path | None = None,
    curve_seconds: float = SECONDS_A_STAGE,
    on_rows: Callable[[str, int], None] = lambda stage, rows: None,
    on_timed: Callable[[str, float], None] = lambda stage, share: None,
    on_note: Callable[[str], None] = lambda text: None,
) -> ScoreTable:
    """Runs every stage on every row.

    With ``partial``, predictions are saved while the collection runs, and the next run with the same rows, models and
    batch size resumes from them. Some of the saved batches are predicted again, for their cost and to check that the
    model still makes the same predictions: code that a user's model imports is not part of its digest.

    Args:
        stages: K stages, cheapest first.
        rows: (n, ...), n >= 1.
        label: (n,) int >= 0, class ids of the right answers (:func:`cascade.label_ids` maps names to ids); ``None`` if
            unknown.
        classes: (C,) names of the classes 0 to C - 1; ``None`` if they have none.
        batch_rows: rows per batch; times are measured for batches of this size.
        cost: "time" is the median time per row over the batches, in ms; "flops" counts operations, in MFLOP; "money" is
            the price of the time; "energy" is the median energy per row, in mJ, if the machine measures it. If a model
            counts the operations of every row, the cost of a row is proportional to them; if it returns costs itself,
            they are used as is.
        price_per_hour: of the machine, >= 0; required for "money".
        keep_scores: whether to keep class probabilities, if every stage returns the same number of them.
        partial: folder for predictions (``cascade.collection.partial_collection``); remove it after saving the table.
        curve_seconds: maximum time for the cost curve of each stage, measured after all predictions; the cost of a row
            is then that in a call of ``batch_rows``. 0 measures no curves: costs are constants per row.
        on_rows: called with (stage, number of rows predicted) after every batch.
        on_timed: called with (stage, share of ``curve_seconds`` used, in [0, 1]) after every timed call.
        on_note: called with a line of text about resumed and saved predictions, and with warnings.

    Raises:
        StageError: a stage fails, or breaks the stage contract; the message names it.
        InputError: a label is not a class id; or operations that a backend does not count, money without a price, or
            energy that the machine does not measure are requested.
    """
    if cost == "money" and price_per_hour is None:
        raise InputError("the cost 'money' needs the price per hour of this machine (--price-per-hour)")
    ids = None if label is None else checked_ids(label, classes)
    if ids is not None and len(ids) != len(rows):
        raise InputError(f"label must be (n,) with n = {len(rows)} like rows; got {len(ids)}")
    meter = Meter(cost, price_per_hour or 0.0)
    runs = [StageRun(stage, rows, batch_rows, meter) for stage in stages]
    collected = _collected(stages, rows, batch_rows, partial, on_note)
    for run in runs:
        check_first_batch(run, cost)
    for run, part in zip(runs, collected, strict=True):
        try:
            run.complete(part, on_rows, on_note)
        except BaseException:  # including Ctrl-C
            if partial is not None and any(each.rows for each in collected):
                on_note(
                    f"stage {run.stage.name!r} stopped after {part.rows} of {len(rows)} rows; {partial} holds their "
                    "predictions and those of the earlier stages, and the same command resumes from there"
                )
            raise
    scores = [StageScores.of(run, part.prediction(), cost) for run, part in zip(runs, collected, strict=True)]
    table = score_table(stages, scores, ids, classes, cost, keep_scores)
    if _is_below_chance(table):
        on_note(
            "warning: every stage is less accurate than guessing; are the labels ids in the order of the "
            "configuration's 'classes', and the rows in the order of the labels?"
        )
    if not curve_seconds:
        return table
    own = np.array([each.prediction.cost is not None for each in scores])
    measured = measure_curves(
        stages, rows, largest=max(LARGEST_CALL, batch_rows), seconds=curve_seconds, on_call=on_timed
    )
    if measured.warning is not None:
        on_note(f"warning: {measured.warning}")
    return with_measured_curves(table, measured, batch_rows, cost, price_per_hour or 0.0, own)


def _is_below_chance(table: ScoreTable) -> bool:
    """Whether all stages are significantly worse than guessing, a symptom of labels in another order."""
    if table.label is None:
        return False
    count = int(max(table.label.max(), table.prediction.max())) + 1 if table.classes is None else len(table.classes)
    right = table.correct.sum(axis=0)
    return count > 1 and all(exact_interval(int(each), len(table), CHANCE_TAIL)[1] < 1 / count for each in right)


def with_measured_curves(
    table: ScoreTable,
    measured: MeasuredCurves,
    batch_rows: int = 64,
    kind: CostKind = "time",
    price_per_hour: float = 0.0,
    own: np.ndarray | None = None,
) -> ScoreTable:
    """The table with cost curves; if costs are times, the cost of a row is that in a call of ``batch_rows``.

    Args:
        table: of K stages.
        measured: their curves.
        batch_rows: rows per call.
        kind: of the costs.
        price_per_hour: for "money".
        own: (K,) bool, stages whose models return costs themselves; those are kept. By default none.
    """
    own = np.zeros(table.stages, dtype=bool) if own is None else own
    row_ms = np.array([float(curve.split_ms(batch_rows)) / batch_rows for curve in measured.curves])
    mean = np.broadcast_to(table.cost, table.prediction.shape).mean(axis=0)
    unit_per_ms = {"time": 1.0, "money": price_per_hour / SECONDS_PER_HOUR * 1e3}.get(kind)
    scale, cost_per_ms = np.ones(table.stages), np.zeros(table.stages)
    if unit_per_ms is not None:
        cost_per_ms[~own] = unit_per_ms
        scale[~own] = unit_per_ms * row_ms[~own] / np.maximum(mean[~own], LEAST_COST)
    elif kind == "energy":
        cost_per_ms[~own] = mean[~own] / row_ms[~own]
    rate = None if table.cost_per_mflop is None else table.cost_per_mflop * scale
    highest = None if table.highest_cost is None else table.highest_cost * scale
    table = replace(table, cost=table.cost * scale, cost_per_mflop=rate, highest_cost=highest)
    return table.with_curves(measured.curves, cost_per_ms, measured.note)


def _collected(
    stages: Sequence[Stage], rows: np.ndarray, batch_rows: int, partial: Path | None, on_note: Callable[[str], None]
) -> list[CollectedStage]:
    """The saved predictions of each stage."""
    if partial is None:
        return [CollectedStage(stage.name) for stage in stages]
    kept = PartialCollection(partial)
    parts = kept.stages(stages, rows, batch_rows)
    others = len(kept) - sum(part.parts_read for part in parts)
    if others:
        on_note(
            f"{partial}: {others} files belong to other rows, models or batch sizes, or are damaged; they are not "
            "used, and are removed when the score table has been written"
        )
    return parts
