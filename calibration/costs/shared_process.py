"""The time of a cascade whose stages share one process, at a rate of requests: a simulation of its micro-batches."""

from collections.abc import Sequence

import numpy as np

from cascade.calibration.costs.cost_curve import CostCurve

__all__ = ["shared_process_ms"]

SIMULATED_ROWS = 20_000


class _Step:
    """Consecutive stages that run one after the other on the same micro-batch, and the rows that wait for them."""

    def __init__(self, stages: range, curves: Sequence[CostCurve]) -> None:
        self.stages = stages
        self.gathered_rows, self.wait_ms = curves[stages[0]].best_rows, float(curves[stages[0]].call_ms(1))
        self.waiting: list[int] = []
        self.since = 0.0

    def put(self, rows: list[int], now: float) -> None:
        if rows and not self.waiting:
            self.since = now
        self.waiting += rows

    def take(self, most: int, now: float) -> list[int]:
        rows, self.waiting, self.since = self.waiting[:most], self.waiting[most:], now
        return rows

    def is_due(self, now: float) -> bool:
        return bool(self.waiting) and (len(self.waiting) >= self.gathered_rows or now - self.since >= self.wait_ms)


def shared_process_ms(
    curves: Sequence[CostCurve], shares: np.ndarray, rows_per_s: float, request_rows: int = 1, most_rows: int = 64
) -> float:
    """Time per row of stages that run in one thread, each on what waits for it.

    A later stage with a cost per call (:attr:`CostCurve.gathers`) waits for more rows while the first one is busy, for
    at most the time of one call of its own, as a served segment does. Requests arrive at random moments (Poisson), and
    rows are independent. The random numbers are the same in each call.

    Args:
        curves: of the K >= 1 stages that run.
        shares: (K,) in [0, 1], of the rows that reach each stage.
        rows_per_s: > 0.
        request_rows: of a request, >= 1.
        most_rows: of a micro-batch of the first stage, >= 1.

    Returns:
        Mean ms per row.
    """
    rng = np.random.default_rng(0)
    requests = -(-SIMULATED_ROWS // request_rows)
    arrival_ms = np.repeat(np.cumsum(rng.exponential(1e3 * request_rows / rows_per_s, requests)), request_rows)
    reaches = rng.random(len(arrival_ms)) < np.asarray(shares)[:, None]
    last_stage = np.where(reaches, np.arange(len(shares))[:, None], -1).max(axis=0).tolist()
    steps = _steps(curves)
    # One entry per number of rows: looking a time up is faster than interpolating it.
    largest = max(most_rows, *(curve.best_rows for curve in curves))
    call_ms = [curve.split_ms(np.arange(largest + 1)).tolist() for curve in curves]
    arrived, now, busy = 0, 0.0, 0.0
    while True:
        last = int(np.searchsorted(arrival_ms, now, side="right"))
        steps[0].put([row for row in range(arrived, last) if last_stage[row] >= 0], now)
        arrived = max(arrived, last)
        place = _next_step(steps, now)
        if place is None:
            if arrived == len(arrival_ms):
                return busy / len(arrival_ms)
            now = float(arrival_ms[arrived])
            continue
        step = steps[place]
        rows = step.take(most_rows if place == 0 else max(step.gathered_rows, most_rows), now)
        for stage in step.stages:
            spent = call_ms[stage][np.count_nonzero(reaches[stage, rows])]
            now, busy = now + spent, busy + spent
        if place + 1 < len(steps):
            steps[place + 1].put([row for row in rows if last_stage[row] > step.stages[-1]], now)


def _steps(curves: Sequence[CostCurve]) -> list[_Step]:
    starts = [0, *(k for k in range(1, len(curves)) if curves[k].gathers)]
    return [_Step(range(a, b), curves) for a, b in zip(starts, [*starts[1:], len(curves)], strict=True)]


def _next_step(steps: Sequence[_Step], now: float) -> int | None:
    """The last step that is due, else the first one with rows."""
    due = [place for place in range(len(steps) - 1, 0, -1) if steps[place].is_due(now)]
    waiting = [place for place, step in enumerate(steps) if step.waiting]
    return next(iter(due + waiting), None)
