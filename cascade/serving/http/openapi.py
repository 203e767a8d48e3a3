"""The OpenAPI document of a served cascade, built from its routes and its configuration."""

from typing import Any

import cascade
from cascade.config import CascadeConfig
from cascade.serving.auth.guard import is_for_admins, is_open_path
from cascade.serving.bodies.wire import HTML_TYPE, IMAGE_TYPES, JSON_TYPE, NPY_TYPE, RAW_TYPE
from cascade.serving.http.routes import Route, served_routes
from cascade.serving.http.schemas import component_schemas

__all__ = ["openapi_document"]

Schema = dict[str, Any]

ERRORS = {
    400: "The body or a header is invalid.",
    401: "The key is missing or unknown.",
    403: "The key does not permit this.",
    404: "There is no such path, model or version.",
    405: "The path does not have this method.",
    408: "The request arrived too slowly.",
    409: "Another policy change is in progress.",
    413: "The request has too many bytes or rows.",
    415: "The content type or encoding is not supported.",
    431: "The header is too large.",
    500: "A stage failed on these rows.",
    503: "The queue is full; Retry-After has the seconds to wait.",
    504: "The answer took too long.",
}
_TEXT: Schema = {"type": "string"}
_BINARY: Schema = {"type": "string", "format": "binary"}
_BEARER = {"type": "http", "scheme": "bearer"}


def openapi_document(config: CascadeConfig) -> dict[str, Any]:
    """The document, OpenAPI 3.1 (https://spec.openapis.org/oas/v3.1.1.html).

    Args:
        config: of the cascade; the document contains its name, what its rows are, and its limits.
    """
    keyed = config.serving.keys_file is not None or config.serving.keys_env is not None
    paths: dict[str, Any] = {}
    for route in served_routes(config):
        path = route.path.replace("{name}", config.name)
        paths.setdefault(path, {})[route.method.lower()] = _operation(route, keyed=keyed)
    return {
        "openapi": "3.1.0",
        "info": {"title": config.name, "version": cascade.__version__, "description": "A served prediction cascade."},
        "paths": paths,
        "components": {"schemas": component_schemas(config), "securitySchemes": {"key": _BEARER}},
    }


def _operation(route: Route, *, keyed: bool) -> dict[str, Any]:
    versioned = "{version}" in route.path
    parameters = [_parameter("version", "path", _TEXT, "Version of the policy in force.")] if versioned else []
    has_body = route.operation in _BODIES
    for_admins = is_for_admins(route.method, route.path)
    operation: dict[str, Any] = {
        "operationId": route.operation + ("_of_version" if versioned else ""),
        "summary": route.summary,
        "tags": ["Open Inference Protocol" if route.path.startswith("/v2") else "cascade"],
        "parameters": [*parameters, *_HEADERS.get(route.operation, ())],
        "responses": {
            "200": {"description": "The answer.", "content": _ANSWERS[route.operation]},
            **{str(status): _error(ERRORS[status]) for status in ERRORS if has_body or (versioned and status == 404)},
        },
    }
    if for_admins or (keyed and not is_open_path(route.path)):
        operation["security"] = [{"key": []}]
        operation["responses"]["401"] = _error(ERRORS[401])
    if route.operation in ("server_ready", "model_ready"):
        operation["responses"]["503"] = {
            "description": "A stage has not loaded, or cannot be reached.",
            "content": _ANSWERS[route.operation],
        }
    if has_body:
        operation["requestBody"] = {
            "required": route.operation != "restore_policy",
            "content": _BODIES[route.operation],
        }
    if for_admins:
        content = _ANSWERS[route.operation]
        operation["responses"]["202"] = {"description": "Some gateways do not have the policy yet.", "content": content}
    return operation


def _parameter(name: str, place: str, schema: Schema, description: str) -> dict[str, Any]:
    return {"name": name, "in": place, "required": place == "path", "schema": schema, "description": description}


def _error(description: str) -> dict[str, Any]:
    return {"description": description, "content": _json("Error")}


def _json(schema: str) -> dict[str, Any]:
    return {JSON_TYPE: {"schema": {"$ref": f"#/components/schemas/{schema}"}}}


_LENGTH = _parameter(
    "Inference-Header-Content-Length",
    "header",
    {"type": "integer", "minimum": 0},
    "Length of the JSON in bytes; raw tensors follow it.",
)
_HEADERS = {
    "predict": (
        _parameter("X-Dtype", "header", _TEXT, "NumPy dtype of raw rows; by default the configuration's."),
        _parameter("X-Shape", "header", _TEXT, "Shape of raw rows, such as 64,32,32,3."),
        _parameter("X-Max-Stage", "header", _TEXT, "Name of the last stage that may run."),
        _parameter(
            "X-Timeout-Ms",
            "header",
            {"type": "number", "exclusiveMinimum": 0},
            "Milliseconds that the caller waits for the answer.",
        ),
        _parameter(
            "X-Request-Id", "header", _TEXT, "The caller's name for the request; recorded with rows under review."
        ),
    ),
    "model_infer": (_LENGTH,),
}
_HEADERS["detect"] = _HEADERS["predict"][2:]
_BODIES = {
    "detect": {kind: {"schema": _BINARY} for kind in IMAGE_TYPES},
    "predict": {**_json("Rows"), RAW_TYPE: {"schema": _BINARY}, NPY_TYPE: {"schema": _BINARY}},
    "replace_policy": _json("Policies"),
    "restore_policy": _json("Rollback"),
    "model_infer": {**_json("InferenceRequest"), RAW_TYPE: {"schema": _BINARY}},
}
_ANSWERS = {
    "detect": _json("Detections"),
    "predict": _json("Answers"),
    "health": _json("Health"),
    "policy": _json("Policy"),
    "replace_policy": _json("PolicyChange"),
    "restore_policy": _json("PolicyChange"),
    "policy_history": _json("PolicyHistory"),
    "audit": _json("Audit"),
    "dashboard": {HTML_TYPE: {"schema": _TEXT}},
    "dashboard_data": _json("Traffic"),
    "openapi": {JSON_TYPE: {"schema": {"type": "object"}}},
    "server_metadata": _json("ServerMetadata"),
    "server_live": _json("Live"),
    "server_ready": _json("Ready"),
    "model_metadata": _json("ModelMetadata"),
    "model_ready": _json("ModelReady"),
    "model_infer": {**_json("InferenceResponse"), RAW_TYPE: {"schema": _BINARY}},
}
