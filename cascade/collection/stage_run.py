"""One stage on all rows, batch by batch."""

from collections.abc import Callable

import numpy as np

from cascade.collection.collected_stage import CollectedStage
from cascade.collection.meter import Meter
from cascade.errors import RowsError, StageError
from cascade.prediction import Prediction
from cascade.stage import Stage

__all__ = ["StageRun"]

WARM_UP_BATCHES = 2
CHECKED_SHARE = 0.02
LEAST_CHECKED, MOST_CHECKED = 3, 10
TOLERANCE = 1e-2  # of a probability, for bfloat16 arithmetic or another processor


class StageRun:
    """Predicts rows with one stage, and measures every batch.

    Args:
        stage: the stage.
        rows: (n, ...), n >= 1.
        batch_rows: rows per batch.
        meter: measures the cost.
    """

    def __init__(self, stage: Stage, rows: np.ndarray, batch_rows: int, meter: Meter) -> None:
        self.stage, self.rows = stage, rows
        self._batch_rows, self._meter = batch_rows, meter
        self._costs: list[tuple[int, float]] = []

    @property
    def cost(self) -> float:
        """Cost per row (per million operations if rows differ): the median over the full batches.

        The last batch may be small, and its cost per row is not comparable.
        """
        whole = [cost for rows, cost in self._costs if rows == self._batch_rows]
        return float(np.median(whole or [cost for _, cost in self._costs]))

    def first_batch(self) -> Prediction:
        """The prediction of the first batch, without a measurement.

        Raises:
            StageError, RowsError: the stage fails, or refuses the rows; the message names the stage and the rows.
        """
        return self._predict(0)

    def complete(
        self, collected: CollectedStage, on_rows: Callable[[str, int], None], on_note: Callable[[str], None]
    ) -> None:
        """Predicts the missing rows; predictions are saved even if it fails.

        Args:
            collected: the predictions so far; the others are appended.
            on_rows: called with (stage, number of rows predicted) after every batch.
            on_note: called with a line of text about resumed predictions.

        Raises:
            StageError, RowsError: as in ``first_batch``.
        """
        for _ in range(WARM_UP_BATCHES):
            self.first_batch()
        if collected.rows and not self._is_unchanged(collected):
            on_note(
                f"stage {self.stage.name!r} predicts differently now; its {collected.rows} rows are predicted again"
            )
            collected.clear()
            self._costs.clear()
        if collected.rows:
            on_note(
                f"stage {self.stage.name!r}: resumed after {collected.rows} of {len(self.rows)} rows "
                "(--no-resume predicts them again)"
            )
            on_rows(self.stage.name, collected.rows)
        try:
            for start in range(collected.rows, len(self.rows), self._batch_rows):
                collected.add(self._measured(start))
                on_rows(self.stage.name, collected.rows)
        finally:
            collected.save()

    def _is_unchanged(self, collected: CollectedStage) -> bool:
        """Whether a sample of the batches, predicted and measured again, has the same predictions."""
        batches = -(-collected.rows // self._batch_rows)
        checked = min(max(int(CHECKED_SHARE * batches), LEAST_CHECKED), MOST_CHECKED)
        starts = np.unique(np.linspace(0, batches - 1, checked).astype(int)) * self._batch_rows
        before = (collected.prediction(start, start + self._batch_rows) for start in starts)
        return all(_same(one, self._measured(start)) for start, one in zip(starts.tolist(), before, strict=True))

    def _measured(self, start: int) -> Prediction:
        self._meter.start()
        prediction = self._predict(start)
        cost = self._meter.stop(len(prediction))
        million = 1.0 if prediction.mflop is None else float(prediction.mflop.mean())
        self._costs.append((len(prediction), cost / million))
        return prediction

    def _predict(self, start: int) -> Prediction:
        batch = np.ascontiguousarray(self.rows[start : start + self._batch_rows])
        place = f"on the rows {start} to {start + len(batch) - 1}"
        try:
            return self.stage.predict(batch)
        except StageError as error:
            raise StageError(error.stage, f"{place}, {error.problem}") from error
        except RowsError as error:
            raise RowsError(f"stage {self.stage.name!r}, {place}: {error}") from error


def _same(one: Prediction, other: Prediction) -> bool:
    pairs = ((one.probabilities, other.probabilities), (one.confidence, other.confidence))
    return np.array_equal(one.answer, other.answer) and all(_close(first, second) for first, second in pairs)


def _close(one: np.ndarray | None, other: np.ndarray | None) -> bool:
    if one is None or other is None:
        return one is other
    return one.shape == other.shape and np.allclose(one, other, rtol=0, atol=TOLERANCE)
