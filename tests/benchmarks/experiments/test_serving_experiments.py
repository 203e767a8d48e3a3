"""Parts of the serving experiments: synthetic stages, accounts of requests, the ideal, growth, traces, simulations."""

import asyncio
import time

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.benchmarks.errors import RequestFailed
from cascade.benchmarks.experiments.peers import against_peers
from cascade.benchmarks.experiments.resilience import fault_scenes
from cascade.benchmarks.experiments.serving import ideal_share
from cascade.benchmarks.harness import simulation, synthetic_cascade
from cascade.benchmarks.harness.clients import labelled_load, trace
from cascade.benchmarks.harness.servers import memory_watch
from cascade.benchmarks.harness.stages import busy_stage
from cascade.cascade import Cascade
from cascade.config import CascadeConfig


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The synthetic cascade in this process, without work, and its configuration's path."""
    path = synthetic_cascade.write_cascade(tmp_path_factory.mktemp("synthetic"), [0, 0])
    return Cascade.load(path), path


def test_exactly_every_fifth_row_is_deferred_and_peers_answer_like_the_cascade(served):
    rows = busy_stage.new_rows(1000)
    answers = served[0].predict(rows)
    assert (answers.stage == 1).sum() == 200
    peer = busy_stage.TwoStages([0, 0]).predict(rows)
    assert peer == list(zip(answers.answer.tolist(), answers.stage.tolist(), answers.confidence.tolist()))
    assert len(set(answers.answer.tolist())) == busy_stage.CLASSES


def test_work_is_proportional_to_rows():
    stage, rows = busy_stage.BusyStage(round(busy_stage.rounds_per_s() * 1e-3)), busy_stage.new_rows(10)

    def fastest(count):
        seconds = []
        for _ in range(10):
            begin = time.thread_time()
            stage.predict(rows[:count])
            seconds.append(time.thread_time() - begin)
        return min(seconds)

    assert 6 < fastest(10) / fastest(1) < 15
    assert 0.7e-3 < fastest(1) < 2e-3


def columns(cascade, rows):
    answers = cascade.predict(rows)
    names = [stage.name for stage in cascade.stages]
    return {"answer": answers.answer.tolist(), "stage": [names[k] for k in answers.stage]}


@given(st.lists(st.integers(0, 999), min_size=1, max_size=8), st.integers(0, 7), st.integers(1, 9))
def test_a_right_answer_is_told_from_a_wrong_and_a_degraded_one(served, places, place, shift):
    rows = busy_stage.new_rows(1000)[places]
    answered = columns(served[0], rows)
    assert labelled_load.judged(rows, answered) == "right"
    place %= len(rows)
    answered["answer"][place] = (answered["answer"][place] + shift) % 10
    assert labelled_load.judged(rows, answered) == "wrong"
    assert (
        labelled_load.judged(rows, answered | {"degraded": [index == place for index in range(len(rows))]})
        == "degraded"
    )
    assert labelled_load.judged(rows, {"answer": answered["answer"][1:], "stage": answered["stage"][1:]}) == "wrong"
    assert labelled_load.judged(rows, None) == "wrong"


def test_every_request_is_in_one_place_of_the_account(served):
    rows = busy_stage.new_rows(5)
    account = labelled_load.Account()
    account.note(rows, 200, orjson.dumps(columns(served[0], rows)))
    account.note(rows, 503, b'{"error": "busy"}')
    account.note(rows, 500, b"oops")
    account.lose("cut")
    assert account.to_dict() == {
        "sent": 0,
        "right": 1,
        "degraded": 0,
        "wrong": 0,
        "errors": {"503": 1},
        "unclear": {"500": 1},
        "unanswered": {"cut": 1},
    }
    assert len(account.failed_at) == 3


@pytest.mark.parametrize(
    ("failed_at", "right_at", "recovered"),
    [([], 11.0, 0.0), ([3.0], 11.0, 0.0), ([12.0, 14.5], 15.0, 4.5), ([12.0, 14.5], 13.0, None), ([], 9.0, None)],
)
def test_recovery_is_the_last_failure_if_a_right_answer_follows(failed_at, right_at, recovered):
    account = labelled_load.Account(failed_at=failed_at, right_at=right_at)
    assert account.recovered_s(10.0) == recovered


