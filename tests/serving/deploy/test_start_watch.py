"""The end of a start that was stopped or cannot succeed: one line, one exit code, at any point."""

import threading
import time

import pytest

from cascade.serving.deploy import start_watch
from cascade.serving.deploy.start_watch import StartWatch


class Trial:
    def __init__(self):
        self.found, self.is_ended = None, False

    def problem(self):
        return self.found

    def end(self):
        self.is_ended = True


@pytest.fixture
def watched(monkeypatch):
    """Runs a start under a watch; returns the lines, the exit codes, and the trial."""
    monkeypatch.setattr(start_watch, "POLL_S", 0.01)

    def watched(start):
        stop, trial, lines, codes = threading.Event(), Trial(), [], []
        with StartWatch(stop, trial, lines.append, codes.append) as watch:
            start(stop, trial, watch)
            time.sleep(0.1)
        return lines, codes, trial

    return watched


def test_a_stop_ends_the_start_with_exit_code_0(watched):
    lines, codes, _ = watched(lambda stop, trial, watch: stop.set())
    assert (lines, codes) == (["stopped before it was up"], [0])


def test_a_stage_that_cannot_load_ends_the_start_with_its_error(watched):
    def start(stop, trial, watch):
        trial.found = "stage 'big' cannot load: no file"

    lines, codes, _ = watched(start)
    assert (lines, codes) == (["error: stage 'big' cannot load: no file"], [3])


def test_nothing_ends_a_cascade_that_is_up(watched):
    def start(stop, trial, watch):
        watch.end()
        assert trial.is_ended
        trial.found = "too late"
        stop.set()

    lines, codes, _ = watched(start)
    assert (lines, codes) == ([], [])
