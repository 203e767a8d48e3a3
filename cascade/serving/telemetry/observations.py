"""What a process has seen: counts since its start, from which metrics, the live page and tests read.

On the way of a request only references are kept; they are counted many at a time, when enough have gathered or somebody
reads. One process is one gateway or one replica of a later segment.
"""

import time
from collections import Counter, deque
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cascade.engine import Answers
from cascade.errors import CascadeError
from cascade.serving.errors import http_status
from cascade.serving.telemetry.histogram import Histogram, log_edges

__all__ = ["ANSWERED", "AuditEstimate", "Observations"]

ANSWERED = ("200", "")
"""Status and reason of requests that were answered."""

# What gathers before it is counted.
MOST_CALLS = 1024
MOST_ROWS = 8192

# From a tenth of a millisecond to a hundred seconds.
MILLISECONDS = log_edges(0.1, 6, 20)
CONFIDENCES = np.linspace(0.05, 1.0, 20)
BATCH_ROWS = 2.0 ** np.arange(13)


class AuditEstimate(NamedTuple):
    """How often the last stage agrees with what was answered, from audited rows.

    Attributes:
        agreement: share in [0, 1].
        low: lower end of its confidence sequence.
        high: upper end.
        rows: audited so far.
        least: the share that it must not fall below; ``None`` if nothing says so.
        source: where that comes from: "operator", "guarantee" (a target of the certificate), or "calibration" (a lower
            bound of what the calibration data said, which nobody guarantees).
    """

    agreement: float
    low: float
    high: float
    rows: int
    least: float | None = None
    source: str | None = None


class _Run(NamedTuple):
    stage: int
    seconds: float
    confidence: np.ndarray
    unsure: np.ndarray


class Observations:
    """Counts since the start of a process; all of them only grow, but for the last six attributes.

    Everything is called in the event loop, but :meth:`stage_ran`, which may be called in one other thread. Read after
    :meth:`fold`.

    Args:
        stages: names of the cascade's K stages.

    Attributes:
        stages: as given.
        started: when, in seconds since 1970.
        requests: by status (of HTTP, as a text) and reason (the name of the error, "" if there is none). Of requests
            that were answered only those for rows are counted, of refused ones all.
        latency_ms: of answered requests for rows, from their rows being read to their answers being there.
        answered_rows: (K,) int64, by the stage that answered.
        degraded_rows: of the answered ones, those marked as degraded.
        abstained_rows: of those of the last stage, those that are left to a person.
        cost: of all stages that looked at the answered rows, in the policy's unit.
        batch_rows: of the batches of this process's segment.
        batch_wait_ms: how long the oldest request of a batch waited for it.
        batch_run_ms: how long a batch took.
        failed_rows: rows of calls on which a model of this process failed, or broke the stage contract.
        accepted_rows: (K,) int64, rows that a stage of this process was sure of.
        forwarded_rows: (K,) int64, rows that a stage of this process was unsure of.
        stage_s: (K,) float64, seconds that the stages of this process have run.
        confidence: K histograms, of all rows that came to a stage of this process.
        reloads: of the policy, by outcome, such as "accepted" or "refused".
        dropped_audit_rows: rows that were to be audited, for which there was no time.
        reviewed_rows: abstained rows on their way to a person, by receiver ("file", "webhook") and outcome ("written",
            "dropped").
        queue_rows: rows that wait for a batch.
        forwarding_rows: rows that the next segment is asked about, or that wait for it.
        audit: the estimate, once there is one.
        alarms: by name, whether it is raised.
        gear: index of the operating point in force, 0 for the best; ``None`` where there is one only.
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
        self.forwarded_rows = np.zeros(len(stages), dtype=np.int64)
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
        # Not counted yet.
        self._answers: list[tuple[float, Answers]] = []
        self._answers_rows = 0
        self._batches: list[tuple[int, float, float]] = []
        self._runs: deque[_Run] = deque()

    def answered(self, seconds: float, answers: Answers) -> None:
        """A request for rows was answered; nobody writes to its answers any more.

        Args:
            seconds: that it took.
            answers: of its rows.
        """
        self._answers.append((seconds, answers))
        self._answers_rows += len(answers.stage)
        if len(self._answers) >= MOST_CALLS or self._answers_rows >= MOST_ROWS:
            self._fold_answers()

    def refused(self, error: CascadeError | None) -> None:
        """A request got an error; ``None`` for one that nobody thought of."""
        reason = ("500", "InternalError") if error is None else (str(http_status(error)), type(error).__name__)
        self.requests[reason] += 1

    def batch_ran(self, rows: int, wait_s: float, run_s: float) -> None:
        """A batch of this segment has been run."""
        self._batches.append((rows, wait_s, run_s))
        if len(self._batches) >= MOST_CALLS:
            self._fold_batches()

    def stage_ran(
        self,
        stage: int,
        seconds: float,
        confidence: np.ndarray,
        unsure: np.ndarray,
        cost: np.ndarray,  # noqa: ARG002 (answers tell it at the gateway)
    ) -> None:
        """A stage of this segment has looked at rows, see :data:`cascade.engine.Watch`."""
        self._runs.append(_Run(stage, seconds, confidence, unsure))

    def fold(self) -> None:
        """Counts what has gathered."""
        self._fold_answers()
        self._fold_batches()

    def _fold_answers(self) -> None:
        gathered, self._answers, self._answers_rows = self._answers, [], 0
        if not gathered:
            return
        self.requests[ANSWERED] += len(gathered)
        self.latency_ms.add(np.array([seconds for seconds, _ in gathered]) * 1e3)
        stage = np.concatenate([answers.stage for _, answers in gathered])
        self.answered_rows += np.bincount(stage, minlength=len(self.stages))
        self.cost += float(np.concatenate([answers.cost for _, answers in gathered]).sum())
        self.degraded_rows += sum(int(a.degraded.sum()) for _, a in gathered if a.degraded is not None)
        self.abstained_rows += sum(int(a.abstained.sum()) for _, a in gathered if a.abstained is not None)

    def _fold_batches(self) -> None:
        gathered, self._batches = self._batches, []
        if gathered:
            rows, wait_s, run_s = np.array(gathered).T
            self.batch_rows.add(rows)
            self.batch_wait_ms.add(wait_s * 1e3)
            self.batch_run_ms.add(run_s * 1e3)
        # Stages run while this runs; what comes meanwhile is left for the next time.
        runs = [self._runs.popleft() for _ in range(len(self._runs))]
        for stage in {run.stage for run in runs}:
            self._fold_stage(stage, [run for run in runs if run.stage == stage])

    def _fold_stage(self, stage: int, runs: list[_Run]) -> None:
        unsure = sum(int(np.count_nonzero(run.unsure)) for run in runs)
        confidence = np.concatenate([run.confidence for run in runs])
        self.forwarded_rows[stage] += unsure
        self.accepted_rows[stage] += len(confidence) - unsure
        self.stage_s[stage] += sum(run.seconds for run in runs)
        self.confidence[stage].add(confidence)
