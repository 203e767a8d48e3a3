"""The export of the metrics of a process through ``ray.serve.metrics``."""

from collections.abc import Callable, Iterator
from typing import Any, Protocol

from cascade.serving.telemetry.metrics import METRICS, Metric
from cascade.serving.telemetry.observations import Observations

__all__ = ["MetricsExport", "new_ray_metric"]


class RayMetric(Protocol):
    """A counter or a gauge of ``ray.serve.metrics``."""

    def inc(self, value: float, tags: dict[str, str]) -> None:
        """Adds to a counter."""

    def set(self, value: float, tags: dict[str, str]) -> None:
        """Sets a gauge."""


class MetricsExport:
    """Exports statistics to Ray: of counters, what was added since the last export.

    Args:
        stats: of the process.
        new_metric: creates the counter or gauge.
    """

    def __init__(self, stats: Observations, new_metric: Callable[[Metric], RayMetric]) -> None:
        self._stats = stats
        self._metrics = [(metric, new_metric(metric)) for metric in METRICS]
        self._exported: dict[tuple[str, tuple[str, ...]], float] = {}

    def export(self) -> None:
        """Exports the current values."""
        self._stats.fold()
        for metric, ray_metric in self._metrics:
            for tags, value in self._series(metric):
                labels = dict(zip(metric.tags, tags))
                if metric.kind == "gauge":
                    ray_metric.set(value, labels)
                elif value > (exported := self._exported.get((metric.name, tags), 0)):
                    ray_metric.inc(value - exported, labels)
                self._exported[metric.name, tags] = value

    def _series(self, metric: Metric) -> Iterator[tuple[tuple[str, ...], float]]:
        """The current series; a gauge that has none any more, such as the version of an earlier policy, is 0."""
        now = dict(metric.read(self._stats))
        yield from now.items()
        if metric.kind == "gauge":
            yield from ((tags, 0) for name, tags in tuple(self._exported) if name == metric.name and tags not in now)


def new_ray_metric(metric: Metric) -> Any:
    """A counter or gauge of Ray Serve, which adds the tags of the replica that creates it."""
    from ray.serve import metrics

    kind: Any = {"counter": metrics.Counter, "gauge": metrics.Gauge}[metric.kind]
    return kind(metric.name, description=metric.description, tag_keys=metric.tags)
