"""The resources that the replicas of a cascade require, compared with those of the nodes."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cascade.config import CascadeConfig, StageConfig
from cascade.errors import ConfigError

__all__ = ["check_machine", "check_resources", "report_missing", "required_cpus"]

Resources = Mapping[str, float]

ACCELERATOR_SHARE = 0.001
"""Of Ray's resource for a type of accelerator."""


def check_resources(config: CascadeConfig, nodes: Sequence[Resources]) -> None:
    """Checks that every replica fits on a node, and that all of them fit together.

    Args:
        config: of the cascade.
        nodes: all resources of each node, by Ray's names: "CPU", "GPU", "memory" in bytes, custom ones.

    Raises:
        ConfigError: they do not; the message lists every stage at fault.
    """
    problems, together = [], dict[str, float]()
    for index, segment in enumerate(config.segments):
        required, count = _required(segment[0]), _replicas(config, index)
        for name, amount in required.items():
            most = max((node.get(name, 0.0) for node in nodes), default=0.0)
            if amount > most:
                problems.append(
                    f"stage {segment[0].name!r} requires {_text(name, amount)}, and no node has more than {most:g}"
                )
            together[name] = together.get(name, 0.0) + count * amount
    if not problems:
        problems = [
            f"all replicas together require {_text(name, amount)}, and the nodes have {there:g}"
            for name, amount in together.items()
            if amount > (there := sum(node.get(name, 0.0) for node in nodes))
        ]
    if problems:
        raise ConfigError(
            f"{'; '.join(problems)}; serve the cascade on larger nodes, or change the stage's 'deployment'"
        )


def check_machine(config: CascadeConfig) -> None:
    """Checks that this machine has the resources of all replicas; they may share processors.

    Raises:
        ConfigError: it does not.
    """
    required = {name for segment in config.segments for name, amount in _required(segment[0]).items() if amount}
    if required - {"CPU"}:
        check_resources(config, [_machine_resources()])


def report_missing(config: CascadeConfig, progress: Callable[[str], None]) -> None:
    """Reports resources that no node has: a cluster may get further nodes, so they are waited for."""
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    try:
        check_resources(config, nodes)
    except ConfigError as error:
        progress(f"waiting for another node: {error}")


def _machine_resources() -> dict[str, float]:
    import psutil
    from ray._private import accelerators

    found = {"CPU": math.inf, "memory": float(psutil.virtual_memory().total)}
    for name in accelerators.get_all_accelerator_resource_names():
        manager = accelerators.get_accelerator_manager_for_resource(name)
        count = 0 if manager is None else manager.get_current_node_num_accelerators()
        if manager is not None and count:
            found[name] = float(count)
            kind = manager.get_current_node_accelerator_type()
            found |= {f"accelerator_type:{kind}": float(count)} if kind else {}
    return found


def required_cpus(config: CascadeConfig) -> int:
    """Logical processors of all replicas; the machine may have fewer, segments then share them."""
    return math.ceil(
        sum(_required(segment[0])["CPU"] * _replicas(config, index) for index, segment in enumerate(config.segments))
    )


def _required(stage: StageConfig) -> dict[str, float]:
    """Resources of a replica of the segment that begins with a stage; by default one logical processor."""
    options: Mapping[str, Any] = stage.deployment.get("ray_actor_options") or {}
    required = {"CPU": options.get("num_cpus", 1), "GPU": options.get("num_gpus"), "memory": options.get("memory")}
    required |= options.get("resources") or {}
    kind = options.get("accelerator_type")
    if kind is not None:
        required[f"accelerator_type:{kind}"] = ACCELERATOR_SHARE
    return {name: float(amount) for name, amount in required.items() if amount is not None}


def _replicas(config: CascadeConfig, index: int) -> int:
    """Replicas of a segment at the start."""
    deployment = config.segments[index][0].deployment
    replicas = deployment.get("num_replicas", 1 if index else config.serving.gateways)
    scaled = deployment.get("autoscaling_config")
    least = scaled.get("min_replicas", 1) if isinstance(scaled, Mapping) else 1
    return replicas if isinstance(replicas, int) and not scaled else int(least)


def _text(name: str, amount: float) -> str:
    key = {"CPU": "num_cpus", "GPU": "num_gpus"}.get(name, name)
    return f"{key}: {amount:g}"
