import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from cascade.backends.training.schedule import Schedule, Scheduled

values = st.floats(0.01, 100)
shares = st.floats(0, 1)


@given(values, values, st.floats(0.01, 1), st.sampled_from(["linear", "exponential"]), shares)
def test_a_schedule_goes_from_its_start_to_its_end_and_stays_there(start, end, until, shape, done):
    schedule = Schedule(start=start, end=end, until=until, shape=shape)
    value = schedule.at(done)
    assert schedule.at(0) == pytest.approx(start)
    assert min(start, end) * (1 - 1e-9) <= value <= max(start, end) * (1 + 1e-9)
    if done >= until:
        assert value == pytest.approx(end)


def test_halfway_is_the_arithmetic_or_the_geometric_mean():
    assert Schedule(start=1, end=9).at(0.5) == 5
    assert Schedule(start=1, end=9, shape="exponential").at(0.5) == pytest.approx(3)


def test_a_number_is_a_constant_schedule():
    class Settings(BaseModel):
        weight: Scheduled

    assert [Settings(weight=3).weight.at(done) for done in (0, 0.4, 1)] == [3, 3, 3]
    assert Settings(weight={"start": 1, "end": 2}).weight.at(0.5) == 1.5


def test_an_exponential_schedule_cannot_reach_zero():
    with pytest.raises(ValidationError, match="above 0"):
        Schedule(start=1, end=0, shape="exponential")
