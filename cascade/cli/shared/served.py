"""Options and helpers of the verbs that send requests to a served cascade."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cascade.errors import InputError

if TYPE_CHECKING:
    from cascade.config import CascadeConfig

__all__ = [
    "DEFAULT_URL",
    "KEY_VARIABLE",
    "AuthorityOption",
    "KeyVariableOption",
    "check_address",
    "key_of",
    "served_config",
    "served_url",
]

DEFAULT_URL = "http://127.0.0.1:8000"
KEY_VARIABLE = "CASCADE_KEY"

KeyVariableOption = Annotated[
    str | None,
    typer.Option("--key-env", help="Environment variable with a key of the cascade.", show_default=KEY_VARIABLE),
]
AuthorityOption = Annotated[
    Path | None,
    typer.Option(
        "--ca",
        help="PEM file of the authority that signed the server's certificate.",
        show_default="the machine's authorities",
    ),
]


def served_config(target: str) -> "CascadeConfig | None":
    """Loads the configuration that a target names; returns ``None`` for an address.

    Raises:
        InputError: the address is not an HTTP address.
        ConfigError: the configuration is invalid or does not exist.
    """
    from cascade.config import CascadeConfig

    if "://" not in target:
        return CascadeConfig.load(target)
    check_address(target)
    return None


def served_url(config: "CascadeConfig") -> str:
    """Address of a cascade with this configuration, as seen from its own machine."""
    serving = config.serving
    anywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 (replaced, not bound to)
    return serving.model_copy(update={"host": anywhere.get(serving.host, serving.host)}).url


def check_address(address: str) -> None:
    """Refuses an address that does not begin with http:// or https://.

    Raises:
        InputError: it does not.
    """
    if not address.startswith(("http://", "https://")):
        raise InputError(f"an address must look like {DEFAULT_URL}; got {address!r}")


def key_of(variable: str | None) -> str | None:
    """The key in an environment variable.

    Args:
        variable: name of the variable, which must be set then; ``None`` for :data:`KEY_VARIABLE`, which may be unset.

    Raises:
        InputError: the named variable is not set or empty.
    """
    key = os.environ.get(variable or KEY_VARIABLE, "").strip() or None
    if variable is not None and key is None:
        raise InputError(f"the environment variable {variable} is not set; set it to the key")
    return key
