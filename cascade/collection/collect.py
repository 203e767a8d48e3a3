"""Collecting a score table: every stage answers every row, once, and is timed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cascade.backends.backend import BoundsCost, CountsFlops
from cascade.calibration import ScoreTable
from cascade.calibration.exact_binomial import exact_interval
from cascade.collection.collected_stage import CollectedStage
from cascade.collection.measure import LARGEST_CALL, SECONDS_A_STAGE, MeasuredCurves, measure_curves
from cascade.collection.meter import COST_UNIT, SECONDS_PER_HOUR, CostKind, Meter
from cascade.collection.partial_collection import PartialCollection
from cascade.collection.stage_run import StageRun
from cascade.errors import InputError, StageError
from cascade.prediction import Prediction
from cascade.rows.labels import checked_ids
from cascade.stage import Stage

__all__ = ["collect"]

LEAST_COST = 1e-12
CHANCE_TAIL = 1e-3


@dataclass(frozen=True)
class _StageScores:
    """What one stage predicted for all rows, and what a row cost: one number, or (n,) where rows differ.

    ``rate`` is the cost of a million operations, where the model counts those of every row; else 0. ``highest`` is the
    most that any row may cost, inf where the model declares no bound.
    """

    prediction: Prediction
    confidence: np.ndarray
    cost: np.ndarray
    rate: float
    highest: float


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

    With ``partial``, predictions are kept on disk as they come, and the next run with the same rows, models and batches
    goes on from them. Some of the batches that are kept are predicted again, for their cost, and to make sure that
    the model still answers like that: the code of a model of your own is not in its digest.

    Args:
        stages: K stages, cheapest first.
        rows: (n, ...), n >= 1.
        label: (n,) int >= 0, ids of the right answers (``cascade.rows.labels.label_ids`` makes them of names);
            ``None`` if there are none.
        classes: (C,) names of the answers 0 to C - 1, if they have some.
        batch_rows: rows a batch; the measured time is that of such batches.
        cost: "time" for the median over the batches of the time a row, in ms; "flops" for counted operations;
            "money" for the price of that time; "energy" for the median energy a row, in mJ, where the machine
            measures it. Of a model that counts every row's operations, a row costs in proportion to them; one that
            gives a cost of its own keeps it.
        price_per_hour: of the machine, >= 0; needed for "money".
        keep_scores: keep all class probabilities, where every stage gives the same number of them.
        partial: folder for predictions, until the table is saved (``cascade.partial_collection``); remove it then.
        curve_seconds: most time for the cost curve of each stage (``cascade.measure``), after all predictions; the cost
            of a row is then that of a call of ``batch_rows``. 0 for no curves: costs are constants per row.
        on_rows: called with (stage, rows done) after every batch.
        on_timed: called with (stage, share of its time for the cost curve that is spent, in [0, 1]) after every call.
        on_note: called with a line about what is taken from ``partial``, and what is left there.

    Raises:
        StageError: a stage fails, or breaks the stage contract; the text names it.
        InputError: a label is no id of a class; operations are asked for and a backend does not count them,
            money without a price, or energy where the machine does not measure it.
    """
    if cost == "money" and price_per_hour is None:
        raise InputError("the cost 'money' needs the price of an hour of this machine (--price-per-hour)")
    ids = None if label is None else checked_ids(label, classes)
    if ids is not None and len(ids) != len(rows):
        raise InputError(f"label must be (n,) with n = {len(rows)} like rows; got {len(ids)}")
    meter = Meter(cost, price_per_hour or 0.0)
    runs = [StageRun(stage, rows, batch_rows, meter) for stage in stages]
    collected = _collected(stages, rows, batch_rows, partial, on_note)
    for run in runs:
        _check(run, cost)
    for run, part in zip(runs, collected, strict=True):
        try:
            run.complete(part, on_rows, on_note)
        except BaseException:  # Ctrl-C too
            if partial is not None and any(each.rows for each in collected):
                on_note(
                    f"stage {run.stage.name!r} stopped after {part.rows} of {len(rows)} rows; {partial} keeps them and "
                    "those of the stages before it, and the same command goes on from there"
                )
            raise
    found = [_stage_scores(run, part.prediction(), cost) for run, part in zip(runs, collected, strict=True)]
    table = _table(stages, found, ids, classes, COST_UNIT[cost], keep_scores)
    if _is_below_chance(table):
        on_note(
            "warning: every stage is right less often than a guess among the classes; are the labels ids in the order "
            "of the configuration's 'classes', and the rows in the order of the labels?"
        )
    if not curve_seconds:
        return table
    largest = max(LARGEST_CALL, batch_rows)
    measured = measure_curves(stages, rows, largest=largest, seconds=curve_seconds, on_call=on_timed)
    if measured.warning is not None:
        on_note(f"warning: {measured.warning}")
    own = np.array([each.prediction.cost is not None for each in found])
    return _with_curves(table, measured, cost, batch_rows, price_per_hour or 0.0, own)


