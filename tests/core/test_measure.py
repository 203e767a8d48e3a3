"""Measured costs: time against batch size, and the line through it."""

import time

import numpy as np
import pytest
from cascade.calibration.cost_model import CostModel
from hypothesis import given
from hypothesis import strategies as st

from cascade.backends.fake_backend import FakeBackend
from cascade.measure import measure
from cascade.stage import Stage

TABLE = np.eye(3)[np.arange(5) % 3]
ROWS = np.arange(5)[:, None]


@given(st.floats(0, 100), st.floats(1e-3, 10))
def test_times_on_a_line_give_the_line_back(fixed, row):
    sizes = np.array([1, 2, 4, 8, 64])
    model = CostModel.fit(sizes, fixed + row * sizes)
    np.testing.assert_allclose(model.batch_ms(sizes), fixed + row * sizes, rtol=1e-6)
    np.testing.assert_allclose(model.row_cost(8), fixed / 8 + row, rtol=1e-6)


def test_no_part_of_a_time_is_negative():
    model = CostModel.fit(np.array([1, 2, 4]), np.array([1.0, 4.0, 16.0]))
    assert model.fixed_ms >= 0
    assert model.row_ms >= 0


@pytest.mark.parametrize(("largest", "sizes"), [(1, [1]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8])])
def test_sizes_double_up_to_the_largest_even_with_few_rows(largest, sizes):
    told = []
    (costs,) = measure([Stage("a", FakeBackend(TABLE))], ROWS, largest=largest, on_size=lambda *it: told.append(it))
    assert costs.batch_rows.tolist() == sizes
    assert told == [("a", size) for size in sizes]
    assert costs.flops_per_row is None
    assert costs.to_dict()["name"] == "a"


def test_a_fixed_time_is_told_from_a_time_a_row():
    class Slow(FakeBackend):
        """20 ms a call and 2 ms a row."""

        def predict(self, rows):
            time.sleep(0.02)
            return super().predict(rows)

    (costs,) = measure([Stage("a", Slow(TABLE, seconds_per_row=2e-3))], ROWS, largest=16)
    assert costs.model.fixed_ms == pytest.approx(20, rel=0.35)
    assert costs.model.row_ms == pytest.approx(2, rel=0.35)
