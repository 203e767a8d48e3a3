"""The simulated time of stages that share a process: its bounds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.calibration.costs.arrivals import RowsAtRate, RowsTogether
from cascade.calibration.costs.cost_curve import CostCurve
from cascade.calibration.costs.shared_process import shared_process_ms

SIZES = np.array([1, 2, 4, 8, 16, 32, 64])


def curve(fixed_ms, row_ms):
    return CostCurve.fit(SIZES, fixed_ms + row_ms * SIZES)


fixed = st.floats(0.01, 10.0)
curves = st.builds(curve, fixed, st.floats(0.001, 1.0))


@settings(max_examples=12)
@given(curves, st.floats(20, 2000))
def test_one_stage_takes_the_time_of_its_markov_chain(stage, rate):
    simulated = shared_process_ms([stage], np.ones(1), rate)
    assert simulated == pytest.approx(RowsAtRate(rate).mean_ms(stage, np.ones(1))[0], rel=0.06)


@settings(max_examples=12)
@given(st.lists(curves, min_size=2, max_size=4), st.floats(20, 2000), st.data())
def test_stages_that_share_a_process_take_no_longer_than_each_alone(stages, rate, data):
    shares = np.array([1.0, *(data.draw(st.floats(0.02, 1.0)) for _ in stages[1:])])
    alone = sum(RowsAtRate(rate).mean_ms(each, np.array([share]))[0] for each, share in zip(stages, shares))
    assert RowsAtRate(rate).cascade_ms(stages, shares) <= 1.06 * alone


@settings(max_examples=12)
@given(st.lists(curves, min_size=1, max_size=3), st.data())
def test_rare_requests_run_by_themselves(stages, data):
    shares = np.array([1.0, *(data.draw(st.floats(0.1, 1.0)) for _ in stages[1:])])
    together = RowsTogether((8,)).cascade_ms(stages, shares)
    assert shared_process_ms(stages, shares, 0.05, request_rows=8) == pytest.approx(together, rel=0.08)


def test_more_traffic_costs_less_per_row():
    stages, shares = [curve(1.2, 0.002), curve(4.0, 0.02), curve(9.0, 0.3)], np.array([1.0, 0.3, 0.03])
    times = [shared_process_ms(stages, shares, rate) for rate in (100, 300, 1000, 3000)]
    assert times == sorted(times, reverse=True)
    assert times[-1] < times[0] / 3
