"""Objectives of a training: which one, and its settings, stand in the recipe."""

from typing import Annotated

from pydantic import Field

from cascade.backends.training.objectives.cross_entropy import CrossEntropy
from cascade.backends.training.objectives.objective import Batch, Objective
from cascade.backends.training.objectives.straight_through import Gumbel, StraightThrough

__all__ = ["AnyObjective", "Batch", "CrossEntropy", "Gumbel", "Objective", "StraightThrough"]

AnyObjective = Annotated[CrossEntropy | StraightThrough | Gumbel, Field(discriminator="kind")]
