"""The statistics of a process: counts since its start, read by metrics, the dashboard and tests.

A request of one row is counted with a few additions; what needs arrays (latencies, batches, runs of stages) is
collected and counted many at a time, when enough has been collected or before it is read. The answers of a request are
not kept: objects that live on make the garbage collector work. One process is one gateway or one replica of a later
segment.
"""

import time
from collections import Counter, deque
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cascade.answers import Answers
from cascade.detection.detections import Detections
from cascade.engine import StageRun
from cascade.errors import CascadeError
from cascade.serving.errors import http_status
from cascade.serving.telemetry.histogram import Histogram, log_edges

__all__ = ["ANSWERED", "AuditEstimate", "Observations"]

ANSWERED = ("200", "")
"""Status and reason of answered requests."""

# Collected before it is counted.
MOST_LATENCIES = 8192
MOST_BATCHES = 1024

# From a tenth of a millisecond to a hundred seconds.
MILLISECONDS = log_edges(0.1, 6, 20)
CONFIDENCES = np.linspace(0.05, 1.0, 20)
BATCH_ROWS = 2.0 ** np.arange(13)


class AuditEstimate(NamedTuple):
    """How often the last stage agrees with the given answers, estimated from audited rows.

    Attributes:
        agreement: share in [0, 1].
        low: lower end of its confidence sequence.
        high: upper end.
        rows: audited so far.
        least: the share that it must not fall below; ``None`` if there is none.
        source: where that comes from: "operator", "guarantee" (a target of the certificate), or "calibration" (a lower
            bound from the calibration data, without a guarantee).
    """

    agreement: float
    low: float
    high: float
    rows: int
    least: float | None = None
    source: str | None = None


