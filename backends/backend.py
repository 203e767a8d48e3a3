"""The seam between a cascade and its models."""

from typing import Protocol, runtime_checkable

import numpy as np

from cascade.prediction import Prediction

__all__ = ["Backend", "BoundsCost", "CountsFlops"]


class Backend(Protocol):
    """A model: rows in, a prediction out. Every method may be called from any thread, by one at a time.

    One that works on a copy of the rows may have an attribute ``copies_rows`` that is true; it may get rows that could
    be written to, which it must leave as they are.
    """

    def predict(self, rows: np.ndarray) -> Prediction:
        """Answers a batch.

        Args:
            rows: (n, ...), n >= 1, C-contiguous and read-only.

        Raises:
            RowsError: the rows are at fault themselves; whatever else it raises is a fault of the model.
        """


@runtime_checkable
class CountsFlops(Protocol):
    """A backend that knows its work."""

    def flops_per_row(self, rows: np.ndarray) -> float:
        """Floating-point operations a row (a multiplication and an addition count as two).

        Args:
            rows: (n, ...), n >= 1, to measure on.
        """


@runtime_checkable
class BoundsCost(Protocol):
    """A backend whose rows differ in cost, with a bound of it."""

    def highest_row_cost(self, rows: np.ndarray) -> float:
        """Most that a row of this shape may cost, whatever it holds, in the unit of what ``predict`` gives.

        Args:
            rows: (n, ...), n >= 1, of the shape.

        Returns:
            At least 0; inf where there is no bound.
        """
