"""A RayService manifest: the cascade on Kubernetes, run by the KubeRay operator.

One pod per replica, and one group of pods per segment, each as large as its segment requires. Each group has a custom
resource, so that a replica runs on the pods of its segment. Sources: KubeRay's API ``ray.io/v1``
(https://github.com/ray-project/kuberay, ``ray-operator/apis/ray/v1``), and how its operator creates services and probes
(``ray-operator/controllers/ray/common``).
"""

import json
import math
from copy import deepcopy
from pathlib import Path, PurePosixPath
from typing import Any

import ray
import yaml

from cascade.config import CascadeConfig, ServingConfig
from cascade.serving.deploy.application import ServeArguments
from cascade.serving.deploy.gateway_secrets import GatewaySecrets
from cascade.serving.deploy.pod_group import PodGroup, pod_groups, service_name
from cascade.serving.deploy.pod_spec import new_container, new_pod, pod_resources
from cascade.serving.deploy.serve_config import serve_config

__all__ = ["KEYS_VARIABLE", "ray_service"]

KEYS_VARIABLE = "CASCADE_KEYS"
"""Variable with the keys, where the configuration names none."""

HEAD_GIB = 4
GRACE_S = 15
RAY_AGENT_PORT = 52365

Manifest = dict[str, Any]


def ray_service(config: CascadeConfig, arguments: ServeArguments, image: str, folder: Path) -> Manifest:
    """The manifest.

    The cascade listens on all addresses of its pods and requires keys, by default from a Secret's variable, unless the
    configuration is open to the network.

    Args:
        config: of the cascade.
        arguments: of the application, with the paths of the image.
        image: with this package, the configuration and all files that it names.
        folder: of the configuration on this machine; paths relative to it are relative to the image's.

    Returns:
        Plain values, ready for YAML; ``serveConfigV2`` is a string, the YAML of a Ray Serve config.

    Raises:
        ConfigError: a secret file is in the folder of the configuration, or the resources of a pod are not known.
    """
    serving = config.serving
    has_keys = serving.keys_env is not None or serving.keys_file is not None
    changes = {"host": "0.0.0.0"}  # noqa: S104 (of the pod, and with keys)
    if not has_keys and not serving.open_to_network:
        changes["keys_env"] = KEYS_VARIABLE
    arguments = arguments.model_copy(update=changes)
    serving = serving.model_copy(update=changes)
    groups = pod_groups(config)
    secrets = GatewaySecrets.of(service_name(config.name), serving, folder, PurePosixPath(arguments.config).parent)
    spec: Manifest = {
        "serveConfigV2": yaml.safe_dump(_pinned(serve_config(config, arguments), groups), sort_keys=False),
        "rayClusterConfig": {
            "rayVersion": ray.__version__,
            "authOptions": {"mode": "token"},
            "headGroupSpec": {
                "rayStartParams": {"num-cpus": "0"},  # no replica on the head, on which all others depend
                "template": _head(config, image),
            },
            "workerGroupSpecs": [_worker_group(group, serving, image, secrets) for group in groups],
        },
    }
    if any(group.is_scaled for group in groups):
        spec["rayClusterConfig"]["enableInTreeAutoscaling"] = True
    if serving.listener == "own":
        # By the name of the port, which only gateways have: other pods are ready too.
        ports = [(port["name"], port["containerPort"]) for port in _ports(serving)]
        spec["serveService"] = {
            "spec": {"ports": [{"name": name, "port": port, "targetPort": name} for name, port in ports]}
        }
        spec["excludeHeadPodFromServeSvc"] = True
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        "metadata": {"name": service_name(config.name)},
        "spec": spec,
    }


def _pinned(config: Manifest, groups: list[PodGroup]) -> Manifest:
    """Each deployment requires the resource of its own pods."""
    config = deepcopy(config)
    for deployment, group in zip(config["applications"][0]["deployments"], groups, strict=True):
        actor = deployment.setdefault("ray_actor_options", {})
        actor["resources"] = {**actor.get("resources", {}), group.name: 1}
    return config


def _ports(serving: ServingConfig) -> list[Manifest]:
    ports = [{"name": "serve", "containerPort": serving.port}]
    if serving.grpc_port is not None:
        ports.append({"name": "serve-grpc", "containerPort": serving.grpc_port})
    return ports


def _head(config: CascadeConfig, image: str) -> Manifest:
    ports = [
        {"name": "gcs-server", "containerPort": 6379},
        {"name": "dashboard", "containerPort": 8265},
        {"name": "client", "containerPort": 10001},
    ]
    if config.serving.listener == "serve":
        ports += _ports(config.serving)
    return new_pod(new_container("ray-head", image, {"cpu": "1", "memory": f"{HEAD_GIB}Gi"}) | {"ports": ports})


def _worker_group(group: PodGroup, serving: ServingConfig, image: str, secrets: GatewaySecrets) -> Manifest:
    first, least, most = group.pods
    container = new_container("ray-worker", image, pod_resources(group))
    volumes: list[Manifest] = []
    if group.name == "gateway":
        container["env"] += secrets.env
        volumes = secrets.volumes
        if volumes:
            container["volumeMounts"] = secrets.mounts
    if serving.listener == "serve":
        container["ports"] = _ports(serving)  # the operator probes Ray Serve's proxy
    elif group.listens:
        container["ports"] = _ports(serving)
        container["readinessProbe"] = _gateway_probe(serving)
    else:
        # In place of the operator's own, which waits for a proxy of Ray Serve.
        container["readinessProbe"] = {
            "httpGet": {"path": "/api/local_raylet_healthz", "port": RAY_AGENT_PORT},
            "periodSeconds": 10,
            "timeoutSeconds": 6,
            "failureThreshold": 3,
        }
    resources = {**group.actor.get("resources", {}), group.name: group.replicas_per_pod}
    return {
        "groupName": group.name,
        "replicas": first,
        "minReplicas": least,
        "maxReplicas": most,
        # The operator passes it to a shell, with these quotes.
        "rayStartParams": {"resources": json.dumps(json.dumps(resources))},
        "template": new_pod(container, volumes, math.ceil(serving.request_timeout_s) + GRACE_S, with_token=False),
    }


def _gateway_probe(serving: ServingConfig) -> Manifest:
    """Ready where rows can be answered; degraded answers need no later segments."""
    times = {"periodSeconds": 5, "timeoutSeconds": 3, "failureThreshold": 3}
    if serving.tls_client_ca is not None:
        return {"tcpSocket": {"port": "serve"}, **times}  # probes have no client certificate
    path = "/health" if serving.on_failure == "degrade" else "/v2/health/ready"
    scheme = "HTTP" if serving.tls_certificate is None else "HTTPS"
    return {"httpGet": {"path": path, "port": "serve", "scheme": scheme}, **times}
