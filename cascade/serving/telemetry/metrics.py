"""The metrics that a process exports to Prometheus.

Ray adds the tags "application", "deployment" and "replica", the prefix "ray_", and the suffix "_total" to counters.
Histograms are exported as counters, with Prometheus' tag "le" on the buckets: Ray's own histograms take one value at a
time, which is too expensive for every request.
"""

from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

from cascade.serving.telemetry.histogram import Histogram
from cascade.serving.telemetry.observations import Observations

__all__ = ["METRICS", "Metric", "exported_name"]

# Every fourth edge of the fine histograms of times is exported.
TIME_EDGES = 4
SECONDS_PER_MS = 1e-3

Values = Iterable[tuple[tuple[str, ...], float]]
Read = Callable[[Observations], Values]


class Metric(NamedTuple):
    """One metric.

    Attributes:
        kind: a counter only grows.
        name: without what Ray adds to it.
        description: one line, with the unit.
        tags: names of its labels, besides those that Ray adds.
        read: returns, from the statistics of a process, the label values and the value of every series.
    """

    kind: Literal["counter", "gauge"]
    name: str
    description: str
    tags: tuple[str, ...]
    read: Read


def exported_name(metric: Metric) -> str:
    """The name in Prometheus."""
    return f"ray_{metric.name}{'_total' if metric.kind == 'counter' else ''}"


def _by_stage(name: str) -> Read:
    return lambda stats: [((stage,), value) for stage, value in zip(stats.stages, getattr(stats, name).tolist())]


def _number(name: str) -> Read:
    return lambda stats: [((), getattr(stats, name))]


def _outcomes(stats: Observations) -> Values:
    for stage, accepted, deferred in zip(stats.stages, stats.accepted_rows.tolist(), stats.deferred_rows.tolist()):
        yield (stage, "accepted"), accepted
        yield (stage, "deferred"), deferred


def _confidences(stats: Observations) -> Values:
    for stage, histogram in zip(stats.stages, stats.confidence):
        yield from (((stage, edge), count) for edge, count in histogram.cumulative())


def _audit(name: str) -> Read:
    return lambda stats: [] if (value := getattr(stats.audit, name, None)) is None else [((), value)]


def _histogram(
    name: str, unit: str, description: str, read: Callable[[Observations], Histogram], every: int = 1, scale: float = 1
) -> tuple[Metric, ...]:
    return (
        Metric(
            "counter",
            f"{name}_bucket",
            f"{description}: number up to le {unit}.",
            ("le",),
            lambda stats: [((edge,), count) for edge, count in read(stats).cumulative(every, scale)],
        ),
        Metric(
            "counter",
            f"{name}_sum",
            f"{description}: sum, {unit}.",
            (),
            lambda stats: [((), scale * read(stats).total)],
        ),
        Metric("counter", f"{name}_count", f"{description}: number.", (), lambda stats: [((), read(stats).size)]),
    )


def _time_histogram(name: str, description: str, read: Callable[[Observations], Histogram]) -> tuple[Metric, ...]:
    """Of a histogram in milliseconds."""
    return _histogram(name, "seconds", description, read, TIME_EDGES, SECONDS_PER_MS)


METRICS = (
    Metric(
        "counter",
        "cascade_requests",
        "Answered requests for rows (status 200), and all refused requests by the name of the error.",
        ("status", "reason"),
        lambda stats: stats.requests.items(),
    ),
    *_time_histogram(
        "cascade_request_latency_seconds", "Time to the answers of a request", lambda stats: stats.latency_ms
    ),
    Metric(
        "counter",
        "cascade_answered_rows",
        "Answered rows, by the stage that answered.",
        ("stage",),
        _by_stage("answered_rows"),
    ),
    Metric("counter", "cascade_degraded_rows", "Answered rows that are degraded.", (), _number("degraded_rows")),
    Metric(
        "counter", "cascade_abstained_rows", "Rows that the last stage abstained on.", (), _number("abstained_rows")
    ),
    Metric(
        "counter",
        "cascade_reviewed_rows",
        "Abstained rows, by receiver and outcome: written or dropped.",
        ("receiver", "outcome"),
        lambda stats: stats.reviewed_rows.items(),
    ),
    Metric("counter", "cascade_cost", "Cost of the answered rows, in the policy's unit.", (), _number("cost")),
    Metric(
        "counter",
        "cascade_stage_rows",
        "Rows that came to a stage, by outcome: accepted or deferred.",
        ("stage", "outcome"),
        _outcomes,
    ),
    Metric("counter", "cascade_stage_run_seconds", "Time that a stage has run.", ("stage",), _by_stage("stage_s")),
    Metric(
        "counter",
        "cascade_confidence_bucket",
        "Rows that came to a stage: number with a confidence up to le.",
        ("stage", "le"),
        _confidences,
    ),
    Metric("counter", "cascade_failed_rows", "Rows of calls on which a model failed.", (), _number("failed_rows")),
    *_histogram("cascade_batch_rows", "rows", "Rows of a batch", lambda stats: stats.batch_rows),
    *_time_histogram(
        "cascade_batch_wait_seconds", "Wait of the oldest request of a batch", lambda stats: stats.batch_wait_ms
    ),
    *_time_histogram("cascade_batch_run_seconds", "Time that a batch ran", lambda stats: stats.batch_run_ms),
    Metric("gauge", "cascade_queue_rows", "Rows that wait for a batch.", (), _number("queue_rows")),
    Metric(
        "gauge",
        "cascade_forwarding_rows",
        "Rows that are with the next segment, or wait for it.",
        (),
        _number("forwarding_rows"),
    ),
    Metric(
        "gauge",
        "cascade_policy_info",
        "1 for the policy in force at a gateway.",
        ("policy_version",),
        lambda stats: [((stats.policy_version,), 1)] if stats.policy_version else [],
    ),
    Metric(
        "counter",
        "cascade_policy_reloads",
        "Reloads of the policy, by outcome.",
        ("outcome",),
        lambda stats: [((outcome,), count) for outcome, count in stats.reloads.items()],
    ),
    Metric(
        "gauge",
        "cascade_gear",
        "Index of the operating point in force, 0 for the best.",
        (),
        lambda stats: [] if stats.gear is None else [((), stats.gear)],
    ),
    Metric("counter", "cascade_audit_rows", "Audited rows.", (), _audit("rows")),
    Metric(
        "counter",
        "cascade_audit_dropped_rows",
        "Drawn rows that were not audited, for lack of time.",
        (),
        _number("dropped_audit_rows"),
    ),
    Metric(
        "gauge",
        "cascade_audit_agreement",
        "Share of the audited rows on which the last stage agrees.",
        (),
        _audit("agreement"),
    ),
    Metric("gauge", "cascade_audit_agreement_low", "Lower end of its confidence sequence.", (), _audit("low")),
    Metric("gauge", "cascade_audit_agreement_high", "Upper end of its confidence sequence.", (), _audit("high")),
    Metric(
        "gauge",
        "cascade_audit_agreement_least",
        "Lowest agreement without an alarm: guaranteed, or else a lower bound from the calibration data.",
        (),
        _audit("least"),
    ),
    Metric(
        "gauge",
        "cascade_alarm",
        "1 while an alarm is raised, by name.",
        ("alarm",),
        lambda stats: [((name,), int(raised)) for name, raised in stats.alarms.items()],
    ),
)
"""Every metric, in the order of the documentation."""
