"""A prediction: what a model returns for a batch of rows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Prediction"]


@dataclass(frozen=True, eq=False)
class Prediction:
    """The answers of one model; ``cascade.backends.stage_contract`` checks them.

    Attributes:
        answer: (n,) int64 >= 0, the class of each row.
        probabilities: (n, C) float in [0, 1], C >= 2, each row with sum 1; column c is of class c. ``None`` if the
            model returns none. Scores are computed from them, so a model whose answer is not the most probable class
            returns ``confidence`` instead.
        confidence: (n,) float in [0, 1], the model's own confidence; instead of ``probabilities``.
        cost: (n,) float >= 0, in the unit of the stage's cost, of models whose cost differs from row to row.
        mflop: (n,) float > 0, millions of floating-point operations per row, of models that count them row by row;
            ``cascade.collect`` measures what they cost.
    """

    answer: np.ndarray
    probabilities: np.ndarray | None = None
    confidence: np.ndarray | None = None
    cost: np.ndarray | None = None
    mflop: np.ndarray | None = None

    @classmethod
    def from_probabilities(cls, probabilities: np.ndarray) -> "Prediction":
        """A prediction whose answer is the most probable class, the first of several.

        Args:
            probabilities: (n, C); a single column is the probability of class 1 (a sigmoid) and becomes two.
        """
        found = np.asarray(probabilities)
        if found.shape[1] == 1:
            found = np.concatenate([1 - found, found], axis=1)
        return cls(found.argmax(axis=1), found)

    def copy(self) -> "Prediction":
        """A copy of the arrays: a model may reuse its own in the next call."""
        return Prediction(**{name: array.copy() for name, array in vars(self).items() if array is not None})

    @classmethod
    def join(cls, parts: "Sequence[Prediction]") -> "Prediction":
        """Concatenates the predictions of one model for one or more batches."""
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
