"""The groups of pods of a cascade on Kubernetes: one for each segment, sized as its replicas require."""

import math
import re
from dataclasses import dataclass
from typing import Any

from cascade.config import CascadeConfig
from cascade.errors import ConfigError
from cascade.serving.deploy.application import deployment_options

__all__ = ["PodGroup", "pod_groups", "service_name"]

LONGEST_NAME = 41  # the operator derives longer names from it
LONGEST_GROUP = 30


@dataclass(frozen=True)
class PodGroup:
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


def pod_groups(config: CascadeConfig) -> list[PodGroup]:
    """The group of each segment, the gateway's first.

    Raises:
        ConfigError: the pods of a segment are not known.
    """
    groups = []
    for index, segment in enumerate(config.segments):
        options = deployment_options(config, index)
        if "placement_group_bundles" in options:
            raise ConfigError(
                f"stage {segment[0].name!r}: the pods of a placement group are not known; write the RayService by "
                "hand, around serve.yaml"
            )
        name = "gateway" if index == 0 else service_name(f"segment-{index}-{segment[0].name}"[:LONGEST_GROUP])
        groups.append(PodGroup(name, options, index == 0 and config.serving.listener == "own"))
    return groups
