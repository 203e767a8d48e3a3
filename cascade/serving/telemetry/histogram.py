"""Counts of values in fixed buckets."""

import numpy as np

__all__ = ["Histogram", "log_edges", "percentiles"]


class Histogram:
    """Number of values in each of B + 1 buckets, and their sum.

    Args:
        edges: (B,) ascending upper ends of the buckets, inclusive; larger values go into the last bucket.

    Attributes:
        edges: as given.
        counts: (B + 1,) int64.
        total: sum of all values.
    """

    def __init__(self, edges: np.ndarray) -> None:
        self.edges = edges
        self.counts = np.zeros(len(edges) + 1, dtype=np.int64)
        self.total = 0.0

    def add(self, values: np.ndarray) -> None:
        """Counts values: (n,), finite."""
        places = np.searchsorted(self.edges, values, side="left")
        self.counts += np.bincount(places, minlength=len(self.counts))
        self.total += float(values.sum())

    @property
    def size(self) -> int:
        """Values so far."""
        return int(self.counts.sum())

    def cumulative(self, every: int = 1, scale: float = 1.0) -> list[tuple[str, int]]:
        """Prometheus' form: pairs of an upper end and the number of values up to it; the last one is "+Inf".

        Args:
            every: only each ``every``-th edge is returned.
            scale: factor of the edges, for another unit.
        """
        below = np.cumsum(self.counts).tolist()
        edges = (scale * self.edges).tolist()
        found = [(f"{edges[i]:.6g}", below[i]) for i in range(0, len(edges), every)]
        return [*found, ("+Inf", below[-1])]


def log_edges(low: float, decades: int, per_decade: int) -> np.ndarray:
    """(decades * per_decade + 1,) edges from ``low``, each larger than the one before by the same factor."""
    edges: np.ndarray = low * 10.0 ** (np.arange(decades * per_decade + 1) / per_decade)
    return edges


def percentiles(counts: np.ndarray, edges: np.ndarray, percents: tuple[float, ...]) -> np.ndarray:
    """Percentiles of T histograms with the same edges.

    Inside a bucket values are assumed to be spread evenly on the logarithmic scale, so the error is at most the width
    of a bucket. A percentile beyond the first or the last edge is that edge.

    Args:
        counts: (T, B + 1).
        edges: (B,) positive, ascending.
        percents: P numbers in (0, 100].

    Returns:
        (T, P); NaN where no value was counted.
    """
    below = np.cumsum(counts, axis=1)
    size = below[:, -1]
    found = np.full((len(counts), len(percents)), np.nan)
    ends = np.concatenate([edges[:1], edges, edges[-1:]])
    for column, percent in enumerate(percents):
        wanted = size * (percent / 100)
        bucket = (below < wanted[:, None]).sum(axis=1)
        bucket = np.minimum(bucket, counts.shape[1] - 1)
        inside = np.take_along_axis(counts, bucket[:, None], axis=1)[:, 0]
        before = np.take_along_axis(below, bucket[:, None], axis=1)[:, 0] - inside
        share = np.divide(wanted - before, inside, out=np.ones_like(wanted), where=inside > 0)
        value = ends[bucket] * (ends[bucket + 1] / ends[bucket]) ** share
        found[:, column] = np.where(size > 0, value, np.nan)
    return found