def _is_below_chance(table: ScoreTable) -> bool:
    """Whether all stages are clearly worse than guessing, which labels in another order make of good models."""
    if table.label is None:
        return False
    count = int(max(table.label.max(), table.prediction.max())) + 1 if table.classes is None else len(table.classes)
    right = table.correct.sum(axis=0)
    return count > 1 and all(exact_interval(int(each), len(table), CHANCE_TAIL)[1] < 1 / count for each in right)


def _with_curves(
    table: ScoreTable,
    measured: MeasuredCurves,
    kind: CostKind,
    batch_rows: int,
    price_per_hour: float,
    own: np.ndarray,
) -> ScoreTable:
    """The table with cost curves; where costs are times, a row costs what it does in a call of ``batch_rows``.

    Args:
        table: of K stages.
        measured: their curves.
        kind: of the costs.
        batch_rows: of the calls.
        price_per_hour: for "money".
        own: (K,) bool, the stages whose models give a cost of their own, which is kept.
    """
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
    """What is there of each stage already."""
    if partial is None:
        return [CollectedStage(stage.name) for stage in stages]
    kept = PartialCollection(partial)
    parts = kept.stages(stages, rows, batch_rows)
    others = len(kept) - sum(part.parts_read for part in parts)
    if others:
        on_note(
            f"{partial}: {others} files are of other rows, models or batches, or damaged; they are not used, and are "
            "removed once the score table is written"
        )
    return parts


def _table(
    stages: Sequence[Stage],
    found: Sequence[_StageScores],
    label: np.ndarray | None,
    classes: Sequence[str] | None,
    cost_unit: str,
    keep_scores: bool,
) -> ScoreTable:
    models = [stage.model for stage in stages]
    probabilities = [each.prediction.probabilities for each in found]
    shapes = {None if p is None else p.shape for p in probabilities}
    has_scores = keep_scores and len(shapes) == 1 and None not in shapes
    return ScoreTable(
        prediction=np.stack([each.prediction.answer for each in found], axis=1),
        confidence=np.stack([each.confidence for each in found], axis=1),
        cost=_costs(found),
        stage=np.array([stage.name for stage in stages]),
        cost_unit=cost_unit,
        label=label,
        scores=np.stack([p for p in probabilities if p is not None], axis=1) if has_scores else None,
        model=None if None in models else np.array(models),
        cost_per_mflop=np.array([each.rate for each in found]) if any(each.rate for each in found) else None,
        highest_cost=np.array([each.highest for each in found]) if any(each.cost.ndim for each in found) else None,
        classes=None if classes is None else np.array(classes, dtype=str),
    )


def _check(run: StageRun, kind: CostKind) -> None:
    """Asks a stage about the first batch, so that one that cannot answer or count stops no long run."""
    prediction = run.first_batch()
    if kind == "flops" and prediction.cost is None and prediction.mflop is None:
        _flops(run.stage, run.rows[:1])


def _stage_scores(run: StageRun, prediction: Prediction, kind: CostKind) -> _StageScores:
    confidence = run.stage.raw_confidence(prediction)
    own = prediction.mflop if prediction.cost is None else prediction.cost
    if own is None:
        value = _flops(run.stage, run.rows[:1]) / 1e6 if kind == "flops" else run.cost
        return _StageScores(prediction, confidence, np.asarray(value, dtype=np.float64), 0.0, value)
    price = 1.0 if prediction.cost is not None or kind == "flops" else run.cost
    rate = price if prediction.cost is None else 0.0
    cost = price * np.asarray(own, dtype=np.float64)
    return _StageScores(prediction, confidence, cost, rate, price * _highest(run, own))


def _highest(run: StageRun, own: np.ndarray) -> float:
    """The model's bound of what it gives for each row.

    Raises:
        StageError: a row is above it.
    """
    backend = run.stage.backend
    most = backend.highest_row_cost(run.rows[:1]) if isinstance(backend, BoundsCost) else np.inf
    above = np.flatnonzero(own > most)
    if len(above):
        raise StageError(
            run.stage.name,
            f"declares that a row costs at most {most:g}; row {above[0]} cost {own[above[0]]:g}, and {len(above)} of "
            f"{len(own)} rows are above",
        )
    return most


def _flops(stage: Stage, rows: np.ndarray) -> float:
    if not isinstance(stage.backend, CountsFlops):
        raise InputError(f"stage {stage.name!r} cannot count its operations; collect with the cost 'time' instead")
    return stage.backend.flops_per_row(rows)


def _costs(found: Sequence[_StageScores]) -> np.ndarray:
    """(K,), or (n, K) where a stage's cost differs from row to row."""
    if all(each.cost.ndim == 0 for each in found):
        return np.array([each.cost for each in found])
    n = len(found[0].prediction)
    return np.stack([np.broadcast_to(each.cost, n) for each in found], axis=1)
