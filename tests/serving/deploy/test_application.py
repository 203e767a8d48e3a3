"""From the configuration to deployments, without starting Ray."""

from types import SimpleNamespace

import numpy as np
import pytest
from local_gateway import ONE_CLASS

from cascade.calibration import Policy
from cascade.config import CascadeConfig, ServingConfig
from cascade.errors import ConfigError

pytestmark = [
    # Warnings of Ray itself, when it is imported.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


def deployments(tmp_path, *options, **serving):
    """The deployments of stages with these ``deployment`` keys, the gateway's first."""
    from cascade.serving.deploy.application import new_application

    stages = [{"name": f"s{i}", "backend": ONE_CLASS, "deployment": keys} for i, keys in enumerate(options)]
    alone = [[stage["name"]] for stage in stages]
    config = CascadeConfig(
        name="app", rows={"shape": [2]}, stages=stages, serving=ServingConfig(segments=alone, **serving)
    )
    names = tuple(stage["name"] for stage in stages)
    application = new_application(config, Policy.from_thresholds(names, np.full(len(names) - 1, 0.5)), tmp_path)
    found = []
    while application is not None:
        found.append(application._bound_deployment)
        application = found[-1].init_args[-1]
    return found


def test_keys_of_ray_serve_reach_their_segment_unchanged(tmp_path):
    gpu = {"num_replicas": 3, "ray_actor_options": {"num_gpus": 0.5, "num_cpus": 2}}
    gateway, middle, last = deployments(tmp_path, {}, {}, gpu, gateways=2)
    assert (gateway.name, middle.name, last.name) == ("gateway", "segment-s1", "segment-s2")
    assert (gateway.num_replicas, middle.num_replicas, last.num_replicas) == (2, 1, 3)
    assert last.ray_actor_options["num_gpus"] == 0.5
    assert last.ray_actor_options["num_cpus"] == 2
    assert "num_gpus" not in middle.ray_actor_options
    assert all(each.max_ongoing_requests >= 1000 for each in (gateway, middle, last))


def test_automatic_replicas_count_batches_and_keep_given_keys(tmp_path):
    _, last = deployments(tmp_path, {}, {"num_replicas": "auto", "autoscaling_config": {"max_replicas": 5}})
    scaling = last._deployment_config.autoscaling_config
    assert (scaling.min_replicas, scaling.max_replicas, scaling.target_ongoing_requests) == (1, 5, 2)
    _, last = deployments(tmp_path, {}, {"autoscaling_config": {"initial_replicas": 2, "max_replicas": 4}})
    scaling = last._deployment_config.autoscaling_config
    assert (scaling.initial_replicas, scaling.max_replicas) == (2, 4)


@pytest.mark.parametrize("keys", [{"num_replicas": "auto"}, {"autoscaling_config": {"max_replicas": 3}}])
def test_gateways_with_their_own_listener_cannot_be_scaled_by_ray_serve(tmp_path, keys):
    with pytest.raises(ConfigError, match=r"'s0'.*listener"):
        deployments(tmp_path, keys, {})
    gateway, _ = deployments(tmp_path, keys, {}, listener="serve")
    assert gateway._deployment_config.autoscaling_config.max_replicas in (3, 16)


def test_a_key_unknown_to_ray_serve_is_refused_with_its_stage(tmp_path):
    with pytest.raises(ConfigError, match="'s1'"):
        deployments(tmp_path, {}, {"num_replica": 2})


@pytest.mark.parametrize(("options", "quick"), [({}, True), ({"num_cpus": 2}, True), ({"num_gpus": 0.5}, False)])
def test_batches_of_a_segment_on_a_gpu_always_run_in_a_thread(config, config_path, options, quick):
    from cascade.serving.replica.segment_batcher import new_batcher

    first, *others = config.stages
    first = first.model_copy(update={"deployment": {"ray_actor_options": options}})
    config = config.model_copy(update={"stages": (first, *others)})
    telemetry = SimpleNamespace(watch=None, stats=None, tracing=None)
    batcher = new_batcher(config, config_path.parent, 0, None, telemetry)
    for _ in range(10):
        batcher.estimator(0).add(1, 1e-5)
    assert batcher.estimator(0).is_quick(1) is quick
    batcher.close()
