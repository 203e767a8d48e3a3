"""The audit of one policy: what has come in, and the monitor that tests it."""

import logging
from dataclasses import replace
from typing import Any

import numpy as np

from cascade.answers import PENDING, Answers
from cascade.calibration import Policy
from cascade.calibration.monitoring.monitor import Monitor, WatchedRate
from cascade.routers import NEVER
from cascade.serving.telemetry.observations import AuditEstimate

__all__ = ["PolicyAudit"]

logger = logging.getLogger(__name__)


class PolicyAudit:
    """Collects the answers that a policy gives, and updates its monitor a few times per second.

    Args:
        policy: K stages.
        monitor: of the policy.

    Attributes:
        monitor: as given; up to date after :meth:`update`.
        last_stage_alone: the policy that runs the last stage alone, on every row.
        counts: of drawn rows, by what became of them.
    """

    def __init__(self, policy: Policy, monitor: Monitor) -> None:
        self.monitor = monitor
        self.last_stage_alone = _last_stage_alone(policy)
        self.counts = dict.fromkeys(("drawn", "audited", "dropped", "lost"), 0)
        self._version = policy.version
        self._last = len(policy.stages) - 1
        # Bytes of arrays of stages: of the gateway's batches, and of rows that later segments answered.
        self._decided: list[bytes] = []
        self._returned: list[bytes] = []
        # Of the rows that the last stage answered, those to which the stages before gave the same answer.
        self._repeated = 0
        self._logged: set[WatchedRate] = set()

    def add_decided(self, answers: Answers) -> None:
        """Adds the answers of a batch of the gateway; copies their stages."""
        self._decided.append(answers.stage.tobytes())

    def add_returned(self, answers: Answers, previous_answer: np.ndarray) -> None:
        """Adds answers of later segments; ``previous_answer`` (m,) int is that of the last stage before them."""
        self._returned.append(answers.stage.tobytes())
        repeats = (answers.answer == previous_answer) & (answers.stage == self._last)
        self._repeated += int(np.count_nonzero(repeats))

    def add_audited(self, stage: np.ndarray, agrees: np.ndarray) -> None:
        """Adds m audited rows: the stage that answered each, and whether the last stage agrees."""
        self.monitor.add_audited(stage, agrees)
        self._log_alarms()

    def update(self) -> None:
        """Passes what has been added on to the monitor, and logs new alarms."""
        if self._decided:
            counts = self._stage_counts(self._decided)
            self.monitor.add_decided(counts[1:], int(counts[0]))
        if self._returned:
            self.monitor.add_returned(self._stage_counts(self._returned)[1:], self._repeated)
            self._repeated = 0
        self._log_alarms()

    def to_dict(self) -> dict[str, Any]:
        """The state, as plain values."""
        return self.monitor.to_dict() | {f"{name}_rows": count for name, count in self.counts.items()}

    def estimate(self) -> AuditEstimate | None:
        """The estimated agreement; ``None`` before the first audited row."""
        found = self.monitor.to_dict()["agreement"]
        if not found["rows"]:
            return None
        watched = self.monitor.agreement
        bound = (None, None) if watched is None else (watched.test.low, watched.source)
        return AuditEstimate(found["rate"], found["low"], found["high"], found["rows"], *bound)

    def alarms(self) -> dict[str, bool]:
        """By name, whether each alarm is raised."""
        return {" ".join(filter(None, (each.name, each.stage))): each.test.alarm for each in self.monitor.watched}

    def _stage_counts(self, parts: list[bytes]) -> np.ndarray:
        """(K + 1,) int: pending rows, then those of each stage; empties the list."""
        stage = np.frombuffer(b"".join(parts), np.int64)
        parts.clear()
        return np.bincount(stage - PENDING, minlength=self._last + 2)

    def _log_alarms(self) -> None:
        for each in self.monitor.alarms:
            if each not in self._logged:
                self._logged.add(each)
                test = each.test
                logger.warning(
                    "audit alarm: %s%s of policy %s is %.4f after %d rows, and should be in [%.4f, %.4f] (%s)",
                    each.name.replace("_", " "),
                    "" if each.stage is None else f" of stage {each.stage}",
                    self._version,
                    test.successes / test.trials,
                    test.trials,
                    test.low,
                    test.high,
                    each.source,
                )


def _last_stage_alone(policy: Policy) -> Policy:
    """A policy of the same stages under which only the last one runs."""
    alone = Policy.from_thresholds(policy.stages, np.full(len(policy.stages) - 1, NEVER))
    return replace(alone, certificate={"audit_of": policy.version})
