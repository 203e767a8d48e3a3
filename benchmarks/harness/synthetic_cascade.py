"""The two busy stages as a cascade of this project: its configuration and policy, written into a folder."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from cascade.benchmarks.harness.stages import busy_stage
from cascade.calibration import Policy

STAGES = Path(__file__).with_name("stages")
STAGE_S = (20e-6, 200e-6)
"""Processor time a row of the first and of the second stage."""
PROCESSORS = len(os.sched_getaffinity(0))
FUSED: dict[str, Any] = {"segments": [list(busy_stage.STAGES)], "gateways": PROCESSORS}
"""As ``cascade plan`` has it: both stages in every gateway, since they cost less than a call to another process."""


def calibrated_rounds(stage_s: Sequence[float] = STAGE_S) -> list[int]:
    """Seconds a row as work a row; measured once, so that all servers do the same work."""
    speed = busy_stage.rounds_per_s()
    return [round(seconds * speed) for seconds in stage_s]


def copy_modules(folder: Path, *names: str) -> None:
    """Puts modules of stages beside a configuration."""
    for name in names:
        shutil.copy(STAGES / f"{name}.py", folder)


def write_cascade(
    folder: Path,
    rounds: Sequence[int],
    module: str = "busy_stage",
    serving: dict[str, Any] | None = None,
    deployment: dict[str, dict[str, Any]] | None = None,
) -> Path:
    """Writes config, policy and the stages' module.

    Args:
        folder: exists.
        rounds: work a row of both stages.
        module: of the stages' folder, with ``BusyStage`` or a class of that name that does more.
        serving: keys of the configuration.
        deployment: keys of Ray Serve's deployments, by stage name.

    Returns:
        The path of the configuration.
    """
    copy_modules(folder, *{"busy_stage", module})
    arguments = [
        {"rounds_per_row": rounds[0]},
        {"rounds_per_row": rounds[1], "answer_byte": busy_stage.LATER_STAGE_BYTE},
    ]
    stages = [
        {
            "name": name,
            "backend": {"type": "custom", "object": f"{module}:BusyStage", "arguments": arguments[index]},
            "router": {"calibrator": "identity"},
            "deployment": (deployment or {}).get(name, {}),
        }
        for index, name in enumerate(busy_stage.STAGES)
    ]
    config = {
        "name": "synthetic",
        "rows": {"shape": [3, 32, 32], "dtype": "uint8"},
        "stages": stages,
        "serving": serving or {},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    Policy.from_thresholds(busy_stage.STAGES, np.array([busy_stage.THRESHOLD])).save(folder / "policy.json")
    return folder / "config.yaml"
