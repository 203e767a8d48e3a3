"""Ends a start that was stopped or cannot succeed, at any point of it."""

import os
import sys
import threading
from collections.abc import Callable
from types import TracebackType

from typing_extensions import Self

from cascade.errors import ConfigError
from cascade.serving.deploy.start_up import Progress
from cascade.serving.deploy.trial_load import TrialLoad

__all__ = ["StartWatch"]

POLL_S = 0.1


class StartWatch:
    """Watches the start of a cascade on a local Ray, under a supervisor.

    Ray cannot be interrupted while it starts, and is slow to end replicas that load. Before the cascade is up no
    request can be lost, so this process exits at once, and its supervisor ends all processes that it has started.

    Args:
        stop: set when the start is to end.
        trial: of the stages.
        progress: called with the reason for the exit.
        leave: exits this process with an exit code.
    """

    def __init__(
        self,
        stop: threading.Event,
        trial: TrialLoad,
        progress: Progress,
        leave: Callable[[int], None] | None = None,
    ) -> None:
        self._stop, self._trial, self._progress = stop, trial, progress
        self._leave = leave or _leave
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        """Stops watching: the cascade is up, or the start has ended in another way."""
        self._over.set()
        self._thread.join()
        self._trial.end()

    def _watch(self) -> None:
        while not self._over.wait(POLL_S):
            if self._stop.is_set():
                self._progress("stopped before it was up")
                self._leave(0)
                return
            problem = self._trial.problem()
            if problem is not None:
                self._progress(f"error: {problem}")
                self._leave(ConfigError.exit_code)
                return


def _leave(code: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
