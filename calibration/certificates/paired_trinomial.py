"""An exact test of a mean drop: the studentised unconditional trinomial test.

Of n rows, W are worse with a cascade than with its last stage (D = 1), B are better (D = -1), and C = W + B are
changed. Let q = P(D != 0) and d the drop under test. The null hypothesis is E D >= d; q is a nuisance parameter.

**Ordering.** Samples are ordered by the upper confidence limit u that a score test gives at the normal quantile z of
1 - delta: the larger root of (T - n u)^2 = z^2 n (v - u^2), with T = W - B and v = (C + 1) / n. It does not depend on d
or q. Samples with C changed rows are at or below a limit u if T <= n u - z sqrt(n max(v - u^2, 0)), so if W is at most
some w(C): the region at or below the observed limit. At the edge of rejection its border is that of a studentised test,
(T - n d) / sqrt(n (v - d^2)) = -z.

**Least favourable mean.** Given C, W is binomial, and stochastically larger the larger P(D = 1 | D != 0) is. So at
every q the region is most probable at the smallest mean of the null hypothesis: d, or -q where d < -q. Let F(q) be its
probability there.

**Nuisance.** p = sup F(q) over the Clopper-Pearson interval of q at risk gamma, plus gamma, is a valid p-value (Berger
and Boos, "P values maximized over a confidence set for the nuisance parameter", JASA 89, 1994). Neither the region nor
the interval depends on d, and null hypotheses with a larger d are contained in those with a smaller one, so p falls
with d, and the smallest d with p <= delta is an exact confidence bound (Buehler, "Confidence intervals for the product
of two binomial parameters", JASA 52, 1957).

**Between the knots.** As q moves, the probabilities of D = 1, -1, 0 move on a line with slopes v_i: 1/2, 1/2, -1, or
0, 1, -1 where d < -q. With u = v_D / P(D) for each row, F'' is the covariance of the region's indicator and the sum of
u_i u_j over all pairs i != j. That sum has mean 0 and variance 2 n (n - 1) I^2, where I = sum v^2 / P is the Fisher
information of a row. So |F''| <= sqrt(2) n I sqrt(F (1 - F)). It is also at most 2 n^2, since it is n (n - 1) times a
mean of differences whose positive and negative parts each have weight 2. On a cell of width h, F is at most its largest
value at the two ends plus h^2 / 8 sup |F''|. With k = sqrt(2) n I h^2 / 8, the supremum M satisfies
M <= m + k sqrt(M), a quadratic inequality in sqrt(M).
"""

import math
from dataclasses import dataclass

import numpy as np

from cascade.calibration.exact_binomial import exact_interval

__all__ = ["NUISANCE_SHARE", "trinomial_limit", "trinomial_p_value"]

NUISANCE_SHARE = 0.02
"""The part of delta that is the risk of the interval of q."""
STEP = 0.12
"""Width of a cell in standard errors of q."""
FIRST_STEP = 0.02
"""Width of a cell where the information is infinite, in units of 1 / n."""
TAIL = 6.5
"""Standard deviations of the changed rows that are summed; the rest counts as if it were in the region."""
ROUNDING = 1e-7
"""More than the rounding errors of all sums."""
SMALLEST = 1e-16
"""Probabilities of binomials are kept so far from 0 and 1."""
IMPOSSIBLE = -1e30
"""Logarithm of no ways."""
BLOCK = 40_000
"""Numbers in an array."""
BISECTIONS = 30
MOST_INFORMATION = 1e100
"""Above it the bound that needs none is the smaller one."""


