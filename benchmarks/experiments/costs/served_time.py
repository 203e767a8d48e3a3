"""Predicted and realised time of a cascade that is served, one row per request."""

import re
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from cascade.benchmarks.clients.http_bodies import request_body
from cascade.benchmarks.harness.clients.lean_load import run_load
from cascade.benchmarks.harness.servers.server_process import cascade_server, free_port
from cascade.benchmarks.load import ClosedLoop, OpenLoop
from cascade.benchmarks.workload import Workload
from cascade.calibration import Policy
from cascade.calibration.costs.arrivals import RowsAtRate
from cascade.config import CascadeConfig

__all__ = ["CONNECTIONS", "served"]

CONNECTIONS = 64


def stage_seconds(metrics_port: int) -> float:
    """Seconds that all stages have run so far, by the metrics of the replicas."""
    with urllib.request.urlopen(f"http://127.0.0.1:{metrics_port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    name = r"^ray_cascade_stage_run_seconds(?:_total)?\{[^}]*\} (\S+)$"
    return sum(float(value) for value in re.findall(name, text, re.M))


def served(
    config: Path, policy: Policy, rows: np.ndarray, label: np.ndarray | None, seconds: float, half_load: bool
) -> dict[str, Any]:
    """Capacity of one row per request over 64 connections; and at half of it, predicted and realised time."""
    values = yaml.safe_load(config.read_text(encoding="utf-8"))
    metrics_port = free_port()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        policy.save(folder / "policy.json")
        values["serving"] = values.get("serving", {}) | {"metrics_port": metrics_port}
        values["stages"] = [stage for stage in values["stages"] if stage["name"] in policy.stages]
        if segments := values["serving"].get("segments"):
            kept = [[stage for stage in segment if stage in policy.stages] for segment in segments]
            values["serving"]["segments"] = [segment for segment in kept if segment]
        copy = config.parent / f".{config.stem}-{metrics_port}.yaml"
        copy.write_text(yaml.safe_dump(values), encoding="utf-8")
        workload = Workload.from_rows(rows, label, 1)
        probe = request_body(workload.batches[0].rows)
        try:
            with cascade_server(copy, probe, policy=folder / "policy.json") as server:
                closed = ClosedLoop(CONNECTIONS, seconds, warmup_seconds=3.0)
                capacity = run_load(closed, server.address, workload, policy.stages, CONNECTIONS)
                found = {"capacity_rows_per_s": capacity["rows_per_s"], "errors": capacity["errors"]}
                if half_load:
                    rate = capacity["rows_per_s"] / 2
                    found |= _at_rate(server.address, rate, workload, policy, seconds, metrics_port)
                    predicted = predicted_ms(policy, CascadeConfig.load(copy), rate)
                    found |= {
                        "predicted_ms": predicted,
                        "predicted_over_realised": predicted / found["realised_ms"] if predicted else None,
                    }
        finally:
            copy.unlink()
    return found


def predicted_ms(policy: Policy, config: CascadeConfig, rate: float) -> float | None:
    """Time per row of all segments, each of which has processes of its own.

    Args:
        policy: with cost curves.
        config: whose segments hold the policy's stages in their order.
        rate: rows per second of all gateways together, > 0.
    """
    shares, total, first = policy.reached_share, 0.0, 0
    if shares is None:
        return None
    for place, segment in enumerate(config.segments):
        stages = [k for k in range(first, first + len(segment)) if policy.runs[k]]
        first += len(segment)
        entering = float(max((shares[k] for k in stages), default=0.0))
        if entering:
            processes = segment[0].deployment.get("num_replicas", 1) if place else config.serving.gateways
            curves = [curve for k in stages if (curve := policy.curves[k])]
            arrivals = RowsAtRate(rate * entering / processes)
            total += entering * arrivals.cascade_ms(curves, shares[stages] / entering)
    return total


def _at_rate(
    address: str, rate: float, workload: Workload, policy: Policy, seconds: float, metrics_port: int
) -> dict[str, Any]:
    settle = 12.0  # Ray gathers metrics every few seconds
    time.sleep(settle)
    before = stage_seconds(metrics_port)
    seen = run_load(OpenLoop(rate, seconds), address, workload, policy.stages, 4 * CONNECTIONS)
    time.sleep(settle)
    realised = (stage_seconds(metrics_port) - before) / seen["rows"] * 1e3
    return {
        "rate_rows_per_s": rate,
        "achieved_rows_per_s": seen["rows_per_s"],
        "p50_ms": seen["latency_ms"]["p50"],
        "realised_ms": realised,
    }
