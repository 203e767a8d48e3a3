"""The regression guard: what it times does the same work as its baseline, and a slowdown is found."""

import time

import numpy as np
import pytest
import torch

from cascade.benchmarks.experiments.costs import regression_guard
from cascade.benchmarks.experiments.costs.regression_guard import MOST_SLOWDOWN, slowdown
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


def burn(seconds):
    begin = time.thread_time()
    while time.thread_time() - begin < seconds:
        pass


def guarded(seconds, usual=1.0):
    return Guarded("burn", lambda: burn(seconds), lambda: burn(1e-3), usual)


def test_the_ratio_is_compared_with_the_usual_one():
    assert slowdown(guarded(2e-3, usual=2.0), 5) == pytest.approx(1.0, abs=0.1)
    assert slowdown(guarded(3e-3, usual=2.0), 5) == pytest.approx(1.5, abs=0.1)


def test_a_slowdown_of_a_moment_does_not_count():
    found = iter([3.0, 1.1, 1.0, 5.0])

    def ratio(*_):
        return next(found)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(regression_guard, "_ratio", ratio)
        assert slowdown(guarded(1e-3), 5) == 1.1
        assert next(found) == 5.0


@pytest.mark.parametrize("name", NAMES)
def test_code_that_is_half_as_slow_again_is_found(code, name):
    assert slowdown(code[name], 10, planted=1.5) > MOST_SLOWDOWN


def test_a_copy_in_the_kernel_is_found(code, monkeypatch):
    accepted = kernel.accepted

    def slower(confidence, threshold):
        return accepted(np.array(list(confidence[:2000]) + list(confidence[2000:])), threshold)

    monkeypatch.setattr(kernel, "accepted", slower)
    assert slowdown(code[NAMES[0]], 5) > MOST_SLOWDOWN


def test_code_and_baseline_give_the_same(code):
    np.testing.assert_array_equal(code[NAMES[0]].run(), code[NAMES[0]].baseline())
    np.testing.assert_array_equal(code[NAMES[2]].run().answer, code[NAMES[2]].baseline())
    torch.testing.assert_close(code[NAMES[4]].run().logits, code[NAMES[4]].baseline())
