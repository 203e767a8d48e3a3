"""The numbers of a repeat against plain sums and the standard library's quantiles."""

import json
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.benchmarks.measurement import Tally, spread
from cascade.benchmarks.target import Reply
from cascade.benchmarks.workload import Batch

STAGES = ("a", "b", "c")


@st.composite
def request_lists(draw):
    """(batch, reply, latency) of requests of one size."""
    size, count = draw(st.integers(1, 5)), draw(st.integers(2, 30))
    random = np.random.default_rng(draw(st.integers(0, 10_000)))
    labelled = draw(st.booleans())
    requests = []
    for _ in range(count):
        label = random.integers(0, 3, size) if labelled else None
        reply = Reply(
            random.integers(0, 3, size),
            random.integers(0, 3, size),
            random.uniform(0, 9, size),
            f"version {random.integers(3)}",
        )
        requests.append((Batch(np.zeros((size, 2)), label), reply, float(random.exponential(0.01))))
    return requests


@given(request_lists(), st.floats(0.01, 100))
def test_a_measurement_is_what_the_requests_say(requests, seconds):
    tally = Tally(STAGES)
    for request in requests:
        tally.add(*request)
    seen = tally.measurement(seconds)

    latency_ms = [1000 * latency for _, _, latency in requests]
    quantiles = statistics.quantiles(latency_ms, n=100, method="inclusive")
    expected = {f"p{p}": quantiles[p - 1] for p in (50, 95, 99)}
    assert seen.latency_ms == pytest.approx(
        expected | {"mean": statistics.fmean(latency_ms), "max": max(latency_ms)}, rel=1e-9
    )
    stage = np.concatenate([reply.stage for _, reply, _ in requests])
    assert seen.stage_share == pytest.approx({name: np.mean(stage == k) for k, name in enumerate(STAGES)})
    assert seen.mean_cost == pytest.approx(np.concatenate([reply.cost for _, reply, _ in requests]).mean())
    assert (seen.rows, seen.requests, seen.failed) == (len(stage), len(requests), 0)
    assert seen.rows_per_s * seconds == pytest.approx(len(stage))
    assert seen.requests_per_s * seconds == pytest.approx(len(requests))
    assert set(seen.policy_versions) == {reply.policy_version for _, reply, _ in requests}
    if requests[0][0].label is None:
        assert seen.accuracy is None
    else:
        right = [answer == label for batch, reply, _ in requests for answer, label in zip(reply.answer, batch.label)]
        assert seen.accuracy == pytest.approx(np.mean(right))
    assert json.loads(json.dumps(seen.to_dict()))["rows"] == len(stage)


def test_failures_are_counted_by_status_and_have_no_latency():
    tally = Tally(STAGES)
    tally.fail("503", "the first")
    tally.fail("timeout", "")
    tally.fail("503", "the second")
    with pytest.raises(ValueError, match="no request was answered"):
        tally.measurement(1.0)
    tally.add(Batch(np.zeros((1, 1)), None), Reply(np.zeros(1), np.array([2]), np.ones(1), "v"), 0.5)
    seen = tally.measurement(1.0)
    assert seen.errors == {"503": 2, "timeout": 1}
    assert (seen.failed, seen.requests, seen.latency_ms["max"]) == (3, 1, 500.0)
    assert tally.messages["503"] == "the first"


def test_the_spread_has_the_nesting_of_the_repeats():
    repeats = [
        {"rows_per_s": 10, "latency_ms": {"p50": 3.0}, "errors": {}, "accuracy": None, "policy_versions": ["x"]},
        {"rows_per_s": 30, "latency_ms": {"p50": 1.0}, "errors": {"503": 4}, "accuracy": None, "policy_versions": []},
        {"rows_per_s": 11, "latency_ms": {"p50": 2.5}, "errors": {}, "accuracy": None, "policy_versions": ["x"]},
    ]
    assert spread(repeats) == {
        "rows_per_s": {"median": 11, "min": 10, "max": 30},
        "latency_ms": {"p50": {"median": 2.5, "min": 1.0, "max": 3.0}},
        "errors": {"503": {"median": 0, "min": 0, "max": 4}},  # a repeat without an error had none of them
        "accuracy": None,
    }


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=9), st.randoms())
def test_the_spread_does_not_depend_on_the_order(values, random):
    shuffled = random.sample(values, len(values))
    assert spread([{"x": value} for value in values]) == spread([{"x": value} for value in shuffled])
    three = spread([{"x": value} for value in values])["x"]
    assert three["min"] <= three["median"] <= three["max"]
    assert sum(value <= three["median"] for value in values) * 2 >= len(values)
