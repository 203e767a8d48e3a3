"""What a model says about a batch of rows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Prediction"]


@dataclass(frozen=True, eq=False)
class Prediction:
    """The answers of one model; ``cascade.stage_contract`` has what a cascade takes.

    Attributes:
        answer: (n,) int64 >= 0, the class of each row.
        probabilities: (n, C) float in [0, 1], C >= 2, rows that sum to 1; column c is of class c. ``None`` if the model
            gives none. A router takes the largest of them for how sure the answer is, so a model whose answer is not
            the likeliest class gives ``confidence`` instead.
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
        """A prediction whose answer is the likeliest class, the first of several.

        Args:
            probabilities: (n, C); one column is the probability of class 1 (a sigmoid), and becomes two.
        """
        found = np.asarray(probabilities)
        if found.shape[1] == 1:
            found = np.concatenate([1 - found, found], axis=1)
        return cls(found.argmax(axis=1), found)

    def copy(self) -> "Prediction":
        """The same in memory of its own: a model may use its arrays again in the next call."""
        return Prediction(**{name: array.copy() for name, array in vars(self).items() if array is not None})

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

    def __repr__(self) -> str:
        if self.probabilities is None:
            return f"Prediction({len(self)} rows, with confidences)"
        return f"Prediction({len(self)} rows, probabilities of {self.probabilities.shape[1]} classes)"
