"""The convex frontier of three stages: the optimum at every price of gain, exact at any number of rows."""

import heapq

from cascade.calibration.search.three_stages import Choice, ThreeStages

__all__ = ["convex_frontier", "edge_at", "price_between"]

ROUNDING = 1e-12  # least height of a corner above the line between its neighbours, relative to their value
HIGHEST_PRICE = 1e9  # in highest costs per row: one more right answer in a million rows is worth more than any cost


def convex_frontier(stages: ThreeStages, most_prices: int | None = None) -> list[Choice]:
    """The corners of the frontier's convex hull, by rising cost.

    The next corner between two known ones, if any, is at the price of the line through them (Eisner and Severance,
    Mathematical techniques for efficient record segmentation in large shared databases, J. ACM 23, 1976,
    https://doi.org/10.1145/321978.321982). The largest gap is tried first.

    Args:
        stages: the problem.
        most_prices: most prices that are tried; ``None`` for as many as every corner needs.
    """
    ends = _ends(stages)
    found, gaps = set(ends), [_gap(*ends)]
    prices = 0
    while gaps and (most_prices is None or prices < most_prices):
        _, low, high = heapq.heappop(gaps)
        corner = _between(stages, low, high)
        prices += 1
        if corner is not None and corner not in found:
            found.add(corner)
            heapq.heappush(gaps, _gap(low, corner))
            heapq.heappush(gaps, _gap(corner, high))
    return _without_dominated(found)


def edge_at(
    stages: ThreeStages, *, least_gain: float | None = None, most_cost: float | None = None
) -> tuple[Choice, Choice]:
    """The two corners of the convex frontier between which a target lies; one is given.

    Args:
        stages: the problem.
        least_gain: mean gain; the second corner is the first one that reaches it.
        most_cost: mean cost; the first corner is the last one within it.

    Returns:
        Corners by rising cost. The same corner twice if the target lies beyond an end of the frontier.
    """
    low, high = _ends(stages)

    def beyond(choice: Choice) -> bool:
        return choice.gain >= least_gain if least_gain is not None else choice.cost > (most_cost or 0.0)

    if beyond(low):
        return low, low
    if not beyond(high):
        # The cost at the highest price is rounded: as a target, its gain leads to the cheapest such corner.
        cheapest = high if least_gain is not None else edge_at(stages, least_gain=high.gain - ROUNDING)[1]
        return cheapest, cheapest
    while (corner := _between(stages, low, high)) is not None:
        low, high = (low, corner) if beyond(corner) else (corner, high)
    return low, high


def price_between(low: Choice, high: Choice) -> float:
    """Units of cost per unit of gain between two choices."""
    return max(high.cost - low.cost, 0.0) / (high.gain - low.gain) if high.gain > low.gain else 0.0


def _ends(stages: ThreeStages) -> tuple[Choice, Choice]:
    return stages.best(0.0), stages.best(HIGHEST_PRICE * (stages.highest_cost or 1.0))


def _gap(low: Choice, high: Choice) -> tuple[float, Choice, Choice]:
    return -abs((high.gain - low.gain) * (high.cost - low.cost)), low, high


def _between(stages: ThreeStages, low: Choice, high: Choice) -> Choice | None:
    if high.gain <= low.gain:
        return None
    price = price_between(low, high)
    corner = stages.best(price)
    on_the_line = max(price * end.gain - end.cost for end in (low, high))
    rise = (price * corner.gain - corner.cost) - on_the_line
    return corner if rise > ROUNDING * (price * high.gain + high.cost) and corner not in (low, high) else None


def _without_dominated(choices: set[Choice]) -> list[Choice]:
    kept: list[Choice] = []
    for choice in sorted(choices, key=lambda choice: (choice.cost, -choice.gain)):
        if not kept or choice.gain > kept[-1].gain:
            kept.append(choice)
    return kept
