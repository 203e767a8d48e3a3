"""The two busy stages as a cascade of this project: its configuration and policy, written into a folder."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from cascade.benchmarks.clients.http_bodies import request_body
from cascade.benchmarks.harness.servers.server_process import ServerProcess, cascade_server
from cascade.benchmarks.harness.stages import busy_stage
from cascade.calibration import Policy

__all__ = [
    "ADMIN_KEY",
    "FUSED",
    "PROCESSORS",
    "STAGES",
    "STAGE_S",
    "calibrated_rounds",
    "copy_modules",
    "one_row_requests",
    "served_synthetic",
    "shuffled_rows",
    "write_cascade",
]

STAGES = Path(__file__).with_name("stages")
STAGE_S = (20e-6, 200e-6)
"""Processor time per row of the first and of the second stage."""
PROCESSORS = len(os.sched_getaffinity(0))
FUSED: dict[str, Any] = {"segments": [list(busy_stage.STAGES)], "gateways": PROCESSORS}
"""The arrangement of ``cascade plan``: both stages in every gateway, since they cost less than a hop."""
ADMIN_KEY = "admin-key-of-the-experiment"
ROWS = 1000


def calibrated_rounds(stage_s: Sequence[float] = STAGE_S) -> list[int]:
    """Work per row for some seconds per row; measured once, so that all servers do the same work."""
    speed = busy_stage.rounds_per_s()
    return [round(seconds * speed) for seconds in stage_s]


def copy_modules(folder: Path, *names: str) -> None:
    """Puts modules of stages beside a configuration."""
    for name in names:
        shutil.copy(STAGES / f"{name}.py", folder)


def shuffled_rows() -> np.ndarray:
    """(1000, 3, 32, 32) uint8 in random order, so that the first ones, which are compared, are like all."""
    return busy_stage.new_rows(ROWS)[np.random.default_rng(1).permutation(ROWS)]


def one_row_requests(rows: np.ndarray) -> list[tuple[bytes, dict[str, str]]]:
    """(body, headers) of a request for each row."""
    return [request_body(rows[place : place + 1]) for place in range(len(rows))]


@contextmanager
def served_synthetic(
    rounds: Sequence[int], serving: dict[str, Any] | None = None, environment: dict[str, str] | None = None
) -> Iterator[ServerProcess]:
    """Serves the cascade; arguments as of :func:`write_cascade` and :func:`cascade_server`."""
    with tempfile.TemporaryDirectory() as folder:
        config = write_cascade(Path(folder), rounds, serving=serving)
        probe = request_body(busy_stage.new_rows(busy_stage.DEFERRED_EVERY))  # reaches both stages
        with cascade_server(config, probe, environment=environment) as server:
            yield server


def write_cascade(
    folder: Path,
    rounds: Sequence[int],
    module: str = "busy_stage",
    serving: dict[str, Any] | None = None,
    deployment: dict[str, dict[str, Any]] | None = None,
) -> Path:
    """Writes config, policy and the stages' module.

    Args:
        folder: to write to; is made if it is missing.
        rounds: work per row of both stages.
        module: of the stages' folder, with ``BusyStage`` or a class of that name that does more.
        serving: keys of the configuration; with ``admin_keys_file`` that file is written too, with :data:`ADMIN_KEY`.
        deployment: keys of Ray Serve's deployments, by stage name.

    Returns:
        The path of the configuration.
    """
    folder.mkdir(parents=True, exist_ok=True)
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
    if serving and "admin_keys_file" in serving:
        key = folder / serving["admin_keys_file"]
        key.write_text(ADMIN_KEY, encoding="utf-8")
        key.chmod(0o600)
    return folder / "config.yaml"
