"""Fitting of rejection traces: thresholds after every weak learner of a boosted cascade, with a certified recall.

A family is K nested traces, from the loosest to the tightest; its parameter is the number of a trace. A row's depth
is the tightest trace that it survives, so the recall at k is the share of positives whose depth is at least k. The
family is built and chosen on some positives and negatives; k is certified on other positives by fixed-sequence
testing with the exact binomial: from the loosest trace on, as long as the hypothesis "the recall is below
``min_recall``" is rejected at level delta.

Families: the soft cascade (Bourdev and Brandt, CVPR 2005) leaves their shape open. "pruning" takes the least sums of
the positives to be kept (Zhang and Viola, "Multiple-instance pruning for learning efficient cascade detectors", NIPS
2007); "standardised" takes a number of standard deviations below the mean of the positives' sums; "waldboost" is the
sequential probability ratio test (Sochman and Matas, CVPR 2005), the baseline.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cascade.calibration.exact_binomial import exact_interval

__all__ = ["FAMILIES", "RejectionTrace", "depths", "fit_rejection_trace", "fit_rejection_traces", "mean_features"]

Sums = np.ndarray
Family = Callable[[Sums, Sums], np.ndarray]
SHIFTS = (4.0, 3.0, 2.0, 1.5, 1.0, 0.75, 0.5, 0.25, 0.1)
"""Standard deviations by which the loosest traces of "pruning" lie below the least sums."""
RATIOS = np.geomspace(1e4, 1.2, 60)
BINS = 64
SMOOTHING_BINS = 2.0


@dataclass(frozen=True, eq=False)
class RejectionTrace:
    """A trace of a family, and how it was found.

    Attributes:
        family: name.
        trace: (T,) float32; a row is rejected after weak learner t if its sum is below entry t.
        mean_features: on the negatives of the fit.
        certificate: plain values: min_recall, delta, positives, misses, lower bound of the recall; ``None`` for a trace
            without guarantee.
    """

    family: str
    trace: np.ndarray
    mean_features: float
    certificate: dict[str, Any] | None


def mean_features(trace: np.ndarray, sums: Sums) -> float:
    """Mean number of features that rows with these partial sums, (n, T), are evaluated for; NaN without rows."""
    rejected = sums < trace
    count = np.where(rejected.any(axis=1), rejected.argmax(axis=1) + 1, sums.shape[1])
    return float(count.mean()) if len(count) else float("nan")


def depths(traces: np.ndarray, sums: Sums) -> np.ndarray:
    """(n,) int64 in [-1, K - 1]: the last of K nested traces, (K, T), that each row, (n, T), survives; -1 for none."""
    survives = np.array([(sums >= trace).all(axis=1) for trace in traces])
    return np.asarray(survives.sum(axis=0, dtype=np.int64) - 1)


def _nested(traces: np.ndarray) -> np.ndarray:
    return np.maximum.accumulate(traces, axis=0).astype(np.float32)


def pruning(positive: Sums, negative: Sums) -> np.ndarray:  # noqa: ARG001 (of a family)
    """Least sums of the positives that are kept; those with the smallest final sums are given up first."""
    kept = positive[np.argsort(-positive[:, -1], kind="stable")]
    least = np.minimum.accumulate(kept, axis=0)[::-1]  # row k: without the k smallest
    spread = positive.std(axis=0)
    loose = [least[0] - shift * spread for shift in SHIFTS]
    return _nested(np.concatenate([np.array(loose), least[: max(1, len(least) // 2)]]))


def standardised(positive: Sums, negative: Sums) -> np.ndarray:  # noqa: ARG001 (of a family)
    """A number of standard deviations below the mean, at most twice as many in the first weak learners."""
    mean, spread = positive.mean(axis=0), positive.std(axis=0)
    learners = np.arange(positive.shape[1])
    patience = 1 + np.exp(-learners / 5.0)
    return _nested(np.array([mean - z * spread * patience for z in np.linspace(8, 0, 161)]))


def waldboost(positive: Sums, negative: Sums) -> np.ndarray:
    """The sum below which negatives are at least A times as likely as positives, for a range of A.

    Densities at a weak learner are those of the rows that survive so far: smoothed histograms.
    """
    from scipy.ndimage import gaussian_filter1d

    traces = np.full((len(RATIOS), positive.shape[1]), -np.inf)
    for k, ratio in enumerate(RATIOS):
        left: tuple[Sums, ...] = (positive, negative)
        for t in range(positive.shape[1]):
            both = np.concatenate([rows[:, t] for rows in left])
            if min(map(len, left)) < 2 or both.min() == both.max():
                continue
            edges = np.linspace(both.min(), both.max(), BINS + 1)
            counts = [np.histogram(rows[:, t], edges)[0] / len(rows) for rows in left]
            p, n = (gaussian_filter1d(count, SMOOTHING_BINS, mode="constant") for count in counts)
            kept = n < ratio * np.maximum(p, 1e-12)
            if not kept[0]:
                traces[k, t] = edges[kept.argmax() if kept.any() else BINS]
                left = tuple(rows[rows[:, t] >= traces[k, t]] for rows in left)
    return _nested(traces)


FAMILIES: Mapping[str, Family] = {"pruning": pruning, "standardised": standardised, "waldboost": waldboost}


def fit_rejection_traces(
    positive: Sums, negative: Sums, certifying: Sums, min_recall: float, delta: float, seed: int = 0
) -> list[RejectionTrace]:
    """Fits one trace of every family; the first is the one to use.

    One half of the positives builds a family, the other half estimates what it costs at the recall. That estimate alone
    decides the order of the families, so that the certificate of the first one is valid.

    Args:
        positive: (n, T) float32 partial sums of positives, n >= 2.
        negative: (m, T), of negatives, m >= 1.
        certifying: (c, T), of other positives; none for traces without a guarantee.
        min_recall: share of positives that survive, in (0, 1).
        delta: probability that the recall is below it, in (0, 1).
        seed: of the halves.

    Returns:
        Traces, the one with the least estimated cost first. A family whose loosest trace cannot be certified has one
        that rejects nothing.
    """
    order = np.random.default_rng(seed).permutation(len(positive))
    built, judged = positive[order[::2]], positive[order[1::2]]
    found = []
    for name, family in FAMILIES.items():
        traces = family(built, negative)
        empirical = _deepest(depths(traces, judged), min_recall)
        estimate = mean_features(traces[empirical], negative) if empirical >= 0 else float(positive.shape[1])
        k, certificate = empirical, None
        if len(certifying):
            k, certificate = _certified(depths(traces, certifying), len(traces), min_recall, delta)
        trace = traces[k] if k >= 0 else np.full(positive.shape[1], -np.inf, dtype=np.float32)
        found.append((estimate, RejectionTrace(name, trace, mean_features(trace, negative), certificate)))
    return [trace for _, trace in sorted(found, key=lambda each: each[0])]


def fit_rejection_trace(
    positive: Sums, negative: Sums, certifying: Sums, min_recall: float, delta: float
) -> tuple[np.ndarray, dict[str, Any]]:
    """The first of :func:`fit_rejection_traces`, and plain values about it and about the other families."""
    found = fit_rejection_traces(positive, negative, certifying, min_recall, delta)
    facts = {each.family: {"mean_features": each.mean_features, "certificate": each.certificate} for each in found}
    return found[0].trace, {"trace": found[0].family, "certificate": found[0].certificate, "families": facts}


def _deepest(depth: np.ndarray, min_recall: float) -> int:
    """The largest k with an empirical recall of at least ``min_recall``; -1 if there is none."""
    return int(np.sort(depth)[int(np.floor((1 - min_recall) * len(depth) + 1e-9))])


def _certified(depth: np.ndarray, traces: int, min_recall: float, delta: float) -> tuple[int, dict[str, Any]]:
    """The last trace before the first one whose recall is not proven; -1 if the loosest is not."""
    best, n = -1, len(depth)
    for k in range(traces):
        if exact_interval(int((depth >= k).sum()), n, delta)[0] < min_recall:
            break
        best = k
    misses = int((depth < best).sum())
    bound = exact_interval(n - misses, n, delta)[0]
    return best, {
        "min_recall": min_recall,
        "delta": delta,
        "positives": n,
        "misses": misses,
        "lower_bound": bound if best >= 0 else 1.0,
    }
