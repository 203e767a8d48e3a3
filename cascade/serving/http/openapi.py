"""The OpenAPI document of a served cascade, made from its routes and its configuration."""

from typing import Any

import cascade
from cascade.config import CascadeConfig, RowsConfig
from cascade.serving.auth.guard import is_for_admins, is_open_path
from cascade.serving.bodies.wire import HTML_TYPE, JSON_TYPE, NPY_TYPE, RAW_TYPE
from cascade.serving.http.routes import ROUTES, Route
from cascade.serving.oip.inference import INPUT, OUTPUTS

__all__ = ["openapi_document"]

Schema = dict[str, Any]

ERRORS = {
    400: "The body is not what it must be.",
    401: "No key that is known.",
    403: "The key does not allow this.",
    404: "No such path, model or version.",
    405: "The path has other methods.",
    408: "The request came too slowly.",
    409: "Another policy is coming into force at the moment.",
    413: "More bytes or rows than a request may have.",
    415: "A content type or encoding that is not read.",
    431: "The header is too large.",
    500: "A stage failed on these rows.",
    503: "The queue is full; Retry-After says when to come back.",
    504: "No answer in time.",
}
_TYPES = {"INT64": "integer", "FP64": "number", "BYTES": "string", "BOOL": "boolean"}
_TEXT: Schema = {"type": "string"}
_WHOLE: Schema = {"type": "integer"}
_BINARY: Schema = {"type": "string", "format": "binary"}
_BEARER = {"type": "http", "scheme": "bearer"}
_PARAMETERS: Schema = {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}}


def openapi_document(config: CascadeConfig) -> dict[str, Any]:
    """The document, OpenAPI 3.1 (https://spec.openapis.org/oas/v3.1.1.html).

    Args:
        config: of the cascade: its name, its rows and its limits stand in the document.
    """
    keyed = config.serving.keys_file is not None or config.serving.keys_env is not None
    paths: dict[str, Any] = {}
    for route in ROUTES:
        path = route.path.replace("{name}", config.name)
        paths.setdefault(path, {})[route.method.lower()] = _operation(route, keyed=keyed)
    return {
        "openapi": "3.1.0",
        "info": {"title": config.name, "version": cascade.__version__, "description": "A served prediction cascade."},
        "paths": paths,
        "components": {"schemas": _schemas(config), "securitySchemes": {"key": _BEARER}},
    }


def _operation(route: Route, *, keyed: bool) -> dict[str, Any]:
    versioned = "{version}" in route.path
    parameters = [_parameter("version", "path", _TEXT, "Version of the policy.")] if versioned else []
    asks = route.operation in _BODIES
    for_admins = is_for_admins(route.method, route.path)
    operation: dict[str, Any] = {
        "operationId": route.operation + ("_of_version" if versioned else ""),
        "summary": route.summary,
        "tags": ["Open Inference Protocol" if route.path.startswith("/v2") else "cascade"],
        "parameters": [*parameters, *_HEADERS.get(route.operation, ())],
        "responses": {
            "200": {"description": "The answer.", "content": _ANSWERS[route.operation]},
            **{str(status): _error(ERRORS[status]) for status in ERRORS if asks or (versioned and status == 404)},
        },
    }
    if for_admins or (keyed and not is_open_path(route.path)):
        operation["security"] = [{"key": []}]
        operation["responses"]["401"] = _error(ERRORS[401])
    if route.operation in ("server_ready", "model_ready"):
        operation["responses"]["503"] = {"description": "Not ready.", "content": _ANSWERS[route.operation]}
    if asks:
        operation["requestBody"] = {
            "required": route.operation != "restore_policy",
            "content": _BODIES[route.operation],
        }
    if for_admins:
        content = _ANSWERS[route.operation]
        operation["responses"]["202"] = {"description": "Not yet in all gateways.", "content": content}
    return operation


def _parameter(name: str, place: str, schema: Schema, description: str) -> dict[str, Any]:
    return {"name": name, "in": place, "required": place == "path", "schema": schema, "description": description}


def _error(description: str) -> dict[str, Any]:
    return {"description": description, "content": _json("Error")}


def _json(schema: str) -> dict[str, Any]:
    return {JSON_TYPE: {"schema": {"$ref": f"#/components/schemas/{schema}"}}}


