"""What a generator hands over several times a second: records of requests, and sums over their rows."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cascade.benchmarks.workload import Batch

__all__ = ["RECORD", "RowSums", "Slice"]

_MOMENTS = ("due", "handled", "sent", "done")
RECORD = np.dtype([(name, "f8") for name in _MOMENTS] + [("request", "i4"), ("order", "i4"), ("status", "i2")])
"""Of a request: seconds since the beginning when it was due, when the generator turned to it (NaN if never), when it
was sent (NaN if not) and when it ended; its index in the workload; its place in the order of arrivals; its status."""


@dataclass
class RowSums:
    """Sums over the rows of answered requests.

    Attributes:
        rows: answered.
        labelled: answered, not abstained, with a label.
        right: of those, answered rightly.
        abstained: rows without an answer.
        degraded: rows that a later stage should have answered.
        cost: summed.
        stages: rows by the stage that answered.
        versions: of policies, that answers have named.
        answers: different ones, as texts; none are added once there are two.
    """

    rows: int = 0
    labelled: int = 0
    right: int = 0
    abstained: int = 0
    degraded: int = 0
    cost: float = 0.0
    stages: Counter[str] = field(default_factory=Counter)
    versions: set[str] = field(default_factory=set)
    answers: set[str] = field(default_factory=set)

    def add(self, batch: Batch, columns: Mapping[str, Any]) -> None:
        """Counts an answered request."""
        answer, abstained = columns["answer"], columns.get("abstained")
        self.rows += len(batch)
        if len(self.answers) < 2:
            self.answers.update(map(repr, answer))
        if "stage" in columns:
            self.stages.update(columns["stage"])
        if "cost" in columns:
            self.cost += sum(columns["cost"])
        if "policy_version" in columns:
            self.versions.add(str(columns["policy_version"]))
        if columns.get("degraded"):
            self.degraded += sum(columns["degraded"])
        if abstained is not None and not any(abstained):
            abstained = None
        if abstained is not None:
            self.abstained += sum(abstained)
        if batch.label is not None:
            self._judge(answer, batch.label, abstained)

    def _judge(self, answer: Sequence[Any], label: np.ndarray, abstained: Sequence[bool] | None) -> None:
        if len(label) == 1:
            if abstained is None:
                self.labelled += 1
                self.right += bool(answer[0] == label[0])
            return
        answered = np.ones(len(label), dtype=bool) if abstained is None else ~np.array(abstained, dtype=bool)
        self.labelled += int(answered.sum())
        self.right += int(np.count_nonzero((np.array(answer) == label) & answered))

    def merge(self, other: "RowSums") -> None:
        """Adds other sums."""
        self.rows += other.rows
        self.labelled += other.labelled
        self.right += other.right
        self.abstained += other.abstained
        self.degraded += other.degraded
        self.cost += other.cost
        self.stages.update(other.stages)
        self.versions |= other.versions
        self.answers |= other.answers


@dataclass
class Slice:
    """A part of a load, of one process.

    Attributes:
        records: of requests that ended since the slice before.
        sums: of the rows of answered requests that were due after the warm-up.
        messages: the first one of each status.
        processor_s: processor time of the process since the slice before.
        ends: whether the load of the process has ended.
        part: number of the process.
        real_time: whether the process has real-time scheduling.
    """

    records: np.ndarray
    sums: RowSums
    messages: dict[int, str]
    processor_s: float = 0.0
    ends: bool = False
    part: int = 0
    real_time: bool = False
