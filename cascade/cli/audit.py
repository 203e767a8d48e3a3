"""``cascade audit``: whether a served cascade still keeps what it was calibrated to."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cascade.cli.console import JsonOption, print_result
from cascade.cli.served import DEFAULT_URL, AuthorityOption, KeyVariableOption, key_of, served_config, served_url
from cascade.errors import CheckFailed, InputError

if TYPE_CHECKING:
    from cascade.serving.client.http_client import Site

__all__ = ["audit"]

# The kernel chooses the gateway that gets a connection, so some are met several times before all have been.
TRIES_A_GATEWAY = 8


def audit(
    target: Annotated[
        str, typer.Argument(metavar="[URL|CONFIG]", help="Address of a served cascade, or its configuration.")
    ] = DEFAULT_URL,
    key_env: KeyVariableOption = None,
    authority: AuthorityOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask a served cascade's gateways for their audits; exit code 5 if one has raised the alarm."""
    from cascade.serving.audit.audit_summary import summarize_audits
    from cascade.serving.client.http_client import Site

    config = served_config(target)
    site = Site(target if config is None else served_url(config), key_of(key_env), authority)
    first = _ask(site)
    reports = {first["gateway"]: first}
    for _ in range(TRIES_A_GATEWAY * (int(first["gateways"]) - 1)):
        if len(reports) == first["gateways"]:
            break
        report = _ask(site)
        reports[report["gateway"]] = report
    found = summarize_audits(list(reports.values()))
    print_result(found if as_json else _readable(found), as_json)
    if found["alarm"]:
        raise CheckFailed(
            "\n  ".join(["the traffic or the answers are not what they were calibrated to be:", *found["alarms"]])
        )


def _ask(site: "Site") -> dict[str, Any]:
    """One report, over a connection of its own."""
    status, report = site.get("/audit")
    if status not in (0, 200):
        raise InputError(f"{site.url}/audit answered {status}: {report}")
    if not isinstance(report, dict) or not {"gateway", "gateways", "policies"} <= report.keys():
        raise InputError(f"{site.url}/audit gives no audit: {report if status == 0 else 'the answer is not one'}")
    return report


def _readable(found: Mapping[str, Any]) -> dict[str, Any]:
    """One line a fact."""
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
