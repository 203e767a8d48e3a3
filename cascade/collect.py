"""Collecting a score table: every stage answers every row, once, and is timed."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cascade.backends.backend import CountsFlops
from cascade.calibration import ScoreTable
from cascade.energy import EnergyMeter
from cascade.errors import InputError
from cascade.prediction import Prediction
from cascade.stage import Stage

__all__ = ["COST_UNIT", "CostKind", "collect"]

CostKind = Literal["time", "flops", "money", "energy"]
COST_UNIT: dict[CostKind, str] = {"time": "ms", "flops": "MFLOP", "money": "price per million rows", "energy": "mJ"}
WARM_UP_BATCHES = 2
SECONDS_PER_HOUR = 3600


@dataclass(frozen=True)
class _StageScores:
    """What one stage said on all rows, and what a row cost: one number, or (n,) where rows differ.

    ``rate`` is the cost of a million operations, where the model counts those of every row; else 0.
    """

    prediction: Prediction
    confidence: np.ndarray
    cost: np.ndarray
    rate: float


def collect(
    stages: Sequence[Stage],
    rows: np.ndarray,
    label: np.ndarray | None = None,
    *,
    batch_rows: int = 64,
    cost: CostKind = "time",
    price_per_hour: float | None = None,
    keep_scores: bool = True,
    on_rows: Callable[[str, int], None] = lambda stage, rows: None,
) -> ScoreTable:
    """Runs every stage on every row.

    Args:
        stages: K stages, cheapest first.
        rows: (n, ...), n >= 1.
        label: (n,) int, the right answers, if they are known.
        batch_rows: rows a batch; the measured time is that of such batches.
        cost: "time" for the median over the batches of the time a row, in ms; "flops" for counted operations;
            "money" for the price of that time; "energy" for the median energy a row, in mJ, where the machine tells it.
            Of a model that counts every row's operations, a row costs in proportion to them; one that tells a cost of
            its own keeps it.
        price_per_hour: of the machine, >= 0; needed for "money".
        keep_scores: keep all class probabilities, where every stage gives the same number of them.
        on_rows: called with (stage, rows done) after every batch.

    Raises:
        InputError: FLOPs are asked for and a backend does not count them, money without a price, or energy where the
            machine does not tell it.
    """
    if cost == "money" and price_per_hour is None:
        raise InputError("the cost 'money' needs the price of an hour of this machine (--price-per-hour)")
    meter = _Meter(cost, price_per_hour or 0.0)
    models = [stage.model for stage in stages]
    said = [_run(stage, rows, batch_rows, meter, on_rows) for stage in stages]
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
        cost_per_mflop=np.array([each.rate for each in said]) if any(each.rate for each in said) else None,
    )


class _Meter:
    """Measures batches in the unit of a kind of cost."""

    def __init__(self, kind: CostKind, price_per_hour: float) -> None:
        self.kind = kind
        self._price_per_second = price_per_hour / SECONDS_PER_HOUR
        self._energy = EnergyMeter() if kind == "energy" else None
        self._begin = 0.0

    def start(self) -> None:
        """Begins a batch."""
        if self._energy is not None:
            self._energy.joules()
        self._begin = time.perf_counter()

    def stop(self, rows: int) -> float:
        """Cost a row of the batch that ends."""
        seconds = time.perf_counter() - self._begin
        if self._energy is not None:
            return self._energy.joules() / rows * 1e3
        if self.kind == "money":
            return seconds / rows * self._price_per_second * 1e6
        return seconds / rows * 1e3


def _run(
    stage: Stage, rows: np.ndarray, batch_rows: int, meter: _Meter, on_rows: Callable[[str, int], None]
) -> _StageScores:
    for _ in range(WARM_UP_BATCHES):
        stage.predict(rows[:batch_rows])
    predictions, costs = [], []
    for start in range(0, len(rows), batch_rows):
        batch = np.ascontiguousarray(rows[start : start + batch_rows])
        meter.start()
        prediction = stage.predict(batch)
        # Where rows differ, of a million operations instead of a row.
        costs.append(meter.stop(len(batch)) / (1.0 if prediction.mflop is None else float(prediction.mflop.mean())))
        predictions.append(prediction.copy())
        on_rows(stage.name, start + len(batch))
    # The last batch may be small, and a small batch's cost a row is not comparable.
    whole = costs[: len(rows) // batch_rows] or costs
    prediction = _joined(predictions)
    value: float | np.ndarray
    rate = 0.0
    if prediction.cost is not None:
        value = prediction.cost
    elif prediction.mflop is not None:
        rate = 1.0 if meter.kind == "flops" else float(np.median(whole))
        value = rate * prediction.mflop
    elif meter.kind == "flops":
        value = _flops(stage, rows[:batch_rows]) / 1e6
    else:
        value = float(np.median(whole))
    return _StageScores(prediction, stage.raw_confidence(prediction), np.asarray(value, dtype=np.float64), rate)


def _flops(stage: Stage, rows: np.ndarray) -> float:
    if not isinstance(stage.backend, CountsFlops):
        raise InputError(f"stage {stage.name!r} cannot count its operations; collect with the cost 'time' instead")
    return stage.backend.flops_per_row(rows)


def _joined(parts: Sequence[Prediction]) -> Prediction:
    def join(name: str) -> np.ndarray | None:
        arrays = [getattr(part, name) for part in parts]
        return None if arrays[0] is None else np.concatenate(arrays)

    return Prediction(
        np.concatenate([part.answer for part in parts]), *map(join, ("probabilities", "confidence", "cost", "mflop"))
    )


def _costs(said: Sequence[_StageScores]) -> np.ndarray:
    """(K,), or (n, K) where a stage's cost differs from row to row."""
    if all(each.cost.ndim == 0 for each in said):
        return np.array([each.cost for each in said])
    n = len(said[0].prediction)
    return np.stack([np.broadcast_to(each.cost, n) for each in said], axis=1)
