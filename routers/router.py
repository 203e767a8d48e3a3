"""A router: one calibrated confidence per row."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from cascade.routers.heads import Head
from cascade.routers.scores import SCORES

__all__ = ["Calibrator", "Router"]


class Calibrator(Protocol):
    """Maps what a model says to what it is worth; monotone in the confidence."""

    def probabilities(self, probabilities: np.ndarray) -> np.ndarray:
        """Calibrated class probabilities: (n, C) -> (n, C)."""

    def confidence(self, confidence: np.ndarray) -> np.ndarray:
        """Calibrated confidence: (n,) in [0, 1] -> (n,) in [0, 1]."""


@dataclass(frozen=True)
class Router:
    """A score on calibrated probabilities, then calibrated itself; or a head, calibrated.

    Attributes:
        score: a name of ``SCORES``; ``None`` where the confidence is given, by the model or by a score table.
        calibrator: what is applied before and after the score, or after the head.
        head: takes the place of the score: it looks at the evidence of all stages so far.
    """

    score: str | None
    calibrator: Calibrator
    head: Head | None = None

    def confidence(
        self,
        probabilities: np.ndarray | None,
        own_confidence: np.ndarray | None = None,
        evidence: np.ndarray | None = None,
    ) -> np.ndarray:
        """How sure the model is of each row.

        Args:
            probabilities: (n, C), or ``None``.
            own_confidence: (n,), used where there are no probabilities or no score.
            evidence: (n, 5 (k + 1)), what this stage k and those before it said; a head needs it, nothing else does.

        Returns:
            (n,) float64 in [0, 1].

        Raises:
            ValueError: what the router needs is missing.
        """
        if self.head is not None:
            if evidence is None:
                raise ValueError("a router with a head needs the evidence of the stages so far")
            raw = self.head.confidence(evidence)
        elif probabilities is not None and self.score is not None:
            # Always in float64 and in C order (sums depend on it), so that a score table and a served row give the
            # same bits.
            exact = np.ascontiguousarray(probabilities, dtype=np.float64)
            raw = SCORES[self.score](self.calibrator.probabilities(exact))
        elif own_confidence is not None:
            raw = own_confidence
        else:
            raise ValueError("a router needs probabilities and a score, or a confidence")
        # Sums of float32 probabilities may end a little above 1, and would then reach a threshold of "never".
        return np.asarray(np.minimum(np.maximum(self.calibrator.confidence(raw), 0.0), 1.0), dtype=np.float64)
