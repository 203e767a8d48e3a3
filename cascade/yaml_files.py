"""YAML files read into pydantic models, with every problem reported at once."""

from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from cascade.errors import InputError

__all__ = ["describe_problems", "load_yaml_model"]

Model = TypeVar("Model", bound=BaseModel)


def load_yaml_model(path: Path, model: type[Model], error_type: type[InputError]) -> Model:
    """Reads and checks a YAML file.

    Args:
        path: the file.
        model: what it must hold.
        error_type: raised when it does not.

    Raises:
        InputError: of ``error_type``; its text lists every problem with its place.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise error_type(f"{path} does not exist") from error
    except (OSError, UnicodeDecodeError) as error:
        raise error_type(f"{path} cannot be read: {error}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date such as 2001-99-99 is a ValueError
        raise error_type(f"{path} is not YAML: {error}") from error
    if not isinstance(data, dict):
        raise error_type(f"{path} must hold keys and values at its top; got {type(data).__name__}")
    try:
        return model.model_validate(data, context={"folder": path.resolve().parent})
    except ValidationError as error:
        raise error_type(describe_problems(str(path), error)) from error


def describe_problems(source: str, error: ValidationError) -> str:
    """One line a problem: where it is, what is wrong, what came."""
    problems = error.errors(include_url=False)
    lines = [f"{source} has {len(problems)} problem{'s' if len(problems) > 1 else ''}:"]
    for problem in problems:
        place = ".".join(str(part) for part in problem["loc"]) or "(top)"
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            message = "this key is not known; remove it or correct its spelling"
        came = "" if problem["type"] in ("missing", "extra_forbidden") else f" (got {_short(problem['input'])})"
        lines.append(f"  {place}: {message}{came}")
    return "\n".join(lines)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
