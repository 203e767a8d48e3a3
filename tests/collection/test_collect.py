"""Collection: the stages' predictions, batch by batch, with costs."""

import functools
import time

import numpy as np
import pytest

from cascade.backends.fake_backend import FakeBackend
from cascade.collection.collect import collect as collect_with_curves
from cascade.errors import InputError, StageError
from cascade.machine.energy import EnergyMeter
from cascade.prediction import Prediction
from cascade.stage import Stage

collect = functools.partial(collect_with_curves, curve_seconds=0)

TABLE = np.random.default_rng(0).dirichlet(np.ones(3), size=40)


class Costly:
    """A model whose cost differs from row to row."""

    def predict(self, rows):
        found = TABLE[rows[:, 0]]
        return Prediction(found.argmax(axis=1), found, cost=rows[:, 0] * 2.0)


class Counting(FakeBackend):
    def flops_per_row(self, rows):
        return 5e6


ROWS = np.arange(40)[:, None]


@pytest.mark.parametrize("batch_rows", [1, 7, 40, 100])
def test_the_table_holds_the_stages_predictions_for_any_batch_size(batch_rows):
    stages = [Stage("a", FakeBackend(TABLE)), Stage("b", FakeBackend(TABLE[::-1]), "margin")]
    label = np.arange(40) % 3
    table = collect(stages, ROWS, label, batch_rows=batch_rows)
    top = np.sort(TABLE[::-1], axis=1)
    np.testing.assert_array_equal(table.prediction[:, 0], TABLE.argmax(axis=1))
    np.testing.assert_array_equal(table.scores[:, 1], TABLE[::-1])
    np.testing.assert_array_equal(table.confidence, np.stack([TABLE.max(axis=1), top[:, 2] - top[:, 1]], axis=1))
    np.testing.assert_array_equal(table.label, label)
    assert table.stage.tolist() == ["a", "b"]
    assert max(stages[0].backend.batches) <= batch_rows


def test_scores_may_be_left_out():
    assert collect([Stage("a", FakeBackend(TABLE))], ROWS, keep_scores=False).scores is None


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scores_keep_their_type(dtype):
    class Model:
        def predict(self, rows):
            return Prediction.from_probabilities(TABLE[rows[:, 0]].astype(dtype))

    assert collect([Stage("a", Model())], ROWS).scores.dtype == dtype


def test_time_is_in_milliseconds_per_row():
    stages = [Stage("slow", FakeBackend(TABLE, seconds_per_row=2e-3)), Stage("fast", FakeBackend(TABLE))]
    begin = time.perf_counter()
    table = collect(stages, ROWS, batch_rows=10)
    everything_ms = (time.perf_counter() - begin) * 1e3
    assert table.cost_unit == "ms"
    assert 2.0 <= table.cost[0] <= everything_ms / 40
    assert 0 < table.cost[1] < table.cost[0]


def test_the_small_last_batch_does_not_count():
    class Clumsy(FakeBackend):
        """Every call takes 10 ms, however small."""

        def predict(self, rows):
            time.sleep(0.01)
            return super().predict(rows)

    table = collect([Stage("a", Clumsy(TABLE))], ROWS[:21], batch_rows=20)
    assert 0.5 <= table.cost[0] < 5


def test_flops_are_counted_by_the_backend():
    table = collect([Stage("a", Counting(TABLE))], ROWS, cost="flops")
    assert (table.cost.tolist(), table.cost_unit) == ([5.0], "MFLOP")
    with pytest.raises(InputError, match=r"'b' cannot count"):
        collect([Stage("a", Counting(TABLE)), Stage("b", FakeBackend(TABLE))], ROWS, cost="flops")


def test_costs_of_rows_make_a_column_for_every_row():
    table = collect([Stage("a", Counting(TABLE)), Stage("b", Costly())], ROWS, cost="flops", batch_rows=9)
    assert table.cost.shape == (40, 2)
    assert (table.cost[:, 0] == 5).all()
    np.testing.assert_array_equal(table.cost[:, 1], np.arange(40) * 2.0)


class Bounded(Costly):
    """A backend with a bound of the cost per row."""

    most = 100.0

    def highest_row_cost(self, rows):
        return self.most


def test_the_bound_of_a_rows_cost_is_the_models_own():
    stages = [Stage("a", FakeBackend(TABLE)), Stage("b", Bounded()), Stage("c", Costly())]
    table = collect(stages, ROWS)
    assert table.highest_cost.tolist() == [table.cost[0, 0], 100.0, np.inf]
    assert collect(stages[:1], ROWS).highest_cost is None, "all rows cost the same"


def test_a_row_above_its_models_declared_bound_is_an_error_of_the_model():
    class Wrong(Bounded):
        most = 70.0

    with pytest.raises(
        StageError, match=r"stage 'b'.*maximum cost per row of 70; row 36 cost 72, and 4 of 40 rows exceed it"
    ):
        collect([Stage("a", FakeBackend(TABLE)), Stage("b", Wrong())], ROWS)


