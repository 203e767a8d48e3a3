"""``cascade status``: whether a served cascade is healthy."""

import os
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cascade.cli.shared.console import JsonOption, print_result
from cascade.cli.shared.served import (
    DEFAULT_URL,
    AuthorityOption,
    KeyVariableOption,
    check_address,
    key_of,
    served_config,
    served_url,
)

if TYPE_CHECKING:
    from cascade.serving.client.status import CascadeStatus

__all__ = ["status"]


def status(
    target: Annotated[
        str, typer.Argument(metavar="URL|CONFIG", help="Address of a served cascade, or its configuration.")
    ] = DEFAULT_URL,
    key_env: KeyVariableOption = None,
    authority: AuthorityOption = None,
    ray: Annotated[
        str | None,
        typer.Option(
            envvar="RAY_DASHBOARD_ADDRESS",
            help="Address of Ray's dashboard, such as http://127.0.0.1:8265, for the status of the deployments; the "
            "token, if needed, is read from RAY_AUTH_TOKEN.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show the status of a served cascade; exit code 5 if it has a problem, 3 if nothing answers."""
    from cascade.calibration import PolicySet
    from cascade.errors import CheckFailed, InputError
    from cascade.serving.client.status import deployments_status, served_status

    config = served_config(target)
    if ray is not None:
        check_address(ray)
    found = served_status(target if config is None else served_url(config), key_of(key_env), authority)
    if ray is not None:
        deployments_status(found, ray, config.name if config else found.name, os.environ.get("RAY_AUTH_TOKEN"))
    if config is not None and found.policy_version is not None and config.policy.exists():
        versions = [gear.version for gear in PolicySet.load(config.policy).gears]
        if found.policy_version not in versions:
            found.notes.append(f"the policy in force is not in {config.policy.name}, which has {', '.join(versions)}")
    if as_json:
        print_result(found.to_dict(), as_json)
    else:
        _print_status(found)
    if not found.reached:
        raise InputError("; ".join(found.problems))
    if found.problems:
        raise CheckFailed("; ".join(found.problems))


def _print_status(found: "CascadeStatus") -> None:
    lines = {
        "url": found.url,
        "cascade": found.name,
        "live": "yes" if found.live else "no",
        "ready": "yes" if found.ready else "no",
        "version": found.server_version,
        "policy": found.policy_version,
        "guarantee": found.guarantee,
        "thresholds": found.thresholds or None,
        "input": ", ".join(f"{each['datatype']} {each['shape']}" for each in found.inputs) or None,
        "application": found.application,
    }
    print_result({key: value for key, value in lines.items() if value is not None}, as_json=False)
    output = Console()
    if found.deployments:
        table = Table(box=None, padding=(0, 2, 0, 0))
        for title in ("deployment", "status", "replicas", "wanted"):
            table.add_column(title, overflow="fold")
        for each in found.deployments:
            counts = ", ".join(f"{count} {state.lower()}" for state, count in sorted(each.replicas.items()))
            table.add_row(escape(each.name), each.status, counts or "none", str(each.wanted or ""))
        output.print(table)
    for note in found.notes:
        output.print(f"- {escape(note)}", highlight=False)
