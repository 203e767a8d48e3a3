"""The engine: a batch goes through stages, each answers the rows it is sure of."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cascade.calibration.policies.policy import Policy
from cascade.prediction import Prediction
from cascade.routers import ALWAYS, Evidence, EvidenceColumn, abstained, accepted, skipping
from cascade.stage import Stage

__all__ = ["PENDING", "Answers", "Segment", "Watch"]

PENDING = -1
"""Stage of a row that no stage so far was sure of."""

Watch = Callable[[int, float, np.ndarray, np.ndarray, np.ndarray], None]
"""Told what a stage did with the m rows that came to it: the stage's index, seconds, confidence (m,), unsure (m,) bool,
cost (m,). It runs between two stages, so it must be quick; the arrays may be kept, and not be written to."""


@dataclass(frozen=True, eq=False)
class Answers:
    """What a cascade, or a part of it, says about n rows.

    Attributes:
        answer: (n,) int64, the class; of a pending row, that of the last stage that looked at it.
        stage: (n,) int64, index of the stage that answered, or ``PENDING``.
        confidence: (n,) float64 in [0, 1], calibrated, of the last stage that looked at the row.
        cost: (n,) float64, cost of all stages that looked at the row.
        evidence: of the p pending rows, in their order, for the segment that goes on with them; ``None`` where the
            policy has neither heads nor early-deferral thresholds.
        degraded: (n,) bool, the rows that have the answer of a stage which was not sure of them, because no later stage
            answered or was allowed to; ``None`` if there are none.
        abstained: (n,) bool, the rows that the last stage looked at and was not sure enough of: the best guess is in
            ``answer``, and a person decides; ``None`` before :meth:`with_abstentions`, or if there are none.
    """

    answer: np.ndarray
    stage: np.ndarray
    confidence: np.ndarray
    cost: np.ndarray
    evidence: Evidence | None = None
    degraded: np.ndarray | None = None
    abstained: np.ndarray | None = None

    @classmethod
    def empty(cls, n: int) -> "Answers":
        """n rows that nobody has looked at."""
        return cls(np.full(n, -1), np.full(n, PENDING), np.zeros(n), np.zeros(n))

    def __len__(self) -> int:
        return len(self.answer)

    def __repr__(self) -> str:
        stages, counts = np.unique(self.stage, return_counts=True)
        by = ", ".join(
            f"{count} {'pending' if stage == PENDING else f'by stage {stage}'}"
            for stage, count in zip(stages.tolist(), counts.tolist(), strict=True)
        )
        return f"Answers({len(self)} rows{f': {by}' if by else ''})"

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
        deferred_early: (m,) bool, those that go to the last stage at once; ``None`` where the policy has no
            early-deferral thresholds.
        evidence: (m, 5 s) of the s stages so far; ``None`` where the policy has no heads.
    """

    rows: np.ndarray
    places: np.ndarray
    deferred_early: np.ndarray | None
    evidence: np.ndarray | None

    @classmethod
    def of(cls, rows: np.ndarray, policy: Policy, evidence: Evidence | None) -> "_Pending":
        """All rows of a batch, with the evidence of earlier segments."""
        early, stages = None, None
        if evidence is not None:
            # A copy: a batch that fails is run again in halves, from the same evidence.
            early = None if evidence.deferred_early is None else evidence.deferred_early.copy()
            stages = evidence.stages
        if policy.skips and early is None:
            early = np.zeros(len(rows), dtype=bool)
        if policy.needs_evidence and stages is None:
            stages = np.zeros((len(rows), 0))
        return cls(rows, np.arange(len(rows)), early, stages)

    def __len__(self) -> int:
        return len(self.places)

    def coming(self, threshold: float | None) -> np.ndarray | None:
        """(m,) bool, the rows that come to a stage with this threshold; ``None`` if all of them do."""
        return None if self.deferred_early is None or threshold is None else ~self.deferred_early

    def take(self, which: np.ndarray | None) -> "_Pending":
        """Some of the rows: (m,) bool, or all."""
        if which is None or which.all():
            return self
        early = None if self.deferred_early is None else self.deferred_early[which]
        evidence = None if self.evidence is None else self.evidence[which]
        return _Pending(self.rows[which], self.places[which], early, evidence)

    def with_evidence(self, added: np.ndarray, coming: np.ndarray | None) -> "_Pending":
        """Adds the evidence of one more stage, (l, 5), of the rows that came to it: (m,) bool, or all.

        The others repeat that of the stage before.
        """
        if self.evidence is None:
            return self
        if coming is not None and not coming.all():
            everywhere = self.evidence[:, -len(EvidenceColumn) :].copy()
            everywhere[coming] = added
            added = everywhere
        return replace(self, evidence=np.concatenate([self.evidence, added], axis=1))

    def to_evidence(self, answers: Answers) -> Evidence | None:
        """What the next segment needs: of the rows, and of the answers so far."""
        if self.deferred_early is None:
            return None if self.evidence is None else Evidence(self.evidence)
        # A segment whose stages a row does not come to returns the latest answer too, should no later one answer.
        answer, confidence = answers.answer[self.places], answers.confidence[self.places]
        return Evidence(self.evidence, self.deferred_early, answer, confidence)


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

    def run(
        self, rows: np.ndarray, policy: Policy, evidence: Evidence | None = None, last_stage: int | None = None
    ) -> Answers:
        """Sends a batch through the stages that run.

        Every stage gets the rows that come to it as one contiguous array, or as several where many rows take less time
        in several calls, by its cost curve.

        Args:
            rows: (n, ...), n >= 0.
            policy: of the whole cascade.
            evidence: of n rows, as the segment before returned it; ``None`` for the first segment.
            last_stage: index of the last stage that may run; it answers every row that comes to it, and no row is
                deferred early. ``None`` for all.

        Returns:
            n answers in the order of the rows; pending where the segment's last stage was unsure, which the cascade's
            last stage never is, and where rows are deferred early to a segment behind this one. Rows that
            ``last_stage`` answered without being sure of them are degraded.
        """
        answers = Answers.empty(len(rows))
        if evidence is not None and evidence.answer is not None and evidence.confidence is not None:
            answers.answer[:], answers.confidence[:] = evidence.answer, evidence.confidence
        pending = _Pending.of(rows, policy, evidence)
        for k, stage in enumerate(self.stages, self.first):
            if not len(pending):
                break
            if policy.runs[k] or k == last_stage:
                pending = self._ask(k, stage, pending, policy, answers, last_stage)
        found = pending.to_evidence(answers)
        if found is not None:
            answers = replace(answers, evidence=found)
        return _limited(answers, policy, last_stage)

    def _ask(
        self, k: int, stage: Stage, pending: _Pending, policy: Policy, answers: Answers, last_stage: int | None
    ) -> _Pending:
        """Sends the rows that come to stage k through it; returns all that are not answered then."""
        threshold = ALWAYS if k == last_stage and k < len(policy.thresholds) else policy.threshold(k)
        coming = pending.coming(threshold)
        if coming is not None and not coming.any():
            return pending.with_evidence(np.zeros((0, len(EvidenceColumn))), coming)
        here = pending.take(coming)
        started = time.perf_counter()
        prediction = _predict(stage, here.rows, policy.calls(k, len(here)))
        if pending.evidence is not None:
            pending = pending.with_evidence(stage.evidence(prediction, policy.needs_probabilities), coming)
            here = pending.take(coming)
        confidence = stage.confidence(prediction, policy.routers[k], here.evidence)
        unsure = np.zeros(len(here), dtype=bool) if threshold is None else ~accepted(confidence, threshold)
        cost = policy.row_cost(k, prediction)
        answers.put(here.places, Answers(prediction.answer, np.where(unsure, PENDING, k), confidence, cost))
        if self._watch is not None:
            self._watch(k, time.perf_counter() - started, confidence, unsure, cost)
        if coming is None:
            return pending.take(unsure)
        if pending.deferred_early is not None and last_stage is None:
            pending.deferred_early[coming] = skipping(confidence, policy.skip_below[k])
        still = np.ones(len(pending), dtype=bool)
        still[coming] = unsure
        return pending.take(still)


def _limited(answers: Answers, policy: Policy, last_stage: int | None) -> Answers:
    """Marks as degraded the rows that the last stage which may run answered without being sure of them."""
    threshold = None if last_stage is None else policy.threshold(last_stage)
    if threshold is None:
        return answers
    degraded = (answers.stage == last_stage) & ~accepted(answers.confidence, threshold)
    return replace(answers, degraded=degraded) if degraded.any() else answers


def _predict(stage: Stage, rows: np.ndarray, calls: int) -> Prediction:
    if calls == 1:
        return stage.predict(rows)
    # Copies: a model may give the same arrays in every call.
    return Prediction.join([stage.predict(part).copy() for part in np.array_split(rows, calls)])
