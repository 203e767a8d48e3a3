"""What can be asked over HTTP: the table that the application and its OpenAPI document are made from."""

from typing import NamedTuple

__all__ = ["MODELS", "ROUTES", "Route"]

MODELS = "/v2/models/"
_MODEL = MODELS + "{name}"
_VERSION = _MODEL + "/versions/{version}"


class Route(NamedTuple):
    """A path with a method.

    Attributes:
        method: of HTTP.
        path: a template; "{name}" stands for the cascade's name, "{version}" for the version of its policy.
        operation: what is done, the name of the application's handler.
        summary: one line.
    """

    method: str
    path: str
    operation: str
    summary: str


ROUTES = (
    Route("POST", "/predict", "predict", "Answer rows."),
    Route("GET", "/health", "health", "Whether requests are taken."),
    Route("GET", "/policy", "policy", "The policy in force."),
    Route("PUT", "/policy", "replace_policy", "Put a policy, or a policy set, into force."),
    Route("GET", "/policy/history", "policy_history", "The policies that were in force."),
    Route("POST", "/policy/rollback", "restore_policy", "Put a policy of the history back into force."),
    Route("GET", "/audit", "audit", "Whether answers and traffic are still what they were calibrated to be."),
    Route("GET", "/dashboard", "dashboard", "The live page."),
    Route("GET", "/dashboard/data", "dashboard_data", "What the live page shows: the last minutes of one gateway."),
    Route("GET", "/openapi.json", "openapi", "This document."),
    Route("GET", "/v2", "server_metadata", "The server and its extensions."),
    Route("GET", "/v2/health/live", "server_live", "Whether the server is up."),
    Route("GET", "/v2/health/ready", "server_ready", "Whether every stage has loaded and can be reached."),
    Route("GET", _MODEL, "model_metadata", "What the cascade takes and answers."),
    Route("GET", _VERSION, "model_metadata", "The same, if this policy is in force."),
    Route("GET", f"{_MODEL}/ready", "model_ready", "Whether every stage has loaded and can be reached."),
    Route("GET", f"{_VERSION}/ready", "model_ready", "The same, if this policy is in force."),
    Route("POST", f"{_MODEL}/infer", "model_infer", "Answer the rows of a tensor."),
    Route("POST", f"{_VERSION}/infer", "model_infer", "The same, if this policy is in force."),
)
"""Every path and method; the application refuses all others."""
