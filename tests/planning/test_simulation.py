"""The simulation of a served cascade: against queueing theory, and by its properties."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.calibration.costs.cost_curve import CostCurve
from cascade.calibration.costs.shared_process import shared_process_ms
from cascade.planning.grouping import Transport
from cascade.planning.simulation.deployment import Deployment, Machine, StageTimes
from cascade.planning.simulation.requests import Requests
from cascade.planning.simulation.routes import Routes
from cascade.planning.simulation.simulate import simulate

ONE_ROW = Transport(hop_ms=0.0, batch_rows=1)
ROW = Routes(np.ones((1, 1)))
MILLISECOND = StageTimes.constant(1.0, 64)


def alone(stage=MILLISECOND, replicas=1, transport=ONE_ROW, **options):
    return Deployment([stage], ((0,),), [replicas], transport, **options)


@pytest.mark.parametrize("load", [0.3, 0.7, 0.9])
def test_one_replica_with_constant_times_waits_as_an_m_d_1_queue(load):
    found = simulate(alone(), ROW, Requests.at_rate(1000 * load, 100_000, seed=1))
    assert found.latency_ms.mean() == pytest.approx(1 + load / (2 * (1 - load)), rel=0.06)
    assert found.segments[0].utilisation == pytest.approx(load, rel=0.02)


def test_one_replica_with_exponential_times_waits_as_an_m_m_1_queue():
    work = Routes(np.random.default_rng(0).exponential(1.0, (50_000, 1)))
    found = simulate(alone(), work, Requests.at_rate(700, 150_000, seed=2))
    assert found.latency_ms.mean() == pytest.approx(1 / 0.3, rel=0.06)
    assert found.latency_percentile(99) == pytest.approx(math.log(100) / 0.3, rel=0.1)


@pytest.mark.parametrize(("processors", "load"), [(1, 0.6), (2, 0.7), (4, 0.8)])
def test_replicas_that_share_processors_wait_as_an_m_m_c_queue(processors, load):
    """Exponential work on c shared processors: as many jobs as in M/M/c, so by Little's law the same mean time."""
    replicas = 400  # so many that two requests seldom meet in one
    work = Routes(np.random.default_rng(0).exponential(1.0, (50_000, 1)))
    machine = Machine(processors, replicas)
    rate = processors * load
    found = simulate(
        alone(replicas=replicas, machine=machine), work, Requests.at_rate(1000 * rate, 60_000, seed=3), seed=3
    )
    terms = [rate**n / math.factorial(n) for n in range(processors)]
    last = rate**processors / math.factorial(processors) / (1 - load)
    waits = last / (sum(terms) + last)  # Erlang's C formula
    assert found.latency_ms.mean() == pytest.approx(1 + waits / (processors * (1 - load)), rel=0.07)


@pytest.mark.parametrize("rate", [0.2, 1.0, 3.0])
def test_batches_of_constant_time_have_the_size_of_bulk_service(rate):
    """A batch takes what came during the one before, or waits for a row: its mean size is a + exp(-a)."""
    batch = StageTimes(np.append(0.0, np.ones(200)), 1, False, 0.0)
    found = simulate(alone(batch, transport=Transport(0.0, 150)), ROW, Requests.at_rate(1000 * rate, 50_000))
    assert found.segments[0].batch_rows == pytest.approx(rate + math.exp(-rate), rel=0.02)
    # A row waits for the rest of the running batch, whose age at the arrival is uniform.
    busy = rate / (rate + math.exp(-rate))
    assert found.latency_ms.mean() == pytest.approx(1 + busy / 2, rel=0.02)


def test_a_closed_loop_keeps_all_processors_busy():
    found = simulate(alone(replicas=4, machine=Machine(2, 4)), ROW, Requests.closed_loop(16, 20_000))
    assert found.rows_per_s == pytest.approx(2000, rel=0.01)
    assert found.latency_ms.mean() == pytest.approx(16 / 2, rel=0.01)  # Little's law
    assert found.offered_rows_per_s == math.inf


