"""IDK rules: how sure a model is of each of its answers, and whether that is enough."""

from cascade.routers.kernel import ALWAYS, NEVER, accepted, answering_stage
from cascade.routers.router import Calibrator, Router
from cascade.routers.scores import SCORES, margin, maximum_probability, negative_entropy

__all__ = [
    "ALWAYS",
    "NEVER",
    "SCORES",
    "Calibrator",
    "Router",
    "accepted",
    "answering_stage",
    "margin",
    "maximum_probability",
    "negative_entropy",
]
