"""A RayService manifest: the cascade on Kubernetes, run by the KubeRay operator.

One pod per replica, and one group of pods per segment, each as large as its segment requires. Each group has a custom
resource, so that a replica runs on the pods of its segment. Sources: KubeRay's API ``ray.io/v1``
(https://github.com/ray-project/kuberay, ``ray-operator/apis/ray/v1``), and how its operator creates services and probes
(``ray-operator/controllers/ray/common``).
"""

import json
import math
import re
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import ray
import yaml

from cascade.config import CascadeConfig, ServingConfig
from cascade.errors import ConfigError
from cascade.serving.deploy.application import ServeArguments, deployment_options
from cascade.serving.deploy.serve_config import serve_config

__all__ = ["KEYS_VARIABLE", "ray_service", "service_name"]

KEYS_VARIABLE = "CASCADE_KEYS"
"""Variable with the keys, where the configuration names none."""

LONGEST_NAME = 41  # the operator derives longer names from it
LONGEST_GROUP = 30
GIB = 1 << 30
POD_BYTES = 4 * GIB  # of Ray and the libraries, beside the memory that an actor requires
HEAD_BYTES = 4 * GIB
USER = 1000  # of the images rayproject/ray
GRACE_S = 15
RAY_AGENT_PORT = 52365

Manifest = dict[str, Any]


@dataclass(frozen=True)
class _Group:
    """The pods of one segment.

    Attributes:
        name: of the group, and of the resource that pins the segment's replicas to it.
        options: of the segment's deployment.
        listens: whether a gateway with a listener of its own runs there.
    """

    name: str
    options: dict[str, Any]
    listens: bool

    @property
    def actor(self) -> dict[str, Any]:
        """Resources of a replica."""
        options: dict[str, Any] = self.options.get("ray_actor_options", {})
        return options

    @property
    def replicas_per_pod(self) -> int:
        """One, or the number that shares a GPU."""
        share = float(self.actor.get("num_gpus") or 0)
        return max(1, int(1 / share)) if 0 < share < 1 else 1

    @property
    def is_scaled(self) -> bool:
        """Whether Ray Serve changes the number of replicas."""
        return bool(self.options.get("autoscaling_config"))

    @property
    def pods(self) -> tuple[int, int, int]:
        """At the start, at least, at most."""
        scaling = self.options.get("autoscaling_config") or {}
        if scaling:
            least, most = scaling.get("min_replicas", 1), scaling.get("max_replicas", 1)
            counts = (scaling.get("initial_replicas", least), least, most)
        else:
            counts = (int(self.options["num_replicas"]),) * 3
        first, least, most = (math.ceil(count / self.replicas_per_pod) for count in counts)
        return first, least, most


