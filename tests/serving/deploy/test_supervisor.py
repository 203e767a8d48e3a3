"""The parent process of a served cascade: signals, exit codes, no process left; without Ray."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from serving_process import kill_family

from cascade.serving.deploy.supervisor import SIGNALS

CHILD = """
import subprocess, sys, time
from cascade.serving.deploy.supervisor import supervised

stop = supervised({stop_s})
helper = subprocess.Popen([sys.executable, "-c", "import os, time; os.setpgrp(); time.sleep(600)"])
print(helper.pid, flush=True)
{then}
"""
ORDERLY = "stop.wait(); time.sleep(0.3); sys.exit({code})"
DEAF = "stop.wait(); time.sleep(600)"


@pytest.fixture
def start():
    """Starts a supervised program; yields a function that returns it and all its processes."""
    started = []

    def start(then, stop_s=30.0, prepare=None):
        code = CHILD.format(stop_s=stop_s, then=then)
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=prepare
        )
        started.append(process)
        assert process.stdout.readline().strip().isdecimal()
        family = psutil.Process(process.pid).children(recursive=True)
        assert len(family) == 2
        return process, family

    yield start
    for process in started:
        kill_family(process)


def are_gone(family):
    return not psutil.wait_procs(family, timeout=10)[1]


@pytest.mark.parametrize("number", SIGNALS)
def test_every_signal_is_the_same_orderly_stop_and_leaves_no_process(start, number):
    process, family = start(ORDERLY.format(code=0))
    process.send_signal(number)
    assert process.wait(20) == 0
    assert are_gone(family)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_to_the_process_group_leaves_the_helpers_alive_until_the_child_has_stopped(start, number):
    process, family = start(
        "stop.wait(); time.sleep(0.5); sys.exit(0 if helper.poll() is None else 7)",
    )
    os.killpg(process.pid, number)
    assert process.wait(20) == 0
    assert are_gone(family)


def test_the_exit_code_is_the_childs(start):
    process, family = start("sys.exit(3)")
    assert process.wait(20) == 3
    assert are_gone(family)


def test_a_second_signal_kills_the_child_at_once(start):
    process, family = start(DEAF)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    assert process.poll() is None
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 128 + signal.SIGINT
    assert time.monotonic() - began < 5
    assert are_gone(family)


def test_a_child_that_does_not_stop_in_time_is_killed(start):
    process, family = start(DEAF, stop_s=0.5)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 128 + signal.SIGALRM
    assert are_gone(family)


def test_a_child_that_is_killed_leaves_no_process(start):
    process, family = start(ORDERLY.format(code=0))
    family[0].kill()
    assert process.wait(20) == 128 + signal.SIGKILL
    assert are_gone(family)


def test_a_supervisor_that_is_killed_stops_the_child(start):
    process, family = start("stop.wait(); helper.kill(); sys.exit(0)")
    process.kill()
    assert process.wait(20) == -signal.SIGKILL
    assert are_gone(family)


def test_under_nohup_the_end_of_the_terminal_stops_nothing(start):
    process, family = start(ORDERLY.format(code=0), prepare=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    process.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    assert are_gone(family)
