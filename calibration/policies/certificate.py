"""What the certificate of a policy records."""

from collections.abc import Mapping
from typing import Any, TypeGuard

import numpy as np

__all__ = ["TARGETS", "certified_targets", "observed_cost", "observed_reach", "positive_of"]

TARGETS = ("target_accuracy", "max_accuracy_drop", "target_agreement", "max_cost", "min_recall", "min_precision")
"""Targets that a certificate can guarantee."""


def certified_targets(certificate: Mapping[str, Any]) -> Mapping[str, float]:
    """The certified targets by name, such as ``{"target_accuracy": 0.94}``; empty without a guarantee."""
    target = certificate.get("target")
    if certificate.get("guarantee") != "certified" or not isinstance(target, Mapping):
        return {}
    return {name: float(value) for name, value in target.items() if name in TARGETS and _is_number(value)}


def positive_of(certificate: Mapping[str, Any]) -> int | None:
    """The positive class of a target of recall; ``None`` without one."""
    positive, target = certificate.get("positive"), certificate.get("target")
    if not isinstance(target, Mapping) or "min_recall" not in target:
        return None
    return positive if isinstance(positive, int) and not isinstance(positive, bool) and positive >= 0 else None


def observed_cost(certificate: Mapping[str, Any]) -> float | None:
    """Mean cost per row on the table that the policy was calibrated on; ``None`` if it is not recorded."""
    cost = _observed(certificate).get("mean_cost")
    return float(cost) if _is_number(cost) else None


def observed_reach(certificate: Mapping[str, Any], stages: int) -> np.ndarray | None:
    """(K,) reach share of each of K stages at calibration; ``None`` if it is not recorded."""
    shares = _observed(certificate).get("reached_share")
    recorded = isinstance(shares, list) and len(shares) == stages and all(map(_is_number, shares))
    return np.array(shares, dtype=np.float64) if recorded else None


def _observed(certificate: Mapping[str, Any]) -> Mapping[str, Any]:
    observed = certificate.get("observed")
    return observed if isinstance(observed, Mapping) else {}


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
