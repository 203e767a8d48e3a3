"""A router: one calibrated confidence per row."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from cascade.routers.heads import Head
from cascade.routers.scores import score_function

__all__ = ["Calibrator", "Router"]


class Calibrator(Protocol):
    """Maps the output of a model to calibrated values; monotone in the confidence."""

    def probabilities(self, probabilities: np.ndarray) -> np.ndarray:
        """Calibrated class probabilities: (n, C) -> (n, C)."""

    def confidence(self, confidence: np.ndarray) -> np.ndarray:
        """Calibrated confidence: (n,) in [0, 1] -> (n,) in [0, 1]."""


@dataclass(frozen=True)
class Router:
    """A score on calibrated probabilities, then calibrated itself; or a head, calibrated.

    Attributes:
        score: a name that ``score_function`` reads; ``None`` where the model or a score table gives the confidence.
        calibrator: applied before and after the score, or after the head.
        head: replaces the score; it reads the evidence of all stages so far.
    """

    score: str | None
    calibrator: Calibrator
    head: Head | None = None

    def confidence(
        self,
        probabilities: np.ndarray | None,
        own_confidence: np.ndarray | None = None,
        evidence: np.ndarray | None = None,
        default_score: str | None = None,
    ) -> np.ndarray:
        """The calibrated confidence of each row.

        Args:
            probabilities: (n, C), or ``None``.
            own_confidence: (n,), used where there are no probabilities or no score.
            evidence: (n, 5 (k + 1)) of the stages 0 to k, k being this one; only a head needs it.
            default_score: of the probabilities, where the router has no score.

        Returns:
            (n,) float64 in [0, 1].

        Raises:
            ValueError: the router lacks an input.
        """
        score = self.score or default_score
        if self.head is not None:
            if evidence is None:
                raise ValueError("a router with a head needs the evidence of the stages so far")
            raw = self.head.confidence(evidence)
        elif probabilities is not None and score is not None:
            # Always in float64 and in C order (sums depend on it), so that a score table and a served row give the
            # same bits.
            exact = np.ascontiguousarray(probabilities, dtype=np.float64)
            raw = score_function(score)(self.calibrator.probabilities(exact))
        elif own_confidence is not None:
            raw = own_confidence
        else:
            raise ValueError("a router needs probabilities and a score, or a confidence")
        # Sums of float32 probabilities may be slightly above 1, and would then reach the threshold NEVER.
        return np.asarray(np.minimum(np.maximum(self.calibrator.confidence(raw), 0.0), 1.0), dtype=np.float64)
