"""Objectives of a benchmark, and what makes a result invalid."""

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict

from cascade.benchmarks.analysis.intervals import Estimate
from cascade.benchmarks.analysis.repeat import Repeat

__all__ = ["Objectives", "client_limits"]

MOST_BUSY = 0.9
"""Share of a processor above which a process of the client counts as the limit."""
MOST_NOT_HANDLED = 0.01
LATE_MS, LATE_SHARE = 2.0, 0.5
"""A send lag of more milliseconds, and of this share of the latency, makes a result invalid."""


class Objectives(BaseModel):
    """Bounds on the medians over the repeats; ``None`` for no bound.

    Attributes:
        max_p99_ms: highest 99th percentile of the latency, in ms; a failed request counts as slower than that.
        min_rows_per_s: lowest throughput.
        min_accuracy: lowest accuracy of the answered rows, in [0, 1].
        min_different_answers: 2 where not all rows may have the same answer.
        max_failed: highest share of failed requests, in [0, 1].
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_p99_ms: float | None = None
    min_rows_per_s: float | None = None
    min_accuracy: float | None = None
    min_different_answers: int | None = None
    max_failed: float | None = 0.01

    def missed(self, summary: Mapping[str, Estimate]) -> list[str]:
        """A sentence for each objective that is missed, or that cannot be judged.

        Args:
            summary: of a result.
        """
        found = []
        failed = summary["failed_share"].median
        if self.max_failed is not None and failed > self.max_failed:
            found.append(f"at most {self.max_failed:.2%} of the requests may fail; {failed:.2%} did")
        if self.max_p99_ms is not None:
            found += self._p99(summary, failed)
        bounds = (
            ("rows_per_s", self.min_rows_per_s, "throughput must be at least {:g} rows/s; measured {:.4g} rows/s"),
            ("accuracy", self.min_accuracy, "accuracy must be at least {:g}; measured {:.4g}"),
            ("different_answers", self.min_different_answers, "{:g} answers must differ; all rows had the same one"),
        )
        for name, bound, text in bounds:
            if bound is not None and name not in summary:
                found.append(f"{name} must be at least {bound:g}; it is not known, since there are no labels")
            elif bound is not None and summary[name].median < bound:
                found.append(text.format(bound, summary[name].median))
        return found

    def _p99(self, summary: Mapping[str, Estimate], failed: float) -> list[str]:
        must = f"p99 latency must be at most {self.max_p99_ms:g} ms"
        if failed > 0.01:
            return [f"{must}; {failed:.2%} of the requests were not answered at all"]
        if "latency_ms.p99" not in summary:
            return [f"{must}; too few requests for a p99 (662 at least), so send longer"]
        measured = summary["latency_ms.p99"].median
        return [f"{must}; measured {measured:.4g} ms"] if measured > (self.max_p99_ms or 0.0) else []


def client_limits(repeat: Repeat) -> list[str]:
    """Why the client, and not the target, was the limit of a repeat; empty where it was not."""
    found, lag, latency = [], repeat.send_lag, repeat.latency_ms
    total = repeat.requests + repeat.failed
    if repeat.client.busiest_share > MOST_BUSY:
        share = repeat.client.busiest_share
        found.append(f"a process of the client used {share:.0%} of a processor; give it more with --processes")
    if lag is not None and total and lag.not_handled > MOST_NOT_HANDLED * total:
        found.append(f"the client did not get to {lag.not_handled:,} of {total:,} requests; lower the rate")
    if lag is None or lag.p50_ms is None or lag.p99_ms is None:
        return found
    for name, late in (("p50", lag.p50_ms), ("p99", lag.p99_ms)):
        if name in latency and late > LATE_MS and late > LATE_SHARE * latency[name]:
            of = latency[name]
            found.append(f"the client was late: {late:.3g} ms of a latency of {of:.3g} ms are its own ({name})")
    return found
