"""A stage: a named model with its score."""

from dataclasses import dataclass, field, replace

import numpy as np

from cascade.backends.backend import Backend
from cascade.backends.stage_contract import StageContract
from cascade.errors import PolicyError, StageError
from cascade.prediction import Prediction
from cascade.routers import Router, class_score, new_evidence, score_function
from cascade.rows.parts import Parts

__all__ = ["Stage"]


@dataclass(frozen=True)
class Stage:
    """One step of a cascade.

    Attributes:
        name: unique in its cascade.
        backend: the model.
        score: computes a confidence from class probabilities; a name of ``cascade.routers.SCORES``. A
            stage that rejects has the probability of the rejected class instead.
        model: SHA-256 of the model; ``None`` if unknown.
        classes: C, if the configuration names the classes; ``None`` takes it from the first probabilities.
        reject: a class, from 0, for a stage that only rejects: its answer is this class for every row. ``None`` for
            all other stages.
    """

    name: str
    backend: Backend
    score: str = "maximum_probability"
    model: str | None = None
    classes: int | None = None
    reject: int | None = None
    _contract: StageContract = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.reject is not None:
            object.__setattr__(self, "score", class_score(self.reject))
        object.__setattr__(self, "_contract", StageContract(self.name, self.backend, self.classes))

    def __repr__(self) -> str:
        return f"Stage({self.name!r}, {type(self.backend).__name__}, {self.score})"

    def predict(self, rows: np.ndarray | Parts) -> Prediction:
        """The model's prediction, checked by the stage contract.

        Args:
            rows: (n, ...), n >= 1; never changed.

        Raises:
            RowsError: the model refuses the rows.
            StageError: the model failed, or broke the contract; or the stage rejects, and the model returned no
                probability of the rejected class.
        """
        prediction = self._contract.predict(rows)
        return prediction if self.reject is None else self._rejecting(prediction, self.reject)

    def _rejecting(self, prediction: Prediction, reject: int) -> Prediction:
        """The prediction with the rejected class as the answer of every row."""
        columns = 0 if prediction.probabilities is None else prediction.probabilities.shape[1]
        if reject >= columns:
            problem = f"probabilities of {columns} classes" if columns else "a confidence"
            raise StageError(
                self.name,
                f"its router rejects as class {reject}, whose probability is the confidence; its model returned "
                f"{problem}",
            )
        return replace(prediction, answer=np.full(len(prediction), reject, dtype=np.int64))

    def raw_confidence(self, prediction: Prediction) -> np.ndarray:
        """(n,) float64 in [0, 1], before calibration, as in a score table."""
        if prediction.confidence is not None:
            return np.asarray(prediction.confidence, dtype=np.float64)
        probabilities = np.ascontiguousarray(prediction.probabilities, dtype=np.float64)
        return np.asarray(np.clip(score_function(self.score)(probabilities), 0.0, 1.0))

    def evidence(self, prediction: Prediction, needs_probabilities: bool) -> np.ndarray:
        """(n, 5) float64, inputs for the heads of this stage and of later ones.

        Raises:
            PolicyError: the heads need class probabilities, and the model gives none.
        """
        if needs_probabilities and prediction.probabilities is None:
            raise PolicyError(
                f"stage {self.name!r} returns no class probabilities, which the heads of the policy need; "
                "collect a score table from these stages and calibrate on it"
            )
        return new_evidence(prediction.answer, self.raw_confidence(prediction), prediction.probabilities)

    def confidence(self, prediction: Prediction, router: Router, evidence: np.ndarray | None = None) -> np.ndarray:
        """(n,) float64 in [0, 1], calibrated by a policy's router.

        Args:
            prediction: of this stage.
            router: of the policy; a router without a score uses this stage's.
            evidence: (n, 5 (k + 1)) of the stages up to this one, for a head.
        """
        if router.head is not None:
            return router.confidence(None, None, evidence)
        if prediction.probabilities is None:
            return router.confidence(None, prediction.confidence)
        return router.confidence(prediction.probabilities, default_score=self.score)
