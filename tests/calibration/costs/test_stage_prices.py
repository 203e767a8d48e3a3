"""Prices of stages: bounds that hold on all rows, and means that are right."""

import numpy as np
import pytest
from curves import curves
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.calibration.costs.arrivals import RowsTogether
from cascade.calibration.costs.stage_prices import StagePrices

SHARES = np.linspace(0, 1, 101)


@st.composite
def prices(draw):
    stages = draw(st.lists(curves() | st.none(), min_size=1, max_size=3))
    return StagePrices.of(stages, RowsTogether((draw(st.sampled_from([1, 8, 64, 300])),)), np.ones(len(stages)))


@given(prices(), st.floats(0, 1))
@settings(max_examples=40)
def test_a_tangent_is_nowhere_below_the_price_and_meets_a_concave_one(found, share):
    shares = np.full(len(found.cost), share)
    intercept, slope = found.tangent(shares)
    for k in range(len(found.cost)):
        line = intercept[k] + slope[k] * SHARES
        price = found.of_stage(k, SHARES)
        assert (line >= price - 1e-9 * price.max()).all()
        assert intercept[k] >= -1e-12
        assert slope[k] >= 0


@given(prices(), st.integers(0, 1000))
@settings(max_examples=40)
def test_the_mean_cost_of_rows_is_that_of_their_shares(found, seed):
    random = np.random.default_rng(seed)
    stages = len(found.cost)
    work = random.uniform(0.2, 3, (50, stages))
    asked = random.random((50, stages)) < random.random(stages)
    shares = np.where(asked, work, 0).mean(axis=0)
    assert found.row_cost(work, asked).mean() == pytest.approx(found.total(shares))


def test_a_constant_cost_is_its_own_price():
    found = StagePrices.of([None], RowsTogether((64,)), np.zeros(1))
    np.testing.assert_allclose(found.of_stage(0, np.array([0.0, 0.3, 1.0, 17.0])), [0.0, 0.3, 1.0, 17.0])
    assert found.secant(np.array([0.5])).tolist() == [1.0]


@given(prices())
def test_hops_cost_in_proportion(found):
    more = found.with_hops(np.full(len(found.cost), 0.25))
    np.testing.assert_allclose(more.of_stage(0, SHARES), found.of_stage(0, SHARES) + 0.25 * SHARES)