def trinomial_p_value(worse: int, better: int, rows: int, drop: float, delta: float) -> float:
    """Of the hypothesis that the mean of (worse - better) per row is at least ``drop``.

    Args:
        worse: number of rows on which the cascade loses.
        better: number of rows on which it gains.
        rows: n, at least ``worse + better`` and at least 1.
        drop: in [-1, 1].
        delta: level that the ordering is tuned to, in (0, 1); the p-value is valid at every level.

    Returns:
        In (0, 1]; at least the risk of the interval of q, which is ``NUISANCE_SHARE * delta``.
    """
    risk = NUISANCE_SHARE * delta
    low, high = exact_interval(worse + better, rows, risk / 2)
    low = max(low, drop)
    if high < low:
        return risk
    knots, information = _knots(low, high, rows, drop)
    limit, z = _upper_limit(worse, better, rows, delta)
    probability = _probability(knots, rows, drop, limit, z)
    return min(1.0, _supremum(probability, knots, information, rows) + ROUNDING + risk)


def trinomial_limit(worse: int, better: int, rows: int, delta: float) -> float:
    """The upper confidence limit of the mean of (worse - better) per row: the smallest drop that the test rejects.

    Args:
        worse: number of rows on which the cascade loses.
        better: number of rows on which it gains.
        rows: n, at least ``worse + better`` and at least 1.
        delta: risk that the mean is at the limit or above, in (0, 1).

    Returns:
        In [-1, 1], too high by 2e-9 at most.
    """
    low, high = -1.0, 1.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        rejected = trinomial_p_value(worse, better, rows, middle, delta) <= delta
        low, high = (low, middle) if rejected else (middle, high)
    return high


def _upper_limit(worse: int, better: int, rows: int, delta: float) -> tuple[float, float]:
    """The score limit of the drop, and the normal quantile that it uses."""
    from scipy.special import ndtri

    z, total = max(0.0, float(ndtri(1 - delta))), worse - better
    root = max((worse + better + 1) * (1 + z * z / rows) - total * total / rows, 0.0) ** 0.5
    return (total + z * root) / (rows + z * z), z


def _knots(low: float, high: float, rows: int, drop: float) -> tuple[np.ndarray, np.ndarray]:
    """Shares q from low to high, with ``-drop`` among them, and an upper bound of I on each cell between them."""
    knots, information = [low], []
    while knots[-1] < high:
        share = knots[-1]
        end = -drop if share < -drop < high else high
        step = max(STEP / (rows * _information(share, share, drop)) ** 0.5, FIRST_STEP / rows)
        share = min(share + step, end)
        information.append(_information(knots[-1], share, drop))
        knots.append(share)
    return np.array(knots), np.array(information)


def _information(first: float, last: float, drop: float) -> float:
    """An upper bound of I for shares from first to last: each part is largest at an end."""
    same = 1 / (1 - last) if last < 1 else math.inf
    if first < -drop:
        return (1 / first if first > 0 else math.inf) + same
    lesser = (first - abs(drop)) / 2
    return (0.25 / lesser + 0.25 / (lesser + abs(drop)) if lesser > 0 else math.inf) + same


def _supremum(probability: np.ndarray, knots: np.ndarray, information: np.ndarray, rows: int) -> float:
    """An upper bound of F between the first knot and the last."""
    if len(knots) == 1:
        return float(probability[0])
    width = np.diff(knots)
    ends = np.maximum(probability[:-1], probability[1:])
    bend = math.sqrt(2) / 8 * rows * np.minimum(information, MOST_INFORMATION) * width**2
    inside = ((bend + np.sqrt(bend**2 + 4 * ends)) / 2) ** 2
    return float(np.minimum(inside, ends + (rows * width) ** 2 / 4).max())


