"""The interface between a cascade and its models."""

from typing import Protocol, runtime_checkable

import numpy as np

from cascade.backends.detection.windows import Windows
from cascade.prediction import Prediction

__all__ = ["Backend", "BoundsCost", "CountsFlops", "PredictsWindows"]


class Backend(Protocol):
    """A model: rows in, a prediction out. Methods may be called from any thread, one call at a time.

    A backend that works on a copy of the rows may set an attribute ``copies_rows = True``. It may then get writeable
    rows, and must not change them.
    """

    def predict(self, rows: np.ndarray) -> Prediction:
        """Answers a batch.

        Args:
            rows: (n, ...), n >= 1, C-contiguous and read-only.

        Raises:
            RowsError: the rows are invalid. Any other exception counts as a failure of the model.
        """


@runtime_checkable
class CountsFlops(Protocol):
    """A backend that counts its operations."""

    def flops_per_row(self, rows: np.ndarray) -> float:
        """Mean floating-point operations per row (a multiplication and an addition count as two).

        Args:
            rows: (n, ...), n >= 1.
        """


@runtime_checkable
class BoundsCost(Protocol):
    """A backend whose rows differ in cost, with an upper bound of the cost."""

    def highest_row_cost(self, rows: np.ndarray) -> float:
        """Maximum cost of any row of this shape, in the unit of the prediction's ``cost`` or ``mflop``.

        Args:
            rows: (n, ...), n >= 1, of the shape.

        Returns:
            At least 0; inf if there is no bound.
        """


@runtime_checkable
class PredictsWindows(Protocol):
    """A backend that evaluates the windows of a pyramid level without gathering them."""

    def predict_windows(self, windows: Windows) -> Prediction:
        """Like :meth:`Backend.predict` on the gathered windows, up to rounding.

        Args:
            windows: n >= 1 of one level. ``windows.level``, the same object for all batches of a level, can be the key
                of what is computed once for a level.
        """
