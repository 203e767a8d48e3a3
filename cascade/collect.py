"""Collecting a score table: every stage answers every row, once, and is timed."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cascade.backends.backend import CountsFlops
from cascade.calibration import ScoreTable
from cascade.errors import InputError
from cascade.prediction import Prediction
from cascade.stage import Stage

__all__ = ["collect"]

CostKind = Literal["time", "flops"]
COST_UNIT: dict[CostKind, str] = {"time": "ms", "flops": "MFLOP"}
WARM_UP_BATCHES = 2


@dataclass(frozen=True)
class _StageScores:
    """What one stage said on all rows, and what a row cost: one number, or (n,) of the model's own."""

    prediction: Prediction
    confidence: np.ndarray
    cost: np.ndarray


def collect(
    stages: Sequence[Stage],
    rows: np.ndarray,
    label: np.ndarray | None = None,
    *,
    batch_rows: int = 64,
    cost: CostKind = "time",
    keep_scores: bool = True,
    on_rows: Callable[[str, int], None] = lambda stage, rows: None,
) -> ScoreTable:
    """Runs every stage on every row.

    Args:
        stages: K stages, cheapest first.
        rows: (n, ...), n >= 1.
        label: (n,) int, the right answers, if they are known.
        batch_rows: rows a batch; the measured time is that of such batches.
        cost: "time" for the median over the batches of the time a row, in ms; "flops" for counted operations.
        keep_scores: keep all class probabilities, where every stage gives the same number of them.
        on_rows: called with (stage, rows done) after every batch.

    Raises:
        InputError: FLOPs are asked for and a backend does not count them.
    """
    models = [stage.model for stage in stages]
    said = [_run(stage, rows, batch_rows, cost, on_rows) for stage in stages]
    probabilities = [each.prediction.probabilities for each in said]
    shapes = {None if p is None else p.shape for p in probabilities}
    has_scores = keep_scores and len(shapes) == 1 and None not in shapes
    return ScoreTable(
        prediction=np.stack([each.prediction.answer for each in said], axis=1),
        confidence=np.stack([each.confidence for each in said], axis=1),
        cost=_costs(said),
        stage=np.array([stage.name for stage in stages]),
        cost_unit=COST_UNIT[cost],
        label=label,
        scores=np.stack([p for p in probabilities if p is not None], axis=1) if has_scores else None,
        model=None if None in models else np.array(models),
    )


def _run(
    stage: Stage, rows: np.ndarray, batch_rows: int, cost: CostKind, on_rows: Callable[[str, int], None]
) -> _StageScores:
    for _ in range(WARM_UP_BATCHES):
        stage.predict(rows[:batch_rows])
    predictions, times = [], []
    for start in range(0, len(rows), batch_rows):
        batch = np.ascontiguousarray(rows[start : start + batch_rows])
        begin = time.perf_counter()
        predictions.append(stage.predict(batch))
        times.append((time.perf_counter() - begin) / len(batch))
        on_rows(stage.name, start + len(batch))
    # The last batch may be small, and a small batch's time a row is not comparable.
    whole = times[: len(rows) // batch_rows] or times
    prediction = _joined(predictions)
    value: float | np.ndarray
    if prediction.cost is not None:
        value = prediction.cost
    elif cost == "time":
        value = np.median(whole) * 1e3
    else:
        value = _flops(stage, rows[:batch_rows]) / 1e6
    return _StageScores(prediction, stage.raw_confidence(prediction), np.asarray(value, dtype=np.float64))


def _flops(stage: Stage, rows: np.ndarray) -> float:
    if not isinstance(stage.backend, CountsFlops):
        raise InputError(f"stage {stage.name!r} cannot count its operations; collect with the cost 'time' instead")
    return stage.backend.flops_per_row(rows)


def _joined(parts: Sequence[Prediction]) -> Prediction:
    def join(name: str) -> np.ndarray | None:
        arrays = [getattr(part, name) for part in parts]
        return None if arrays[0] is None else np.concatenate(arrays)

    return Prediction(
        np.concatenate([part.answer for part in parts]), join("probabilities"), join("confidence"), join("cost")
    )


def _costs(said: Sequence[_StageScores]) -> np.ndarray:
    """(K,), or (n, K) where a stage's cost differs from row to row."""
    if all(each.cost.ndim == 0 for each in said):
        return np.array([each.cost for each in said])
    n = len(said[0].prediction)
    return np.stack([np.broadcast_to(each.cost, n) for each in said], axis=1)
