"""The numbers of one repeat."""

from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cascade.benchmarks.target import Reply
from cascade.benchmarks.workload import Batch

__all__ = ["Measurement", "Tally", "spread"]

PERCENTILES = (50, 95, 99)


@dataclass(frozen=True)
class Measurement:
    """The numbers of one repeat.

    Attributes:
        seconds: from the first request sent to the last answer.
        requests: answered.
        failed: not answered.
        rows: answered.
        rows_per_s: ``rows / seconds``.
        requests_per_s: ``requests / seconds``.
        latency_ms: "p50", "p95", "p99", "mean" and "max" of the time from sending to the answer, of answered requests.
        stage_share: by stage name, share of the rows that it answered, in [0, 1].
        accuracy: share of right answers among the answered rows, in [0, 1]; ``None`` without labels.
        abstained: share of the rows without an answer, in [0, 1].
        mean_cost: of a row, in the unit of the policy.
        errors: requests that failed, by status.
        policy_versions: all that answers have named.
    """

    seconds: float
    requests: int
    failed: int
    rows: int
    rows_per_s: float
    requests_per_s: float
    latency_ms: dict[str, float]
    stage_share: dict[str, float]
    accuracy: float | None
    abstained: float
    mean_cost: float
    errors: dict[str, int]
    policy_versions: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}


class Tally:
    """Adds replies up while a load runs; of each request it keeps the latency alone.

    Args:
        stages: K names.
    """

    def __init__(self, stages: Sequence[str]) -> None:
        self.stages = tuple(stages)
        self.errors: Counter[str] = Counter()
        self.messages: dict[str, str] = {}
        self.latency_s = array("d")
        self._rows = 0
        self._right = 0
        self._labelled = 0
        self._abstained = 0
        self._cost = 0.0
        self._stage = np.zeros(len(self.stages), dtype=np.int64)
        self._versions: set[str] = set()

    def add(self, batch: Batch, reply: Reply, latency_s: float) -> None:
        """Counts an answered request."""
        self.latency_s.append(latency_s)
        self._rows += len(batch)
        self._stage += np.bincount(reply.stage, minlength=len(self.stages))
        self._cost += float(reply.cost.sum())
        self._versions.add(reply.policy_version)
        abstained = 0 if reply.abstained is None else int(np.count_nonzero(reply.abstained))
        self._abstained += abstained
        if batch.label is not None:
            right = reply.answer == batch.label
            self._right += int(np.count_nonzero(right if reply.abstained is None else right & ~reply.abstained))
            self._labelled += len(batch) - abstained

    def fail(self, status: str, message: str) -> None:
        """Counts a failed request; of each status the first message is kept."""
        self.errors[status] += 1
        self.messages.setdefault(status, message)

    def measurement(self, seconds: float) -> Measurement:
        """The numbers.

        Args:
            seconds: above 0, how long the load ran.

        Raises:
            ValueError: no request was answered, so that there are no latencies.
        """
        if not self.latency_s:
            raise ValueError("no request was answered")
        latency_ms = np.frombuffer(self.latency_s) * 1e3
        percentiles = np.percentile(latency_ms, PERCENTILES)
        return Measurement(
            seconds=seconds,
            requests=len(self.latency_s),
            failed=self.errors.total(),
            rows=self._rows,
            rows_per_s=self._rows / seconds,
            requests_per_s=len(self.latency_s) / seconds,
            latency_ms={f"p{p}": float(value) for p, value in zip(PERCENTILES, percentiles)}
            | {"mean": float(latency_ms.mean()), "max": float(latency_ms.max())},
            stage_share={name: float(count) / self._rows for name, count in zip(self.stages, self._stage)},
            accuracy=self._right / self._labelled if self._labelled else None,
            abstained=self._abstained / self._rows,
            mean_cost=self._cost / self._rows,
            errors=dict(self.errors),
            policy_versions=tuple(sorted(self._versions)),
        )


def spread(repeats: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Median, min and max over repeats of every number, in the nesting of the repeats.

    A number that a repeat lacks counts as 0, which only happens to counts of errors. All other values are left out.

    Args:
        repeats: at least one.
    """
    result: dict[str, Any] = {}
    for key in dict.fromkeys(key for repeat in repeats for key in repeat):
        values = [repeat.get(key) for repeat in repeats]
        if any(isinstance(value, Mapping) for value in values):
            result[key] = spread([value for value in values if isinstance(value, Mapping)])
        elif all(value is None or isinstance(value, int | float) for value in values):
            numbers = [0.0 if value is None else float(value) for value in values]
            known = any(value is not None for value in values)
            result[key] = _three(numbers) if known else None
    return result


def _three(numbers: Sequence[float]) -> dict[str, float]:
    return {"median": float(np.median(numbers)), "min": min(numbers), "max": max(numbers)}
