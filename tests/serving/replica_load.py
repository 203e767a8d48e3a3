"""The replicas of a served sleeping cascade, and clients that load it and check every answer."""

import threading
import time
from collections import Counter
from pathlib import Path

import httpx
from serving_process import NO_CERTIFICATES
from sleeping_cascade import make_rows

CLIENTS = 6
WAIT_S = 60


def replica_pids(name, deployment):
    """Processes of a deployment's replicas; Ray puts both names into their titles."""
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
    """Clients that send requests without a pause while the context is open, each row with an answer of its own.

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
    """The outcome of one request."""
    try:
        response = httpx.post(
            f"{url}/predict", json={"rows": make_rows(first, 300).tolist()}, timeout=60, verify=NO_CERTIFICATES
        )
    except httpx.TransportError:
        return "lost"
    if response.status_code != 200:
        clear = set(response.json()) == {"error"} and "\n" not in response.json()["error"]
        return str(response.status_code) if clear else f"wrong: {response.text}"
    answer = response.json()
    expected = ([row % 4 for row in first], ["big" if row % 2 else "small" for row in first], [False] * len(first))
    return "right" if (answer["answer"], answer["stage"], answer["degraded"]) == expected else f"wrong: {answer}"


def wait_for_replicas(name, deployment, count, other_than=()):
    """Waits until Ray Serve has that many replicas, none of them an old one."""
    for _ in range(WAIT_S * 5):
        pids = replica_pids(name, deployment)
        if len(pids) == count and not set(pids) & set(other_than):
            return pids
        time.sleep(0.2)
    raise AssertionError(f"after {WAIT_S} s {deployment} has the replicas {pids}, not {count} without {other_than}")
