"""How verbs find a served cascade, and ask it."""

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
    typer.Option("--key-env", help=f"Environment variable with a key of the cascade [default: {KEY_VARIABLE}]."),
]
AuthorityOption = Annotated[
    Path | None, typer.Option("--ca", help="PEM file of its certificate's authority [default: the machine's].")
]


def served_config(target: str) -> "CascadeConfig | None":
    """The configuration that a target names; ``None`` where it is an address.

    Raises:
        InputError: an address that is not of HTTP.
        ConfigError: a configuration that is not right, or not there.
    """
    from cascade.config import CascadeConfig

    if "://" not in target:
        return CascadeConfig.load(target)
    check_address(target)
    return None


def served_url(config: "CascadeConfig") -> str:
    """Where a cascade of this configuration is reached from its own machine."""
    serving = config.serving
    anywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 (not bound to, but asked)
    return serving.model_copy(update={"host": anywhere.get(serving.host, serving.host)}).url


def check_address(address: str) -> None:
    """Refuses what is no address of HTTP.

    Raises:
        InputError: it is not.
    """
    if not address.startswith(("http://", "https://")):
        raise InputError(f"an address must look like {DEFAULT_URL}; got {address!r}")


def key_of(variable: str | None) -> str | None:
    """The key in an environment variable; of the usual one, if none is named, it may be missing.

    Raises:
        InputError: the named variable is not set.
    """
    key = os.environ.get(variable or KEY_VARIABLE, "").strip() or None
    if variable is not None and key is None:
        raise InputError(f"the environment variable {variable} is empty; it must hold the key")
    return key
