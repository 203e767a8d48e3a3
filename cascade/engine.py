"""The engine: a batch goes through stages, each answers the rows it is sure of."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cascade.calibration.policies.policy import Policy
from cascade.prediction import Prediction
from cascade.routers import EVIDENCE_COLUMNS, abstained, accepted, deferred_early
from cascade.stage import Stage

__all__ = ["PENDING", "Answers", "Segment", "Watch"]

PENDING = -1
"""Stage of a row that no stage so far was sure of."""

Watch = Callable[[int, float, np.ndarray, np.ndarray, np.ndarray], None]
"""Told what a stage did with the m rows that came to it: the stage's index, seconds, confidence (m,), unsure (m,) bool,
cost (m,). It runs between two stages, so it must be quick; the arrays may be kept, and not be written to."""

EARLY_COLUMNS = 3
"""Of the evidence, where a policy defers rows early."""


@dataclass(frozen=True, eq=False)
class Answers:
    """What a cascade, or a part of it, says about n rows.

    Attributes:
        answer: (n,) int64, the class; of a pending row, that of the last stage that looked at it.
        stage: (n,) int64, index of the stage that answered, or ``PENDING``.
        confidence: (n,) float64 in [0, 1], calibrated, of the last stage that looked at the row.
        cost: (n,) float64, cost of all stages that looked at the row.
        evidence: (p, W) float64 of the p pending rows, in their order, to be handed to the segment that goes on with
            them: where the policy defers rows early, 1 for those, and answer and confidence of the last stage
            that looked at the row; where it has heads, what the s stages so far said, 5 s columns. ``None`` where the
            policy has neither.
        degraded: (n,) bool, the rows whose stage was not sure of them, and is taken at its word because no later one
            answered; ``None`` if there are none.
        abstained: (n,) bool, the rows that the last stage looked at and was not sure enough of: the best guess is in
            ``answer``, and a person decides; ``None`` before :meth:`with_abstentions`, or if there are none.
    """

    answer: np.ndarray
    stage: np.ndarray
    confidence: np.ndarray
    cost: np.ndarray
    evidence: np.ndarray | None = None
    degraded: np.ndarray | None = None
    abstained: np.ndarray | None = None

    @classmethod
    def empty(cls, n: int) -> "Answers":
        """n rows that nobody has looked at."""
        return cls(np.full(n, -1), np.full(n, PENDING), np.zeros(n), np.zeros(n))

    def __len__(self) -> int:
        return len(self.answer)

    def take(self, rows: np.ndarray | slice) -> "Answers":
        """The answers of some rows, without evidence."""
        degraded = None if self.degraded is None else self.degraded[rows]
        return Answers(self.answer[rows], self.stage[rows], self.confidence[rows], self.cost[rows], degraded=degraded)

    def with_abstentions(self, policy: Policy) -> "Answers":
        """These answers, of a whole cascade, with the rows marked that it abstains on.

        All that decides it is in them, so it is decided once, where they leave the cascade. A degraded row has the word
        of an earlier stage, and is not abstained.

        Args:
            policy: by which they were given.
        """
        if not policy.abstains:
            return self
        last = len(policy.stages) - 1
        if last not in self.stage.tolist():  # most requests of one row, for which a list is far quicker than an array
            return self
        unsure = (self.stage == last) & abstained(self.confidence, policy.abstain_below)
        return replace(self, abstained=unsure) if unsure.any() else self

    def put(self, rows: np.ndarray, later: "Answers") -> None:
        """Writes what a later segment said over rows of these answers, and adds its cost.

        Args:
            rows: (m,) int indices.
            later: m rows.
        """
        self.answer[rows] = later.answer
        self.stage[rows] = later.stage
        self.confidence[rows] = later.confidence
        self.cost[rows] += later.cost


@dataclass(frozen=True, eq=False)
class _Pending:
    """Rows that no stage so far answered.

    Attributes:
        rows: (m, ...), contiguous.
        places: (m,) int, where they were in the batch.
        early: (m,) bool, those that go to the last stage at once; ``None`` where the policy defers none early.
        evidence: (m, 5 s) of the s stages so far; ``None`` where the policy has no heads.
    """

    rows: np.ndarray
    places: np.ndarray
    early: np.ndarray | None
    evidence: np.ndarray | None

    @classmethod
    def of(cls, rows: np.ndarray, policy: Policy, earlier: np.ndarray | None) -> "_Pending":
        """All rows of a batch, with what earlier segments handed on."""
        columns = EARLY_COLUMNS if policy.defers_early else 0
        given = np.zeros((len(rows), columns)) if earlier is None else earlier
        early = given[:, 0] > 0 if policy.defers_early else None
        return cls(rows, np.arange(len(rows)), early, given[:, columns:] if policy.needs_evidence else None)

    def __len__(self) -> int:
        return len(self.places)

    def asked(self, threshold: float | None) -> np.ndarray | None:
        """(m,) bool, the rows that a stage with this threshold looks at; ``None`` if it is all of them."""
        return None if self.early is None or threshold is None else ~self.early

    def take(self, which: np.ndarray | None) -> "_Pending":
        """Some of the rows: (m,) bool, or all."""
        if which is None or which.all():
            return self
        early = None if self.early is None else self.early[which]
        evidence = None if self.evidence is None else self.evidence[which]
        return _Pending(self.rows[which], self.places[which], early, evidence)

    def with_evidence(self, said: np.ndarray, asked: np.ndarray | None) -> "_Pending":
        """Notes what one more stage said of some rows: (l, 5), (m,) bool or all.

        Of the others it is taken to say what the last stage that looked at them said.
        """
        if self.evidence is None:
            return self
        if asked is not None and not asked.all():
            everywhere = self.evidence[:, -len(EVIDENCE_COLUMNS) :].copy()
            everywhere[asked] = said
            said = everywhere
        return replace(self, evidence=np.concatenate([self.evidence, said], axis=1))

    def handed_on(self, answers: Answers) -> np.ndarray | None:
        """(m, W) float64: what the next segment has to know of the rows, and of the answers so far."""
        parts = [] if self.evidence is None else [self.evidence]
        if self.early is not None:
            # A segment that a deferred row passes by returns its last answer as well, in case no later one answers.
            word = answers.take(self.places)
            parts.insert(0, np.stack([self.early, word.answer, word.confidence], axis=1).astype(np.float64))
        return np.concatenate(parts, axis=1) if parts else None


class Segment:
    """Consecutive stages that run in one process.

    Args:
        stages: in order.
        first: index of the first of them in the cascade.
        watch: told of every stage, after it.
    """

    def __init__(self, stages: Sequence[Stage], first: int = 0, watch: Watch | None = None) -> None:
        self.stages = tuple(stages)
        self.first = first
        self._watch = watch

    def part(self, start: int, stop: int) -> "Segment":
        """Some of its stages, by their indices in the cascade."""
        return Segment(self.stages[start - self.first : stop - self.first], start, self._watch)

    def run(self, rows: np.ndarray, policy: Policy, earlier: np.ndarray | None = None) -> Answers:
        """Sends a batch through the stages that run.

        Every stage gets the rows that come to it as one contiguous array, or as several where its cost curve has it
        that many rows take less time in several calls.

        Args:
            rows: (n, ...), n >= 0.
            policy: of the whole cascade.
            earlier: (n, W), the evidence as earlier segments left it; only used where the policy has heads, or
                defers rows early.

        Returns:
            n answers in the order of the rows; pending where the segment's last stage was unsure, which the
            cascade's last stage never is, and where rows are deferred early and the cascade's last stage is not here.
        """
        answers = Answers.empty(len(rows))
        if policy.defers_early and earlier is not None:
            answers.answer[:], answers.confidence[:] = earlier[:, 1], earlier[:, 2]
        pending = _Pending.of(rows, policy, earlier)
        for k, stage in enumerate(self.stages, self.first):
            if not len(pending):
                break
            if not policy.runs[k]:
                continue
            pending = self._ask(k, stage, pending, policy, answers)
        evidence = pending.handed_on(answers)
        return answers if evidence is None else replace(answers, evidence=evidence)

    def _ask(self, k: int, stage: Stage, pending: _Pending, policy: Policy, answers: Answers) -> _Pending:
        """Sends the rows that are not deferred early through stage k; returns all that are not answered then."""
        threshold = policy.threshold(k)
        asked = pending.asked(threshold)
        if asked is not None and not asked.any():
            return pending.with_evidence(np.zeros((0, len(EVIDENCE_COLUMNS))), asked)
        here = pending.take(asked)
        started = time.perf_counter()
        prediction = _predict(stage, here.rows, policy.calls(k, len(here)))
        if pending.evidence is not None:
            pending = pending.with_evidence(stage.evidence(prediction, policy.needs_probabilities), asked)
            here = pending.take(asked)
        confidence = stage.confidence(prediction, policy.routers[k], here.evidence)
        unsure = np.zeros(len(here), dtype=bool) if threshold is None else ~accepted(confidence, threshold)
        cost = policy.row_cost(k, prediction)
        answers.put(here.places, Answers(prediction.answer, np.where(unsure, PENDING, k), confidence, cost))
        if self._watch is not None:
            self._watch(k, time.perf_counter() - started, confidence, unsure, cost)
        if asked is None:
            return pending.take(unsure)
        if pending.early is not None:
            pending.early[asked] = deferred_early(confidence, policy.defer_below[k])
        still = np.ones(len(pending), dtype=bool)
        still[asked] = unsure
        return pending.take(still)


def _predict(stage: Stage, rows: np.ndarray, calls: int) -> Prediction:
    if calls == 1:
        return stage.predict(rows)
    # Copies: a model may give the same arrays in every call.
    return Prediction.join([stage.predict(part).copy() for part in np.array_split(rows, calls)])
