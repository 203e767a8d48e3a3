"""``cascade schema``: the JSON schema of the configuration, for editors."""

import json
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["schema", "schema_text"]


def schema(
    out: Annotated[Path | None, typer.Option(help="File to write.", show_default="standard output")] = None,
) -> None:
    """Print the JSON schema of the configuration; editors complete and check a config.yaml with it.

    The first line of the configuration names it: '# yaml-language-server: $schema=FILE'.
    """
    if out is None:
        typer.echo(schema_text(), nl=False)
    else:
        out.write_text(schema_text(), encoding="utf-8")


def schema_text() -> str:
    """The schema, draft 2020-12."""
    from cascade.config import CascadeConfig

    content = CascadeConfig.model_json_schema()
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **content}, indent=1) + "\n"
