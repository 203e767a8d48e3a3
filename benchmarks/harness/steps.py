"""Commands that run one after the other, each bounded in time; what is finished is not run again."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cascade.errors import ConfigError, ObjectiveMissed

__all__ = ["Step", "Steps"]

State = Literal["done", "failed", "out of time", "not begun"]

LEAST_S = 5.0
"""A step is not begun with less time than that."""
STOP_S = 30.0
"""Time for a stopped command to end its servers, before it is killed."""


@dataclass(frozen=True)
class Step:
    """Some commands.

    Attributes:
        name: unique; of its log file, too.
        commands: run in this order until one fails.
        limit_s: seconds for all of them.
        needs: names of steps that must be done before.
    """

    name: str
    commands: Sequence[Sequence[str]]
    limit_s: float
    needs: tuple[str, ...] = ()


class Steps:
    """Runs steps in a folder, and records the state of each in ``steps.json`` at once.

    A step that fails or exceeds its time does not stop the others. In a later run, finished steps are skipped and all
    others run again; a command that can resume (``cascade train``) continues.

    Args:
        folder: for ``steps.json``, ``logs`` and what the commands write.
        environment: of the commands.
        copies: (folder, globs): where to copy the results after each step, and which files of ``folder``.
        on_line: called with a sentence about progress.

    Raises:
        ConfigError: ``steps.json`` of an earlier run cannot be read.
    """

    def __init__(
        self,
        folder: Path,
        environment: Mapping[str, str],
        copies: tuple[Path, Sequence[str]] | None = None,
        on_line: Callable[[str], None] = print,
    ) -> None:
        self._folder, self._environment, self._copies, self._on_line = folder, environment, copies, on_line
        self._file = folder / "steps.json"
        self.states: dict[str, dict[str, Any]] = {}
        if self._file.exists():
            try:
                self.states = dict(json.loads(self._file.read_text(encoding="utf-8")))
            except (OSError, ValueError, TypeError) as error:
                raise ConfigError(f"{self._file} cannot be read ({error}); delete it to run all steps again") from error

    def run(self, steps: Iterable[Step], seconds: float) -> bool:
        """Runs the steps that are not done yet.

        Args:
            steps: in this order.
            seconds: for all of them together.

        Returns:
            Whether all are done.

        Raises:
            ConfigError: another process runs steps in the same folder.
        """
        with (self._folder / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise ConfigError(f"another process runs steps in {self._folder}; wait for it") from error
            return self._run(steps, time.monotonic() + seconds)

    def _run(self, steps: Iterable[Step], end: float) -> bool:
        wanted = []
        for step in steps:
            wanted.append(step.name)
            if self._is_done(step.name):
                self._on_line(f"{step.name}: done before")
                continue
            self._record(step.name, **self._attempt(step, end - time.monotonic()))
        return all(map(self._is_done, wanted))

    def _is_done(self, name: str) -> bool:
        return bool(self.states.get(name, {}).get("state") == "done")

    def _attempt(self, step: Step, seconds: float) -> dict[str, Any]:
        if missing := [name for name in step.needs if not self._is_done(name)]:
            return {"state": "not begun", "why": f"it needs {', '.join(missing)}, not done yet"}
        if seconds < LEAST_S:
            return {"state": "not begun", "why": "the time of this run is over; run it again to go on"}
        self._on_line(f"{step.name}: at most {min(step.limit_s, seconds):.0f} s")
        begin = time.monotonic()
        log = self._folder / "logs" / f"{step.name.replace(' ', '_')}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            found = self._run_all(step, output.fileno(), begin + min(step.limit_s, seconds))
        if found["state"] != "done":
            found["why"] = f"{found['why']}; last line of {log.name}: {_last_line(log)}"
        return found | {"seconds": round(time.monotonic() - begin, 1)}

    def _run_all(self, step: Step, output: int, end: float) -> dict[str, Any]:
        missed = False
        for command in step.commands:
            code = _run(command, self._environment, output, end - time.monotonic())
            if code is None:
                return {"state": "out of time", "why": "it was stopped at its limit, and continues in the next run"}
            if code not in (0, ObjectiveMissed.exit_code):
                return {"state": "failed", "why": f"exit code {code}"}
            missed |= code != 0
        return {"state": "done"} | ({"why": "a figure was missed"} if missed else {})

    def _record(self, name: str, **state: Any) -> None:
        self.states[name] = state
        why = f": {state['why']}" if "why" in state else ""
        self._on_line(f"{name}: {state['state']}{why}")
        partial = self._file.with_suffix(".partial")
        partial.write_text(json.dumps(self.states, indent=1) + "\n", encoding="utf-8")
        partial.replace(self._file)
        if self._copies is not None:
            _copy(self._folder, *self._copies)


def _run(command: Sequence[str], environment: Mapping[str, str], output: int, seconds: float) -> int | None:
    """The exit code; ``None`` if it was stopped, with all processes that it began."""
    try:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    except OSError as error:
        os.write(output, f"{command[0]} cannot be started: {error}\n".encode())
        return 127
    try:
        return process.wait(max(seconds, 0.0))
    except subprocess.TimeoutExpired:
        return None
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sign)
            process.wait(STOP_S)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    return next((line[:300] for line in reversed(lines) if line), "(empty)")


def _copy(folder: Path, target: Path, globs: Sequence[str]) -> None:
    for pattern in globs:
        for file in folder.glob(pattern):
            copy = target / file.relative_to(folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
