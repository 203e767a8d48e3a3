"""``cascade audit``: whether the traffic and answers of a served cascade still match its calibration."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cascade.cli.shared.console import JsonOption, print_result
from cascade.cli.shared.served import DEFAULT_URL, AuthorityOption, KeyVariableOption, key_of, served_config, served_url
from cascade.errors import CheckFailed, InputError

if TYPE_CHECKING:
    from cascade.serving.client.http_client import HttpClient

__all__ = ["audit"]

# The kernel chooses the gateway of each connection, so reaching all of them takes several connections per gateway.
TRIES_PER_GATEWAY = 8


def audit(
    target: Annotated[
        str, typer.Argument(metavar="URL|CONFIG", help="Address of a served cascade, or its configuration.")
    ] = DEFAULT_URL,
    key_env: KeyVariableOption = None,
    authority: AuthorityOption = None,
    as_json: JsonOption = False,
) -> None:
    """Collect the audits of a served cascade's gateways; exit code 5 if one has raised an alarm."""
    from cascade.serving.audit.audit_summary import summarize_audits
    from cascade.serving.client.http_client import HttpClient

    config = served_config(target)
    client = HttpClient(target if config is None else served_url(config), key_of(key_env), authority)
    first = _fetch(client)
    reports = {first["gateway"]: first}
    for _ in range(TRIES_PER_GATEWAY * (int(first["gateways"]) - 1)):
        if len(reports) == first["gateways"]:
            break
        report = _fetch(client)
        reports[report["gateway"]] = report
    found = summarize_audits(list(reports.values()))
    print_result(found if as_json else _readable(found), as_json)
    if found["alarm"]:
        raise CheckFailed(
            "\n  ".join(["the traffic or the answers no longer match the calibration:", *found["alarms"]])
        )


def _fetch(client: "HttpClient") -> dict[str, Any]:
    """One gateway's report, over a connection of its own."""
    status, report = client.get("/audit")
    if status == 0:
        raise InputError(f"no cascade answers at {client.url}/audit: {report}")
    if status != 200:
        raise InputError(f"GET {client.url}/audit returned {status}: {report}")
    if not isinstance(report, dict) or not {"gateway", "gateways", "policies"} <= report.keys():
        raise InputError(f"GET {client.url}/audit did not return an audit report")
    return report


def _readable(found: Mapping[str, Any]) -> dict[str, Any]:
    """The summary as one line per fact."""
    lines = {name: value for name, value in found.items() if name not in ("alarms", "watched", "level")}
    for name in ("agreement", "accepted_agreement"):
        lines[name] = _estimate(found[name], found["level"])
    for each in found["watched"]:
        rate = "no rows yet" if each["rate"] is None else f"{each['rate']:.4f} of {each['rows']} rows"
        verdict = "ALARM" if each["alarm"] else "ok"
        lines[f"watched: {each['name']}"] = (
            f"{verdict}: {rate}, should be in [{each['low']:.4f}, {each['high']:.4f}] ({each['source']})"
        )
    return lines


def _estimate(estimate: Mapping[str, Any], level: float) -> str:
    if not estimate["rows"]:
        return "no rows audited yet"
    return (
        f"{estimate['rate']:.4f} of {estimate['rows']} audited rows, in [{estimate['low']:.4f}, "
        f"{estimate['high']:.4f}] at all times with probability {level:g}"
    )
