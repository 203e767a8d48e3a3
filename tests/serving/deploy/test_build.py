"""``cascade build`` without a cluster: the files, validated by the schemas of Ray Serve and KubeRay."""

import gzip
import json
from pathlib import Path

import jsonschema
import pytest
import yaml
from local_gateway import ONE_CLASS

from cascade.calibration import Policy
from cascade.config import CascadeConfig, ServingConfig
from cascade.errors import ConfigError

pytestmark = [
    # Warnings of Ray itself, when it is imported.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


def closed(schema):
    """The schema that allows only what it names, as the API server does when it is asked to be strict."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: closed(value) for key, value in schema.items()}
    is_open = "additionalProperties" in schema or "x-kubernetes-preserve-unknown-fields" in schema
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object" and not is_open:
        schema["additionalProperties"] = False
    return schema


@pytest.fixture(scope="module")
def validator():
    """Of KubeRay's RayService."""
    path = Path(__file__).parents[1] / "rayservice_v1.schema.json.gz"
    schema = closed(json.loads(gzip.decompress(path.read_bytes())))
    # The metadata of the whole and of pods are Kubernetes' own, and only called objects here.
    return jsonschema.Draft202012Validator(schema)


def manifest(tmp_path, *options, at="/app", **serving):
    """The RayService of stages with these ``deployment`` keys, one segment each."""
    from cascade.serving.deploy.application import ServeArguments
    from cascade.serving.deploy.ray_service import ray_service

    stages = [{"name": f"s{i}", "backend": ONE_CLASS, "deployment": keys} for i, keys in enumerate(options)]
    alone = [[stage["name"]] for stage in stages]
    config = CascadeConfig.model_validate(
        {"name": "My_App", "rows": {"shape": [2]}, "stages": stages, "serving": {"segments": alone, **serving}},
        context={"folder": tmp_path},
    )
    return ray_service(config, ServeArguments(config=f"{at}/config.yaml"), "registry.example/app:1", tmp_path)


def groups(made):
    return {group["groupName"]: group for group in made["spec"]["rayClusterConfig"]["workerGroupSpecs"]}


def container(group):
    return group["template"]["spec"]["containers"][0]


SERVINGS = {
    "bare": {},
    "open": {"open_to_network": True},
    "grpc": {"grpc_port": 8001, "gateways": 3},
    "proxy": {"listener": "serve"},
    "secrets": {
        "keys_file": "secrets/keys.txt",
        "admin_keys_env": "ADMIN",
        "tls_certificate": "tls/tls.crt",
        "tls_key": "tls/tls.key",
        "tls_client_ca": "/etc/authorities/ca.crt",
    },
    "degrade": {"on_failure": "degrade"},
}


@pytest.mark.parametrize("kind", SERVINGS)
def test_manifests_are_valid_by_the_schemas_of_kuberay_and_ray_serve(tmp_path, validator, kind):
    from ray.serve.schema import ServeDeploySchema

    gpu = {"num_replicas": 4, "ray_actor_options": {"num_gpus": 0.5, "num_cpus": 2, "memory": 1 << 30}}
    scaled = {"num_replicas": "auto", "autoscaling_config": {"max_replicas": 5}}
    made = manifest(tmp_path, {}, gpu, scaled, **SERVINGS[kind])
    assert [error.message for error in validator.iter_errors(made)] == []
    ServeDeploySchema.model_validate(yaml.safe_load(made["spec"]["serveConfigV2"]))
    assert str(tmp_path) not in yaml.safe_dump(made)


def test_the_schema_finds_errors(tmp_path, validator):
    made = manifest(tmp_path, {})
    group = made["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]
    group["replica"] = 3
    container(group)["ports"][0]["containerPort"] = "http"
    found = " ".join(error.message for error in validator.iter_errors(made))
    assert "replica" in found
    assert "http" in found


def test_every_segment_has_pods_of_its_own_size(tmp_path):
    gpu = {"num_replicas": 3, "ray_actor_options": {"num_gpus": 0.5, "num_cpus": 2, "resources": {"fast_disk": 1}}}
    scaled = {"autoscaling_config": {"min_replicas": 1, "initial_replicas": 2, "max_replicas": 6}}
    made = manifest(tmp_path, {}, gpu, scaled, gateways=2)
    found = groups(made)
    assert list(found) == ["gateway", "segment-1-s1", "segment-2-s2"]
    counts = [(g["minReplicas"], g["replicas"], g["maxReplicas"]) for g in found.values()]
    assert counts == [(2, 2, 2), (2, 2, 2), (1, 2, 6)]  # two replicas share a GPU
    assert container(found["segment-1-s1"])["resources"]["limits"] == {
        "cpu": "4",
        "memory": "4Gi",
        "nvidia.com/gpu": "1",
    }
    start = json.loads(json.loads(found["segment-1-s1"]["rayStartParams"]["resources"]))
    assert start == {"fast_disk": 1, "segment-1-s1": 2}
    deployments = yaml.safe_load(made["spec"]["serveConfigV2"])["applications"][0]["deployments"]
    assert [each["ray_actor_options"]["resources"] for each in deployments] == [
        {"gateway": 1},
        {"fast_disk": 1, "segment-1-s1": 1},
        {"segment-2-s2": 1},
    ]
    assert made["spec"]["rayClusterConfig"]["enableInTreeAutoscaling"] is True


def test_only_gateways_are_behind_the_service_and_have_a_readiness_probe(tmp_path):
    made = manifest(tmp_path, {}, {}, grpc_port=8001)
    gateway, later = map(container, groups(made).values())
    assert [port["name"] for port in gateway["ports"]] == ["serve", "serve-grpc"]
    assert "ports" not in later
    ports = made["spec"]["serveService"]["spec"]["ports"]
    assert [(port["port"], port["targetPort"]) for port in ports] == [(8000, "serve"), (8001, "serve-grpc")]
    assert gateway["readinessProbe"]["httpGet"]["path"] == "/v2/health/ready"
    degrades = groups(manifest(tmp_path, {}, {}, on_failure="degrade"))["gateway"]
    assert container(degrades)["readinessProbe"]["httpGet"]["path"] == "/health"
    proxied = manifest(tmp_path, {}, {}, listener="serve")
    assert all("readinessProbe" not in container(group) for group in groups(proxied).values())
    assert "serveService" not in proxied["spec"]


def arguments(made):
    return yaml.safe_load(made["spec"]["serveConfigV2"])["applications"][0]["args"]


def test_it_requires_keys_unless_it_is_open_and_gets_them_from_secrets(tmp_path):
    bare = manifest(tmp_path, {})
    assert arguments(bare) == {"config": "/app/config.yaml", "host": "0.0.0.0", "keys_env": "CASCADE_KEYS"}  # noqa: S104
    (variable,) = [each for each in container(groups(bare)["gateway"])["env"] if "valueFrom" in each]
    assert variable["valueFrom"]["secretKeyRef"] == {"name": "my-app-keys", "key": "CASCADE_KEYS"}
    assert "keys_env" not in arguments(manifest(tmp_path, {}, open_to_network=True))
    filed = groups(manifest(tmp_path, {}, {}, **SERVINGS["secrets"]))
    spec = filed["gateway"]["template"]["spec"]
    mounts = [mount["mountPath"] for mount in spec["containers"][0]["volumeMounts"]]
    assert mounts == ["/app/secrets", "/app/tls", "/etc/authorities"]
    assert {volume["secret"]["defaultMode"] for volume in spec["volumes"]} == {0o440}
    assert "volumes" not in filed["segment-1-s1"]["template"]["spec"]
    assert "tcpSocket" in container(filed["gateway"])["readinessProbe"]


def test_a_configuration_that_cannot_be_deployed_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="a folder of its own"):
        manifest(tmp_path, {}, keys_file="keys.txt")
    with pytest.raises(ConfigError, match="placement group"):
        manifest(tmp_path, {}, {"placement_group_bundles": [{"CPU": 1}]})


@pytest.mark.parametrize(
    ("name", "plain"),
    [("cifar10", "cifar10"), ("My_App", "my-app"), ("10-things", "cascade-10-things"), ("_", "cascade")],
)
def test_names_are_converted_for_kubernetes(name, plain):
    from cascade.serving.deploy.pod_group import service_name

    assert service_name(name) == plain


def test_the_verb_writes_both_files(run, config_path, config, tmp_path):
    from ray.serve.schema import ServeDeploySchema

    done = run("build", config_path, "--out", tmp_path / "deploy", "--json")
    assert done.code == 0, done.err
    version = Policy.load(config.policy).version
    assert (done.json["image"], done.json["secrets"]) == (f"fake:{version}", ["fake-keys"])
    serve = yaml.safe_load((tmp_path / "deploy" / "serve.yaml").read_text())
    ServeDeploySchema.model_validate(serve)
    (application,) = serve["applications"]
    assert application["args"] == {"config": str(config_path)}
    assert [each["name"] for each in application["deployments"]] == ["gateway", "segment-big"]
    manifest_text = (tmp_path / "deploy" / "rayservice.yaml").read_text()
    assert "serveConfigV2: |\n" in manifest_text
    assert str(config_path.parent) not in manifest_text


def test_the_verb_takes_a_policy_set(run, config_path, tmp_path, two_gears):
    two_gears.save(config_path.parent / "gears.json")
    done = run("build", config_path, "--out", tmp_path, "--policy", config_path.parent / "gears.json", "--json")
    assert done.code == 0, done.err
    assert (done.json["policy_version"], done.json["image"]) == (two_gears.version, f"fake:{two_gears.version}")


def test_paths_of_the_image_can_be_given(run, config_path, config, tmp_path):
    policy = ("--policy", config.policy)
    assert run("build", config_path, "--out", tmp_path, "--at", "/srv/c", *policy, "--image", "i:2").code == 0
    serve = yaml.safe_load((tmp_path / "serve.yaml").read_text())
    assert serve["applications"][0]["args"] == {"config": "/srv/c/config.yaml", "policy": "/srv/c/policy.json"}
    assert "image: i:2" in (tmp_path / "rayservice.yaml").read_text()
    assert run("build", config_path, "--out", tmp_path, "--at", "srv").code == 2
    Policy.load(config.policy).save(tmp_path / "other.json")
    assert run("build", config_path, "--out", tmp_path, "--policy", tmp_path / "other.json").code == 2
    assert run("build", config_path, "--out", tmp_path, "--policy", tmp_path / "none.json").code == 3


def test_the_application_takes_host_and_keys_from_its_arguments(config_path, monkeypatch):
    from cascade.serving.deploy import application
    from cascade.serving.deploy.application import ServeArguments, build_app

    built = build_app(ServeArguments(config=str(config_path), host="192.0.2.7", keys_env="SOME_KEYS"))
    config = built._bound_deployment.init_args[0]
    assert isinstance(config.serving, ServingConfig)
    assert (config.serving.host, config.serving.keys_env) == ("192.0.2.7", "SOME_KEYS")
    with pytest.raises(ConfigError, match="no keys"):
        build_app(ServeArguments(config=str(config_path), host="192.0.2.7"))
    assert application.deployment_options(config, 1)["ray_actor_options"] == {"num_cpus": 0.5}


def test_the_example_of_the_documentation_is_built(run, config_path, tmp_path):
    page = (Path(__file__).parents[3] / "docs" / "security.md").read_text(encoding="utf-8")
    example = yaml.safe_load(page.split("```yaml\n")[1].split("```")[0])
    content = yaml.safe_load(config_path.read_text())
    content["serving"] |= example["serving"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
    Policy.load(config_path.with_name("policy.json")).save(tmp_path / "policy.json")
    done = run("build", tmp_path / "config.yaml", "--out", tmp_path / "deploy", "--json")
    assert done.code == 0, done.err
    assert done.json["secrets"] == ["fake-secrets"]
