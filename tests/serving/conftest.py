"""A small cascade in a file: two fake stages; the first one is confident on even rows."""

from dataclasses import replace

import numpy as np
import pytest
from serving_process import free_port

from cascade.calibration import Policy, PolicySet
from cascade.config import CascadeConfig

CLASSES = ("zero", "one", "two", "three")
ROWS = 64

CONFIG = """
name: fake
rows: {{shape: [2], dtype: int64}}
classes: [zero, one, two, three]
stages:
  - name: small
    backend: {{type: custom, object: "{fake}", arguments: {{probabilities: {small}}}}}
    router: {{calibrator: identity}}
  - name: big
    backend: {{type: custom, object: "{fake}", arguments: {{probabilities: {big}}}}}
    deployment: {{ray_actor_options: {{num_cpus: 0.5}}}}
serving: {{port: {port}, max_request_rows: 32, max_body_bytes: 4096}}
"""


def probabilities(confidence):
    """(64, 4) rows that answer ``row % 4`` with a confidence."""
    table = np.empty((ROWS, 4))
    for row in range(ROWS):
        table[row] = (1 - confidence(row)) / 3
        table[row, row % 4] = confidence(row)
    return table.tolist()


@pytest.fixture(scope="session")
def config_path(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fake")
    text = CONFIG.format(
        fake="cascade.backends.fake_backend:FakeBackend",
        small=probabilities(lambda row: 0.6 if row % 2 else 0.9),
        big=probabilities(lambda row: 0.97),
        port=free_port(),
    )
    (folder / "config.yaml").write_text(text)
    policy().save(folder / "policy.json")
    return folder / "config.yaml"


def policy():
    return Policy.from_thresholds(("small", "big"), np.array([0.8]))


@pytest.fixture(scope="session")
def config(config_path):
    return CascadeConfig.load(config_path)


@pytest.fixture(scope="session")
def two_gears():
    """A set whose second gear is the policy of the fixtures."""
    certificates = [{"observed": {"mean_cost": cost}} for cost in (2.0, 1.0)]
    better = Policy.from_thresholds(("small", "big"), np.array([0.99]))
    return PolicySet(
        tuple(
            replace(gear, certificate=certificate)
            for gear, certificate in zip((better, policy()), certificates, strict=True)
        )
    )
