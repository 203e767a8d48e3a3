"""The audits of several gateways, together."""

from collections.abc import Mapping, Sequence
from typing import Any

from cascade.calibration.monitoring.monitor import estimate

__all__ = ["summarize_audits"]

Report = Mapping[str, Any]


def summarize_audits(reports: Sequence[Report]) -> dict[str, Any]:
    """Adds up the counts of gateways, and their alarms.

    Every gateway tests its own rows at its share of the risk, so an alarm at any gateway is an alarm. The estimates
    depend on counts only, which may be added.

    Args:
        reports: as ``GET /audit`` has them, of different gateways, at least one. Estimates are of the policy that the
            first of them has in force, alarms are of all policies.
    """
    version = reports[0]["policy_version"]
    seen = [report["policies"][version] for report in reports if version in report["policies"]]
    delta = seen[0]["delta"]
    return {
        "alarm": any(report["alarm"] for report in reports),
        "alarms": [
            f"{_name(each)} of policy {number} is {each['rate']:.4f}, and should be in "
            f"[{each['low']:.4f}, {each['high']:.4f}] ({each['source']}); noticed after {each['alarm_rows']} rows at "
            f"gateway {report['gateway']}"
            for report in reports
            for number, policy in report["policies"].items()
            for each in policy["watched"]
            if each["alarm"]
        ],
        "policy_version": version,
        "gateways": reports[0]["gateways"],
        "gateways_seen": len(reports),
        "share": reports[0]["share"],
        "answered_rows": {name: sum(each["answered_rows"][name] for each in seen) for name in seen[0]["answered_rows"]},
        **{f"{name}_rows": sum(each[f"{name}_rows"] for each in seen) for name in ("audited", "dropped", "lost")},
        "level": 1 - delta,
        "agreement": _joined([each["agreement"] for each in seen], delta),
        "accepted_agreement": _joined([each["accepted_agreement"] for each in seen], delta),
        "watched": [_watched([each["watched"][place] for each in seen]) for place in range(len(seen[0]["watched"]))],
    }


def _name(watched: Report) -> str:
    name = str(watched["name"]).replace("_", " ")
    return name if watched["stage"] is None else f"{name} of stage {watched['stage']}"


def _joined(estimates: Sequence[Report], delta: float) -> dict[str, Any]:
    return estimate(sum(each["agreed"] for each in estimates), sum(each["rows"] for each in estimates), delta)


def _watched(parts: Sequence[Report]) -> dict[str, Any]:
    rows = sum(part["rows"] for part in parts)
    return {
        "name": _name(parts[0]),
        "rows": rows,
        "rate": sum(part["rate"] * part["rows"] for part in parts if part["rows"]) / rows if rows else None,
        "low": parts[0]["low"],
        "high": parts[0]["high"],
        "source": parts[0]["source"],
        "alarm": any(part["alarm"] for part in parts),
    }
