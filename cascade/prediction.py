"""What a model says about a batch of rows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cascade.errors import RowsError

__all__ = ["Prediction"]


@dataclass(frozen=True, eq=False)
class Prediction:
    """The answers of one model.

    Attributes:
        answer: (n,) int64, the class of each row.
        probabilities: (n, C) float in [0, 1], or ``None`` if the model gives none.
        confidence: (n,) float in [0, 1], for models that give a confidence of their own instead.
        cost: (n,) float >= 0, for models whose cost differs from row to row; in the unit of the stage's cost.
        mflop: (n,) float > 0, million floating-point operations of each row, for models that count them where they
            differ from row to row; what they cost is measured (``cascade.collect``).
    """

    answer: np.ndarray
    probabilities: np.ndarray | None = None
    confidence: np.ndarray | None = None
    cost: np.ndarray | None = None
    mflop: np.ndarray | None = None

    @classmethod
    def from_probabilities(cls, probabilities: np.ndarray) -> "Prediction":
        """A prediction whose answer is the likeliest class.

        Args:
            probabilities: (n, C).
        """
        return cls(np.asarray(probabilities).argmax(axis=1).astype(np.int64), np.asarray(probabilities))

    @classmethod
    def join(cls, parts: "Sequence[Prediction]") -> "Prediction":
        """The predictions of one model for several batches, at least one, as one."""
        if len(parts) == 1:
            return parts[0]

        def joined(name: str) -> np.ndarray | None:
            arrays = [getattr(part, name) for part in parts]
            return None if any(array is None for array in arrays) else np.concatenate(arrays)

        answer = np.concatenate([part.answer for part in parts])
        return cls(answer, *map(joined, ("probabilities", "confidence", "cost", "mflop")))

    def __len__(self) -> int:
        return len(self.answer)

    def check(self, rows: int, source: str) -> "Prediction":
        """Makes sure that a user's model kept to the contract.

        Args:
            rows: number of rows the model was given.
            source: name for the message.

        Raises:
            RowsError: an array has another shape, or there are not either probabilities or a confidence.
        """
        for name, axes in (("answer", 1), ("probabilities", 2), ("confidence", 1), ("cost", 1), ("mflop", 1)):
            array = getattr(self, name)
            if array is None:
                continue
            shape = np.shape(array)
            if len(shape) != axes or shape[0] != rows:
                raise RowsError(f"{source} was given {rows} rows but returned {name} of shape {shape}")
        if self.probabilities is None and self.confidence is None:
            raise RowsError(f"{source} returned neither probabilities nor a confidence")
        if self.probabilities is not None and self.confidence is not None:
            raise RowsError(f"{source} returned both probabilities and a confidence; return what the router shall use")
        return self
