"""Resources of replicas, compared with those of nodes."""

import pytest

from cascade.config import CascadeConfig
from cascade.errors import ConfigError
from cascade.serving.deploy import resources
from cascade.serving.deploy.resources import check_machine, check_resources, required_cpus

NODE = {"CPU": 4.0, "memory": 1e9}


def config(last, first=None, **serving):
    backend = {"type": "custom", "object": "anything:Model"}
    stages = [
        {"name": "first", "backend": backend, "deployment": first or {}},
        {"name": "second", "backend": backend, "deployment": last},
    ]
    return CascadeConfig.model_validate({"name": "asked", "rows": {"shape": [1]}, "stages": stages, "serving": serving})


def actor(**options):
    return {"ray_actor_options": options}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_gpus": 1}, "'second' requires num_gpus: 1, and no node has more than 0"),
        ({"num_cpus": 9}, "'second' requires num_cpus: 9, and no node has more than 4"),
        ({"memory": 2e9}, "'second' requires memory: 2e\\+09"),
        ({"resources": {"camera": 1}}, "'second' requires camera: 1"),
        ({"accelerator_type": "H100"}, "'second' requires accelerator_type:H100"),
    ],
)
def test_a_resource_that_no_node_has_is_named_with_its_stage(options, message):
    with pytest.raises(ConfigError, match=message):
        check_resources(config(actor(**options)), [NODE, NODE])


def test_all_stages_at_fault_are_reported_together():
    with pytest.raises(ConfigError, match=r"'first' requires num_gpus: 1.*'second' requires num_gpus: 2"):
        check_resources(config(actor(num_gpus=2), actor(num_gpus=1)), [NODE])


def test_replicas_that_fit_each_but_not_together_are_refused():
    wanted = config({"num_replicas": 3, **actor(num_gpus=1)})
    with pytest.raises(ConfigError, match="together require num_gpus: 3, and the nodes have 2"):
        check_resources(wanted, [NODE | {"GPU": 2.0}])
    check_resources(wanted, [NODE | {"GPU": 2.0}, NODE | {"GPU": 1.0}])


def test_a_segment_that_scales_starts_with_its_fewest_replicas():
    scaled = config({"autoscaling_config": {"min_replicas": 2, "max_replicas": 50}, **actor(num_gpus=1)})
    check_resources(scaled, [NODE | {"GPU": 2.0}])
    check_resources(config({"num_replicas": "auto", **actor(num_gpus=1)}), [NODE | {"GPU": 1.0}])


def test_a_machine_without_the_resources_is_refused_and_processors_are_shared(monkeypatch):
    check_machine(config(actor(num_cpus=900)))
    monkeypatch.setattr(resources, "_machine_resources", lambda: {"CPU": float("inf")})
    with pytest.raises(ConfigError, match="num_gpus: 1"):
        check_machine(config(actor(num_gpus=1)))


def test_processors_of_all_replicas_are_added_up():
    assert required_cpus(config({})) == 2
    assert required_cpus(config({"num_replicas": 3, **actor(num_cpus=0.5)}, gateways=2)) == 4
    assert required_cpus(config(actor(num_cpus=0))) == 1
