"""Predictions and costs of one stage on all rows, and the score table of several stages."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cascade.backends.backend import BoundsCost, CountsFlops
from cascade.calibration import ScoreTable
from cascade.collection.meter import COST_UNIT, CostKind
from cascade.collection.stage_run import StageRun
from cascade.errors import InputError, StageError
from cascade.prediction import Prediction
from cascade.stage import Stage

__all__ = ["StageScores", "check_first_batch", "score_table"]


@dataclass(frozen=True)
class StageScores:
    """Predictions and costs of one stage on all rows.

    Attributes:
        prediction: of n rows.
        confidence: (n,), before calibration.
        cost: of a row: (), or (n,) if rows differ.
        rate: cost per million operations, if the model counts those of every row; else 0.
        highest: maximum cost of any row; inf if the model declares no bound.
    """

    prediction: Prediction
    confidence: np.ndarray
    cost: np.ndarray
    rate: float
    highest: float

    @classmethod
    def of(cls, run: StageRun, prediction: Prediction, kind: CostKind) -> "StageScores":
        """The scores of a finished run.

        Args:
            run: of the stage.
            prediction: of all rows.
            kind: of the costs.

        Raises:
            StageError: a row exceeds the model's declared bound.
            InputError: operations are requested, and the backend does not count them.
        """
        confidence = run.stage.raw_confidence(prediction)
        own = prediction.mflop if prediction.cost is None else prediction.cost
        if own is None:
            value = _flops(run.stage, run.rows[:1]) / 1e6 if kind == "flops" else run.cost
            return cls(prediction, confidence, np.asarray(value, dtype=np.float64), 0.0, value)
        price = 1.0 if prediction.cost is not None or kind == "flops" else run.cost
        rate = price if prediction.cost is None else 0.0
        cost = price * np.asarray(own, dtype=np.float64)
        return cls(prediction, confidence, cost, rate, price * _highest(run, own))


def check_first_batch(run: StageRun, kind: CostKind) -> None:
    """Runs the first batch, so that a stage that fails or cannot count does so before a long run."""
    prediction = run.first_batch()
    if kind == "flops" and prediction.cost is None and prediction.mflop is None:
        _flops(run.stage, run.rows[:1])


def score_table(
    stages: Sequence[Stage],
    scores: Sequence[StageScores],
    label: np.ndarray | None,
    classes: Sequence[str] | None,
    kind: CostKind,
    keep_scores: bool,
) -> ScoreTable:
    """The score table of K stages.

    Args:
        stages: K stages.
        scores: of the stages.
        label: (n,) int, or ``None``.
        classes: (C,) names, or ``None``.
        kind: of the costs.
        keep_scores: whether to keep class probabilities, if every stage has the same number of them.
    """
    models = [stage.model for stage in stages]
    probabilities = [each.prediction.probabilities for each in scores]
    shapes = {None if p is None else p.shape for p in probabilities}
    has_scores = keep_scores and len(shapes) == 1 and None not in shapes
    return ScoreTable(
        prediction=np.stack([each.prediction.answer for each in scores], axis=1),
        confidence=np.stack([each.confidence for each in scores], axis=1),
        cost=_costs(scores),
        stage=np.array([stage.name for stage in stages]),
        cost_unit=COST_UNIT[kind],
        label=label,
        scores=np.stack([p for p in probabilities if p is not None], axis=1) if has_scores else None,
        model=None if None in models else np.array(models),
        cost_per_mflop=np.array([each.rate for each in scores]) if any(each.rate for each in scores) else None,
        highest_cost=np.array([each.highest for each in scores]) if any(each.cost.ndim for each in scores) else None,
        classes=None if classes is None else np.array(classes, dtype=str),
    )


def _highest(run: StageRun, own: np.ndarray) -> float:
    """The model's declared bound of a row's own cost.

    Raises:
        StageError: a row exceeds it.
    """
    backend = run.stage.backend
    most = backend.highest_row_cost(run.rows[:1]) if isinstance(backend, BoundsCost) else np.inf
    above = np.flatnonzero(own > most)
    if len(above):
        raise StageError(
            run.stage.name,
            f"its model declares a maximum cost per row of {most:g}; row {above[0]} cost {own[above[0]]:g}, and "
            f"{len(above)} of {len(own)} rows exceed it",
        )
    return most


def _flops(stage: Stage, rows: np.ndarray) -> float:
    if not isinstance(stage.backend, CountsFlops):
        raise InputError(f"stage {stage.name!r} cannot count its operations; collect with the cost 'time' instead")
    return stage.backend.flops_per_row(rows)


def _costs(scores: Sequence[StageScores]) -> np.ndarray:
    """(K,), or (n, K) if the cost of any stage differs from row to row."""
    if all(each.cost.ndim == 0 for each in scores):
        return np.array([each.cost for each in scores])
    n = len(scores[0].prediction)
    return np.stack([np.broadcast_to(each.cost, n) for each in scores], axis=1)
