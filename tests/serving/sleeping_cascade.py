"""A cascade of two stages whose rows contain the run time of the second one."""

import shutil
from pathlib import Path

import numpy as np

from cascade.calibration import Policy

CONFIG = """
name: {name}
rows: {{shape: [{width}], dtype: int64}}
stages:
  - name: small
    backend: {{type: custom, object: "sleeping_backend:SleepingBackend", arguments: {{sleeps: false, sure: false}}}}
    router: {{calibrator: identity}}
    deployment: {{ray_actor_options: {{num_cpus: 0.5}}}}
  - name: big
    backend: {{type: custom, object: "sleeping_backend:SleepingBackend", arguments: {{sleeps: true, sure: true}}}}
    deployment: {{num_replicas: {replicas}, ray_actor_options: {{num_cpus: 0.5}}}}
serving: {{{serving}}}
"""


def write_sleeping_cascade(folder, name="sleeping", width=2, replicas=1, serving=""):
    """Writes configuration, policy and model into a folder; returns the path of the configuration."""
    shutil.copy(Path(__file__).with_name("sleeping_backend.py"), folder)
    path = folder / "config.yaml"
    path.write_text(CONFIG.format(name=name, width=width, replicas=replicas, serving=serving))
    Policy.from_thresholds(("small", "big"), np.array([0.8])).save(folder / "policy.json")
    return path


def make_rows(first, milliseconds, width=2):
    """Rows with the given first numbers and times."""
    rows = np.zeros((len(first), width), dtype=np.int64)
    rows[:, 0], rows[:, 1] = first, milliseconds
    return rows
