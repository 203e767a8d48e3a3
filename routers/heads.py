"""Heads: IDK rules over several numbers per row, of this stage and of the stages before it.

A score is one number from a stage's probabilities; a head maps the :mod:`evidence <cascade.routers.evidence>` of
all stages so far to one confidence. Applying one is a few lines of NumPy;
``cascade.calibration.fitting.head_fitting`` fits them.
"""

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from cascade.routers.evidence import SCORE_COLUMNS, EvidenceColumn
from cascade.routers.logit import logit

__all__ = ["Agreement", "Head", "Inputs", "Layer", "LearnedHead", "head_features", "head_to_dict"]

Inputs = Literal["confidence", "probabilities"]
"""Inputs of a learned head: a stage's own confidence, or the three scores of its class probabilities."""

INPUT_COLUMNS: dict[str, list[int]] = {"confidence": [EvidenceColumn.CONFIDENCE], "probabilities": [*SCORE_COLUMNS]}
SMALLEST_SCORE = 1e-6  # float32 probabilities have no finer steps, and the logit of 1 must not outweigh all other rows
LARGEST_LOGIT = 500.0  # beyond it an exponential overflows; the confidence is 0 or 1 long before


class Head(Protocol):
    """Maps the evidence of the stages so far to a confidence."""

    @property
    def needs_probabilities(self) -> bool:
        """Whether the stages must return class probabilities."""

    def fits(self, stage: int) -> bool:
        """Whether the head can be used at a stage (from 0)."""

    def confidence(self, evidence: np.ndarray) -> np.ndarray:
        """Evidence (n, 5 (k + 1)) of the stages 0 to k -> (n,) confidence of stage k, in [0, 1]."""


@dataclass(frozen=True)
class Agreement:
    """The share of the stages so far, this one included, with the same answer as this stage.

    Kolawole, Dennis, Talwalkar, Smith, "Agreement-Based Cascading for Efficient Inference", TMLR 2025,
    https://arxiv.org/abs/2407.02348, with the stages as the ensemble, whose members have run already.
    """

    needs_probabilities = False

    def fits(self, stage: int) -> bool:
        """At any stage; at stage 0 the share is 1."""
        return stage >= 0

    def confidence(self, evidence: np.ndarray) -> np.ndarray:
        """(n, 5 (k + 1)) -> (n,) in (0, 1]."""
        answers = evidence[:, EvidenceColumn.ANSWER :: len(EvidenceColumn)]
        return np.asarray((answers == answers[:, -1:]).sum(axis=1) / answers.shape[1])


@dataclass(frozen=True, eq=False)
class Layer:
    """An affine map.

    Attributes:
        weights: (H, F) float64.
        biases: (H,) float64.
    """

    weights: np.ndarray
    biases: np.ndarray

    def __post_init__(self) -> None:
        for name in ("weights", "biases"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=np.float64))

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Layer)
            and np.array_equal(self.weights, other.weights)
            and np.array_equal(self.biases, other.biases)
        )

    def __hash__(self) -> int:
        return hash((self.weights.tobytes(), self.biases.tobytes()))

    def apply(self, columns: np.ndarray) -> np.ndarray:
        """(F, n) -> (H, n).

        One input after the other instead of a matrix product: the rounding of BLAS depends on the number of rows, and
            the
        same row must have the same bits in every batch.
        """
        total = np.repeat(self.biases[:, None], columns.shape[1], axis=1)
        for weights, column in zip(self.weights.T, columns, strict=True):
            total += weights[:, None] * column
        return total


@dataclass(frozen=True)
class LearnedHead:
    """A logistic regression, or a small network with rectified units, on the logits of scores.

    One layer is a logistic regression. max(0, x) follows every layer but the last, the logistic function follows the
    last.

    Attributes:
        inputs: what it reads of a stage.
        history: whether it also reads all earlier stages, and which of them gave the same answer.
        layers: at least one; the last one has one output.
    """

    inputs: Inputs
    history: bool
    layers: tuple[Layer, ...]

    @property
    def needs_probabilities(self) -> bool:
        """Whether the stages must return class probabilities."""
        return self.inputs == "probabilities"

    def fits(self, stage: int) -> bool:
        """Whether the number of inputs of the first layer is the number of features at a stage (from 0)."""
        scores = len(INPUT_COLUMNS[self.inputs])
        features = scores * (stage + 1) + stage if self.history else scores
        return bool(self.layers[0].weights.shape[1] == features)

    def confidence(self, evidence: np.ndarray) -> np.ndarray:
        """(n, 5 (k + 1)) -> (n,) in [0, 1]."""
        values = head_features(evidence, self.inputs, self.history)
        with np.errstate(over="ignore", invalid="ignore"):  # weights of a file may be of any size
            for layer in self.layers[:-1]:
                values = np.maximum(layer.apply(values), 0.0)
            logits = np.clip(self.layers[-1].apply(values)[0], -LARGEST_LOGIT, LARGEST_LOGIT)
        return np.asarray(1.0 / (1.0 + np.exp(-logits)))


def head_features(evidence: np.ndarray, inputs: Inputs, history: bool) -> np.ndarray:
    """The features of a learned head, one per line.

    Args:
        evidence: (n, 5 (k + 1)) of the stages 0 to k.
        inputs: which scores of a stage.
        history: whether the stages before k are read too, and whether each of them agrees with k.

    Returns:
        (F, n) float64, contiguous: logits of the scores, stage after stage, then 1 for each earlier stage that gave
        the same answer as k, else 0.
    """
    stages = evidence.reshape(len(evidence), -1, len(EvidenceColumn))
    scores = (stages if history else stages[:, -1:])[:, :, INPUT_COLUMNS[inputs]]
    # Contiguous before the logarithm: NumPy may use another routine for strided arrays, with other last bits.
    logits = logit(np.ascontiguousarray(scores.transpose(1, 2, 0)).reshape(-1, len(evidence)), SMALLEST_SCORE)
    if not history:
        return logits
    answers = stages[:, :, EvidenceColumn.ANSWER]
    return np.concatenate([logits, (answers[:, :-1] == answers[:, -1:]).T])


def head_to_dict(head: Any) -> dict[str, Any]:
    """Plain values, with the kind of head as "type"."""
    if isinstance(head, Agreement):
        return {"type": "agreement"}
    layers = [{"weights": layer.weights.tolist(), "biases": layer.biases.tolist()} for layer in head.layers]
    return {"type": "learned", "inputs": head.inputs, "history": head.history, "layers": layers}
