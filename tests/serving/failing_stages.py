"""Cascades with a stage that does not load, each in its own way."""

import numpy as np

from cascade.calibration import Policy

MODELS = """
import os
import sys
import time

import numpy as np


class Good:
    def predict(self, rows):
        return np.tile([0.9, 0.1], (len(rows), 1))


class Raises(Good):
    def __init__(self):
        print("noise of a model", flush=True)
        raise MemoryError("no room for the weights")


class Leaves(Good):
    def __init__(self):
        sys.exit(0)


class Dies(Good):
    def __init__(self):
        os._exit(0)


class Sleeps(Good):
    def __init__(self):
        time.sleep(600)


class Spins(Good):
    def __init__(self):
        while True:
            pass
"""
CONFIG = """
name: {name}
rows: {{shape: [1]}}
stages:
  - name: small
    backend: {{type: custom, object: "failing_models:Good"}}
    deployment: {{ray_actor_options: {{num_cpus: 0.1}}}}
  - name: big
    backend: {backend}
    deployment: {{ray_actor_options: {{num_cpus: 0.1}}}}
serving: {{metrics: false}}
"""


def custom(name):
    """The description of a stage whose class is in ``MODELS``."""
    return f'{{type: custom, object: "failing_models:{name}"}}'


def write_failing_cascade(folder, backend, name="failing"):
    """Writes a configuration and its policy; returns the path of the configuration."""
    (folder / "failing_models.py").write_text(MODELS)
    (folder / "config.yaml").write_text(CONFIG.format(name=name, backend=backend))
    Policy.from_thresholds(("small", "big"), np.array([0.8])).save(folder / "policy.json")
    return folder / "config.yaml"
