"""``cascade reload``: another policy for a cascade that is being served."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cascade.cli.console import JsonOption, print_result
from cascade.cli.served import AuthorityOption, served_config, served_url

if TYPE_CHECKING:
    from cascade.config import CascadeConfig
    from cascade.serving.client.http_client import Site

__all__ = ["reload"]

KEY_VARIABLE = "CASCADE_ADMIN_KEY"
TIMEOUT_S = 60.0


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
    authority: AuthorityOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put another policy into force without a restart, in all gateways, or say where it is not."""
    from cascade.calibration import PolicySet
    from cascade.errors import CheckFailed
    from cascade.serving.client.http_client import Site

    if rollback and policy_path is not None:
        raise typer.BadParameter("give either --policy or --rollback")
    if version is not None and not rollback:
        raise typer.BadParameter("--version goes with --rollback")
    config = served_config(target)
    policy_path = policy_path or (config.policy if config else None)
    if policy_path is None and not rollback:
        raise typer.BadParameter("an address has no policy of its own; give --policy or --rollback")
    site = Site(served_url(config) if config else target, _key(config, key_env, key_file), authority)
    if rollback:
        wanted = {} if version is None else {"version": version}
        answer = _ask(site, "POST", "/policy/rollback", json.dumps(wanted).encode())
    else:
        # Read and written again, so that what is no policy is refused here, with the name of its file.
        answer = _ask(site, "PUT", "/policy", PolicySet.load(str(policy_path)).to_json().encode())
    print_result(answer, as_json)
    if answer.get("behind"):
        raise CheckFailed(f"{len(answer['behind'])} gateways do not have the policy yet; ask GET /policy of them again")


def _ask(site: "Site", method: str, path: str, body: bytes) -> dict[str, Any]:
    """The answer of an admin's request.

    Raises:
        PolicyError: the server refuses what was sent.
        ConfigError: it cannot be reached, or does not take the key.
        CascadeError: it cannot do it now.
    """
    from cascade.errors import CascadeError, ConfigError, PolicyError

    status, answer = site.ask(method, path, body, TIMEOUT_S)
    if status == 0:
        raise ConfigError(f"no cascade answers at {site.url}: {answer}")
    if 200 <= status < 300:
        if not isinstance(answer, dict):
            raise ConfigError(f"what answers at {site.url} is no cascade")
        return answer
    sentence = answer.get("error", "") if isinstance(answer, dict) else answer
    if status in (401, 403):
        raise ConfigError(f"{site.url} does not take the admin key: {sentence}")
    if status in (400, 404, 405, 413):
        raise PolicyError(f"{site.url} refuses: {sentence}")
    raise CascadeError(f"{site.url} cannot do it now (status {status}): {sentence}")


def _key(config: "CascadeConfig | None", variable: str | None, file: Path | None) -> str:
    """An admin key: from where it is said to be, else from the usual variable, else from where the server has it."""
    from cascade.errors import ConfigError
    from cascade.serving.auth.keys import first_key

    if variable is None and file is None:
        if KEY_VARIABLE in os.environ:
            variable = KEY_VARIABLE
        elif config is not None:
            variable, file = config.serving.admin_keys_env, config.serving.admin_keys_file
    if variable is None and file is None:
        raise ConfigError(f"no admin key: set {KEY_VARIABLE}, or give --key-file or --key-env")
    return first_key(None if file is not None else variable, file)