_LENGTH = _parameter(
    "Inference-Header-Content-Length", "header", {"type": "integer", "minimum": 0}, "Bytes of the JSON before tensors."
)
_HEADERS = {
    "predict": (
        _parameter("X-Dtype", "header", _TEXT, "Of raw rows; by default the configuration's."),
        _parameter("X-Shape", "header", _TEXT, "Of raw rows, such as 64,32,32,3."),
        _parameter("X-Max-Stage", "header", _TEXT, "The last stage that may look at the rows."),
        _parameter("X-Timeout-Ms", "header", {"type": "number", "exclusiveMinimum": 0}, "How long the caller waits."),
        _parameter("X-Request-Id", "header", _TEXT, "What the caller calls the request, for rows under review."),
    ),
    "model_infer": (_LENGTH,),
}
_BODIES = {
    "predict": {**_json("Rows"), RAW_TYPE: {"schema": _BINARY}, NPY_TYPE: {"schema": _BINARY}},
    "replace_policy": _json("Policies"),
    "restore_policy": _json("Rollback"),
    "model_infer": {**_json("InferenceRequest"), RAW_TYPE: {"schema": _BINARY}},
}
_ANSWERS = {
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


def _schemas(config: CascadeConfig) -> dict[str, Schema]:
    truth: Schema = {"type": "boolean"}
    tensors = {"type": "array", "items": {"$ref": "#/components/schemas/TensorMetadata"}}
    return {
        "Error": _object({"error": _TEXT}),
        "Rows": _object({"rows": _rows(config)}, closed=True),
        "Answers": _answers(config),
        "Health": _object({"status": _TEXT, "name": _TEXT}),
        "Policy": _object({"version": _TEXT, "revision": _WHOLE, "gear": _gear()}),
        "Policies": {"type": "object", "anyOf": [{"required": ["stages"]}, {"required": ["gears"]}]},
        "PolicyChange": _policy_change(),
        "PolicyHistory": _object({"history": _list(_history_entry())}),
        "Rollback": _object({}, {"version": _TEXT}, closed=True),
        "Audit": _audit(),
        "Traffic": _object({"name": _TEXT, "metrics": truth}),
        "ServerMetadata": _object({"name": _TEXT, "version": _TEXT, "extensions": _list(_TEXT)}),
        "Live": _object({"live": truth}),
        "Ready": _object({"ready": truth}),
        "ModelReady": _object({"name": _TEXT, "ready": truth}),
        "TensorMetadata": _object({"name": _TEXT, "datatype": _TEXT, "shape": _list(_WHOLE)}),
        "ModelMetadata": _object(
            {"name": _TEXT, "versions": _list(_TEXT), "platform": _TEXT, "inputs": tensors, "outputs": tensors}
        ),
        "InferenceRequest": _object(
            {"inputs": _list(_input_tensor(config)) | {"minItems": 1, "maxItems": 1}},
            {"id": _TEXT, "parameters": _PARAMETERS, "outputs": _list(_requested_output())},
        ),
        "InferenceResponse": _object(
            {
                "model_name": _TEXT,
                "model_version": _TEXT,
                "parameters": _PARAMETERS,
                "outputs": _list(_output_tensor()),
            },
            {"id": _TEXT},
        ),
    }


def _gear() -> Schema:
    return _object({"index": _WHOLE, "versions": _list(_TEXT), "usable": _WHOLE, "changes": _WHOLE})


def _policy_change() -> Schema:
    behind = _object({"node": _TEXT, "pid": _WHOLE, "revision": _WHOLE})
    return _object(
        {"version": _TEXT, "revision": _WHOLE, "gears": _list(_TEXT), "gateways": _WHOLE, "behind": _list(behind)}
    )


def _history_entry() -> Schema:
    kind = {"enum": ["start", "reload", "rollback"]}
    return _object({"revision": _WHOLE, "version": _TEXT, "kind": kind, "at": _TEXT})


def _object(required: dict[str, Schema], optional: dict[str, Schema] | None = None, *, closed: bool = False) -> Schema:
    schema = {"type": "object", "properties": required | (optional or {}), "required": list(required)}
    return schema | ({"additionalProperties": False} if closed else {})


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _rows(config: CascadeConfig) -> Schema:
    schema = _value(config.rows)
    for size in reversed(config.rows.shape):
        schema = _list(schema) | {"minItems": size, "maxItems": size}
    return _list(schema) | {"minItems": 1, "maxItems": config.serving.max_request_rows}


def _value(rows: RowsConfig) -> Schema:
    kinds = {"b": "boolean", "i": "integer", "u": "integer", "f": "number"}
    return {"type": "string" if rows.dtype == "text" else kinds[rows.numpy_dtype.kind]}


def _answers(config: CascadeConfig) -> Schema:
    columns = {name: _list({"type": _TYPES[datatype]}) for name, datatype in OUTPUTS.items()}
    if config.classes is None:
        del columns["label"]
    return _object(columns | {"policy_version": _TEXT})


def _audit() -> Schema:
    truth: Schema = {"type": "boolean"}
    share = {"type": "number", "minimum": 0, "maximum": 1}
    unknown_at_first = {"type": ["number", "null"]}
    estimate = _object({"rows": _WHOLE, "agreed": _WHOLE, "rate": unknown_at_first, "low": share, "high": share})
    watched = _object(
        {"name": _TEXT, "stage": {"type": ["string", "null"]}, "source": _TEXT, "rows": _WHOLE}
        | {"rate": unknown_at_first, "low": share, "high": share, "e_value": {"type": "number", "minimum": 0}}
        | {"alarm_at": {"type": "number"}, "alarm": truth, "alarm_rows": {"type": ["integer", "null"]}}
    )
    policy = _object(
        {"alarm": truth, "delta": share, "watched": _list(watched)}
        | {"answered_rows": {"type": "object", "additionalProperties": _WHOLE}}
        | {"agreement": estimate, "accepted_agreement": estimate}
        | {"stage_agreement": {"type": "object", "additionalProperties": estimate}}
        | {f"{name}_rows": _WHOLE for name in ("drawn", "audited", "dropped", "lost")}
    )
    return _object(
        {"gateway": _TEXT, "gateways": _WHOLE, "start": _WHOLE, "share": share, "policy_version": _TEXT, "alarm": truth}
        | {"waiting_rows": _WHOLE, "policies": {"type": "object", "additionalProperties": policy}}
    )


def _input_tensor(config: CascadeConfig) -> Schema:
    shape = {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 1 + len(config.rows.shape)}
    return _object(
        {"name": {"const": INPUT}, "datatype": _TEXT, "shape": shape},
        {"data": {"type": "array"}, "parameters": _PARAMETERS},
    )


def _requested_output() -> Schema:
    return _object({"name": {"enum": list(OUTPUTS)}}, {"parameters": _PARAMETERS})


def _output_tensor() -> Schema:
    described = {"name": {"enum": list(OUTPUTS)}, "datatype": _TEXT, "shape": _list(_WHOLE)}
    return _object(described, {"data": {"type": "array"}, "parameters": _PARAMETERS})
