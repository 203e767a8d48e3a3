"""The wait for the segments: its progress lines, and its end."""

import threading
from types import SimpleNamespace

import pytest

from cascade.config import CascadeConfig
from cascade.errors import ConfigError
from cascade.serving.deploy import start_up
from cascade.serving.deploy.start_up import StartStopped, wait_until_running

CONFIG = CascadeConfig.model_validate(
    {
        "name": "started",
        "rows": {"shape": [1]},
        "stages": [{"name": name, "backend": {"type": "custom", "object": "x:Y"}} for name in ("small", "mid", "big")],
    }
)
TRACEBACK = """A replica failed to start with exception. Retrying 2 more time(s). Error:
Traceback (most recent call last):
  File "replica.py", line 1, in __init__
cascade.serving.errors.StartFailed: the process of big cannot start: OSError: no file
of this name"""


def deployment(status, message="", **replicas):
    return SimpleNamespace(status=SimpleNamespace(value=status), message=message, replica_states=replicas)


def application(status, gateway, segment):
    return SimpleNamespace(
        status=SimpleNamespace(value=status), deployments={"gateway": gateway, "segment-big": segment}
    )


@pytest.fixture
def lines_of(monkeypatch):
    """Runs the wait through given states of Ray Serve, poll by poll; returns the lines."""
    monkeypatch.setattr(start_up, "POLL_S", 0.001)

    def lines_of(*polls, stop=None):
        lines, left = [], list(polls)
        monkeypatch.setattr(start_up, "_application", lambda _: left.pop(0) if len(left) > 1 else left[0])
        wait_until_running(CONFIG, stop or threading.Event(), lines.append)
        return lines

    return lines_of


def test_every_change_of_a_segment_is_reported_once(lines_of):
    loading = deployment("UPDATING", STARTING=2)
    half = deployment("UPDATING", RUNNING=1, STARTING=1)
    ready = deployment("HEALTHY", RUNNING=1)
    first = application("DEPLOYING", loading, loading)
    lines = lines_of(None, first, first, application("DEPLOYING", half, ready), application("RUNNING", ready, ready))
    assert lines == [
        "small, mid: loading", "big: loading", "small, mid: loading, 1 of 2 replicas ready", "big: ready",
        "small, mid: ready",
    ]  # fmt: skip


def test_missing_segments_are_reported_repeatedly(lines_of, monkeypatch):
    monkeypatch.setattr(start_up, "REMIND_S", 0.0)
    ready, loading = deployment("HEALTHY", RUNNING=1), deployment("UPDATING", STARTING=1)
    waiting = application("DEPLOYING", ready, loading)
    lines = lines_of(waiting, waiting, waiting, application("RUNNING", ready, ready))
    assert [line for line in lines if line.startswith("waiting")] == ["waiting for big (loading) since 0 s"] * 3


@pytest.mark.parametrize(
    ("segment", "message"),
    [
        (
            deployment("UPDATING", TRACEBACK, STARTING=1),
            "the process of big cannot start: OSError: no file\nof this name",
        ),
        (deployment("DEPLOY_FAILED", "", STARTING=1), "big: its process cannot start: Ray gave no reason"),
        (
            deployment("UNHEALTHY", "It died.\nkilled by the kernel\n"),
            "big: its process cannot start: killed by the kernel",
        ),
    ],
)
def test_the_first_replica_that_cannot_start_ends_the_wait_with_its_own_message(lines_of, segment, message):
    with pytest.raises(ConfigError) as refused:
        lines_of(application("DEPLOYING", deployment("HEALTHY", RUNNING=1), segment))
    assert str(refused.value) == message


def test_a_process_that_died_is_reported_as_such(lines_of):
    dead = deployment("UPDATING", "A replica failed to start. Error:\nray.exceptions.ActorDiedError()", STARTING=1)
    with pytest.raises(ConfigError, match="big: its process died while it loaded"):
        lines_of(application("DEPLOYING", deployment("HEALTHY", RUNNING=1), dead))


def test_the_wait_can_be_stopped(lines_of):
    stop = threading.Event()
    stop.set()
    with pytest.raises(StartStopped):
        lines_of(application("DEPLOYING", deployment("UPDATING"), deployment("UPDATING")), stop=stop)
