"""YAML files, read into pydantic models; all problems are reported together."""

import math
import re
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel

from cascade.errors import InputError
from cascade.files.problems import validated
from cascade.files.text_files import read_text

__all__ = ["load_yaml_model", "text_of_form"]

TEXT_HINT = " (YAML reads no, null, 1 and 2001-01-01 as other values)"
FREE_CHARACTERS = 100_000
MOST_TIMES = 20
"""Maximum size of a file with all aliases expanded, as a multiple of its text."""

Model = TypeVar("Model", bound=BaseModel)


def load_yaml_model(path: Path, model: type[Model], error_type: type[InputError]) -> Model:
    """Reads and checks a YAML file.

    Args:
        path: the file.
        model: the model of its content.
        error_type: raised if the content is invalid.

    Raises:
        InputError: of ``error_type``; the message lists every problem with its place.
    """
    try:
        text = read_text(path, "a YAML file", error_type)
    except FileNotFoundError as error:
        raise error_type(f"{path} does not exist") from error
    try:
        data = _loaded(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date such as 2001-99-99 is a ValueError
        raise error_type(f"{path} is not YAML: {error}") from error
    if not isinstance(data, dict):
        raise error_type(f"{path} must hold keys and values at its top; got {type(data).__name__}")
    return validated(data, model, str(path), error_type, {"folder": path.resolve().parent}, TEXT_HINT)


def text_of_form(pattern: str, words: str) -> AfterValidator:
    """Checks a text field against a regular expression; the message describes the form in words.

    Args:
        pattern: of the whole text.
        words: what the text must be, after "must be".
    """

    def checked(value: str) -> str:
        if re.fullmatch(pattern, value) is None:
            raise ValueError(f"must be {words}")
        return value

    return AfterValidator(checked)


def _loaded(text: str) -> Any:
    """The values of a document.

    Raises:
        yaml.YAMLError: it is not YAML, repeats keys, or its aliases expand to far more than its text.
    """
    loader = yaml.SafeLoader(text)
    try:
        document = loader.get_single_node()
        if document is None:
            return None
        problems = _problems(document, len(text))
        if problems:
            raise yaml.YAMLError("; ".join(problems))
        return loader.construct_document(document)
    finally:
        loader.dispose()


def _problems(document: yaml.Node, length: int) -> list[str]:
    """Problems of a document besides its syntax.

    Args:
        document: composed; an alias is the node that it refers to.
        length: characters of the text.
    """
    sizes: dict[int, float] = {}
    problems: list[str] = []

    def visit(node: yaml.Node) -> float:
        """Characters of a node with all aliases expanded; infinite for a node that contains itself."""
        if id(node) in sizes:
            return sizes[id(node)]
        sizes[id(node)] = math.inf
        if isinstance(node, yaml.MappingNode):
            problems.extend(_repeated_keys(node))
            parts = [part for pair in node.value for part in pair]
        else:
            parts = node.value if isinstance(node, yaml.SequenceNode) else []
        own = len(node.value) if isinstance(node, yaml.ScalarNode) else 0
        sizes[id(node)] = 1 + own + sum(map(visit, parts))
        return sizes[id(node)]

    if visit(document) > FREE_CHARACTERS + MOST_TIMES * length:
        problems.append(f"its aliases expand to more than {MOST_TIMES} times its own text; write the values out")
    return problems


def _repeated_keys(node: yaml.MappingNode) -> list[str]:
    lines: dict[tuple[str, str], list[int]] = {}
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            lines.setdefault((key.tag, key.value), []).append(key.start_mark.line + 1)
    return [
        f"the key {name!r} is in lines {', '.join(map(str, found))} of one mapping; keep one"
        for (_, name), found in lines.items()
        if len(found) > 1
    ]
