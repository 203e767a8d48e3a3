"""``cascade serve`` of stages that do not load: the error, its delay, the exit code, and that no process is left."""

import signal
import subprocess
import sys
import time

import psutil
import pytest
from failing_stages import custom, write_failing_cascade
from serving_process import free_port, kill_family

pytestmark = [pytest.mark.serve, pytest.mark.slow]

START_S = 90


@pytest.fixture
def start(tmp_path):
    """Serves a cascade with a given second stage; yields a function that returns the process."""
    started = []

    def start(backend):
        path = write_failing_cascade(tmp_path, backend)
        command = [sys.executable, "-m", "cascade", "serve", str(path), "--port", str(free_port())]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        kill_family(process)


def family(process):
    return [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]


@pytest.mark.parametrize(
    ("name", "told"),
    [("Raises", "error: stage 'big' cannot load: MemoryError"), ("Dies", "error: big: its process died while it")],
)
def test_a_stage_that_cannot_load_is_one_error_and_no_process_is_left(start, name, told):
    process = start(custom(name))
    seen, text = set(), []
    for line in process.stdout:
        seen |= set(family(process)) if process.poll() is None else set()
        text.append(line)
    assert process.wait(10) == 3
    assert [line.startswith(told) for line in text].count(True) == 1, text
    assert not any("Traceback" in line for line in text)
    assert not psutil.wait_procs(list(seen), timeout=10)[1]


@pytest.mark.parametrize(
    ("name", "number", "line"),
    [
        ("Sleeps", signal.SIGINT, "big: loading"),
        ("Spins", signal.SIGTERM, "big: loading"),
        ("Sleeps", signal.SIGTERM, "Ray: starting"),
    ],
)
def test_a_signal_ends_an_endless_start_in_time_and_no_process_is_left(start, name, number, line):
    process = start(custom(name))
    assert any(line in each for each in process.stdout)
    if line != "Ray: starting":
        time.sleep(3)  # the replica is in the constructor of its model, or about to be
    seen = family(process)
    began = time.monotonic()
    process.send_signal(number)
    assert process.wait(START_S) == 0
    assert time.monotonic() - began < 10
    assert "stopped before it was up" in process.stdout.read()
    assert not psutil.wait_procs(seen, timeout=max(0.1, began + 10 - time.monotonic()))[1]
