"""Loads the stages of a cascade on trial while Ray starts, which takes longer than most models."""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

from cascade.cascade import load_stages
from cascade.config import CascadeConfig, StageConfig
from cascade.errors import CascadeError

__all__ = ["TrialLoad"]

TRIAL_S = 5.0
"""Soon after it replicas load their models: a longer trial would keep a second copy of them in memory."""


class TrialLoad:
    """Loads stages in a process of its own, which ends before replicas load theirs.

    It can only find errors: a trial that does not end in time, or whose process dies, finds none, and the replicas load
    the stages as usual. Stages with an accelerator or an environment of their own are not tried.

    Args:
        config_path: of the configuration.
    """

    def __init__(self, config_path: Path) -> None:
        code = "import sys; del sys.path[0]; from cascade.serving.deploy.trial_load import main; main(sys.argv[1])"
        self._process = subprocess.Popen(
            [sys.executable, "-c", code, str(config_path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        self._until = time.monotonic() + TRIAL_S

    def problem(self) -> str | None:
        """Why a stage cannot load; ``None`` if no error has been found so far."""
        if self._process.poll() is None:
            if time.monotonic() > self._until:
                self.end()
        elif self._process.returncode == CascadeError.exit_code and self._process.stdout is not None:
            with contextlib.suppress(ValueError):  # closed
                return self._process.stdout.read().strip() or None
        return None

    def end(self) -> None:
        """Kills the process, if it runs."""
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


def is_tried(stage: StageConfig) -> bool:
    """Whether a process of this machine loads a stage as a replica does."""
    options = stage.deployment.get("ray_actor_options") or {}
    return not (options.get("num_gpus") or options.get("resources") or options.get("runtime_env"))


def main(path: str) -> None:
    """Loads the stages of a configuration; an error is one message on standard output, and exit code 1."""
    config = CascadeConfig.load(path)
    stages = [stage for stage in config.stages if is_tried(stage)]
    output = os.dup(1)
    os.dup2(2, 1)  # what models print
    try:
        load_stages(stages, Path(path).resolve().parent, config.classes)
    except CascadeError as error:
        os.write(output, str(error).encode())
        sys.exit(CascadeError.exit_code)
