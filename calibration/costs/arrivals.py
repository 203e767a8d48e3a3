"""Arrivals: how many rows come together, or the rate at which requests come."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from cascade.calibration.costs.cost_curve import CostCurve
from cascade.calibration.costs.shared_process import shared_process_ms

__all__ = ["DEFAULT_ARRIVALS", "Arrivals", "RowsAtRate", "RowsTogether"]

LARGEST_EXACT = 1024  # beyond, quantiles represent the rows that reach a stage
QUANTILES = 65
LONGEST_QUEUE = 512  # most waiting requests in the solved chain


class Arrivals(Protocol):
    """Determines how many rows a stage gets per call."""

    def mean_ms(self, curve: CostCurve, share: np.ndarray) -> np.ndarray:
        """Time of a stage per row that arrives at the cascade.

        Args:
            curve: of the stage.
            share: (s,) in [0, 1], shares of the rows that reach the stage, drawn independently.

        Returns:
            (s,) ms.
        """

    def cascade_ms(self, curves: Sequence[CostCurve], shares: np.ndarray) -> float:
        """Time per row of a cascade in one process.

        Args:
            curves: of the K >= 1 stages that run.
            shares: (K,) in [0, 1], of the rows that reach each stage.
        """

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""


@dataclass(frozen=True)
class RowsTogether:
    """Requests of known sizes, each of which runs through the cascade alone.

    Of B rows a stage gets Binomial(B, share), so its time per row is E c(Binomial(B, share)) / B, with c the time of
    its calls.

    Attributes:
        rows: sizes of the requests, >= 1.
        shares: of the requests, each > 0; they are scaled to add to 1.
    """

    rows: tuple[int, ...] = (64,)
    shares: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        whole = all(isinstance(size, int | np.integer) and size >= 1 for size in self.rows)
        if not self.rows or not whole or len(set(self.rows)) < len(self.rows):
            raise ValueError(f"batch_rows must be different whole numbers of at least 1; got {self.rows}")
        if len(self.shares) != len(self.rows) or not all(0 < share < math.inf for share in self.shares):
            raise ValueError(f"each number of rows needs a share above 0; got {self.shares} for {self.rows}")

    @classmethod
    def parse(cls, text: str) -> "RowsTogether":
        """Reads "64", or sizes with their shares of the requests, such as "1:0.9,64:0.1".

        Raises:
            ValueError: the text is neither.
        """
        try:
            parts = [part.split(":") for part in text.split(",")]
            rows = tuple(int(part[0]) for part in parts)
            shares = tuple(float(part[1]) if len(part) > 1 else 1.0 for part in parts)
            if any(len(part) > 2 for part in parts):
                raise ValueError(text)
        except ValueError as error:
            raise ValueError(f"rows that arrive together must look like 64, or 1:0.9,64:0.1; got {text!r}") from error
        return cls(rows, shares)

    def __str__(self) -> str:
        if len(self.rows) == 1:
            return f"{self.rows[0]:,} rows together" if self.rows[0] > 1 else "one row at a time"
        return "requests of " + ", ".join(f"{size:,} rows ({s:.3g})" for size, s in zip(self.rows, self._weights))

    @property
    def _weights(self) -> np.ndarray:
        return np.array(self.shares) / sum(self.shares)

    def mean_ms(self, curve: CostCurve, share: np.ndarray) -> np.ndarray:
        """See :meth:`Arrivals.mean_ms`; exact up to 1,024 rows together."""
        share = np.clip(np.asarray(share, dtype=np.float64), 0.0, 1.0)
        total = sum(
            weight * _binomial_mean(curve, size, share) for size, weight in zip(self.rows, self._weights, strict=True)
        )
        return np.asarray(total / float(np.dot(self._weights, self.rows)))

    def cascade_ms(self, curves: Sequence[CostCurve], shares: np.ndarray) -> float:
        """See :meth:`Arrivals.cascade_ms`; the sum over the stages."""
        return float(
            sum(self.mean_ms(curve, np.array([share]))[0] for curve, share in zip(curves, shares, strict=True))
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {"rows": list(self.rows), "shares": list(self.shares)}


def _binomial_mean(curve: CostCurve, size: int, share: np.ndarray) -> np.ndarray:
    """E c(Binomial(size, share)): (s,) ms."""
    from scipy.stats import binom

    if size <= LARGEST_EXACT:
        counts = np.arange(size + 1)
        return np.asarray(binom.pmf(counts, size, share[:, None]) @ curve.split_ms(counts))
    levels = (np.arange(QUANTILES) + 0.5) / QUANTILES
    return np.asarray(curve.split_ms(binom.ppf(levels, size, share[:, None])).mean(axis=1))


@dataclass(frozen=True)
class RowsAtRate:
    """Requests arrive at random times (Poisson), and a free stage takes all that wait.

    With x rows in a call, the next one gets the rows of max(1, Poisson(rate c(x))) requests: a Markov chain, whose
    stationary distribution gives the mean time per row. So each stage has a processor to itself; stages that share one
    run less often, on more rows, and take at most that time (:meth:`cascade_ms`).

    Attributes:
        rows_per_s: > 0, of one gateway.
        request_rows: of a request, >= 1.
        most_rows: of a call, >= 1.
    """

    rows_per_s: float
    request_rows: int = 1
    most_rows: int = 64

    def __post_init__(self) -> None:
        if not 0 < self.rows_per_s < math.inf:
            raise ValueError(f"rate must be a number of rows per second above 0; got {self.rows_per_s!r}")
        if not self.request_rows >= 1:
            raise ValueError(f"a request must have at least one row; got {self.request_rows!r}")

    def __str__(self) -> str:
        return f"{self.rows_per_s:,.4g} rows/s in requests of {self.request_rows:,}"

    def mean_ms(self, curve: CostCurve, share: np.ndarray) -> np.ndarray:
        """See :meth:`Arrivals.mean_ms`."""
        share = np.clip(np.asarray(share, dtype=np.float64), 0.0, 1.0)
        whole = RowsTogether((self.request_rows,)).mean_ms(curve, share)
        reaching = self.request_rows * share
        # Requests of which at least one row reaches the stage, and their mean size there.
        reaching_share = 1 - (1 - share) ** self.request_rows
        size = np.where(reaching_share > 0, reaching / np.where(reaching_share > 0, reaching_share, 1.0), 1.0)
        calls_per_s = self.rows_per_s / self.request_rows * reaching_share
        gathered = np.array([_gathered_ms(curve, *each, self.most_rows) for each in zip(calls_per_s, size)])
        return np.asarray(np.minimum(np.where(share > 0, share * gathered, 0.0), whole))

    def cascade_ms(self, curves: Sequence[CostCurve], shares: np.ndarray) -> float:
        """See :meth:`Arrivals.cascade_ms`; simulated (:func:`shared_process_ms`)."""
        return shared_process_ms(curves, shares, self.rows_per_s, self.request_rows, self.most_rows)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {"rows_per_s": self.rows_per_s, "request_rows": self.request_rows, "most_rows": self.most_rows}


def _gathered_ms(curve: CostCurve, requests_per_s: float, request_rows: float, most_rows: int) -> float:
    """Mean time per row where a call takes the requests that came during the call before it."""
    from scipy.stats import poisson

    most = int(np.clip(max(most_rows, curve.best_rows) / request_rows, 1, LONGEST_QUEUE))
    waiting = np.arange(1, most + 1)
    call_ms = curve.split_ms(waiting * request_rows)
    mean = requests_per_s * call_ms / 1e3
    chain = poisson.pmf(waiting, mean[:, None])
    chain[:, 0] += poisson.pmf(0, mean)
    chain[:, -1] += poisson.sf(most, mean)  # a full queue
    state = np.full(most, 1 / most)
    for _ in range(200):
        following = state @ chain
        if np.abs(following - state).sum() < 1e-9:
            break
        state = following
    return float(state @ call_ms / (state @ (waiting * request_rows)))


DEFAULT_ARRIVALS = RowsTogether()
