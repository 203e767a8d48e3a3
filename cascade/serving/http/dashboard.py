"""The dashboard of a gateway: a self-contained page, and the numbers that it fetches every second."""

import base64
import functools
import hashlib
import time
from importlib import resources
from typing import Any

from cascade.calibration import Policy
from cascade.config import CascadeConfig
from cascade.serving.bodies.wire import HTML_TYPE
from cascade.serving.http.reply import Reply
from cascade.serving.telemetry.history import History
from cascade.theme import style_sheet

__all__ = ["dashboard_data", "dashboard_page"]


@functools.lru_cache(maxsize=1)
def dashboard_page() -> Reply:
    """The page. It contains no data, and its Content-Security-Policy restricts what it may load."""
    style, script = style_sheet() + _resource("dashboard.css"), _resource("dashboard.js")
    page = _resource("dashboard.html").replace("/* style */", style).replace("/* script */", script)
    policy = (
        f"default-src 'none'; style-src {_source(style)}; script-src {_source(script)}; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    headers = (
        ("content-security-policy", policy),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-store"),
    )
    return Reply(page.encode(), HTML_TYPE, headers=headers)


def dashboard_data(
    config: CascadeConfig, policy: Policy, history: History | None, gateway: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The numbers of one gateway for the dashboard.

    Args:
        config: of the cascade.
        policy: the policy in force.
        history: of the gateway; ``None`` without metrics.
        gateway: "rank" of the gateway from 0, its "replica", and the number of gateways, "of".

    Returns:
        "name", "metrics" (whether traffic is counted), "gateway", "segments", "policy" (version, stages, excerpt of the
        certificate); with metrics also "uptime_s", "summary" and "series" (see :class:`History`), "queue_rows",
        "forwarding_rows", "confidence" (by the gateway's stages), "audit", "alarms", "gear", "reloads".
    """
    data = {
        "name": config.name,
        "metrics": history is not None,
        "gateway": gateway or {},
        "policy": _policy(policy),
        "segments": [[stage.name for stage in segment] for segment in config.segments],
    }
    return data if history is None else data | _counts(history)


def _policy(policy: Policy) -> dict[str, Any]:
    stages = [
        {"name": name, "threshold": policy.threshold(k), "cost": float(policy.cost[k])}
        for k, name in enumerate(policy.stages)
    ]
    keys = ("guarantee", "target", "delta", "rows", "gear")
    certificate = {key: policy.certificate[key] for key in keys if key in policy.certificate}
    return {
        "version": policy.version,
        "stages": stages,
        "abstains": policy.abstains,
        "cost_unit": policy.cost_unit,
        "certificate": certificate,
    }


def _counts(history: History) -> dict[str, Any]:
    stats = history.stats
    return {
        "uptime_s": round(time.time() - stats.started, 1),
        "summary": history.summary(),
        "series": history.series(),
        "queue_rows": stats.queue_rows,
        "forwarding_rows": stats.forwarding_rows,
        "confidence": [histogram.counts.tolist() if histogram.size else None for histogram in stats.confidence],
        "audit": None if stats.audit is None else stats.audit._asdict(),
        "alarms": dict(stats.alarms),
        "gear": stats.gear,
        "reloads": dict(stats.reloads),
    }


def _resource(name: str) -> str:
    return resources.files("cascade.serving.http").joinpath(name).read_text(encoding="utf-8")


def _source(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"