def test_the_first_request_of_a_closed_loop_after_a_batch_does_not_wait_for_the_others():
    """So batches are small and large by turns, and twice as many as if all requests came at once."""
    batch = alone(StageTimes(np.append(0.0, np.full(64, 10.0)), 1, False, 0.0), transport=Transport(0.0, 64))
    found = simulate(batch, ROW, Requests.closed_loop(16, 4000, client_ms=0.01))
    assert found.segments[0].batch_rows == pytest.approx(8, rel=0.02)
    assert found.rows_per_s == pytest.approx(800, rel=0.02)
    assert simulate(batch, ROW, Requests.closed_loop(16, 4000)).rows_per_s == pytest.approx(1600, rel=0.02)


def test_the_overhead_of_a_batch_is_part_of_each():
    found = simulate(
        alone(transport=Transport(0.0, 1, request_ms=0.5, batch_ms=1.5)), ROW, Requests.at_rate(1, 2000, cv=0.0)
    )
    assert found.latency_ms == pytest.approx(0.5 + 1.5 + 1.0)


def test_replayed_routes_are_those_of_the_given_rows_in_their_order():
    routes = Routes(np.array([[1.0, 0.0], [1.0, 1.0]])).replayed(np.array([1, 0, 0]))
    stages = [StageTimes.constant(1.0, 4), StageTimes.constant(10.0, 4)]
    requests = Requests(1e3 * np.arange(1, 7.0), np.ones(6, dtype=np.int64))
    found = simulate(Deployment(stages, ((0, 1),), [1], ONE_ROW), routes, requests)
    assert (found.end_ms - found.arrival_ms).round(6).tolist() == [11.0, 1.0, 1.0, 11.0, 1.0, 1.0]


def test_bursts_lengthen_the_tail_and_not_the_rate():
    calm, bursty = (simulate(alone(), ROW, Requests.at_rate(600, 60_000, cv=cv)) for cv in (1.0, 3.0))
    assert bursty.rows_per_s == pytest.approx(calm.rows_per_s, rel=0.1)
    assert bursty.latency_percentile(99) > 2 * calm.latency_percentile(99)


def test_a_segment_that_gathers_does_the_work_of_the_curves():
    """As the simulation of one process that calibration uses, which knows no latency."""
    curves = [
        CostCurve.fit(np.array([1, 8, 64]), np.array([0.1, 0.2, 0.9])),
        CostCurve.fit(np.array([1, 8, 64]), np.array([5.0, 5.5, 9.0])),
    ]
    shares = np.array([1.0, 0.3])
    rate = 2000.0
    deployment = Deployment(
        [StageTimes.of_curve(curve, 64, curve) for curve in curves], ((0, 1),), [1], Transport(0.0, 64)
    )
    assert deployment.steps(0) == [(0,), (1,)]
    requests = Requests.at_rate(rate, 20_000)
    rng = np.random.default_rng(0)
    routes = Routes(np.stack([np.ones(20_000), rng.random(20_000) < 0.3], axis=1).astype(float))
    found = simulate(deployment, routes, requests)
    busy_ms = found.segments[0].utilisation * (found.end_ms.max() - found.arrival_ms[0]) / 20_000
    assert busy_ms == pytest.approx(shared_process_ms(curves, shares, rate), rel=0.03)


def test_a_segment_gathers_and_splits_by_the_curve_of_the_policy_and_takes_the_times_of_the_machine():
    here = CostCurve.fit(np.array([1, 8, 64]), np.array([1.0, 2.0, 20.0]))
    served = CostCurve.fit(np.array([1, 4, 64]), np.array([3.0, 3.5, 56.0]))
    assert (here.best_rows, served.best_rows) == (8, 4)
    times = StageTimes.of_curve(here, 64, served)
    assert (times.target_rows, times.gathers, times.max_wait_ms) == (4, True, pytest.approx(3.0))
    assert times.call_ms[8] == pytest.approx(2 * float(here.call_ms(4)))
    assert StageTimes.of_curve(here, 64, None).call_ms[8] == pytest.approx(2.0)


