"""Measured cost curves: alternating stages, new rows in every call, within the given time."""

import itertools
import time

import numpy as np
import pytest

from cascade.backends.fake_backend import FakeBackend
from cascade.collection.collect import collect
from cascade.collection.measure import MeasuredCurves, measure_curves
from cascade.machine.processor_time import others_share
from cascade.stage import Stage

TABLE = np.eye(3)[np.arange(50) % 3]
ROWS = np.arange(50)[:, None]


class Slow(FakeBackend):
    """A time per call, and one per row; notes what it is asked."""

    def __init__(self, call_s, row_s, log=None, name=""):
        super().__init__(TABLE)
        self.call_s, self.row_s, self.log, self.name = call_s, row_s, log, name

    def predict(self, rows):
        if self.log is not None:
            self.log.append((self.name, len(rows), rows[:, 0].tolist()))
        time.sleep(self.call_s + len(rows) * self.row_s)
        return super().predict(rows)


@pytest.mark.parametrize(("largest", "sizes"), [(1, [1]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8])])
def test_sizes_double_up_to_the_largest_even_with_few_rows(largest, sizes):
    calls = []
    measured = measure_curves(
        [Stage("a", FakeBackend(TABLE))], ROWS[:3], largest=largest, on_call=lambda *each: calls.append(each)
    )
    assert measured.curves[0].rows.tolist() == sizes
    assert {name for name, _ in calls} == {"a"}
    assert all(0 <= share <= 1 for _, share in calls)


def test_stages_take_turns_and_see_other_rows_in_every_call():
    log = []
    stages = [Stage(name, Slow(1e-3, 0, log, name)) for name in "ab"]
    measure_curves(stages, ROWS, largest=16, seconds=0.3)
    changes = sum(one[0] != other[0] for one, other in itertools.pairwise(log))
    assert changes > 0.5 * len(log), "one stage is not called again and again"
    large = [tuple(rows) for name, size, rows in log if size == 16]
    assert len(set(large)) == len(large)


def test_a_fixed_time_is_distinguished_from_a_time_per_row():
    measured = measure_curves([Stage("a", Slow(20e-3, 2e-3))], ROWS, largest=16, seconds=3.0)
    (curve,) = measured.curves
    assert curve.fixed_ms == pytest.approx(20, rel=0.35)
    assert curve.row_ms == pytest.approx(2, rel=0.35)


def test_a_slow_stage_gets_fewer_sizes_and_its_time_is_bounded():
    began = time.perf_counter()
    measured = measure_curves([Stage("a", Slow(0.05, 0.01)), Stage("b", FakeBackend(TABLE))], ROWS, seconds=1.0)
    assert time.perf_counter() - began < 8
    slow, quick = measured.curves
    assert slow.rows[0] == 1
    assert slow.rows[-1] < quick.rows[-1] == 1024


def test_a_first_call_that_loads_takes_no_time_of_the_curve():
    class Lazy(Slow):
        loaded = False

        def predict(self, rows):
            time.sleep(0.0 if self.loaded else 0.5)
            self.loaded = True
            return super().predict(rows)

    stages = [Stage("lazy", Lazy(1e-3, 1e-5)), Stage("other", Slow(1e-3, 1e-5))]
    lazy, other = measure_curves(stages, ROWS, largest=64, seconds=0.2).curves
    assert lazy.rows.tolist() == other.rows.tolist() == [1, 2, 4, 8, 16, 32, 64]
    assert lazy.ms.max() < 100


def test_the_machine_is_recorded_and_a_busy_one_causes_a_warning():
    measured = measure_curves([Stage("a", FakeBackend(TABLE))], ROWS, largest=2, seconds=0.1)
    assert "cores" in measured.note
    assert "spread" in measured.note
    quiet = MeasuredCurves(measured.curves, "m", 0.1, 0.0, 0.1)
    assert quiet.warning is None
    for others, spread in ((0.5, 0.1), (0.0, 0.6), (None, 0.6)):
        assert "busy machine" in MeasuredCurves(measured.curves, "m", None, others, spread).warning


def test_the_time_of_other_processes_is_a_share():
    with others_share() as share:
        sum(range(100_000))
    assert share.value is None or 0 <= share.value <= 1


@pytest.mark.parametrize("kind", ["time", "money", "flops"])
def test_collected_costs_are_those_of_calls_of_the_batch_size(kind):
    class Counting(Slow):
        """Counts operations."""

        def flops_per_row(self, rows):
            return 3e6

    stages = [Stage("a", Counting(5e-3, 0)), Stage("b", Counting(1e-3, 1e-4))]
    options = {"price_per_hour": 3.6} if kind == "money" else {}
    table = collect(stages, ROWS, batch_rows=10, cost=kind, curve_seconds=0.4, **options)
    assert all(curve is not None for curve in table.curves)
    per_row = np.array([float(curve.split_ms(10)) / 10 for curve in table.curves])
    expected = {"time": per_row, "money": per_row, "flops": [3.0, 3.0]}[kind]
    np.testing.assert_allclose(table.cost, expected)
    assert (table.cost_per_ms > 0).all() == (kind != "flops")
    assert "cores" in table.curve_machine


def test_a_cost_of_the_models_own_stays_a_constant_per_row():
    class Priced(FakeBackend):
        """Costs 7 a row, by its own account."""

        def predict(self, rows):
            said = super().predict(rows)
            return type(said)(said.answer, said.probabilities, cost=np.full(len(rows), 7.0))

    table = collect([Stage("a", Priced(TABLE)), Stage("b", FakeBackend(TABLE))], ROWS, curve_seconds=0.2)
    assert table.cost[:, 0].tolist() == [7.0] * 50
    assert table.cost_per_ms.tolist() == [0.0, 1.0]
    assert table.curves[0] is not None
