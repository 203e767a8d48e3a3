"""Gears: the floor, and when they are changed."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.calibration import Policy, PolicySet
from cascade.config import GearsConfig
from cascade.errors import PolicyError
from cascade.serving.policy.gears import GearShift, usable_gears

TICK_S = 0.02


def certified(threshold, cost, delta=0.05, **target):
    certificate = {"guarantee": "certified", "delta": delta, "target": target, "observed": {"mean_cost": cost}}
    return replace(Policy.from_thresholds(("small", "big"), np.array([threshold])), certificate=certificate)


GEARS = tuple(certified(0.9 - k / 10, 3.0 - k, target_accuracy=round(0.94 - k / 100, 2)) for k in range(3))


@pytest.mark.parametrize(("floor", "usable"), [(None, 3), (0.9, 3), (0.92, 3), (0.93, 2), (0.935, 1), (0.94, 1)])
def test_gears_below_the_floor_are_never_usable(floor, usable):
    assert usable_gears(PolicySet(GEARS), GearsConfig(floor_accuracy=floor)) == GEARS[:usable]


def test_without_settings_only_the_best_gear_is_used_whatever_it_guarantees():
    assert usable_gears(PolicySet(GEARS), None) == GEARS[:1]
    assert len(usable_gears(PolicySet((Policy.from_thresholds(("a",), np.zeros(0)),)), GearsConfig())) == 1


@pytest.mark.parametrize(
    ("policy", "floor", "message"),
    [
        (GEARS[0], {"floor_accuracy": 0.95}, "guarantees target_accuracy 0.94, and the floor is 0.95"),
        (GEARS[0], {"floor_agreement": 0.9}, "no certificate of target_agreement"),
        (GEARS[0], {"floor_accuracy": 0.9, "floor_delta": 0.01}, "delta 0.05"),
        (certified(0.9, 3.0, max_accuracy_drop=0.02), {"floor_accuracy_drop": 0.01}, "max_accuracy_drop 0.02"),
        (certified(0.9, 3.0, delta="low", target_accuracy=0.9), {"floor_accuracy": 0.9}, "delta low"),
        (Policy.from_thresholds(("a", "b"), np.array([0.5])), {"floor_accuracy": 0.5}, "no certificate"),
        (replace(GEARS[0], certificate={"guarantee": "none", "target": {"target_accuracy": 0.99}}),
         {"floor_accuracy": 0.5}, "no certificate"),
    ],
)  # fmt: skip
def test_a_policy_below_the_floor_is_refused(policy, floor, message):
    with pytest.raises(PolicyError, match=message):
        usable_gears(PolicySet((policy,)), GearsConfig(**floor))


def test_a_smaller_drop_than_the_floor_is_good_enough():
    policy = certified(0.9, 3.0, max_accuracy_drop=0.005)
    assert usable_gears(PolicySet((policy,)), GearsConfig(floor_accuracy_drop=0.01)) == (policy,)


def simulated(shift, rates, capacities, seconds):
    """The gear and the wait (s) at each tick of a fluid queue.

    Args:
        shift: chooses the gear.
        rates: (second) -> arrivals in rows/s.
        capacities: rows/s of each gear.
        seconds: how long.
    """
    waiting, offered, gears, waits = 0.0, 0.0, [], []
    for tick in range(round(seconds / TICK_S)):
        rate = rates(tick * TICK_S)
        capacity = capacities[shift.gear]
        offered += rate * TICK_S
        waiting = max(0.0, waiting + (rate - capacity) * TICK_S)
        waits.append(waiting / capacity)
        gears.append(shift.update(tick * TICK_S, waits[-1], round(offered)))
    return np.array(gears), np.array(waits)


def burst(second):
    return 3000 if 10 <= second < 70 else 500


CAPACITIES = (1000, 2000, 4000)


def test_a_burst_is_served_in_a_cheap_gear_and_the_best_one_comes_back():
    settings = GearsConfig()
    gears, waits = simulated(GearShift(3, settings), burst, CAPACITIES, 110)
    second = np.arange(len(gears)) * TICK_S
    assert (gears[second < 10] == 0).all()
    assert (gears[(second > 12) & (second < 70)] == 2).mean() > 0.9
    assert (gears[second > 70 + 10] == 0).all()
    # Steps and trials of better gears cost a little; no row ever waits long.
    assert waits.max() < 5 * settings.step_down_wait_ms / 1e3
    assert (waits < settings.step_down_wait_ms / 1e3).mean() > 0.97


def test_a_load_that_the_middle_gear_can_carry_stays_there():
    gears, _ = simulated(GearShift(3, GearsConfig()), lambda _: 1500, CAPACITIES, 60)
    changes = np.count_nonzero(np.diff(gears))
    assert np.bincount(gears[len(gears) // 3 :]).argmax() == 1
    assert changes < 20


@given(
    st.integers(1, 4),
    st.lists(st.tuples(st.floats(0, 2), st.integers(0, 1000)), max_size=60),
    st.integers(0, 3),
)
def test_the_gear_moves_by_one_and_only_for_a_reason(count, updates, first):
    settings = GearsConfig()
    shift = GearShift(count, settings, min(first, count - 1))
    now, offered, before, changed_at = 0.0, 0, shift.gear, -np.inf
    for waited, rows in updates:
        now, offered = now + 0.5, offered + rows
        gear = shift.update(now, waited, offered)
        assert 0 <= gear < count
        assert abs(gear - before) <= 1
        if gear > before:
            assert 1e3 * waited > settings.step_down_wait_ms
        if gear < before:
            assert 1e3 * waited < settings.step_up_wait_ms
            assert now - changed_at >= settings.step_up_after_s
        if gear != before:
            changed_at = now
        before = gear


def test_a_wait_between_the_two_thresholds_changes_nothing():
    shift = GearShift(3, GearsConfig(), gear=1)
    assert {shift.update(tick * 1.0, 0.075, 0) for tick in range(100)} == {1}


def test_the_two_thresholds_must_differ():
    with pytest.raises(ValueError, match="step_up_wait_ms must be less"):
        GearsConfig(step_up_wait_ms=100, step_down_wait_ms=100)
