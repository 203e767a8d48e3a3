"""The status of a served cascade: from its gateway, and from Ray Serve's dashboard."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cascade.serving.client.http_client import LONGEST_MESSAGE, HttpClient

__all__ = ["CascadeStatus", "DeploymentStatus", "deployments_status", "served_status"]


@dataclass(frozen=True)
class DeploymentStatus:
    """A deployment's status in Ray Serve.

    Attributes:
        name: name of the deployment.
        status: "HEALTHY", or another status of Ray Serve.
        replicas: number of replicas by state.
        wanted: target number of replicas; ``None`` if Ray Serve does not report it.
        message: Ray Serve's reason, or "".
    """

    name: str
    status: str
    replicas: Mapping[str, int]
    wanted: int | None
    message: str = ""


@dataclass
class CascadeStatus:
    """The status of a served cascade. What is unknown is ``None`` or empty.

    Attributes:
        url: address of the cascade.
        reached: whether a server answered there.
        live: whether a gateway accepts requests.
        ready: whether every stage has loaded and can be reached.
        name: name of the cascade.
        server_version: version of this package on the server.
        policy_version: version of the policy in force.
        guarantee: guarantee in that policy's certificate.
        thresholds: by stage, except the last one.
        inputs: name, datatype and shape of each input.
        application: status of the application in Ray Serve; ``None`` without Ray's dashboard.
        deployments: one per segment; empty without Ray's dashboard.
        problems: one sentence per problem; empty if there is none.
        notes: one sentence per fact that could not be found out.
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
    """Requests the status from a gateway; where several share the address, from the one that answers.

    Args:
        url: address of the cascade, such as "http://127.0.0.1:8000".
        key: a key of the cascade, if it has keys.
        authority: PEM file of the authority that signed its certificate, if the machine does not trust it already.

    Raises:
        InputError: the key or the file cannot be used.
    """
    client = HttpClient(url, key, authority)
    status = CascadeStatus(client.url)
    code, content = client.get("/health")
    status.reached = code != 0
    if code != 200 or not isinstance(content, dict) or "name" not in content:
        reason = content if code == 0 else f"GET /health returned {code}, {str(content)[:LONGEST_MESSAGE]!r}"
        status.problems.append(f"no cascade answers at {client.url}: {reason}")
        return status
    status.live, status.name = True, str(content["name"])
    code, content = client.get("/v2/health/ready")
    status.ready = code == 200
    if not status.ready:
        status.problems.append("the cascade is not ready: a later stage has not loaded, or cannot be reached")
    _add_policy_and_inputs(status, client)
    return status


def deployments_status(status: CascadeStatus, ray_url: str, name: str | None, token: str | None = None) -> None:
    """Adds the application's deployments to a status, from Ray's dashboard.

    Args:
        status: of the same cascade; changed in place.
        ray_url: address of the dashboard, such as "http://127.0.0.1:8265".
        name: name of the application; ``None`` if there is only one.
        token: for a cluster that requires one.

    Raises:
        InputError: the token cannot be used.
    """
    code, content = HttpClient(ray_url, token, None).get("/api/serve/applications/")
    applications = content.get("applications") if isinstance(content, dict) else None
    if code != 200 or not isinstance(applications, dict):
        reason = content if code == 0 else f"it returned {code}"
        status.problems.append(f"Ray's dashboard at {ray_url} gives no list of applications: {reason}")
        return
    if name is None and len(applications) == 1:
        (name,) = applications
    if name not in applications:
        status.problems.append(f"Ray Serve has no application {name!r}; it has {sorted(applications) or 'none'}")
        return
    application = applications[name]
    status.application = str(application.get("status"))
    if status.application != "RUNNING":
        message = _short(application.get("message"))
        status.problems.append(f"the application is {status.application} in Ray Serve{message}")
    for deployment_name, details in sorted(application.get("deployments", {}).items()):
        deployment = _deployment(deployment_name, details)
        status.deployments.append(deployment)
        if deployment.status != "HEALTHY":
            message = _short(deployment.message)
            status.problems.append(f"the deployment {deployment_name} is {deployment.status} in Ray Serve{message}")


def _add_policy_and_inputs(status: CascadeStatus, client: HttpClient) -> None:
    """Adds what requires a key, where the cascade has keys."""
    code, policy = client.get("/policy")
    if code in (401, 403):
        status.notes.append("the policy is not shown: the cascade requires a key for it")
        return
    if code != 200 or not isinstance(policy, dict):
        status.problems.append(f"GET /policy returned {code}")
        return
    status.policy_version = policy.get("version")
    status.guarantee = policy.get("certificate", {}).get("guarantee", "none")
    stages = policy.get("stages", [])
    status.thresholds = {stage["name"]: stage["threshold"] for stage in stages if stage["threshold"] is not None}
    code, server = client.get("/v2")
    status.server_version = server.get("version") if code == 200 and isinstance(server, dict) else None
    code, model = client.get(f"/v2/models/{status.name}")
    status.inputs = model.get("inputs", []) if code == 200 and isinstance(model, dict) else []


def _deployment(name: str, details: Mapping[str, Any]) -> DeploymentStatus:
    replicas = Counter(str(replica.get("state")) for replica in details.get("replicas", ()))
    wanted = details.get("target_num_replicas")
    return DeploymentStatus(name, str(details.get("status")), dict(replicas), wanted, str(details.get("message") or ""))


def _short(message: object) -> str:
    text = str(message or "").strip()
    return f": {text[:LONGEST_MESSAGE]}" if text else ""