def test_a_bound_in_operations_gets_the_price_of_operations():
    class WorkingBounded(Working):
        def highest_row_cost(self, rows):
            return 3.0

    table = collect_with_curves([Stage("a", WorkingBounded())], ROWS, batch_rows=10, curve_seconds=0.05)
    assert table.highest_cost[0] == table.cost.max()
    assert table.highest_cost[0] == pytest.approx(3 * table.cost_per_mflop[0])


@pytest.mark.parametrize("rolled", [0, 1])
def test_labels_in_another_order_than_the_classes_cause_a_warning(rolled):
    notes, rows = [], np.tile(ROWS, (5, 1))
    label = np.roll(np.arange(3), rolled)[TABLE.argmax(axis=1)[rows[:, 0]]]
    table = collect([Stage("a", FakeBackend(TABLE))], rows, label, on_note=notes.append)
    assert table.correct.mean() == (rolled == 0)
    assert any("less accurate than guessing" in note for note in notes) == (rolled > 0)


def test_progress_is_reported_after_every_batch():
    calls = []
    stages = [Stage("a", FakeBackend(TABLE)), Stage("b", FakeBackend(TABLE))]
    collect(stages, ROWS, batch_rows=16, on_rows=lambda name, done: calls.append((name, done)))
    assert calls == [(name, done) for name in "ab" for done in (16, 32, 40)]


def test_money_is_the_price_of_the_time():
    table = collect([Stage("a", FakeBackend(TABLE, seconds_per_row=2e-3))], ROWS, cost="money", price_per_hour=3.6)
    assert table.cost_unit == "price per million rows"
    assert 2.0 <= table.cost[0] < 20.0  # 0.001 a second
    with pytest.raises(InputError, match="--price-per-hour"):
        collect([Stage("a", FakeBackend(TABLE))], ROWS, cost="money")


@pytest.fixture
def powercap(tmp_path, monkeypatch):
    """Counters of two packages; the part of one of them must not be counted twice."""
    for name, energy in (("intel-rapl:0", 990), ("intel-rapl:1", 5), ("intel-rapl:0:0", 7)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "energy_uj").write_text(f"{energy}\n")
        (tmp_path / name / "max_energy_range_uj").write_text("999\n")
    monkeypatch.setattr("cascade.machine.energy.POWERCAP", tmp_path)
    return tmp_path


def test_energy_is_counted_over_all_packages_and_over_the_end_of_a_counter(powercap):
    meter = EnergyMeter(powercap)
    (powercap / "intel-rapl:0" / "energy_uj").write_text("10\n")
    (powercap / "intel-rapl:1" / "energy_uj").write_text("25\n")
    assert meter.joules() == pytest.approx((20 + 20) / 1e6)
    assert meter.joules() == 0.0


def test_energy_is_refused_on_a_machine_without_counters(tmp_path, monkeypatch):
    monkeypatch.setattr("cascade.machine.energy.POWERCAP", tmp_path)
    with pytest.raises(InputError, match="does not measure energy"):
        collect([Stage("a", FakeBackend(TABLE))], ROWS, cost="energy")


def test_energy_is_in_millijoules_per_row(powercap):
    class Hungry(FakeBackend):
        """Takes 400 microjoules a batch."""

        def predict(self, rows):
            file = powercap / "intel-rapl:1" / "energy_uj"
            file.write_text(str((int(file.read_text()) + 400) % 1000))
            return super().predict(rows)

    table = collect([Stage("a", Hungry(TABLE))], ROWS, cost="energy", batch_rows=20)
    assert (table.cost[0], table.cost_unit) == (pytest.approx(0.4 / 20), "mJ")


class Working:
    """A model that counts the operations of every row, and takes a millisecond for a million of them."""

    def predict(self, rows):
        found = TABLE[rows[:, 0]]
        mflop = 1.0 + rows[:, 0] % 3
        time.sleep(mflop.sum() * 1e-3)
        return Prediction(found.argmax(axis=1), found, mflop=mflop)


def test_rows_cost_in_proportion_to_their_operations():
    stages = [Stage("working", Working()), Stage("same", Counting(TABLE))]
    table = collect(stages, ROWS, batch_rows=10)
    mflop = 1.0 + ROWS[:, 0] % 3
    assert table.cost_per_mflop[1] == 0
    assert 1.0 <= table.cost_per_mflop[0] < 2.0, "a sleep never ends early"
    np.testing.assert_allclose(table.cost[:, 0], table.cost_per_mflop[0] * mflop)
    assert np.ptp(table.cost[:, 1]) == 0
    counted = collect(stages, ROWS, batch_rows=10, cost="flops")
    np.testing.assert_array_equal(counted.cost[:, 0], mflop)
    assert counted.cost_per_mflop.tolist() == [1, 0]
    assert collect(stages[1:], ROWS).cost_per_mflop is None
