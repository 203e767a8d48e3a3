"""The numbers of one repeat, as a result file has them."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Client", "Repeat", "SendLag", "Window"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SendLag(_Strict):
    """How late the client was in an open loop: from the moment when a request was due until the client turned to it.

    Attributes:
        p50_ms: median; ``None`` where it turned to none.
        p99_ms: 99th percentile.
        max_ms: largest.
        not_handled: requests that it never turned to.
    """

    p50_ms: float | None
    p99_ms: float | None
    max_ms: float | None
    not_handled: int = 0


class Client(_Strict):
    """What the load generator itself took.

    Attributes:
        processes: that sent requests.
        busiest_share: of a processor, used by the busiest of them, in [0, 1].
        processor_s: of all of them.
        collector_s: processor time of the process that collects their records.
        processor_us_per_request: of the processes that send, per request.
        real_time: whether they had real-time scheduling, which an open loop asks for.
    """

    processes: int
    busiest_share: float
    processor_s: float
    collector_s: float
    processor_us_per_request: float
    real_time: bool = False


class Window(_Strict):
    """A twentieth of the measured time.

    Attributes:
        start_s: after the warm-up.
        requests_per_s: answered in it.
        p50_ms: median latency of the requests that were due in it; ``None`` without.
        failed: requests that were due in it and failed.
    """

    start_s: float
    requests_per_s: float
    p50_ms: float | None
    failed: int


class Repeat(_Strict):
    """The numbers of one repeat.

    Attributes:
        seed: of its arrivals and its order of rows.
        started: date and time.
        partial: whether it was ended before its time.
        seconds: measured, without the warm-up.
        warmup_seconds: before them.
        offered_per_s: requests that were due per second; ``None`` in a closed loop.
        sent_per_s: requests that were sent per second.
        requests: answered, of those due in the measured time; latencies are theirs.
        failed: not answered, of those due in the measured time.
        requests_per_s: answers that came in the measured time, per second.
        rows: answered.
        rows_per_s: answered in the measured time, per second.
        goodput_per_s: requests per second that were answered within their limit; ``None`` without one.
        latency_ms: percentiles that the number of requests supports, "mean" and "max"; from the intended moment.
        latency_upper_ms: for each, a bound that the true percentile exceeds with probability at most 1 %.
        histogram: (bucket, count) of the latencies, see ``Latencies``.
        too_few_for: percentiles that the number of requests does not support.
        send_lag: ``None`` in a closed loop.
        client: what the load generator itself took.
        accuracy: share of right answers among the answered rows, in [0, 1]; ``None`` without labels.
        different_answers: 1 if all rows had the same answer, else 2; ``None`` in older results, or without answers.
        abstained: share of the rows without an answer, in [0, 1].
        degraded: share of the rows that a later stage should have answered, which failed or was too late, in [0, 1].
        mean_cost: of a row, in the unit of the policy; ``None`` where the target names none.
        stage_share: by stage name, share of the rows that it answered, in [0, 1].
        policy_versions: all that answers have named.
        errors: requests that failed, by status.
        messages: the first one of each status.
        windows: twenty of equal length.
        steady_from_s: seconds after the warm-up from which the load was steady; ``None`` where it was not.
        load_average: of the machine before the repeat, over 1, 5 and 15 minutes.
        engine: in process, the times of the engine (``EngineTimes``).
        invalid: reasons why the client, and not the target, was the limit.
    """

    seed: int
    started: datetime
    partial: bool
    seconds: float
    warmup_seconds: float
    offered_per_s: float | None
    sent_per_s: float
    requests: int
    failed: int
    requests_per_s: float
    rows: int
    rows_per_s: float
    goodput_per_s: float | None
    latency_ms: dict[str, float]
    latency_upper_ms: dict[str, float]
    histogram: list[tuple[int, int]]
    too_few_for: list[str]
    send_lag: SendLag | None
    client: Client
    accuracy: float | None
    abstained: float
    mean_cost: float | None
    stage_share: dict[str, float]
    policy_versions: list[str]
    errors: dict[str, int]
    messages: dict[str, str]
    windows: list[Window]
    steady_from_s: float | None
    load_average: tuple[float, float, float]
    different_answers: int | None = None
    degraded: float = 0.0
    engine: dict[str, Any] | None = None
    invalid: list[str] = Field(default_factory=list)

    @property
    def failed_share(self) -> float:
        """Failed requests among all, in [0, 1]; 1 without requests."""
        total = self.requests + self.failed
        return self.failed / total if total else 1.0
