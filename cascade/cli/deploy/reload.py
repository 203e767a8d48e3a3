"""``cascade reload``: puts another policy into force in a served cascade."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cascade.cli.shared.console import JsonOption, print_result
from cascade.cli.shared.served import AuthorityOption, served_config, served_url

if TYPE_CHECKING:
    from cascade.config import CascadeConfig
    from cascade.serving.client.http_client import HttpClient

__all__ = ["reload"]

KEY_VARIABLE = "CASCADE_ADMIN_KEY"
TIMEOUT_S = 60.0


def reload(
    target: Annotated[
        str, typer.Argument(metavar="CONFIG|URL", help="Configuration, or address such as http://host:8000.")
    ],
    policy_path: Annotated[
        Path | None,
        typer.Option("--policy", help="Policy or policy set to put into force.", show_default="the config's"),
    ] = None,
    rollback: Annotated[
        bool, typer.Option("--rollback", help="Go back to the policy that was in force before.")
    ] = False,
    version: Annotated[
        str | None, typer.Option(help="With --rollback: go back to this version.", show_default="the one before")
    ] = None,
    key_env: Annotated[
        str | None, typer.Option(help="Environment variable with an admin key.", show_default=KEY_VARIABLE)
    ] = None,
    key_file: Annotated[
        Path | None, typer.Option(help="File with admin keys; the first is used.", show_default="the config's")
    ] = None,
    authority: AuthorityOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put another policy into force in all gateways, without a restart; exit code 5 if some do not have it yet."""
    from cascade.calibration import PolicySet
    from cascade.errors import CheckFailed
    from cascade.serving.client.http_client import HttpClient

    if rollback and policy_path is not None:
        raise typer.BadParameter("give either --policy or --rollback")
    if version is not None and not rollback:
        raise typer.BadParameter("--version requires --rollback")
    config = served_config(target)
    policy_path = policy_path or (config.policy if config else None)
    if policy_path is None and not rollback:
        raise typer.BadParameter("CONFIG|URL is an address, which names no policy; give --policy or --rollback")
    client = HttpClient(served_url(config) if config else target, _key(config, key_env, key_file), authority)
    if rollback:
        body = {} if version is None else {"version": version}
        answer = _request(client, "POST", "/policy/rollback", json.dumps(body).encode())
    else:
        # Parsed and written again, so that an invalid policy is refused here, with the name of its file.
        answer = _request(client, "PUT", "/policy", PolicySet.load(str(policy_path)).to_json().encode())
    print_result(answer, as_json)
    if answer.get("behind"):
        raise CheckFailed(f"{len(answer['behind'])} gateways do not have the policy yet; check GET /policy again later")


def _request(client: "HttpClient", method: str, path: str, body: bytes) -> dict[str, Any]:
    """Sends an admin's request and returns the JSON of the answer.

    Raises:
        PolicyError: the server refuses the policy or the version.
        ConfigError: the server cannot be reached, or refuses the key.
        CascadeError: the server cannot change the policy now.
    """
    from cascade.errors import CascadeError, ConfigError, PolicyError

    status, answer = client.request(method, path, body, TIMEOUT_S)
    if status == 0:
        raise ConfigError(f"no cascade answers at {client.url}: {answer}")
    if 200 <= status < 300:
        if not isinstance(answer, dict):
            raise ConfigError(f"the server at {client.url} is not a cascade")
        return answer
    sentence = answer.get("error", "") if isinstance(answer, dict) else answer
    if status in (401, 403):
        raise ConfigError(f"{client.url} refuses the admin key: {sentence}")
    if status in (400, 404, 405, 413):
        raise PolicyError(f"{client.url} refuses the request: {sentence}")
    raise CascadeError(f"{client.url} cannot change the policy now (status {status}): {sentence}")


def _key(config: "CascadeConfig | None", variable: str | None, file: Path | None) -> str:
    """The admin key: from the options, else from the default variable, else from where the configuration names it."""
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
