"""A stage as a policy file holds it."""

from itertools import pairwise
from typing import Annotated, Literal

import numpy as np
from pydantic import AfterValidator, AliasChoices, BaseModel, ConfigDict, Field, model_validator
from typing_extensions import Self

from cascade.calibration.calibrators import Calibrators, Identity, Isotonic, Platt, Temperature
from cascade.calibration.costs.cost_curve import CostCurve
from cascade.routers import NEVER, SCORES, Agreement, Layer, LearnedHead, Router, class_score, rejected_class
from cascade.routers.heads import Inputs

__all__ = ["CalibratorEntry", "CostCurveEntry", "Entry", "HeadEntry", "StageEntry"]


class Entry(BaseModel):
    """An object of a policy file: known keys, finite numbers, and no text or truth value in place of a number."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class _IdentityEntry(Entry):
    type: Literal["identity"]

    def calibrator(self) -> Calibrators:
        return Identity()


class _TemperatureEntry(Entry):
    type: Literal["temperature"]
    temperature: Annotated[float, Field(gt=0)] = 1.0

    def calibrator(self) -> Calibrators:
        return Temperature(self.temperature)


class _PlattEntry(Entry):
    type: Literal["platt"]
    slope: Annotated[float, Field(ge=0)] = 1.0
    intercept: float = 0.0

    def calibrator(self) -> Calibrators:
        return Platt(self.slope, self.intercept)


class _IsotonicEntry(Entry):
    type: Literal["isotonic"]
    x: Annotated[list[float], Field(min_length=1)] = [0.0, 1.0]
    y: Annotated[list[float], Field(min_length=1)] = [0.0, 1.0]

    @model_validator(mode="after")
    def _is_a_rising_curve(self) -> Self:
        if len(self.x) != len(self.y):
            raise ValueError(f"x and y must have the same length; got {len(self.x)} and {len(self.y)}")
        if np.any(np.diff(self.x) < 0) or np.any(np.diff(self.y) < 0):
            raise ValueError("x and y must not fall")
        return self

    def calibrator(self) -> Calibrators:
        return Isotonic(tuple(self.x), tuple(self.y))


class _AgreementEntry(Entry):
    type: Literal["agreement"]

    def head(self) -> Agreement:
        return Agreement()


class _LayerEntry(Entry):
    weights: Annotated[list[Annotated[list[float], Field(min_length=1)]], Field(min_length=1)]
    biases: list[float]

    @model_validator(mode="after")
    def _is_an_affine_map(self) -> Self:
        if len({len(line) for line in self.weights}) > 1 or len(self.weights) != len(self.biases):
            raise ValueError("a layer must have weights, (H, F) numbers, and biases, H numbers; H, F >= 1")
        return self


class _LearnedHeadEntry(Entry):
    type: Literal["learned"]
    inputs: Inputs
    history: bool
    layers: Annotated[list[_LayerEntry], Field(min_length=1)]

    @model_validator(mode="after")
    def _layers_follow_on_each_other(self) -> Self:
        shapes = [(len(layer.weights), len(layer.weights[0])) for layer in self.layers]
        if shapes[-1][0] != 1 or any(first[0] != second[1] for first, second in pairwise(shapes)):
            raise ValueError(
                f"each layer (outputs, inputs) must have as many inputs as the one before it has outputs, and the last "
                f"one 1 output; got {shapes}"
            )
        return self

    def head(self) -> LearnedHead:
        layers = (Layer(np.array(layer.weights), np.array(layer.biases)) for layer in self.layers)
        return LearnedHead(self.inputs, self.history, tuple(layers))


CalibratorEntry = Annotated[
    _IdentityEntry | _TemperatureEntry | _PlattEntry | _IsotonicEntry, Field(discriminator="type")
]
HeadEntry = Annotated[_AgreementEntry | _LearnedHeadEntry, Field(discriminator="type")]


class CostCurveEntry(Entry):
    """A cost curve: m sizes, times in ms, and spreads."""

    rows: list[Annotated[int, Field(lt=2**63)]]
    ms: list[float]
    spread: list[float]

    @model_validator(mode="after")
    def _is_a_curve(self) -> Self:
        problem = self.curve().problem()
        if problem:
            raise ValueError(f"a cost curve {problem}")
        return self

    def curve(self) -> CostCurve:
        """The curve."""
        return CostCurve(np.array(self.rows, dtype=np.int64), np.array(self.ms), np.array(self.spread))


def _is_a_score(value: str) -> str:
    if value not in SCORES and rejected_class(value) is None:
        raise ValueError(f"must be null or one of {sorted(SCORES)}, or {class_score(0)!r} and so on")
    return value


Threshold = Annotated[float, Field(ge=0, le=NEVER)]
Cost = Annotated[float, Field(ge=0)]


class StageEntry(Entry):
    """One stage: its router, thresholds and costs. Files of earlier versions call ``defer_below`` "skip_below"."""

    name: str
    score: Annotated[str, AfterValidator(_is_a_score)] | None = None
    calibrator: CalibratorEntry
    head: HeadEntry | None = None
    threshold: Threshold | None = None
    defer_below: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None, validation_alias=AliasChoices("defer_below", "skip_below")
    )
    abstain_below: Threshold | None = None
    cost: Cost
    cost_per_mflop: Cost = 0.0
    cost_curve: CostCurveEntry | None = None
    cost_per_ms: Cost = 0.0

    def router(self) -> Router:
        """The router."""
        return Router(self.score, self.calibrator.calibrator(), None if self.head is None else self.head.head())
