"""The table of HTTP routes, used by the application and its OpenAPI document."""

from typing import NamedTuple

from cascade.config import CascadeConfig

__all__ = ["MODELS", "ROUTES", "Route", "served_routes"]

MODELS = "/v2/models/"
_MODEL = MODELS + "{name}"
_VERSION = _MODEL + "/versions/{version}"


class Route(NamedTuple):
    """A path with a method.

    Attributes:
        method: of HTTP, in capitals.
        path: a template; "{name}" stands for the cascade's name, "{version}" for the version of its policy.
        operation: name of the operation; the application's handler is named after it.
        summary: one line for the OpenAPI document.
    """

    method: str
    path: str
    operation: str
    summary: str


ROUTES = (
    Route("POST", "/predict", "predict", "Answer rows, as JSON, .npy or raw bytes."),
    Route("POST", "/detect", "detect", "Find objects in an image, a JPEG, PNG or WebP file."),
    Route("GET", "/health", "health", "Whether the gateway accepts requests."),
    Route("GET", "/policy", "policy", "The policy in force."),
    Route("PUT", "/policy", "replace_policy", "Put a policy, or a policy set, into force."),
    Route("GET", "/policy/history", "policy_history", "The policies in force so far."),
    Route("POST", "/policy/rollback", "restore_policy", "Put an earlier policy back into force."),
    Route("GET", "/audit", "audit", "Whether answers and traffic still match the calibration."),
    Route("GET", "/dashboard", "dashboard", "The dashboard, a web page."),
    Route("GET", "/dashboard/data", "dashboard_data", "The dashboard's numbers: the last minutes of one gateway."),
    Route("GET", "/openapi.json", "openapi", "This document."),
    Route("GET", "/v2", "server_metadata", "The server and its extensions."),
    Route("GET", "/v2/health/live", "server_live", "Whether the server is up."),
    Route("GET", "/v2/health/ready", "server_ready", "Whether every stage has loaded and can be reached."),
    Route("GET", _MODEL, "model_metadata", "Input and outputs of the cascade."),
    Route("GET", _VERSION, "model_metadata", "The same, for one version of the policy."),
    Route("GET", f"{_MODEL}/ready", "model_ready", "Whether every stage has loaded and can be reached."),
    Route("GET", f"{_VERSION}/ready", "model_ready", "The same, for one version of the policy."),
    Route("POST", f"{_MODEL}/infer", "model_infer", "Answer rows, by the Open Inference Protocol."),
    Route("POST", f"{_VERSION}/infer", "model_infer", "The same, for one version of the policy."),
)
"""All routes; the application refuses other paths and methods."""


def served_routes(config: CascadeConfig) -> tuple[Route, ...]:
    """The routes of a cascade: objects are found only with a section ``detection``."""
    return tuple(route for route in ROUTES if route.operation != "detect" or config.detection is not None)
