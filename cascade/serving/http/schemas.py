"""JSON schemas of a cascade's request and response bodies: the components of its OpenAPI document."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, create_model
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from cascade.config import CascadeConfig
from cascade.rows.columns import ColumnType
from cascade.serving.http.body_models import FIXED_BODIES, Body, ClosedBody, Parameters, RequestedOutput
from cascade.serving.oip.image_input import IMAGE_INPUT
from cascade.serving.oip.tensors import INPUT, OUTPUTS

__all__ = ["component_schemas"]

_VALUES = {"b": bool, "i": int, "u": int, "f": float}
_COLUMNS = {"INT64": int, "FP64": float, "BYTES": str, "BOOL": bool}


class _Generator(GenerateJsonSchema):
    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 (pydantic's)
        """No titles, which would only repeat the names."""
        return False


def component_schemas(config: CascadeConfig) -> dict[str, Any]:
    """JSON schemas by name.

    Args:
        config: of the cascade; the shape and dtype of its rows and its limits are in the schemas.
    """
    models = [*FIXED_BODIES, _rows(config), _answers(config), _inference_request(config)]
    _, definitions = models_json_schema(
        [(model, "validation") for model in models],
        ref_template="#/components/schemas/{model}",
        schema_generator=_Generator,
    )
    schemas: dict[str, Any] = definitions["$defs"]
    return schemas


def _rows(config: CascadeConfig) -> type[Body]:
    if config.rows.columns is not None:
        return _model("Rows", ClosedBody, rows=_list(_record(config.rows.columns), 1, config.serving.max_request_rows))
    row: Any = str if config.rows.dtype == "text" else _VALUES[config.rows.numpy_dtype.kind]
    for size in reversed(config.rows.shape):
        row = _list(row, size, size)
    return _model("Rows", ClosedBody, rows=_list(row, 1, config.serving.max_request_rows))


def _record(columns: Mapping[str, ColumnType]) -> type[Body]:
    """A row of named columns. Numbers, texts and categories may be missing."""
    plain: dict[str, Any] = {"integer": int, "boolean": bool, "number": float | None, "text": str | None}
    fields: dict[str, Any] = {}
    for place, (name, kind) in enumerate(columns.items()):
        value: Any = plain[kind] if isinstance(kind, str) else Literal[kind] | None
        needed = kind in ("integer", "boolean")
        fields[f"column_{place}"] = (value, Field(alias=name) if needed else Field(default=None, alias=name))
    return _model("Row", ClosedBody, **fields)


def _answers(config: CascadeConfig) -> type[Body]:
    columns = {name: _list(_COLUMNS[datatype]) for name, datatype in OUTPUTS.items()}
    if config.classes is None:
        del columns["label"]
    return _model("Answers", Body, policy_version=str, **columns)


def _inference_request(config: CascadeConfig) -> type[Body]:
    columns = config.rows.columns
    axes = 1 + len(config.rows.shape) if config.detection is None else 1
    shape = _list(Annotated[int, Field(ge=1)], axes)
    data: Any = (list[Any], Field(default_factory=list, description="Missing where raw bytes follow the JSON."))
    parameters: Any = (Parameters, Field(default_factory=dict))
    name: Any = Literal[INPUT] if config.detection is None else Literal[INPUT, IMAGE_INPUT]
    if columns is not None:
        name = Annotated[str, Field(description="A column, or its name and '.missing'; or 'rows' with JSON objects.")]
    tensor = _model("InputTensor", Body, name=name, datatype=str, shape=shape, data=data, parameters=parameters)
    outputs: Any = (list[RequestedOutput], Field(default_factory=list))
    request_id = (str, Field(default_factory=str))
    inputs = _list(tensor, 1, 1 if columns is None else 2 * len(columns))
    return _model("InferenceRequest", Body, id=request_id, parameters=parameters, inputs=inputs, outputs=outputs)


def _model(name: str, base: type[Body], /, **fields: Any) -> type[Body]:
    return create_model(name, __base__=base, **fields)


def _list(item: Any, least: int = 0, most: int | None = None) -> Any:
    return Annotated[list[item], Field(min_length=least or None, max_length=most)]
