"""The engine: runs a batch through stages; each answers the rows that it accepts and defers the others."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from cascade.answers import PENDING, Answers
from cascade.calibration.policies.policy import Policy
from cascade.prediction import Prediction
from cascade.routers import ALWAYS, Evidence, EvidenceColumn, accepted, deferred_early
from cascade.rows.parts import Parts
from cascade.stage import Stage

__all__ = ["PENDING", "Answers", "Segment", "StageRun", "Watch"]


class StageRun(NamedTuple):
    """The run of a stage on m rows.

    Attributes:
        stage: its index.
        seconds: its time.
        confidence: (m,) float64 in [0, 1], calibrated.
        deferred: (m,) bool, the rows that it did not accept.
        cost: (m,) float64.
    """

    stage: int
    seconds: float
    confidence: np.ndarray
    deferred: np.ndarray
    cost: np.ndarray


Watch = Callable[[StageRun], None]
"""Called after every run of a stage, between two stages, so it must be fast. It may keep the arrays, and must not
change them."""


@dataclass(frozen=True, eq=False)
class _Pending:
    """Rows that no stage has accepted yet.

    Attributes:
        rows: (m, ...), contiguous.
        places: (m,) int, their indices in the batch.
        deferred_early: (m,) bool, rows that go to the last stage at once; ``None`` if the policy has no early-deferral
            thresholds.
        evidence: (m, 5 s) of the s stages so far; ``None`` if the policy has no heads.
    """

    rows: np.ndarray | Parts
    places: np.ndarray
    deferred_early: np.ndarray | None
    evidence: np.ndarray | None

    @classmethod
    def of(cls, rows: np.ndarray | Parts, policy: Policy, evidence: Evidence | None) -> "_Pending":
        """All rows of a batch, with the evidence of earlier segments."""
        early, stages = None, None
        if evidence is not None:
            # A copy: a batch that fails is run again in halves, from the same evidence.
            early = None if evidence.deferred_early is None else evidence.deferred_early.copy()
            stages = evidence.stages
        if policy.defers_early and early is None:
            early = np.zeros(len(rows), dtype=bool)
        if policy.needs_evidence and stages is None:
            stages = np.zeros((len(rows), 0))
        return cls(rows, np.arange(len(rows)), early, stages)

    def __len__(self) -> int:
        return len(self.places)

    def coming(self, threshold: float | None) -> np.ndarray | None:
        """(m,) bool, the rows that reach a stage with this threshold; ``None`` if all of them do."""
        return None if self.deferred_early is None or threshold is None else ~self.deferred_early

    def take(self, which: np.ndarray | None) -> "_Pending":
        """Some of the rows: (m,) bool, or all."""
        if which is None or which.all():
            return self
        early = None if self.deferred_early is None else self.deferred_early[which]
        evidence = None if self.evidence is None else self.evidence[which]
        return _Pending(self.rows[which], self.places[which], early, evidence)

    def with_evidence(self, added: np.ndarray, coming: np.ndarray | None) -> "_Pending":
        """Adds the evidence of one more stage, (l, 5), for the rows that reached it: (m,) bool, or all.

        The other rows repeat the evidence of the stage before.
        """
        if self.evidence is None:
            return self
        if coming is not None and not coming.all():
            everywhere = self.evidence[:, -len(EvidenceColumn) :].copy()
            everywhere[coming] = added
            added = everywhere
        return replace(self, evidence=np.concatenate([self.evidence, added], axis=1))

    def to_evidence(self, answers: Answers) -> Evidence | None:
        """The evidence for the next segment, from the rows and the answers so far."""
        if self.deferred_early is None:
            return None if self.evidence is None else Evidence(self.evidence)
        # A segment returns the latest answer even of rows that none of its stages ran on, in case no later one answers.
        answer, confidence = answers.answer[self.places], answers.confidence[self.places]
        return Evidence(self.evidence, self.deferred_early, answer, confidence)


class Segment:
    """Consecutive stages that run in one process.

    Args:
        stages: in order.
        first: index of the first of them in the cascade.
        watch: called after every run of a stage.
    """

    def __init__(self, stages: Sequence[Stage], first: int = 0, watch: Watch | None = None) -> None:
        self.stages = tuple(stages)
        self.first = first
        self._watch = watch

    def part(self, start: int, stop: int) -> "Segment":
        """A segment of some of the stages, by their indices in the cascade."""
        return Segment(self.stages[start - self.first : stop - self.first], start, self._watch)

    def run(
        self, rows: np.ndarray | Parts, policy: Policy, evidence: Evidence | None = None, last_stage: int | None = None
    ) -> Answers:
        """Runs a batch through the stages that the policy runs.

        Every stage gets the rows that reach it as one contiguous array, or in several calls if its cost curve predicts
        a shorter time for them.

        Args:
            rows: (n, ...), n >= 0; parts are gathered by the stages that need arrays.
            policy: of the whole cascade.
            evidence: of n rows, returned by the segment before; ``None`` for the first segment.
            last_stage: index of the last stage that may run; it answers every row that reaches it, and no row is
                deferred early. ``None`` for all.

        Returns:
            n answers in the order of the rows. Pending are the rows that the segment's last stage deferred, which the
            cascade's last stage never does, and rows deferred early to a later segment. Rows that ``last_stage``
            answered below its threshold are degraded.
        """
        answers = Answers.empty(len(rows))
        if evidence is not None and evidence.answer is not None and evidence.confidence is not None:
            answers.answer[:], answers.confidence[:] = evidence.answer, evidence.confidence
        pending = _Pending.of(rows, policy, evidence)
        for k, stage in enumerate(self.stages, self.first):
            if not len(pending):
                break
            if policy.runs[k] or k == last_stage:
                pending = self._run_stage(k, stage, pending, policy, answers, last_stage)
        found = pending.to_evidence(answers)
        if found is not None:
            answers = replace(answers, evidence=found)
        return _limited(answers, policy, last_stage)

    def _run_stage(
        self, k: int, stage: Stage, pending: _Pending, policy: Policy, answers: Answers, last_stage: int | None
    ) -> _Pending:
        """Runs stage k on the rows that reach it; returns the rows that are still pending."""
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
        deferred = np.zeros(len(here), dtype=bool) if threshold is None else ~accepted(confidence, threshold)
        cost = policy.row_cost(k, prediction)
        answers.put(here.places, Answers(prediction.answer, np.where(deferred, PENDING, k), confidence, cost))
        if self._watch is not None:
            self._watch(StageRun(k, time.perf_counter() - started, confidence, deferred, cost))
        if coming is None:
            return pending.take(deferred)
        if pending.deferred_early is not None and last_stage is None:
            pending.deferred_early[coming] = deferred_early(confidence, policy.defer_below[k])
        still = np.ones(len(pending), dtype=bool)
        still[coming] = deferred
        return pending.take(still)


def _limited(answers: Answers, policy: Policy, last_stage: int | None) -> Answers:
    """Marks as degraded the rows that the last permitted stage answered below its threshold."""
    threshold = None if last_stage is None else policy.threshold(last_stage)
    if threshold is None:
        return answers
    degraded = (answers.stage == last_stage) & ~accepted(answers.confidence, threshold)
    return replace(answers, degraded=degraded) if degraded.any() else answers


def _predict(stage: Stage, rows: np.ndarray | Parts, calls: int) -> Prediction:
    if calls == 1:
        return stage.predict(rows)
    # Copies: a model may return the same arrays in every call.
    parts = [part for part in np.array_split(np.arange(len(rows)), calls) if len(part)]
    return Prediction.join([stage.predict(rows[part[0] : part[-1] + 1]).copy() for part in parts])
