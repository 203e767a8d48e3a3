"""A backend for tests, of users as well: it looks its answers up."""

import time

import numpy as np

from cascade.prediction import Prediction

__all__ = ["FakeBackend"]


class FakeBackend:
    """Answers row i with row ``int(rows[i].flat[0])`` of a table, and records the sizes of its batches.

    Args:
        probabilities: (N, C) table, anything that ``np.asarray`` accepts.
        seconds_per_row: time to sleep per row.

    Attributes:
        batches: sizes of the batches so far, in order.

    Example:
        >>> import numpy as np
        >>> from cascade import FakeBackend
        >>> backend = FakeBackend([[0.9, 0.1], [0.4, 0.6]])
        >>> backend.predict(np.array([[1], [0]])).answer
        array([1, 0])
    """

    def __init__(self, probabilities: object, seconds_per_row: float = 0.0) -> None:
        self.probabilities = np.asarray(probabilities, dtype=np.float64)
        self.seconds_per_row = seconds_per_row
        self.batches: list[int] = []

    def predict(self, rows: np.ndarray) -> Prediction:
        """Looks the rows up: (n, ...) -> (n, C)."""
        self.batches.append(len(rows))
        if self.seconds_per_row:
            time.sleep(self.seconds_per_row * len(rows))
        lines = rows.reshape(len(rows), -1)[:, 0].astype(np.int64)
        return Prediction.from_probabilities(self.probabilities[lines])
