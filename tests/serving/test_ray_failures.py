"""Replicas that are killed under load: every request gets one right answer or one clear error, and service recovers."""

import os
import signal
import threading
import time
import uuid
from collections import Counter
from pathlib import Path

import httpx
import pytest
from serving_process import serving_process
from sleeping_cascade import make_rows, write_sleeping_cascade

pytestmark = [pytest.mark.serve, pytest.mark.slow]

CLIENTS = 6
RECOVERY_S = 60


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """(address, name of the application) of a cascade of two gateways and two replicas of the big stage."""
    name = f"kill-{uuid.uuid4().hex[:12]}"
    serving = "gateways: 2, request_timeout_s: 30"
    path = write_sleeping_cascade(tmp_path_factory.mktemp("kill"), name, replicas=2, serving=serving)
    with serving_process(path, path.with_name("log")) as url:
        yield url, name


def replica_pids(name, deployment):
    """Processes of a deployment's replicas; Ray writes both names into their titles."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                title = (entry / "cmdline").read_text()
            except OSError:  # it has just ended
                continue
            if title.startswith(f"ray::ServeReplica:{name}:{deployment}"):
                found.append(int(entry.name))
    return found


class Load:
    """Clients that ask without a pause while the context is open, each row with an answer of its own.

    Attributes:
        outcomes: how many requests ended how: "right", "503", "lost" (the connection broke), or "wrong: ...".
    """

    def __init__(self, url):
        self.url, self.outcomes, self._stop, self._lock = url, Counter(), threading.Event(), threading.Lock()
        self._threads = [threading.Thread(target=self._ask, args=(client,)) for client in range(CLIENTS)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in self._threads)

    def _ask(self, first):
        while not self._stop.is_set():
            first += CLIENTS
            outcome = ask_once(self.url, [first, first + 1, first + 2])
            with self._lock:
                self.outcomes[outcome] += 1


def ask_once(url, first):
    """How one request ends."""
    try:
        response = httpx.post(f"{url}/predict", json={"rows": make_rows(first, 300).tolist()}, timeout=60)
    except httpx.TransportError:
        return "lost"
    if response.status_code != 200:
        clear = set(response.json()) == {"error"} and "\n" not in response.json()["error"]
        return str(response.status_code) if clear else f"wrong: {response.text}"
    answer = response.json()
    expected = ([row % 4 for row in first], ["big" if row % 2 else "small" for row in first], [False] * len(first))
    return "right" if (answer["answer"], answer["stage"], answer["degraded"]) == expected else f"wrong: {answer}"


def wait_for_replicas(name, deployment, count, other_than):
    """Waits until Ray Serve has started a replica anew."""
    for _ in range(RECOVERY_S * 5):
        pids = replica_pids(name, deployment)
        if len(pids) == count and not set(pids) & set(other_than):
            return pids
        time.sleep(0.2)
    raise AssertionError(f"after {RECOVERY_S} s {deployment} has the replicas {pids}, not {count} without {other_than}")


def kill_one_under_load(url, name, deployment):
    """Kills a replica while requests come in; returns how they ended."""
    victim = replica_pids(name, deployment)[0]
    with Load(url) as load:
        time.sleep(1)
        os.kill(victim, signal.SIGKILL)
        time.sleep(3)
    wait_for_replicas(name, deployment, 2, {victim})
    return load.outcomes


def test_a_killed_replica_of_a_later_stage_costs_no_request(served):
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


def test_without_any_replica_of_a_later_stage_sure_rows_are_answered_and_the_others_wait_for_one(served):
    url, name = served
    victims = replica_pids(name, "segment-big")
    for victim in victims:
        os.kill(victim, signal.SIGKILL)
    assert ask_once(url, [0, 2, 4]) == "right"
    assert ask_once(url, [1, 2, 3]) == "right"
    wait_for_replicas(name, "segment-big", 2, victims)


def wait_for_status(url, path, status):
    """Waits until both gateways answer with a status; connections are spread over them."""
    for _ in range(RECOVERY_S * 5):
        if {httpx.get(url + path, timeout=10).status_code for _ in range(12)} == {status}:
            return
        time.sleep(0.2)
    raise AssertionError(f"{path} was not {status} in {RECOVERY_S} s")


def test_it_is_ready_only_while_a_later_stage_can_be_reached_and_lives_all_the_time(served):
    url, name = served
    wait_for_status(url, "/v2/health/ready", 200)
    victims = set()
    deadline = time.monotonic() + RECOVERY_S
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
