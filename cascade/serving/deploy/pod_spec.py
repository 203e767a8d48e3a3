"""Pods and containers in the form of Kubernetes."""

import math
from typing import Any

from cascade.serving.deploy.pod_group import PodGroup

__all__ = ["new_container", "new_pod", "pod_resources"]

GIB = 1 << 30
POD_BYTES = 4 * GIB  # of Ray and the libraries
USER = 1000  # of the images rayproject/ray

Manifest = dict[str, Any]


def pod_resources(group: PodGroup) -> dict[str, str]:
    """Resources of a pod of a group: those of its replicas, and memory for Ray and the libraries."""
    count, actor = group.replicas_per_pod, group.actor
    resources = {
        "cpu": str(max(1, math.ceil(float(actor.get("num_cpus", 1)) * count))),
        "memory": f"{math.ceil((POD_BYTES + int(actor.get('memory') or 0) * count) / GIB)}Gi",
    }
    gpus = math.ceil(float(actor.get("num_gpus") or 0) * count)
    return resources | ({"nvidia.com/gpu": str(gpus)} if gpus else {})


def new_container(name: str, image: str, resources: dict[str, str]) -> Manifest:
    """A container without privileges; the resources are what it requests, and its limits."""
    return {
        "name": name,
        "image": image,
        "env": [{"name": "RAY_USAGE_STATS_ENABLED", "value": "0"}],
        "resources": {"requests": dict(resources), "limits": dict(resources)},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }


def new_pod(
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
