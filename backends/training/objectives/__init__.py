"""Objectives of a training; the recipe selects one and holds its settings."""

from typing import Annotated

from pydantic import Field

from cascade.backends.training.objectives.cross_entropy import CrossEntropy
from cascade.backends.training.objectives.hybrid_reinforce import HybridReinforce
from cascade.backends.training.objectives.objective import Batch, Objective
from cascade.backends.training.objectives.self_critical import SelfCritical
from cascade.backends.training.objectives.stochastic_depth import StochasticDepth
from cascade.backends.training.objectives.straight_through import Gumbel, StraightThrough

__all__ = [
    "AnyObjective",
    "Batch",
    "CrossEntropy",
    "Gumbel",
    "HybridReinforce",
    "Objective",
    "SelfCritical",
    "StochasticDepth",
    "StraightThrough",
]

AnyObjective = Annotated[
    CrossEntropy | StochasticDepth | StraightThrough | Gumbel | HybridReinforce | SelfCritical,
    Field(discriminator="kind"),
]
