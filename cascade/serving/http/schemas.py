"""JSON schemas of a cascade's request and response bodies: the components of its OpenAPI document."""

from typing import Annotated, Any, Literal

from pydantic import Field, create_model
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from cascade.config import CascadeConfig
from cascade.serving.http.body_models import FIXED_BODIES, Body, ClosedBody, Parameters, RequestedOutput
from cascade.serving.oip.inference import INPUT, OUTPUTS

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
    row: Any = str if config.rows.dtype == "text" else _VALUES[config.rows.numpy_dtype.kind]
    for size in reversed(config.rows.shape):
        row = Annotated[list[row], Field(min_length=size, max_length=size)]
    rows = Annotated[list[row], Field(min_length=1, max_length=config.serving.max_request_rows)]
    return create_model("Rows", __base__=ClosedBody, rows=(rows, ...))


def _answers(config: CascadeConfig) -> type[Body]:
    columns: dict[str, Any] = {
        name: (list[_COLUMNS[datatype]], ...)  # type: ignore[misc]
        for name, datatype in OUTPUTS.items()
        if name != "label" or config.classes is not None
    }
    return create_model("Answers", __base__=Body, policy_version=(str, ...), **columns)


def _inference_request(config: CascadeConfig) -> type[Body]:
    size = Annotated[int, Field(ge=1)]
    tensor = create_model(
        "InputTensor",
        __base__=Body,
        name=(Literal[INPUT], ...),
        datatype=(str, ...),
        shape=(Annotated[list[size], Field(min_length=1 + len(config.rows.shape))], ...),
        data=(list[Any], Field(default_factory=list, description="Missing where raw bytes follow the JSON.")),
        parameters=(Parameters, Field(default_factory=dict)),
    )
    return create_model(
        "InferenceRequest",
        __base__=Body,
        id=(str, Field(default_factory=str)),
        parameters=(Parameters, Field(default_factory=dict)),
        inputs=(Annotated[list[tensor], Field(min_length=1, max_length=1)], ...),  # type: ignore[valid-type]
        outputs=(list[RequestedOutput], Field(default_factory=list)),
    )
