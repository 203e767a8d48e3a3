"""The metrics of a process, and their way to Prometheus through ``ray.serve.metrics``.

Ray adds the tags "application", "deployment" and "replica", puts "ray_" before a name and "_total" after a counter's.
Histograms are exported as counters, with the tag "le" on the buckets as Prometheus has it: Ray's own histograms take
one value at a time, which for every request is too dear.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, NamedTuple, Protocol

from cascade.serving.telemetry.histogram import Histogram
from cascade.serving.telemetry.observations import Observations

__all__ = ["METRICS", "Metric", "MetricsExport", "exported_name", "new_ray_metric"]

# Of the fine edges of times, the page looks at all of them.
TOLD_EDGES = 4

Values = Iterable[tuple[tuple[str, ...], float]]


class Metric(NamedTuple):
    """One metric.

    Attributes:
        kind: a counter only grows.
        name: without what Ray adds to it.
        description: one line, with the unit.
        tags: names of its labels, besides those that Ray adds.
        read: gives, from the counts of a process, the values of the labels and the value, for every series.
    """

    kind: Literal["counter", "gauge"]
    name: str
    description: str
    tags: tuple[str, ...]
    read: Callable[[Observations], Values]


def exported_name(metric: Metric) -> str:
    """The name that Prometheus sees."""
    return f"ray_{metric.name}{'_total' if metric.kind == 'counter' else ''}"


def _by_stage(name: str) -> Callable[[Observations], Values]:
    return lambda stats: [((stage,), value) for stage, value in zip(stats.stages, getattr(stats, name).tolist())]


def _number(name: str) -> Callable[[Observations], Values]:
    return lambda stats: [((), getattr(stats, name))]


def _outcomes(stats: Observations) -> Values:
    for stage, accepted, forwarded in zip(stats.stages, stats.accepted_rows.tolist(), stats.forwarded_rows.tolist()):
        yield (stage, "accepted"), accepted
        yield (stage, "forwarded"), forwarded


def _confidences(stats: Observations) -> Values:
    for stage, histogram in zip(stats.stages, stats.confidence):
        yield from (((stage, edge), count) for edge, count in histogram.cumulative())


def _audit(name: str) -> Callable[[Observations], Values]:
    return lambda stats: [] if (value := getattr(stats.audit, name, None)) is None else [((), value)]


def _histogram(name: str, unit: str, description: str, every: int = 1) -> tuple[Metric, ...]:
    def histogram(stats: Observations) -> Histogram:
        found: Histogram = getattr(stats, name.removeprefix("cascade_").removeprefix("request_"))
        return found

    return (
        Metric(
            "counter",
            f"{name}_bucket",
            f"{description}: how many were at most le {unit}.",
            ("le",),
            lambda stats: [((edge,), count) for edge, count in histogram(stats).cumulative(every)],
        ),
        Metric(
            "counter", f"{name}_sum", f"{description}: sum, {unit}.", (), lambda stats: [((), histogram(stats).total)]
        ),
        Metric("counter", f"{name}_count", f"{description}: number.", (), lambda stats: [((), histogram(stats).size)]),
    )


METRICS = (
    Metric(
        "counter",
        "cascade_requests",
        "Requests for rows that were answered (status 200), and all that were refused, by the error's name.",
        ("status", "reason"),
        lambda stats: stats.requests.items(),
    ),
    *_histogram("cascade_request_latency_ms", "milliseconds", "Time to the answers of a request", TOLD_EDGES),
    Metric("counter", "cascade_answered_rows", "Answered rows, by the stage.", ("stage",), _by_stage("answered_rows")),
    Metric("counter", "cascade_degraded_rows", "Answered rows, degraded.", (), _number("degraded_rows")),
    Metric("counter", "cascade_abstained_rows", "Rows left to a person.", (), _number("abstained_rows")),
    Metric(
        "counter",
        "cascade_reviewed_rows",
        "Abstained rows, by receiver and what became of them: written or dropped.",
        ("receiver", "outcome"),
        lambda stats: stats.reviewed_rows.items(),
    ),
    Metric("counter", "cascade_cost", "Cost of the answered rows, in the policy's unit.", (), _number("cost")),
    Metric(
        "counter",
        "cascade_stage_rows",
        "Rows that came to a stage, by what it did with them: accepted or forwarded.",
        ("stage", "outcome"),
        _outcomes,
    ),
    Metric("counter", "cascade_stage_run_s", "Seconds that a stage has run.", ("stage",), _by_stage("stage_s")),
    Metric(
        "counter",
        "cascade_confidence_bucket",
        "Rows that came to a stage: how many had a confidence of at most le.",
        ("stage", "le"),
        _confidences,
    ),
    Metric("counter", "cascade_failed_rows", "Rows of calls on which a model failed.", (), _number("failed_rows")),
    *_histogram("cascade_batch_rows", "rows", "Rows of a batch"),
    *_histogram("cascade_batch_wait_ms", "milliseconds", "Wait of a batch's oldest request", TOLD_EDGES),
    *_histogram("cascade_batch_run_ms", "milliseconds", "Time that a batch ran", TOLD_EDGES),
    Metric("gauge", "cascade_queue_rows", "Rows that wait for a batch.", (), _number("queue_rows")),
    Metric("gauge", "cascade_forwarding_rows", "Rows that later segments owe.", (), _number("forwarding_rows")),
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
        "counter", "cascade_audit_dropped_rows", "Rows not audited for lack of time.", (), _number("dropped_audit_rows")
    ),
    Metric(
        "gauge", "cascade_audit_agreement", "Share of audited rows the last stage agrees on.", (), _audit("agreement")
    ),
    Metric("gauge", "cascade_audit_agreement_low", "Lower end of its confidence sequence.", (), _audit("low")),
    Metric("gauge", "cascade_audit_agreement_high", "Upper end of its confidence sequence.", (), _audit("high")),
    Metric(
        "gauge",
        "cascade_audit_agreement_least",
        "The least agreement without an alarm: guaranteed, or else a lower bound from the calibration data.",
        (),
        _audit("least"),
    ),
    Metric(
        "gauge",
        "cascade_alarm",
        "1 while an alarm is raised, by its name.",
        ("alarm",),
        lambda stats: [((name,), int(raised)) for name, raised in stats.alarms.items()],
    ),
)
"""Every metric, in the order of the documentation."""


class RayMetric(Protocol):
    """What is used of a counter or a gauge of ``ray.serve.metrics``."""

    def inc(self, value: float, tags: dict[str, str]) -> None:
        """Of a counter."""

    def set(self, value: float, tags: dict[str, str]) -> None:
        """Of a gauge."""


class MetricsExport:
    """Brings counts to Ray: of counters what was added since the last time.

    Args:
        stats: of the process.
        new_metric: makes the counter or gauge.
    """

    def __init__(self, stats: Observations, new_metric: Callable[[Metric], RayMetric]) -> None:
        self._stats = stats
        self._metrics = [(metric, new_metric(metric)) for metric in METRICS]
        self._told: dict[tuple[str, tuple[str, ...]], float] = {}

    def export(self) -> None:
        """Tells Ray the counts as they are now."""
        self._stats.fold()
        for metric, ray_metric in self._metrics:
            for tags, value in self._series(metric):
                labels = dict(zip(metric.tags, tags))
                if metric.kind == "gauge":
                    ray_metric.set(value, labels)
                elif value > (told := self._told.get((metric.name, tags), 0)):
                    ray_metric.inc(value - told, labels)
                self._told[metric.name, tags] = value

    def _series(self, metric: Metric) -> Iterator[tuple[tuple[str, ...], float]]:
        """Those of now; and a gauge that has none any more, such as the version of an earlier policy, is 0."""
        now = dict(metric.read(self._stats))
        yield from now.items()
        if metric.kind == "gauge":
            yield from ((tags, 0) for name, tags in tuple(self._told) if name == metric.name and tags not in now)


def new_ray_metric(metric: Metric) -> Any:
    """A counter or gauge of Ray Serve's, which adds the tags of the replica that it is made in."""
    from ray.serve import metrics

    kind: Any = {"counter": metrics.Counter, "gauge": metrics.Gauge}[metric.kind]
    return kind(metric.name, description=metric.description, tag_keys=metric.tags)
