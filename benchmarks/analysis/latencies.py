"""Latencies: a histogram of bounded relative error, and percentiles that the number of requests supports.

The buckets are those of HdrHistogram with three significant digits (https://hdrhistogram.github.io/HdrHistogram/). Its
Python package takes values one by one and needs setuptools at run time; NumPy counts a million values in milliseconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.stats import binom

__all__ = ["PERCENTILES", "Latencies", "most_above"]

PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9, 99.99)
CONFIDENCE = 0.99
HALF = 1024
BUCKETS = 40
LARGEST_US = (HALF << BUCKETS) - 1


@dataclass(frozen=True, eq=False)
class Latencies:
    """A histogram of latencies.

    Attributes:
        counts: by bucket.
        largest_ms: exact; 0 without latencies.
        total_ms: their sum.
    """

    counts: np.ndarray
    largest_ms: float
    total_ms: float

    @classmethod
    def of(cls, seconds: np.ndarray) -> "Latencies":
        """Counts latencies.

        Args:
            seconds: (n,) >= 0.
        """
        us = np.clip(np.ceil(seconds * 1e6), 0, LARGEST_US).astype(np.int64)
        # The number of bits by which a value is shifted to have eleven; frexp is exact below 2^53.
        shift = np.maximum(np.frexp(us.astype(float))[1] - 11, 0)
        places = shift * HALF + (us >> shift)
        largest = float(seconds.max()) if len(seconds) else 0.0
        return cls(np.bincount(places, minlength=2 * HALF), largest * 1e3, float(seconds.sum()) * 1e3)

    @classmethod
    def merged(cls, parts: Sequence[tuple[Sequence[tuple[int, int]], float, float]]) -> "Latencies":
        """Adds histograms up.

        Args:
            parts: of each (bucket, count), the largest latency and the mean in ms.
        """
        places = [place for sparse, _, _ in parts for place, _ in sparse]
        weights = [count for sparse, _, _ in parts for _, count in sparse]
        counts = np.bincount(np.array(places, dtype=np.int64), np.array(weights), 2 * HALF).astype(np.int64)
        total = sum(mean * sum(count for _, count in sparse) for sparse, _, mean in parts if sparse)
        return cls(counts, max((largest for _, largest, _ in parts), default=0.0), total)

    def sparse(self) -> list[tuple[int, int]]:
        """(bucket, count) of the buckets that are not empty."""
        places = np.flatnonzero(self.counts)
        return list(zip(places.tolist(), self.counts[places].tolist()))

    def __len__(self) -> int:
        return int(self.counts.sum())

    @property
    def mean_ms(self) -> float:
        """The mean; NaN without latencies."""
        return self.total_ms / len(self) if len(self) else float("nan")

    @cached_property
    def _cumulated(self) -> np.ndarray:
        return self.counts.cumsum()

    def at_rank(self, rank: int) -> float:
        """Milliseconds of the rank-th smallest latency, at most 0.1 % too high.

        Args:
            rank: from 1 to n.
        """
        place = int(np.searchsorted(self._cumulated, rank))
        shift = max(place // HALF - 1, 0)
        highest_us = (((place - shift * HALF) + 1) << shift) - 1
        return min(highest_us / 1e3, self.largest_ms)

    def percentile(self, percent: float) -> float:
        """Milliseconds; NaN without latencies."""
        count = len(self)
        return self.at_rank(max(1, int(np.ceil(percent / 100 * count - 1e-9)))) if count else float("nan")

    def upper(self, percent: float) -> float | None:
        """A bound that the true percentile exceeds with probability at most 1 %, in ms.

        ``None`` where there are too few latencies for one, see :func:`most_above`.
        """
        above = most_above(len(self), percent)
        return None if above is None else self.at_rank(len(self) - above)

    def to_hgrm(self) -> str:
        """The percentiles in the text format that HdrHistogram's plotters read."""
        lines = ["       Value     Percentile TotalCount 1/(1-Percentile)", ""]
        steps = (1 - 0.5 ** (np.arange(0, 2 * np.log2(max(len(self), 2)) + 1) / 2)).tolist()
        for share in steps if len(self) else []:
            rank = max(1, int(np.ceil(share * len(self))))
            lines.append(f"{self.at_rank(rank):12.3f} {share:2.12f} {rank:10d} {1 / (1 - share):14.2f}")
        lines.append(f"{self.largest_ms:12.3f} {1.0:2.12f} {len(self):10d}            inf")
        lines.append(f"#[Mean    = {self.mean_ms:12.3f}, StdDeviation   = {float('nan'):12.3f}]")
        lines.append(f"#[Max     = {self.largest_ms:12.3f}, Total count    = {len(self):12d}]")
        return "\n".join(lines) + "\n"


def most_above(count: int, percent: float) -> int | None:
    """How many of n latencies may exceed a bound that holds for a percentile with 99 % confidence.

    The largest t >= 1 for which P(Binomial(n, 1 - p) <= t) <= 1 %; ``None`` where there is none. This is the rule by
    which MLPerf LoadGen stops early: 64 requests for p90 and 662 for p99 at least (mlcommons/inference, loadgen,
    early_stopping).

    Args:
        count: n, number of latencies.
        percent: 100 p.
    """
    if not count:
        return None
    share = 1 - percent / 100
    most = int(binom.ppf(1 - CONFIDENCE, count, share))
    while most >= 1 and binom.cdf(most, count, share) > 1 - CONFIDENCE:
        most -= 1
    return most if most >= 1 else None
