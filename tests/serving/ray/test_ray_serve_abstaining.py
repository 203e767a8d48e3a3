"""Abstaining on a real Ray Serve: the last stage in a process of its own, and a review file."""

import json
import time
from dataclasses import replace

import httpx
import numpy as np
import pytest
from serving_process import serving_process

from cascade.calibration import Policy

pytestmark = pytest.mark.serve

CONFIG = """
name: unsure
rows: {dtype: int64}
stages:
  - name: small
    backend: {type: custom, object: "cascade.backends.fake_backend:FakeBackend", arguments: {probabilities: SMALL}}
    deployment: {ray_actor_options: {num_cpus: 0.5}}
  - name: big
    backend: {type: custom, object: "cascade.backends.fake_backend:FakeBackend", arguments: {probabilities: BIG}}
    deployment: {ray_actor_options: {num_cpus: 0.5}}
serving: {review: {file: review.jsonl, include_rows: true}}
"""
SMALL = [[0.95, 0.05], [0.6, 0.4], [0.6, 0.4]]
BIG = [[0.5, 0.5], [0.1, 0.9], [0.45, 0.55]]


def test_a_row_that_the_last_stage_abstains_on_is_marked_and_written_for_review(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG.replace("SMALL", str(SMALL)).replace("BIG", str(BIG)))
    policy = replace(Policy.from_thresholds(("small", "big"), np.array([0.9])), abstain_below=0.7)
    policy.save(tmp_path / "policy.json")
    with serving_process(path, tmp_path / "log") as url:
        asked = {"json": {"rows": [0, 1, 2]}, "headers": {"x-request-id": "r-42"}, "timeout": 60}
        answers = httpx.post(f"{url}/predict", **asked).json()
        assert answers["stage"] == ["small", "big", "big"]
        assert answers["abstained"] == [False, False, True]
        assert answers["answer"] == [0, 1, 1]
        assert answers["degraded"] == [False] * 3
        tensor = {"name": "rows", "shape": [1], "datatype": "INT64", "data": [2]}
        asked = {"json": {"id": "r-43", "inputs": [tensor]}, "timeout": 60}
        reply = httpx.post(f"{url}/v2/models/unsure/infer", **asked).json()
        assert reply["parameters"]["abstained"] is True
        review, deadline = tmp_path / "review.jsonl", time.monotonic() + 20
        while not review.exists() or review.read_text().count("\n") < 2:
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.05)
    lines = [json.loads(line) for line in review.read_text().splitlines()]
    assert [(line["request_id"], line["place"], line["row"], line["answer"]) for line in lines] == [
        ("r-42", 2, 2, 1),
        ("r-43", 0, 2, 1),
    ]
    assert {line["policy_version"] for line in lines} == {policy.version}
