"""What a served cascade says of itself, and what Ray Serve says of its deployments."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cascade.serving.client.http_client import LONGEST_MESSAGE, Site

__all__ = ["CascadeStatus", "DeploymentStatus", "deployments_status", "served_status"]


@dataclass(frozen=True)
class DeploymentStatus:
    """What Ray Serve says of a segment.

    Attributes:
        name: of the deployment.
        status: "HEALTHY", or another word of Ray Serve.
        replicas: how many are in which state.
        wanted: how many there shall be; ``None`` if Ray Serve does not tell.
        message: its reason, where there is one.
    """

    name: str
    status: str
    replicas: Mapping[str, int]
    wanted: int | None
    message: str = ""


@dataclass
class CascadeStatus:
    """What could be learnt of a served cascade.

    Attributes:
        url: that was asked.
        reached: whether anything answered there.
        live: whether a gateway takes requests.
        ready: whether every stage has loaded and can be reached.
        name: of the cascade.
        server_version: of this package there.
        policy_version: of the policy in force.
        guarantee: its certificate's.
        thresholds: of the stages but the last.
        inputs: name, datatype and shape of what it takes.
        application: Ray Serve's word on the application; ``None`` if Ray was not asked.
        deployments: a segment each; empty if Ray was not asked.
        problems: what is wrong, a sentence each; none if all is well.
        notes: what could not be learnt, and why.
    """

    url: str
    reached: bool = False
    live: bool = False
    ready: bool = False
    name: str | None = None
    server_version: str | None = None
    policy_version: str | None = None
    guarantee: str | None = None
    thresholds: dict[str, float] = field(default_factory=dict)
    inputs: list[dict[str, Any]] = field(default_factory=list)
    application: str | None = None
    deployments: list[DeploymentStatus] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)


def served_status(url: str, key: str | None = None, authority: Path | None = None) -> CascadeStatus:
    """Asks a gateway; where several share the address, the one that answers.

    Args:
        url: such as "http://127.0.0.1:8000".
        key: a key of the cascade, if it has keys.
        authority: PEM file of the authority of its certificate, if the machine does not know it.
    """
    site = Site(url, key, authority)
    status = CascadeStatus(site.url)
    code, content = site.get("/health")
    status.reached = code != 0
    if code != 200 or not isinstance(content, dict) or "name" not in content:
        reason = content if code == 0 else f"to /health it said {code}, {str(content)[:LONGEST_MESSAGE]!r}"
        status.problems.append(f"{site.url} does not answer as a cascade does: {reason}")
        return status
    status.live, status.name = True, str(content["name"])
    code, content = site.get("/v2/health/ready")
    status.ready = code == 200
    if not status.ready:
        status.problems.append("it is not ready: a later stage has not loaded, or cannot be reached")
    _learn(status, site)
    return status


def deployments_status(status: CascadeStatus, ray_url: str, name: str | None, token: str | None = None) -> None:
    """Asks Ray's dashboard for the application's deployments, and writes them into a status.

    Args:
        status: of the same cascade.
        ray_url: of the dashboard, such as "http://127.0.0.1:8265".
        name: of the application; ``None`` takes the only one there is.
        token: of a cluster that asks for one.
    """
    code, content = Site(ray_url, token, None).get("/api/serve/applications/")
    applications = content.get("applications") if isinstance(content, dict) else None
    if code != 200 or not isinstance(applications, dict):
        reason = content if code == 0 else f"answered with {code}"
        status.problems.append(f"Ray's dashboard at {ray_url} cannot be asked: {reason}")
        return
    if name is None and len(applications) == 1:
        (name,) = applications
    if name not in applications:
        status.problems.append(f"Ray Serve runs no application {name!r}; it runs {sorted(applications) or 'none'}")
        return
    application = applications[name]
    status.application = str(application.get("status"))
    if status.application != "RUNNING":
        message = _short(application.get("message"))
        status.problems.append(f"Ray Serve calls the application {status.application}{message}")
    for deployment_name, told in sorted(application.get("deployments", {}).items()):
        deployment = _deployment(deployment_name, told)
        status.deployments.append(deployment)
        if deployment.status != "HEALTHY":
            message = _short(deployment.message)
            status.problems.append(f"Ray Serve calls the deployment {deployment_name} {deployment.status}{message}")


def _learn(status: CascadeStatus, site: Site) -> None:
    """What needs a key, where there are keys."""
    code, policy = site.get("/policy")
    if code in (401, 403):
        status.notes.append("its policy is told only to who has a key")
        return
    if code != 200 or not isinstance(policy, dict):
        status.problems.append(f"/policy was answered with {code}")
        return
    status.policy_version = policy.get("version")
    status.guarantee = policy.get("certificate", {}).get("guarantee", "none")
    stages = policy.get("stages", [])
    status.thresholds = {stage["name"]: stage["threshold"] for stage in stages if stage["threshold"] is not None}
    code, server = site.get("/v2")
    status.server_version = server.get("version") if code == 200 and isinstance(server, dict) else None
    code, model = site.get(f"/v2/models/{status.name}")
    status.inputs = model.get("inputs", []) if code == 200 and isinstance(model, dict) else []


def _deployment(name: str, told: Mapping[str, Any]) -> DeploymentStatus:
    replicas = Counter(str(replica.get("state")) for replica in told.get("replicas", ()))
    wanted = told.get("target_num_replicas")
    return DeploymentStatus(name, str(told.get("status")), dict(replicas), wanted, str(told.get("message") or ""))


def _short(message: object) -> str:
    text = str(message or "").strip()
    return f": {text[:LONGEST_MESSAGE]}" if text else ""
