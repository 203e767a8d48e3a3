"""Calibrators: from a confidence to the probability that the answer is right.

Applying one is a line of NumPy, because it happens at every request; ``calibrator_fitting`` fits them.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cascade.routers.logit import SMALLEST, logit

__all__ = [
    "CALIBRATORS",
    "Calibrators",
    "Identity",
    "Isotonic",
    "Platt",
    "Temperature",
    "calibrator_to_dict",
]


@dataclass(frozen=True)
class Identity:
    """Uses probabilities and confidences as they are."""

    def probabilities(self, probabilities: np.ndarray) -> np.ndarray:
        """(n, C) -> the same."""
        return probabilities

    def confidence(self, confidence: np.ndarray) -> np.ndarray:
        """(n,) -> the same."""
        return confidence


@dataclass(frozen=True)
class Temperature(Identity):
    """Divides the logarithms of the probabilities by a temperature.

    Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", ICML 2017, section 4.2,
    https://arxiv.org/abs/1706.04599

    Attributes:
        temperature: > 0; values above 1 lower the confidence.
    """

    temperature: float = 1.0

    def probabilities(self, probabilities: np.ndarray) -> np.ndarray:
        """(n, C) -> (n, C), rows that sum to 1."""
        logits = np.log(np.maximum(probabilities, SMALLEST)) / self.temperature
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))


@dataclass(frozen=True)
class Platt(Identity):
    """A logistic curve on the logit of the confidence.

    Platt, "Probabilistic outputs for support vector machines", 1999; on the logit as in Kull, Silva Filho, Flach,
    "Beta calibration", AISTATS 2017, https://proceedings.mlr.press/v54/kull17a.html

    Attributes:
        slope: >= 0, so that the curve never falls.
        intercept: shift of the logit.
    """

    slope: float = 1.0
    intercept: float = 0.0

    def confidence(self, confidence: np.ndarray) -> np.ndarray:
        """(n,) -> (n,)."""
        return np.asarray(1.0 / (1.0 + np.exp(-(self.slope * logit(confidence) + self.intercept))))


@dataclass(frozen=True)
class Isotonic(Identity):
    """A rising, piecewise linear curve.

    Zadrozny, Elkan, "Transforming classifier scores into accurate multiclass probability estimates", KDD 2002,
    https://doi.org/10.1145/775047.775151. Rows on a flat piece get equal confidences, which leaves fewer possible
    thresholds.

    Attributes:
        x: confidences at the corners, not falling.
        y: calibrated confidences there, not falling.
    """

    x: tuple[float, ...] = (0.0, 1.0)
    y: tuple[float, ...] = (0.0, 1.0)

    def confidence(self, confidence: np.ndarray) -> np.ndarray:
        """(n,) -> (n,)."""
        return np.asarray(np.interp(confidence, self.x, self.y))


Calibrators = Identity | Temperature | Platt | Isotonic
CALIBRATORS: dict[str, Callable[..., Calibrators]] = {
    "identity": Identity,
    "temperature": Temperature,
    "platt": Platt,
    "isotonic": Isotonic,
}


def calibrator_to_dict(calibrator: Any) -> dict[str, Any]:
    """Plain values, ready for JSON, with the calibrator's name as "type"."""
    values = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(calibrator).items()}
    return {"type": type(calibrator).__name__.lower(), **values}
