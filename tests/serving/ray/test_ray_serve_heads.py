"""Heads on a real Ray Serve: evidence travels through three segments."""

import httpx
import numpy as np
import pytest
from serving_process import serving_process

from cascade.calibration import Policy, calibrate
from cascade.calibration.table_confidence import calibrated_confidence
from cascade.cascade import Cascade, load_stages
from cascade.collection.collect import collect
from cascade.config import CascadeConfig

pytestmark = pytest.mark.serve

ROWS = 120
STAGE = """
  - name: {name}
    backend:
      type: custom
      object: "cascade.backends.fake_backend:FakeBackend"
      arguments: {{probabilities: {table}}}
    router: {{head: deferral}}
    deployment: {{ray_actor_options: {{num_cpus: 0.5}}}}
"""


def stage_text(name, skill, label):
    random = np.random.default_rng(int(skill))
    powers = np.exp(random.normal(size=(ROWS, 4)) + skill * np.eye(4)[label])
    return STAGE.format(name=name, table=(powers / powers.sum(axis=1, keepdims=True)).tolist())


def test_the_served_decisions_are_those_of_the_engine_bit_for_bit(tmp_path):
    label = np.random.default_rng(0).integers(0, 4, ROWS)
    stages = "".join(stage_text(name, skill, label) for name, skill in (("a", 1), ("b", 2), ("c", 4)))
    path = tmp_path / "config.yaml"
    path.write_text(
        f"name: heads\nrows: {{dtype: int64}}\nstages:{stages}"
        "serving: {segments: [[a], [b], [c]], max_batch_rows: 7}\n"
    )
    config = CascadeConfig.load(path)
    loaded, rows = load_stages(config.stages), np.arange(ROWS)
    table = collect(loaded, rows, label, curve_seconds=0)
    found = calibrate(table, max_accuracy_drop=0.1, routers=[stage.router.choice for stage in config.stages])
    # Confidences that occur: a single wrong bit would forward a row.
    thresholds = np.quantile(calibrated_confidence(table, found.routers)[:, :2], 0.6, axis=0, method="higher")
    policy = Policy(found.stages, found.routers, thresholds, table.cost)
    expected = Cascade(loaded, policy).predict(rows)
    assert len(np.unique(expected.stage)) == 3
    policy.save(tmp_path / "policy.json")
    with serving_process(path, tmp_path / "log") as url:
        answers = httpx.post(f"{url}/predict", json={"rows": rows.tolist()}, timeout=60).json()
    assert answers["stage"] == ["abc"[k] for k in expected.stage]
    assert answers["confidence"] == expected.confidence.tolist()
    assert answers["answer"] == expected.answer.tolist()
