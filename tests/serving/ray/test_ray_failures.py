"""Replicas that are killed under load: every request gets one right answer or one clear error, and service recovers."""

import os
import signal
import time
import uuid

import httpx
import pytest
from replica_load import CLIENTS, WAIT_S, Load, ask_once, replica_pids, wait_for_replicas
from serving_process import serving_process
from sleeping_cascade import write_sleeping_cascade

pytestmark = [pytest.mark.serve, pytest.mark.slow]


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """(address, name of the application) of a cascade of two gateways and two replicas of the big stage."""
    name = f"kill-{uuid.uuid4().hex[:12]}"
    serving = "gateways: 2, request_timeout_s: 30"
    path = write_sleeping_cascade(tmp_path_factory.mktemp("kill"), name, replicas=2, serving=serving)
    with serving_process(path, path.with_name("log")) as url:
        yield url, name


def kill_one_under_load(url, name, deployment):
    """Kills a replica while requests come in; returns their outcomes."""
    victim = replica_pids(name, deployment)[0]
    with Load(url) as load:
        time.sleep(1)
        os.kill(victim, signal.SIGKILL)
        time.sleep(3)
    wait_for_replicas(name, deployment, 2, {victim})
    return load.outcomes


def test_no_request_fails_when_a_replica_of_a_later_stage_is_killed(served):
    url, name = served
    outcomes = kill_one_under_load(url, name, "segment-big")
    assert outcomes.keys() == {"right"}, outcomes
    assert outcomes["right"] > 10


def test_a_killed_gateway_breaks_its_own_connections_only(served):
    url, name = served
    outcomes = kill_one_under_load(url, name, "gateway")
    assert outcomes.keys() <= {"right", "lost"}, outcomes
    # A client's next connection may still meet the dying listener.
    assert outcomes["lost"] <= 3 * CLIENTS
    assert outcomes["right"] > 10
    assert {ask_once(url, [first, first + 1]) for first in range(40)} == {"right"}


def test_without_any_replica_of_a_later_stage_accepted_rows_are_answered_and_deferred_rows_wait(served):
    url, name = served
    victims = replica_pids(name, "segment-big")
    for victim in victims:
        os.kill(victim, signal.SIGKILL)
    assert ask_once(url, [0, 2, 4]) == "right"
    assert ask_once(url, [1, 2, 3]) == "right"
    wait_for_replicas(name, "segment-big", 2, victims)


def wait_for_status(url, path, status):
    """Waits until both gateways answer with a status; connections are spread over them."""
    for _ in range(WAIT_S * 5):
        if {httpx.get(url + path, timeout=10).status_code for _ in range(12)} == {status}:
            return
        time.sleep(0.2)
    raise AssertionError(f"{path} was not {status} in {WAIT_S} s")


def test_it_is_ready_only_while_a_later_stage_can_be_reached_and_always_live(served):
    url, name = served
    wait_for_status(url, "/v2/health/ready", 200)
    victims = set()
    deadline = time.monotonic() + WAIT_S
    statuses = set()
    while 503 not in statuses and time.monotonic() < deadline:
        for pid in replica_pids(name, "segment-big"):  # those that come back as well
            victims.add(pid)
            os.kill(pid, signal.SIGKILL)
        statuses.add(httpx.get(f"{url}/v2/health/ready", timeout=10).status_code)
        assert httpx.get(f"{url}/v2/health/live", timeout=10).status_code == 200
        time.sleep(0.1)
    assert 503 in statuses
    wait_for_replicas(name, "segment-big", 2, victims)
    wait_for_status(url, "/v2/models/" + name + "/ready", 200)
