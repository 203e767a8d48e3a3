"""The regression guard: what it times does the same work as its baseline, and a slowdown is found."""

import time
from collections import Counter
from itertools import count

import numpy as np
import pytest
import torch

from cascade.benchmarks.experiments.costs import regression_guard
from cascade.benchmarks.experiments.costs.regression_guard import (
    LEAST_ATTEMPTS,
    MOST_ATTEMPTS,
    MOST_SLOWDOWN,
    Shortest,
    slowdowns,
)
from cascade.benchmarks.harness.guarded_code import Guarded, guarded_code
from cascade.routers import kernel

NAMES = [
    "kernel, 20,000 rows",
    "kernel, 64 rows",
    "engine, 64 rows, 4 stages",
    "batcher, 256 calls of one row",
    "executor, 16 rows, 6 blocks",
]


@pytest.fixture(scope="module")
def code():
    with guarded_code() as found:
        yield {each.name: each for each in found}


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr(regression_guard, "PAUSE_S", 0.0)


@pytest.fixture
def few_attempts(monkeypatch):
    monkeypatch.setattr(regression_guard, "MOST_ATTEMPTS", LEAST_ATTEMPTS)


def burn(seconds):
    begin = time.thread_time()
    while time.thread_time() - begin < seconds:
        pass


def guarded(seconds, usual=1.0):
    return Guarded("burn", lambda: burn(seconds), lambda: burn(1e-3), usual)


def slowdown(code, rounds, planted=1.0):
    return slowdowns([code], rounds, planted)[code.name]


def test_the_ratio_is_compared_with_the_usual_one(few_attempts):
    assert slowdown(guarded(2e-3, usual=2.0), 5) == pytest.approx(1.0, abs=0.1)
    assert slowdown(guarded(3e-3, usual=2.0), 5) == pytest.approx(1.5, abs=0.1)


@pytest.mark.parametrize("slow_attempts", [0, 3, 20])
def test_a_neighbour_that_slows_the_code_more_than_its_baseline_does_not_count(slow_attempts, monkeypatch):
    attempts = count()

    def attempt(code, rounds, planted, so_far):
        noise = Shortest(1.6, 1.2) if next(attempts) < slow_attempts else Shortest(1.05, 1.0)
        return Shortest(*map(min, so_far, noise))

    monkeypatch.setattr(regression_guard, "_shortest", attempt)
    assert slowdown(guarded(1e-3), 5) == 1.05
    assert next(attempts) == max(LEAST_ATTEMPTS, slow_attempts + 1)


def test_only_code_that_is_too_slow_is_timed_again(monkeypatch):
    timed = Counter()

    def attempt(code, rounds, planted, so_far):
        timed[code.name] += 1
        return Shortest(2.0 if code.name == "slow" else 1.0, 1.0)

    monkeypatch.setattr(regression_guard, "_shortest", attempt)
    codes = [guarded(1e-3)._replace(name=name) for name in ("slow", "quick")]
    assert slowdowns(codes, 5) == {"slow": 2.0, "quick": 1.0}
    assert timed == {"slow": MOST_ATTEMPTS, "quick": LEAST_ATTEMPTS}


@pytest.mark.parametrize("name", NAMES)
def test_code_that_is_half_as_slow_again_is_found(code, name, few_attempts):
    assert slowdown(code[name], 50, planted=1.5) > MOST_SLOWDOWN


def test_a_copy_in_the_kernel_is_found(code, monkeypatch, few_attempts):
    accepted = kernel.accepted

    def slower(confidence, threshold):
        return accepted(np.array(list(confidence[:2000]) + list(confidence[2000:])), threshold)

    monkeypatch.setattr(kernel, "accepted", slower)
    assert slowdown(code[NAMES[0]], 5) > MOST_SLOWDOWN


def test_code_and_baseline_give_the_same(code):
    np.testing.assert_array_equal(code[NAMES[0]].run(), code[NAMES[0]].baseline())
    np.testing.assert_array_equal(code[NAMES[2]].run().answer, code[NAMES[2]].baseline())
    torch.testing.assert_close(code[NAMES[4]].run().logits, code[NAMES[4]].baseline())
