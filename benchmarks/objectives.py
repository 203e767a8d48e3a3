"""Objectives of a benchmark."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cascade.errors import ObjectiveMissed

__all__ = ["Objectives"]


@dataclass(frozen=True)
class Objectives:
    """Bounds on the medians over the repeats; ``None`` for no bound.

    Attributes:
        max_p99_ms: highest 99th percentile of the latency, in ms; a failed request counts as slower than that.
        min_rows_per_s: lowest throughput.
    """

    max_p99_ms: float | None = None
    min_rows_per_s: float | None = None

    def check(self, summary: Mapping[str, Any]) -> None:
        """Compares a result's summary with the objectives.

        Raises:
            ObjectiveMissed: one or more are missed; the text names all of them.
        """
        p99, rows = summary["latency_ms"]["p99"]["median"], summary["rows_per_s"]["median"]
        failed, answered = summary["failed"]["median"], summary["requests"]["median"]
        missed = []
        if self.max_p99_ms is not None and p99 > self.max_p99_ms:
            missed.append(f"p99 latency must be at most {self.max_p99_ms:g} ms; measured {p99:.4g} ms")
        elif self.max_p99_ms is not None and failed > 0.01 * (failed + answered):
            missed.append(
                f"p99 latency must be at most {self.max_p99_ms:g} ms; {failed:.0f} of {failed + answered:.0f} requests "
                "were not answered at all"
            )
        if self.min_rows_per_s is not None and rows < self.min_rows_per_s:
            missed.append(f"throughput must be at least {self.min_rows_per_s:g} rows/s; measured {rows:.4g} rows/s")
        if missed:
            raise ObjectiveMissed("objective missed: " + "; ".join(missed))