@pytest.mark.parametrize(("replicas", "rows_per_s"), [(1, 1000), (2, 2 * 1000 * (2 / 3) / 1.5), (4, 2000 * 0.8 / 1.5)])
def test_replicas_share_processors_with_others_and_slow_each_other_down(replicas, rows_per_s):
    """One replica has a processor to itself beside one other process; more get equal shares of both, and are slower."""
    machine = Machine(2, replicas, others=1.0, slowdown=1.5)
    found = simulate(alone(replicas=replicas, machine=machine), ROW, Requests.closed_loop(16, 20_000))
    assert found.rows_per_s == pytest.approx(rows_per_s, rel=0.01)


@st.composite
def deployments(draw):
    k = draw(st.integers(1, 4))
    times = [StageTimes.constant(draw(st.floats(0.01, 5)), 80) for _ in range(k)]
    if draw(st.booleans()):
        curve = CostCurve.fit(np.array([1, 16]), np.array([2.0, draw(st.floats(2.0, 20.0))]))
        times[-1] = StageTimes.of_curve(curve, 80, curve)
    cuts = [0, *(i for i in range(1, k) if draw(st.booleans())), k]
    segments = tuple(tuple(range(a, b)) for a, b in itertools.pairwise(cuts))
    replicas = [draw(st.integers(1, 4)) for _ in segments]
    machine = draw(st.sampled_from([None, Machine(1.5, 3)]))
    transport = Transport(
        draw(st.floats(0, 3)), draw(st.integers(1, 16)), draw(st.floats(0, 0.5)), draw(st.floats(0, 1))
    )
    return Deployment(times, segments, replicas, transport, machine=machine)


@settings(deadline=None, max_examples=60)
@given(deployments(), st.floats(5, 2000), st.integers(1, 5), st.sampled_from([0.0, 1.0, 2.5]), st.integers(0, 99))
def test_every_request_is_answered_after_the_time_of_its_own_rows(deployment, rate, request_rows, cv, seed):
    k = len(deployment.stages)
    reach = np.cumprod(np.append(1.0, np.random.default_rng(seed).random(k - 1)))
    routes = Routes.of_shares(reach)
    requests = Requests.at_rate(rate, 300, request_rows, cv, seed)
    found = simulate(deployment, routes, requests, seed)
    transport = deployment.transport
    least = transport.request_ms + transport.batch_ms + float(deployment.stages[0].call_ms[1])
    assert np.isfinite(found.end_ms).all()
    assert (found.end_ms - found.arrival_ms >= least - 1e-6).all()
    assert all(0 <= segment.utilisation <= segment.busiest <= 1 + 1e-9 for segment in found.segments)
    again = simulate(deployment, routes, requests, seed)
    np.testing.assert_array_equal(found.end_ms, again.end_ms)
    closed = simulate(deployment, routes, Requests.closed_loop(8, 300, request_rows, client_ms=seed % 3), seed)
    assert np.isfinite(closed.end_ms).all()


@given(st.floats(1, 1e5), st.integers(1, 64), st.floats(0, 4), st.integers(0, 9))
def test_requests_have_their_rate(rate, rows, cv, seed):
    found = Requests.at_rate(rate, 3000, rows, cv, seed)
    assert (np.diff(found.arrival_ms) >= 0).all()
    assert found.rows_per_s == pytest.approx(rate, rel=0.05 + 0.1 * cv)


def test_bursts_have_the_mean_rate_and_come_together():
    found = Requests.in_bursts(100, 60_000, factor=4, share=0.1, burst_s=2, seed=4)
    assert found.rows_per_s == pytest.approx(100, rel=0.1)
    per_second = np.bincount((found.arrival_ms / 1e3).astype(int))
    assert per_second.var() > 5 * per_second.mean()  # 1 for a Poisson process


@pytest.mark.parametrize(("rate", "cv"), [(0.0, 1.0), (-1.0, 1.0), (math.inf, 1.0), (math.nan, 1.0), (5.0, math.inf)])
def test_rates_that_are_none_are_refused(rate, cv):
    with pytest.raises(ValueError, match=r"rate|cv"):
        Requests.at_rate(rate, 10, cv=cv)


def test_routes_of_other_stages_are_refused():
    with pytest.raises(ValueError, match="2 stages"):
        simulate(alone(), Routes(np.ones((1, 2))), Requests.at_rate(5, 10))
