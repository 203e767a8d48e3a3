"""``cascade reload``: another policy for a cascade that is being served."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cascade.cli.console import JsonOption, print_result

if TYPE_CHECKING:
    from cascade.config import CascadeConfig

__all__ = ["reload"]

KEY_VARIABLE = "CASCADE_ADMIN_KEY"


def reload(
    target: Annotated[
        str, typer.Argument(metavar="CONFIG|URL", help="Configuration, or address such as http://host:8000.")
    ],
    policy_path: Annotated[
        Path | None, typer.Option("--policy", help="Policy or policy set to put into force [default: the config's].")
    ] = None,
    rollback: Annotated[
        bool, typer.Option("--rollback", help="Go back to the policy that was in force before.")
    ] = False,
    version: Annotated[
        str | None, typer.Option(help="With --rollback: go back to this version [default: the one before].")
    ] = None,
    key_env: Annotated[
        str | None, typer.Option(help=f"Environment variable with an admin key [default: {KEY_VARIABLE}].")
    ] = None,
    key_file: Annotated[
        Path | None, typer.Option(help="File with admin keys; the first is used [default: the config's].")
    ] = None,
    authorities: Annotated[
        Path | None, typer.Option(help="PEM file with authorities that vouch for the server's certificate.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Put another policy into force without a restart, in all gateways, or say where it is not."""
    from cascade.calibration import PolicySet
    from cascade.cli.admin_client import AdminClient
    from cascade.config import CascadeConfig
    from cascade.errors import CheckFailed

    if rollback and policy_path is not None:
        raise typer.BadParameter("give either --policy or --rollback")
    if version is not None and not rollback:
        raise typer.BadParameter("--version goes with --rollback")
    config = None if "://" in target else CascadeConfig.load(target)
    policy_path = policy_path or (config.policy if config else None)
    if policy_path is None and not rollback:
        raise typer.BadParameter("an address has no policy of its own; give --policy or --rollback")
    client = AdminClient(_url(config) if config else target, _key(config, key_env, key_file), authorities)
    if rollback:
        wanted = {} if version is None else {"version": version}
        answer = client.ask("POST", "/policy/rollback", json.dumps(wanted).encode())
    else:
        # Read and written again, so that what is no policy is refused here, with the name of its file.
        answer = client.ask("PUT", "/policy", PolicySet.load(str(policy_path)).to_json().encode())
    print_result(answer, as_json)
    if answer.get("behind"):
        raise CheckFailed(f"{len(answer['behind'])} gateways do not have the policy yet; ask GET /policy of them again")


def _url(config: "CascadeConfig") -> str:
    serving = config.serving
    anywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 (not bound to, but asked)
    host = anywhere.get(serving.host, serving.host)
    scheme = "http" if serving.tls_certificate is None else "https"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{serving.port}"


def _key(config: "CascadeConfig | None", variable: str | None, file: Path | None) -> str:
    """An admin key: from where it is said to be, else from the usual variable, else from where the server has it."""
    from cascade.errors import ConfigError
    from cascade.serving.keys import first_key

    if variable is None and file is None:
        if KEY_VARIABLE in os.environ:
            variable = KEY_VARIABLE
        elif config is not None:
            variable, file = config.serving.admin_keys_env, config.serving.admin_keys_file
    if variable is None and file is None:
        raise ConfigError(f"no admin key: set {KEY_VARIABLE}, or give --key-file or --key-env")
    return first_key(None if file is not None else variable, file)