class Observations:
    """Counts since the start of a process; all of them only grow, except the last six attributes.

    All methods are called in the event loop, except :meth:`stage_ran`, which may be called in one other thread. After
    :meth:`fold` all attributes are up to date.

    Args:
        stages: names of the cascade's K stages.

    Attributes:
        stages: as given.
        started: when, in seconds since 1970.
        requests: by status (of HTTP, as a string) and reason (the name of the error, "" if there is none). Of the
            answered requests only those for rows are counted, of the refused ones all.
        latency_ms: of answered requests for rows, from the moment when their rows were read.
        answered_rows: (K,) int64, by the stage that answered.
        degraded_rows: of the answered ones, those marked as degraded.
        abstained_rows: of those of the last stage, those that it abstained on.
        cost: of all stages that ran on the answered rows, in the policy's unit.
        batch_rows: of the batches of this process's segment.
        batch_wait_ms: how long the oldest request of a batch waited for it.
        batch_run_ms: how long a batch took.
        failed_rows: rows of calls on which a model of this process failed, or broke the stage contract.
        accepted_rows: (K,) int64, rows that a stage of this process accepted.
        deferred_rows: (K,) int64, rows that a stage of this process deferred.
        stage_s: (K,) float64, seconds that the stages of this process have run.
        confidence: K histograms, of all rows that came to a stage of this process.
        reloads: of the policy, by outcome, such as "accepted" or "refused".
        dropped_audit_rows: drawn rows that were not audited, for lack of time.
        reviewed_rows: abstained rows, by receiver of the review ("file", "webhook") and outcome ("written", "dropped").
        queue_rows: rows that wait for a batch.
        forwarding_rows: rows that are with the next segment, or wait for it.
        audit: the estimate, once there is one.
        alarms: by name, whether it is raised.
        gear: index of the operating point in force, 0 for the best; ``None`` where there is only one.
        policy_version: of the policy in force; "" in later segments, to which it comes with the rows.
    """

    def __init__(self, stages: Sequence[str]) -> None:
        self.stages = tuple(stages)
        self.started = time.time()
        self.requests: Counter[tuple[str, str]] = Counter()
        self.latency_ms = Histogram(MILLISECONDS)
        self.answered_rows = np.zeros(len(stages), dtype=np.int64)
        self.degraded_rows = 0
        self.abstained_rows = 0
        self.cost = 0.0
        self.batch_rows = Histogram(BATCH_ROWS)
        self.batch_wait_ms = Histogram(MILLISECONDS)
        self.batch_run_ms = Histogram(MILLISECONDS)
        self.failed_rows = 0
        self.accepted_rows = np.zeros(len(stages), dtype=np.int64)
        self.deferred_rows = np.zeros(len(stages), dtype=np.int64)
        self.stage_s = np.zeros(len(stages))
        self.confidence = [Histogram(CONFIDENCES) for _ in stages]
        self.reloads: Counter[str] = Counter()
        self.dropped_audit_rows = 0
        self.reviewed_rows: dict[tuple[str, str], int] = {}
        self.queue_rows = 0
        self.forwarding_rows = 0
        self.audit: AuditEstimate | None = None
        self.alarms: dict[str, bool] = {}
        self.gear: int | None = None
        self.policy_version = ""
        # Collected, and not counted yet.
        self._latencies_s: list[float] = []
        self._single_rows = [0] * len(stages)
        self._batches: list[tuple[int, float, float]] = []
        self._runs: deque[StageRun] = deque()

    def answered(self, seconds: float, answers: Answers) -> None:
        """Adds an answered request for rows.

        Args:
            seconds: that it took.
            answers: of its rows.
        """
        self._latencies_s.append(seconds)
        if len(answers.stage) == 1:
            self._single_rows[answers.stage.item()] += 1
            self.cost += answers.cost.item()
        else:
            self.answered_rows += np.bincount(answers.stage, minlength=len(self.stages))
            self.cost += float(answers.cost.sum())
        if answers.degraded is not None:
            self.degraded_rows += int(answers.degraded.sum())
        if answers.abstained is not None:
            self.abstained_rows += int(answers.abstained.sum())
        if len(self._latencies_s) >= MOST_LATENCIES:
            self._fold_answers()

    def searched(self, seconds: float, found: Detections) -> None:
        """Adds an answered request for an image; its windows count as rows.

        Args:
            seconds: that it took.
            found: in the image.
        """
        self._latencies_s.append(seconds)
        self.answered_rows += np.array([found.answered[stage] for stage in self.stages])
        self.cost += found.cost
        self.degraded_rows += found.degraded
        self.abstained_rows += found.abstained
        if len(self._latencies_s) >= MOST_LATENCIES:
            self._fold_answers()

    def refused(self, error: CascadeError | None) -> None:
        """Adds a request that ended with an error; ``None`` for an unexpected one."""
        reason = ("500", "InternalError") if error is None else (str(http_status(error)), type(error).__name__)
        self.requests[reason] += 1

    def batch_ran(self, rows: int, wait_s: float, run_s: float) -> None:
        """Adds a batch of this segment."""
        self._batches.append((rows, wait_s, run_s))
        if len(self._batches) >= MOST_BATCHES:
            self._fold_batches()

    def stage_ran(self, run: StageRun) -> None:
        """Adds a run of a stage of this segment, see :data:`cascade.engine.Watch`."""
        self._runs.append(run)

    def fold(self) -> None:
        """Counts what has been collected."""
        self._fold_answers()
        self._fold_batches()

    def _fold_answers(self) -> None:
        latencies_s, self._latencies_s = self._latencies_s, []
        if not latencies_s:
            return
        self.requests[ANSWERED] += len(latencies_s)
        self.latency_ms.add(np.array(latencies_s) * 1e3)
        rows, self._single_rows = self._single_rows, [0] * len(self.stages)
        self.answered_rows += np.array(rows)

    def _fold_batches(self) -> None:
        collected, self._batches = self._batches, []
        if collected:
            rows, wait_s, run_s = np.array(collected).T
            self.batch_rows.add(rows)
            self.batch_wait_ms.add(wait_s * 1e3)
            self.batch_run_ms.add(run_s * 1e3)
        # Stages may run at the same time; their next runs are counted next time.
        runs = [self._runs.popleft() for _ in range(len(self._runs))]
        for stage in {run.stage for run in runs}:
            self._fold_stage(stage, [run for run in runs if run.stage == stage])

    def _fold_stage(self, stage: int, runs: list[StageRun]) -> None:
        deferred = sum(int(np.count_nonzero(run.deferred)) for run in runs)
        confidence = np.concatenate([run.confidence for run in runs])
        self.deferred_rows[stage] += deferred
        self.accepted_rows[stage] += len(confidence) - deferred
        self.stage_s[stage] += sum(run.seconds for run in runs)
        self.confidence[stage].add(confidence)
