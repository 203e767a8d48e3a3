"""The file of a boosted Haar cascade: arrays and facts in safetensors format; loading it runs no code."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from cascade.backends.detection.haar.features import check_features
from cascade.backends.detection.haar.integral_image import LARGEST_AREA
from cascade.errors import WeightsError

__all__ = ["HaarModel"]

VERSION = 1
ARRAYS = {
    "features": ("int16", 5),
    "threshold": ("float32", 0),
    "votes": ("float32", 2),
    "trace": ("float32", 0),
    "starts": ("bool", 0),
}
"""Type of each array, and its second axis; 0 for none."""


@dataclass(frozen=True, eq=False)
class HaarModel:
    """T weak learners, evaluated in order; a window is rejected where its sum falls below the trace.

    Attributes:
        height: of a window, in pixels.
        width: of a window, in pixels.
        classes: names of the negative and the positive class.
        features: (T, 5) int16, see :func:`~cascade.backends.detection.haar.features.all_features`.
        threshold: (T,) float32, of the normalised value of the feature.
        votes: (T, 2) float32, added to the sum of a window: below the threshold, at or above it.
        trace: (T,) float32, rejection thresholds; -inf rejects nothing.
        starts: (T,) bool, where the sum begins anew: at the first learner of each stage of a staged cascade; only at
            the first of all in a soft cascade.
        facts: plain values (JSON) about the training and the certificate.
    """

    height: int
    width: int
    classes: tuple[str, str]
    features: np.ndarray
    threshold: np.ndarray
    votes: np.ndarray
    trace: np.ndarray
    starts: np.ndarray
    facts: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        lengths = {name: len(getattr(self, name)) for name in ARRAYS}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"arrays must have one entry per weak learner; got {lengths}")
        if not 0 < self.height * self.width <= LARGEST_AREA:
            raise ValueError(f"a window has 1 to {LARGEST_AREA} pixels; got {self.height} x {self.width}")
        if not all(np.isfinite(values).all() for values in (self.threshold, self.votes)):
            raise ValueError("thresholds and votes must be finite")
        if np.isnan(self.trace).any() or (self.trace == np.inf).any():
            raise ValueError("the trace must be numbers below infinity")
        if len(self.starts) and not self.starts[0]:
            raise ValueError("the first weak learner must begin a sum")
        check_features(self.features, self.height, self.width)

    def __len__(self) -> int:
        """T."""
        return len(self.features)

    def __repr__(self) -> str:
        form = "soft" if self.starts.sum() < 2 else f"{self.starts.sum()} stages"
        return f"HaarModel({len(self)} features, {form}, windows of {self.height} x {self.width})"

    def save(self, path: Path) -> None:
        """Writes the file atomically; equal models give equal bytes."""
        header = {
            "version": VERSION,
            "height": self.height,
            "width": self.width,
            "classes": self.classes,
            "facts": self.facts,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".partial")
        arrays = {name: np.ascontiguousarray(getattr(self, name), dtype=kind) for name, (kind, _) in ARRAYS.items()}
        save_file(arrays, partial, metadata={"haar": json.dumps(header, sort_keys=True)})
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> "HaarModel":
        """Reads a file.

        Raises:
            WeightsError: it is missing or damaged, or does not hold a Haar cascade.
        """
        try:
            with safe_open(path, framework="np") as file:
                text = (file.metadata() or {}).get("haar")
                if text is None:
                    raise WeightsError(f"{path} does not hold a Haar cascade; train one with 'cascade train'")
                header = json.loads(text)
                arrays = {name: file.get_tensor(name) for name in ARRAYS}
        except FileNotFoundError as error:
            raise WeightsError(f"model file {path} does not exist") from error
        except (OSError, SafetensorError, ValueError) as error:
            raise WeightsError(f"{path} is not a whole Haar cascade ({error}); fetch or train it again") from error
        try:
            return cls._checked(header, arrays)
        except (ValueError, TypeError, KeyError) as error:
            raise WeightsError(f"{path} is not a valid Haar cascade: {error}") from error

    @classmethod
    def _checked(cls, header: dict[str, Any], arrays: dict[str, np.ndarray]) -> "HaarModel":
        if header["version"] != VERSION:
            raise ValueError(f"version is {header['version']}; this version of the library reads {VERSION}")
        for name, (kind, columns) in ARRAYS.items():
            array, axes = arrays[name], 2 if columns else 1
            if array.dtype != kind or array.ndim != axes or (columns and array.shape[1] != columns):
                raise ValueError(f"{name} has type {array.dtype} and shape {array.shape}")
        if not len(arrays["features"]):
            raise ValueError("it has no weak learners")
        names = [str(name) for name in header["classes"]]
        if len(names) != 2:
            raise ValueError(f"it must name two classes; got {names}")
        classes = cast(tuple[str, str], tuple(names))
        return cls(int(header["height"]), int(header["width"]), classes, **arrays, facts=dict(header["facts"]))
