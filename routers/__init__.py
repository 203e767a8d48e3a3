"""IDK rules: the confidence of each answer, and its comparison with a threshold."""

from cascade.routers.evidence import EVIDENCE_COLUMNS, Evidence, EvidenceColumn, new_evidence
from cascade.routers.heads import Agreement, Head, Layer, LearnedHead
from cascade.routers.kernel import (
    ALWAYS,
    NEVER,
    abstained,
    accepted,
    answering_stage,
    deferred_early,
    reached_stages,
    running_stages,
)
from cascade.routers.router import Calibrator, Router
from cascade.routers.scores import (
    SCORES,
    class_score,
    margin,
    maximum_probability,
    negative_entropy,
    rejected_class,
    score_function,
)

__all__ = [
    "ALWAYS",
    "EVIDENCE_COLUMNS",
    "NEVER",
    "SCORES",
    "Agreement",
    "Calibrator",
    "Evidence",
    "EvidenceColumn",
    "Head",
    "Layer",
    "LearnedHead",
    "Router",
    "abstained",
    "accepted",
    "answering_stage",
    "class_score",
    "deferred_early",
    "margin",
    "maximum_probability",
    "negative_entropy",
    "new_evidence",
    "reached_stages",
    "rejected_class",
    "running_stages",
    "score_function",
]