def service_name(name: str) -> str:
    """The name of a cascade in the form of Kubernetes: lower-case letters, digits and "-", a letter first."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    plain = plain if plain[:1].isalpha() else f"cascade-{plain}".strip("-")
    return plain[:LONGEST_NAME].rstrip("-")


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
    groups = _groups(config)
    secrets = _Secrets.of(service_name(config.name), serving, folder, PurePosixPath(arguments.config).parent)
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


def _groups(config: CascadeConfig) -> list[_Group]:
    groups = []
    for index, segment in enumerate(config.segments):
        options = deployment_options(config, index)
        if "placement_group_bundles" in options:
            raise ConfigError(
                f"stage {segment[0].name!r}: the pods of a placement group are not known; write the RayService by "
                "hand, around serve.yaml"
            )
        name = "gateway" if index == 0 else service_name(f"segment-{index}-{segment[0].name}"[:LONGEST_GROUP])
        groups.append(_Group(name, options, index == 0 and config.serving.listener == "own"))
    return groups


def _pinned(config: Manifest, groups: list[_Group]) -> Manifest:
    """Each deployment requires the resource of its own pods."""
    config = deepcopy(config)
    for deployment, group in zip(config["applications"][0]["deployments"], groups, strict=True):
        actor = deployment.setdefault("ray_actor_options", {})
        actor["resources"] = {**actor.get("resources", {}), group.name: 1}
    return config


@dataclass(frozen=True)
class _Secrets:
    """Secrets of the gateways.

    Attributes:
        env: variables with keys.
        volumes: one for each Secret.
        mounts: their paths.
    """

    env: list[Manifest]
    volumes: list[Manifest]
    mounts: list[Manifest]

    @classmethod
    def of(cls, name: str, serving: ServingConfig, here: Path, there: PurePosixPath) -> "_Secrets":
        """Those for the variables and files that a configuration names.

        Args:
            name: of the RayService, with which the names of the Secrets begin.
            serving: the configuration.
            here: its folder on this machine.
            there: its folder in the image.

        Raises:
            ConfigError: a file is in the folder of the configuration, which a mounted Secret would hide.
        """
        variables = dict.fromkeys(filter(None, (serving.keys_env, serving.admin_keys_env)))
        env = [
            {"name": each, "valueFrom": {"secretKeyRef": {"name": f"{name}-keys", "key": each}}} for each in variables
        ]
        volumes: list[Manifest] = []
        mounts: list[Manifest] = []
        for number, folder in enumerate(_secret_folders(serving, here, there)):
            secret = {"secretName": service_name(f"{name}-{folder.name}"), "defaultMode": 0o440}
            volumes.append({"name": f"secret-{number}", "secret": secret})
            mounts.append({"name": f"secret-{number}", "mountPath": str(folder), "readOnly": True})
        return cls(env, volumes, mounts)


def _secret_folders(serving: ServingConfig, here: Path, there: PurePosixPath) -> list[PurePosixPath]:
    """Folders of keys and certificates, in the image."""
    folders: dict[PurePosixPath, None] = {}
    for key in ("keys_file", "admin_keys_file", "tls_certificate", "tls_key", "tls_client_ca"):
        file: Path | None = getattr(serving, key)
        if file is None:
            continue
        place = there / file.relative_to(here).as_posix() if file.is_relative_to(here) else PurePosixPath(file)
        if place.parent == there:
            raise ConfigError(
                f"serving.{key} is {file.name!r}, in the folder of the configuration; put it into a folder of its own, "
                f"such as secrets/{file.name}, where a Secret can be mounted"
            )
        folders[place.parent] = None
    return list(folders)


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
    return _pod(_container("ray-head", image, {"cpu": "1", "memory": _gibibytes(HEAD_BYTES)}) | {"ports": ports})


def _worker_group(group: _Group, serving: ServingConfig, image: str, secrets: _Secrets) -> Manifest:
    first, least, most = group.pods
    container = _container("ray-worker", image, _pod_resources(group))
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
        "template": _pod(container, volumes, math.ceil(serving.request_timeout_s) + GRACE_S, with_token=False),
    }


def _pod_resources(group: _Group) -> dict[str, str]:
    count, actor = group.replicas_per_pod, group.actor
    resources = {
        "cpu": str(max(1, math.ceil(float(actor.get("num_cpus", 1)) * count))),
        "memory": _gibibytes(POD_BYTES + int(actor.get("memory") or 0) * count),
    }
    gpus = math.ceil(float(actor.get("num_gpus") or 0) * count)
    return resources | ({"nvidia.com/gpu": str(gpus)} if gpus else {})


def _gateway_probe(serving: ServingConfig) -> Manifest:
    """Ready where rows can be answered; degraded answers need no later segments."""
    times = {"periodSeconds": 5, "timeoutSeconds": 3, "failureThreshold": 3}
    if serving.tls_client_ca is not None:
        return {"tcpSocket": {"port": "serve"}, **times}  # probes have no client certificate
    path = "/health" if serving.on_failure == "degrade" else "/v2/health/ready"
    scheme = "HTTP" if serving.tls_certificate is None else "HTTPS"
    return {"httpGet": {"path": path, "port": "serve", "scheme": scheme}, **times}


def _container(name: str, image: str, resources: dict[str, str]) -> Manifest:
    return {
        "name": name,
        "image": image,
        "env": [{"name": "RAY_USAGE_STATS_ENABLED", "value": "0"}],
        "resources": {"requests": dict(resources), "limits": dict(resources)},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }


def _pod(
    container: Manifest,
    volumes: list[Manifest] | None = None,
    grace_s: int | None = None,
    with_token: bool = True,
) -> Manifest:
    """A pod's template. Only the head's autoscaler calls Kubernetes, so only the head has a token for it."""
    spec: Manifest = {
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
    }
    if volumes:
        spec["volumes"] = volumes
    if grace_s is not None:
        spec["terminationGracePeriodSeconds"] = grace_s
    if not with_token:
        spec["automountServiceAccountToken"] = False
    return {"spec": spec}


def _gibibytes(count: int) -> str:
    return f"{math.ceil(count / GIB)}Gi"
