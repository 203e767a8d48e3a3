"""Calibrators: from what a model says to how often that is right.

Applying one is a line of NumPy, since it happens at every request; ``calibrator_fitting`` fits them.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cascade.errors import PolicyError
from cascade.routers.logit import SMALLEST, logit

__all__ = [
    "CALIBRATORS",
    "Calibrators",
    "Identity",
    "Isotonic",
    "Platt",
    "Temperature",
    "calibrator_from_dict",
    "calibrator_to_dict",
]


@dataclass(frozen=True)
class Identity:
    """Takes what the model says at its word."""

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
        temperature: above 0; above 1 makes a model less sure.
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
        slope: at least 0, so that more confidence never counts for less.
        intercept: shift of the logit.
    """

    slope: float = 1.0
    intercept: float = 0.0

    def confidence(self, confidence: np.ndarray) -> np.ndarray:
        """(n,) -> (n,)."""
        return np.asarray(1.0 / (1.0 + np.exp(-(self.slope * logit(confidence) + self.intercept))))


@dataclass(frozen=True)
class Isotonic(Identity):
    """A rising curve of straight pieces, of any shape.

    Zadrozny, Elkan, "Transforming classifier scores into accurate multiclass probability estimates", KDD 2002,
    https://doi.org/10.1145/775047.775151. Rows on a flat piece become equal, so fewer thresholds are possible.

    Attributes:
        x: confidences at the corners, rising.
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
    """Plain numbers, with the calibrator's name as "type"."""
    return {"type": type(calibrator).__name__.lower(), **asdict(calibrator)}


def calibrator_from_dict(values: Mapping[str, Any]) -> Calibrators:
    """The inverse of :func:`calibrator_to_dict`.

    Raises:
        PolicyError: the values do not describe a calibrator.
    """
    numbers = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    name = numbers.pop("type", None)
    if not isinstance(name, str) or name not in CALIBRATORS:
        raise PolicyError(f"calibrator type must be one of {sorted(CALIBRATORS)}; got {name!r}")
    try:
        calibrator = CALIBRATORS[name](**numbers)
    except TypeError as error:
        raise PolicyError(f"calibrator {name!r} cannot have the values {sorted(numbers)}: {error}") from error
    problem = _number_problem(calibrator)
    if problem:
        raise PolicyError(f"calibrator {name!r}: {problem}")
    return calibrator


def _number_problem(calibrator: Calibrators) -> str | None:
    for key, value in asdict(calibrator).items():
        numbers = value if isinstance(calibrator, Isotonic) else (value,)
        if not isinstance(numbers, tuple) or not all(map(_is_finite, numbers)):
            wanted = "a list of finite numbers" if isinstance(calibrator, Isotonic) else "a finite number"
            return f"{key} must be {wanted}; got {value!r}"
    if isinstance(calibrator, Temperature) and calibrator.temperature <= 0:
        return f"temperature must be above 0; got {calibrator.temperature}"
    if isinstance(calibrator, Platt) and calibrator.slope < 0:
        return f"slope must be at least 0; got {calibrator.slope}"
    if isinstance(calibrator, Isotonic):
        if not len(calibrator.x) == len(calibrator.y) > 0:
            return f"x and y must have the same length, at least 1; got {len(calibrator.x)} and {len(calibrator.y)}"
        if np.any(np.diff(calibrator.x) < 0) or np.any(np.diff(calibrator.y) < 0):
            return "x and y must not fall"
    return None


def _is_finite(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return -sys.float_info.max <= value <= sys.float_info.max  # integers of JSON may be of any size
