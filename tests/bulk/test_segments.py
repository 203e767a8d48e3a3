"""Segments of a bulk job: together they answer as the cascade does, bit for bit."""

from dataclasses import replace

import numpy as np
import pytest

from cascade import Cascade, CascadeConfig, FakeBackend, Policy, Stage
from cascade.answers import Answers
from cascade.bulk.ray_session import worker_counts
from cascade.bulk.segments import Deferred, run_segment, with_bulk_segments
from cascade.config import RowsConfig
from cascade.engine import Segment
from cascade.routers.kernel import NEVER

NAMES = ("a", "b", "c", "d")
ROWS = 400
FORM = RowsConfig(shape=(1,), dtype="int64")


@pytest.fixture
def stages():
    random = np.random.default_rng(3)
    return [Stage(name, FakeBackend(random.dirichlet([0.6, 0.6, 0.6], ROWS))) for name in NAMES]


def policies():
    plain = replace(
        Policy.from_thresholds(NAMES, np.array([0.9, 0.8, 0.7])), cost=np.array([0.1, 0.2, 0.3, 0.7]), abstain_below=0.6
    )
    return {
        "plain": plain,
        "early deferral": replace(plain, defer_below=np.array([0.5, 0.45, 0.0])),
        "a stage that does not run": replace(plain, thresholds=np.array([0.9, NEVER, 0.7])),
    }


def run_all(stages, segments, policy, rows):
    """All segments, with the rows of each half of the input joined for later ones."""
    whole = Answers.empty(len(rows))
    waiting = [(np.arange(len(rows))[half], Deferred(rows[half])) for half in (slice(0, 150), slice(150, None))]
    first = 0
    for size in segments:
        segment, passed = Segment(stages[first : first + size], first), []
        places = [places for places, _ in waiting]
        if first:
            waiting = [(np.concatenate(places), Deferred.join([batch for _, batch in waiting]))]
        for places, batch in waiting:
            found, deferred = run_segment(segment, policy, FORM, batch)
            whole.cost[places] = 0
            whole.put(places, found)
            if deferred is not None:
                passed.append((places[found.stage < 0], deferred))
        waiting, first = passed, first + size
    assert not waiting
    return whole.with_abstentions(policy)


@pytest.mark.parametrize("segments", [(4,), (1, 3), (2, 2), (1, 1, 2), (1, 1, 1, 1)])
@pytest.mark.parametrize("policy", policies())
def test_segments_answer_as_the_cascade_bit_for_bit(stages, segments, policy):
    chosen, rows = policies()[policy], np.arange(ROWS)[:, None]
    expected = Cascade(stages, chosen).predict(rows)
    found = run_all(stages, segments, chosen, rows)
    assert len(set(expected.stage.tolist())) >= 3
    for name in ("answer", "stage", "confidence", "cost", "abstained"):
        assert getattr(found, name).tobytes() == getattr(expected, name).tobytes()


def config_of(tmp_path, deployments, serving=""):
    stages = "\n".join(
        f'  - {{name: {name}, backend: {{type: custom, object: "m:A"}}, deployment: {deployments.get(name, "{}")}}}'
        for name in NAMES
    )
    path = tmp_path / "config.yaml"
    path.write_text(f"name: x\nrows: {{shape: [1], dtype: int64}}\nstages:\n{stages}\n{serving}")
    return CascadeConfig.load(path)


@pytest.mark.parametrize(
    ("deployments", "serving", "expected"),
    [
        ({}, "", [["a", "b", "c", "d"]]),
        ({"c": "{ray_actor_options: {num_gpus: 1}}"}, "", [["a", "b"], ["c", "d"]]),
        ({}, "serving: {segments: [[a], [b, c, d]]}", [["a"], ["b", "c", "d"]]),
    ],
)
def test_a_segment_begins_where_a_stage_requests_resources(tmp_path, deployments, serving, expected):
    config = with_bulk_segments(config_of(tmp_path, deployments, serving))
    assert [[stage.name for stage in segment] for segment in config.segments] == expected


GPU = "{ray_actor_options: {num_gpus: 0.5}}"


@pytest.mark.parametrize(
    ("deployments", "is_shared", "expected"),
    [
        ({}, False, [4]),
        ({"c": "{ray_actor_options: {num_cpus: 2}}"}, False, [4, 2]),
        ({"c": "{ray_actor_options: {num_cpus: 2}}"}, True, [2, 1]),
        ({"b": GPU, "c": GPU}, False, [4, 2, 2]),
        ({"b": "{num_replicas: 3, ray_actor_options: {num_gpus: 1}}"}, False, [4, 3]),
        ({"b": "{autoscaling_config: {max_replicas: 5}, ray_actor_options: {num_cpus: 1}}"}, True, [2, 5]),
    ],
)
def test_workers_fill_the_processors_or_what_a_stage_requests(tmp_path, deployments, is_shared, expected):
    config = with_bulk_segments(config_of(tmp_path, deployments))
    assert worker_counts(config, 4, 2, is_shared) == expected