@pytest.mark.parametrize(("samples", "grown"), [([9] * 5 + [100] * 50, 0.0), ([9] * 5 + list(range(100, 200)), 0.86)])
def test_growth_leaves_the_warm_up_out(samples, grown):
    assert memory_watch.growth(samples, 5) == pytest.approx(grown, abs=0.01)


def test_growth_of_a_handful_of_samples_is_not_known():
    assert memory_watch.growth([1] * 12, 5) is None


def test_the_ideal_is_bounded_by_all_processors_and_by_each_segment(served):
    config = CascadeConfig.load(served[1])
    reached, row_s = [1.0, 0.2], [20e-6, 200e-6]
    # 60 us a row on two processors; the second segment alone, of one thread, would manage 1 / 40 us.
    assert ideal_share.ideal_rows_per_s(config, reached, row_s, 2) == pytest.approx(1 / 40e-6)
    assert ideal_share.ideal_rows_per_s(config, reached, row_s, 1) == pytest.approx(1 / 60e-6)
    assert ideal_share.batch_sizes(config, reached, 512) == [64, 64]
    assert ideal_share.batch_sizes(config, reached, 8) == [8, 8]


def test_the_gateway_is_compared_with_the_fastest_variant_of_a_peer():
    def seen(speed):
        return {"requests_per_s": speed, "latency_ms": {"p99": 1.0}, "processor_us_per_request": 1.0}

    repeats = [{"gateway": seen(100), "mosec 8,8": seen(50), "mosec 32,32": seen(200), "litserve": seen(10)}] * 2
    found = against_peers.against_best(repeats)
    assert (found["mosec"]["variant"], found["mosec"]["target"]) == ("mosec 32,32", 1.2)
    assert found["litserve"]["requests_per_s_ratio"]["median"] == 10


def test_arrivals_have_the_rate_of_their_phase():
    arrivals = trace.poisson_arrivals([(10.0, 100.0), (5.0, 1000.0)])
    assert (np.diff(arrivals) >= 0).all()
    assert (arrivals < 10).sum() == pytest.approx(1000, rel=0.15)
    assert (arrivals >= 10).sum() == pytest.approx(5000, rel=0.1)


class Answering:
    """A target that answers row ``[k]`` with k, and refuses 3."""

    def __init__(self):
        self.closed = False

    async def send(self, rows):
        if rows[0, 0] == 3:
            raise RequestFailed("503", "busy")
        return {"answer": rows[:, 0].tolist(), "policy_version": "version"}

    async def close(self):
        self.closed = True


def test_a_trace_records_every_request_at_its_moment():
    target, rows = Answering(), np.arange(5)[:, None]
    seen = asyncio.run(trace.send_trace(target, rows, np.array([0, 1, 9, 3, 4]), np.linspace(0, 0.05, 10)))
    assert target.closed
    assert sorted(seen.due_s) == np.linspace(0, 0.05, 10).tolist()
    assert seen.errors == {"503": 2}
    assert (seen.right.count(True), seen.version.count("version"), np.isinf(seen.latency_ms).sum()) == (6, 8, 2)


def test_simulated_shares_are_allowed_three_standard_errors():
    assert simulation.allowed_share(0.1, 900) == pytest.approx(0.13)


def test_halves_split_all_rows_and_differ():
    pairs = simulation.halves(101, 3, seed=1)
    assert [(len(first), len(second)) for first, second in pairs] == [(50, 51)] * 3
    assert all(sorted([*first, *second]) == list(range(101)) for first, second in pairs)
    assert not np.array_equal(pairs[0][0], pairs[1][0])


def test_malformed_requests_are_of_all_kinds():
    random = np.random.default_rng(0)
    firsts = {fault_scenes.malformed_request(random).split(b"\r\n")[0][:6] for _ in range(300)}
    assert {b"POST /", b"DELETE"} < firsts
