"""Values read into pydantic models, with every problem reported at once."""

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from cascade.errors import InputError

__all__ = ["describe_problems", "validated"]

Model = TypeVar("Model", bound=BaseModel)


def validated(
    values: Any,
    model: type[Model],
    source: str,
    error_type: type[InputError],
    context: dict[str, Any] | None = None,
    text_hint: str = "",
) -> Model:
    """Reads plain values into a model.

    Args:
        values: as they came from a file.
        model: what they must hold.
        source: where they came from, for the message.
        error_type: raised when the model refuses them.
        context: for the model's validators.
        text_hint: why a text may have been read as another value.

    Raises:
        InputError: of ``error_type``; its text lists every problem with its place.
    """
    try:
        return model.model_validate(values, context=context)
    except ValidationError as error:
        raise error_type(describe_problems(source, error, text_hint)) from error


def describe_problems(source: str, error: ValidationError, text_hint: str = "") -> str:
    """One line per problem: where it is, what is wrong, what came."""
    problems = error.errors(include_url=False)
    lines = [f"{source} has {len(problems)} problem{'s' if len(problems) > 1 else ''}:"]
    for problem in problems:
        place = ".".join(str(part) for part in problem["loc"]) or "(top)"
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            message = "this key is not known; remove it or correct its spelling"
        if problem["type"] == "string_type" and not isinstance(problem["input"], dict | list):
            message = f"must be a text; put it in quotes{text_hint}"
        came = "" if problem["type"] in ("missing", "extra_forbidden") else f" (got {_short(problem['input'])})"
        lines.append(f"  {place}: {message}{came}")
    return "\n".join(lines)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
