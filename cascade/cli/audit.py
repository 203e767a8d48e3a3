"""``cascade audit``: whether a served cascade still keeps what it was calibrated to."""

import json
import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from cascade.cli.console import JsonOption, print_result
from cascade.errors import CheckFailed, InputError

__all__ = ["audit"]

TIMEOUT_S = 10.0
# The kernel chooses the gateway that gets a connection, so some are met several times before all have been.
TRIES_A_GATEWAY = 8


def audit(
    url: Annotated[str, typer.Argument(help="Address of the served cascade, such as http://127.0.0.1:8000.")],
    key_env: Annotated[str | None, typer.Option(help="Environment variable with the key.")] = None,
    tls_ca: Annotated[Path | None, typer.Option("--tls-ca", help="PEM file with the authority to trust.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Ask a served cascade's gateways for their audits; exit code 5 if one has raised the alarm."""
    from cascade.serving.audit_summary import summarize_audits

    if not url.startswith(("http://", "https://")):
        raise InputError(f"{url!r} is not an address; it looks like http://127.0.0.1:8000")
    headers = {}
    if key_env is not None:
        if not os.environ.get(key_env):
            raise InputError(f"the environment variable {key_env} is empty; it must hold the key")
        headers["Authorization"] = f"Bearer {os.environ[key_env].strip()}"
    context = None if tls_ca is None else ssl.create_default_context(cafile=str(tls_ca))
    request = urllib.request.Request(f"{url.rstrip('/')}/audit", headers=headers)
    first = _ask(request, context)
    reports = {first["gateway"]: first}
    for _ in range(TRIES_A_GATEWAY * (int(first["gateways"]) - 1)):
        if len(reports) == first["gateways"]:
            break
        report = _ask(request, context)
        reports[report["gateway"]] = report
    found = summarize_audits(list(reports.values()))
    print_result(found if as_json else _readable(found), as_json)
    if found["alarm"]:
        raise CheckFailed(
            "\n  ".join(["the traffic or the answers are not what they were calibrated to be:", *found["alarms"]])
        )


def _ask(request: urllib.request.Request, context: ssl.SSLContext | None) -> dict[str, Any]:
    """One report, over a connection of its own."""
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S, context=context) as response:
            report = json.loads(response.read())
        if not isinstance(report, dict) or not {"gateway", "gateways", "policies"} <= report.keys():
            raise ValueError("the answer is not an audit")
    except urllib.error.HTTPError as error:
        raise InputError(
            f"{request.full_url} answered {error.code}: {error.read(500).decode(errors='replace')}"
        ) from error
    except (OSError, ValueError) as error:
        raise InputError(f"{request.full_url} gives no audit: {error}") from error
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