def _probability(share: np.ndarray, rows: int, drop: float, limit: float, z: float) -> np.ndarray:
    """F at each of some shares (m,), rising; a few at a time, so that their arrays stay in the processor's cache."""
    reach = TAIL * np.sqrt(rows * share * (1 - share)) + TAIL
    first = np.maximum(rows * share - reach, 0).astype(int)
    last = np.minimum(np.ceil(rows * share + reach), rows).astype(int)
    counts = _Counts.of(np.arange(first.min(), last.max() + 1), rows, limit, z)
    blocks = np.array_split(np.arange(len(share)), -(-len(share) * (last.max() - first.min() + 1) // BLOCK))
    return np.concatenate(
        [counts.within(first[at].min(), last[at].max()).probability(share[at], drop) for at in blocks if len(at)]
    )


@dataclass(frozen=True, eq=False)
class _Counts:
    """Numbers C of changed rows, one after the other, and what does not depend on q of each.

    Attributes:
        rows: n.
        changed: (c,) C.
        most_worse: (c,) w(C).
        log_ways: (c,) logarithm of the ways to choose C of n rows.
        edge: (c,) worse rows on the edge between C and C + 1, where w(C + 1) - w(C) is 0 or 1: w(C + 1).
        log_edge_ways: (c,) logarithm of the ways to choose the edge from C rows.
    """

    rows: int
    changed: np.ndarray
    most_worse: np.ndarray
    log_ways: np.ndarray
    edge: np.ndarray
    log_edge_ways: np.ndarray

    @classmethod
    def of(cls, changed: np.ndarray, rows: int, limit: float, z: float) -> "_Counts":
        from scipy.special import gammaln

        most_worse = _most_worse(np.append(changed, changed[-1] + 1), rows, limit, z)
        log_ways = gammaln(rows + 1) - gammaln(changed + 1) - gammaln(rows - changed + 1)
        edge = np.clip(most_worse[1:], 0, changed)
        log_edge_ways = gammaln(changed + 1) - gammaln(edge + 1) - gammaln(changed - edge + 1)
        log_edge_ways[edge != most_worse[1:]] = IMPOSSIBLE
        return cls(rows, changed, most_worse[:-1], log_ways, edge, log_edge_ways)

    def within(self, first: int, last: int) -> "_Counts":
        """Those from first to last."""
        at = slice(first - self.changed[0], last - self.changed[0] + 1)
        return _Counts(self.rows, *(column[at] for column in list(vars(self).values())[1:]))

    def probability(self, share: np.ndarray, drop: float) -> np.ndarray:
        """F at some shares (m,), but that all samples with other numbers of changed rows count as in the region."""
        from scipy.special import bdtr

        mean = np.maximum(drop, -share)
        worse = np.divide(share + mean, 2 * share, out=np.full(len(share), 0.5), where=share > 0)
        worse = np.clip(worse, SMALLEST, 1 - SMALLEST)
        weight = _binomial(share, self.log_ways, self.changed, self.rows - self.changed)
        # P(W <= w(C) | C) changes by -P(W = w(C)) worse if w stays, by P(W = w(C) + 1) (1 - worse) if it rises by 1.
        change = _binomial(worse, self.log_edge_ways, self.edge, self.changed - self.edge)
        change *= np.append(np.diff(self.most_worse), 0) - worse[:, None]
        start, first = max(self.most_worse[0], 0), self.changed[0]
        below = np.where(self.most_worse[0] < 0, 0.0, bdtr(start, first, worse))
        inside = below * weight.sum(axis=1)
        beyond = np.cumsum(weight[:, ::-1], axis=1)[:, ::-1]
        return np.asarray(inside + (change[:, :-1] * beyond[:, 1:]).sum(axis=1) + np.maximum(1 - beyond[:, 0], 0.0))


def _binomial(share: np.ndarray, log_ways: np.ndarray, successes: np.ndarray, failures: np.ndarray) -> np.ndarray:
    """(m, c) binomial probabilities, for m probabilities of a success."""
    share = np.clip(share, SMALLEST, 1 - SMALLEST)
    factors = np.stack([np.ones(len(share)), np.log(share), np.log1p(-share)], axis=1)
    return np.asarray(np.exp(factors @ np.stack([log_ways, successes, failures])))


def _most_worse(changed: np.ndarray, rows: int, limit: float, z: float) -> np.ndarray:
    """w(C): with so many worse rows, of some that are changed, a sample is at or below a limit; -1 if with none.

    Made monotone where it is not, for few changed rows. That only adds samples to the region.
    """
    total = rows * limit - z * np.sqrt(np.maximum(changed + 1 - rows * limit**2, 0.0))
    worse = np.maximum.accumulate(np.floor((total + changed) / 2 + ROUNDING))
    return np.asarray(np.clip(worse, -1, changed).astype(np.int64))
