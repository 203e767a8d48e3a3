"""A policy: an operating point of a cascade, as a file of numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from cascade.calibration.calibrators import Identity, calibrator_to_dict
from cascade.calibration.costs.arrivals import Arrivals
from cascade.calibration.costs.cost_curve import CostCurve
from cascade.calibration.policies.certificate import certified_targets, observed_cost, observed_reach
from cascade.calibration.policies.policy_checks import ARRAYS, contradictions
from cascade.calibration.policies.policy_entry import SCHEMA_VERSION, SERVED_KEYS, PolicyEntry, with_old_keys
from cascade.calibration.policies.policy_file import digest, json_text, load_policies, parse_policies, save_policies
from cascade.calibration.policies.reference import Reference
from cascade.errors import PolicyError
from cascade.files.problems import describe_problems, validated
from cascade.html_table import html_table
from cascade.prediction import Prediction
from cascade.routers import Router, running_stages
from cascade.routers.heads import head_to_dict

__all__ = ["Policy"]


def _empty() -> np.ndarray:
    return np.zeros(0)


@dataclass(frozen=True, eq=False)
class Policy:
    """Calibrators and thresholds of K stages.

    Attributes:
        stages: K names, cheapest first.
        routers: K routers; the last one gives the confidence of the last stage's answers.
        thresholds: (K - 1,) float in [0, 1], or ``NEVER``; a stage accepts the rows whose calibrated confidence is at
            or above its threshold.
        cost: (K,) float >= 0, mean cost of each stage per row that reaches it; zeros if none is given.
        cost_unit: unit of ``cost``.
        certificate: target, guarantee, sample sizes and digests of the data that the policy was calibrated on.
        defer_below: (K - 1,) float in [0, 1], early-deferral thresholds; zeros, by which no row is deferred early, if
            none are given.
        cost_per_mflop: (K,) float >= 0, of stages whose models count the operations of every row; zeros for others,
            whose rows cost ``cost`` each.
        abstain_below: in [0, 1], or ``NEVER``; a row whose calibrated confidence at the last stage is below it is not
            answered. At 0, the default, every row is.
        curves: K cost curves, ``None`` for stages without one; empty if there are none. They decide into how many calls
            the rows of a stage are split.
        cost_per_ms: (K,) float >= 0, in ``cost_unit``; 0 for stages whose costs are constants per row.
        arrivals: the arrivals for which the policy was chosen; ``None`` without curves.

    Raises:
        PolicyError: the values contradict each other; the text lists every problem.
    """

    stages: tuple[str, ...]
    routers: tuple[Router, ...]
    thresholds: np.ndarray
    cost: np.ndarray = field(default_factory=_empty)
    cost_unit: str = "ms"
    certificate: Mapping[str, Any] = field(default_factory=dict)
    defer_below: np.ndarray = field(default_factory=_empty)
    cost_per_mflop: np.ndarray = field(default_factory=_empty)
    abstain_below: float = 0.0
    curves: tuple[CostCurve | None, ...] = ()
    cost_per_ms: np.ndarray = field(default_factory=_empty)
    arrivals: Arrivals | None = None

    def __post_init__(self) -> None:
        arrays = {name: np.asarray(getattr(self, name), dtype=np.float64) for name in ARRAYS}
        for name, values in arrays.items():
            if not values.size and name != "thresholds":
                arrays[name] = np.zeros(max(0, ARRAYS[name].size(len(self.stages))))
            object.__setattr__(self, name, arrays[name])
        problems = list(contradictions(self.stages, self.routers, arrays, self.curves, self.abstain_below))
        if problems:
            raise PolicyError("; ".join(problems))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Policy) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash(self.version)

    def __repr__(self) -> str:
        pairs = ", ".join(
            f"{name} {'never' if threshold > 1 else f'>= {threshold:.4g}'}{f' (defer < {low:.4g})' if low else ''}"
            for name, threshold, low in zip(self.stages, self.thresholds, self.defer_below, strict=False)
        )
        last = f"{self.stages[-1]} (abstain < {self.abstain_below:.4g})" if self.abstains else self.stages[-1]
        return f"Policy({self.version}: {', '.join(filter(None, [pairs, last]))})"

    def _repr_html_(self) -> str:
        thresholds = [*self.thresholds.tolist(), self.abstain_below if self.abstains else None]
        lows = [*self.defer_below.tolist(), None]
        rows = [
            (
                name,
                type(router.head).__name__ if router.head is not None else router.score,
                type(router.calibrator).__name__,
                "never" if threshold is not None and threshold > 1 else threshold,
                low or None,
                cost,
            )
            for name, router, threshold, low, cost in zip(
                self.stages,
                self.routers,
                thresholds,
                lows,
                self.cost.tolist(),
                strict=True,
            )
        ]
        targets = ", ".join(f"{name} {value:g}" for name, value in self.guarantees.items())
        delta = self.certificate.get("delta")
        note = f"Certified: {targets}; delta {delta}" if targets else "Without a guarantee"
        header = ("stage", "score", "calibrator", "threshold", "early deferral below", f"mean cost in {self.cost_unit}")
        return html_table(f"Policy {self.version}", header, rows, [note])

    @classmethod
    def from_thresholds(cls, stages: tuple[str, ...], thresholds: np.ndarray) -> "Policy":
        """A policy that uses the stages' confidences as they are."""
        return cls(tuple(stages), (Router(None, Identity()),) * len(stages), thresholds)

    # Cached: it is read for every request and at every segment, and a policy never changes.
    @cached_property
    def version(self) -> str:
        """First 12 hexadecimal digits of the SHA-256 of the content."""
        return digest(self.to_json())

    @cached_property
    def needs_evidence(self) -> bool:
        """Whether a head reads the evidence of the stages so far."""
        return any(router.head is not None for router in self.routers)

    @property
    def needs_probabilities(self) -> bool:
        """Whether a head reads class probabilities."""
        return any(router.head is not None and router.head.needs_probabilities for router in self.routers)

    @cached_property
    def runs(self) -> np.ndarray:
        """(K,) bool, stages that run; one with the threshold ``NEVER`` does not, unless a head needs its answers."""
        return running_stages(self.thresholds, self.defer_below, self.needs_evidence)

    @cached_property
    def defers_early(self) -> bool:
        """Whether a stage may send rows to the last stage at once."""
        return bool(self.defer_below.any())

    @property
    def abstains(self) -> bool:
        """Whether the last stage may give no answer."""
        return self.abstain_below > 0

    def select(self, stages: Sequence[int]) -> "Policy":
        """The policy of some stages (from 0) in a given order, each with its own rules, without a certificate.

        No row is deferred early, and the last one abstains where the policy does.
        """
        columns = list(stages)
        return replace(
            self,
            stages=tuple(self.stages[k] for k in columns),
            routers=tuple(self.routers[k] for k in columns),
            thresholds=self.thresholds[columns[:-1]],
            defer_below=_empty(),
            cost=self.cost[columns],
            cost_per_mflop=self.cost_per_mflop[columns],
            cost_per_ms=self.cost_per_ms[columns],
            curves=tuple(self.curves[k] for k in columns) if self.curves else (),
            certificate={},
        )

    def last_running(self, stage: int) -> int | None:
        """The last stage up to one (from 0) that runs; ``None`` if there is none."""
        running = np.flatnonzero(self.runs[: stage + 1])
        return int(running[-1]) if len(running) else None

    def threshold(self, stage: int) -> float | None:
        """Threshold of a stage (from 0); ``None`` for the last one."""
        return float(self.thresholds[stage]) if stage < len(self.thresholds) else None

    def calls(self, stage: int, rows: int) -> int:
        """Into how many calls of a stage (from 0) its rows are best split: by its cost curve, else 1."""
        curve = self.curves[stage] if self.curves else None
        return 1 if curve is None else curve.calls(rows)

    def row_cost(self, stage: int, prediction: Prediction) -> np.ndarray:
        """(n,) float64, cost of n rows at a stage (from 0): as its model reports it, else the stage's mean cost."""
        if prediction.cost is not None:
            return np.asarray(prediction.cost, dtype=np.float64)
        if prediction.mflop is not None and self.cost_per_mflop[stage]:
            return np.asarray(prediction.mflop * self.cost_per_mflop[stage])
        return np.full(len(prediction), self.cost[stage])

    def predicted_ms(self, arrivals: Arrivals | None = None, shares: np.ndarray | None = None) -> float | None:
        """Predicted time per row, in ms; ``None`` without cost curves, arrivals or reach shares.

        Args:
            arrivals: how many rows come together; by default those that the policy was chosen for.
            shares: (K,) reach share of each stage; by default those at calibration.
        """
        arrivals, shares = arrivals or self.arrivals, self.reached_share if shares is None else shares
        if arrivals is None or shares is None or not self.curves or None in self.curves:
            return None
        running = np.flatnonzero(self.runs)
        return arrivals.cascade_ms([curve for k in running if (curve := self.curves[k])], shares[running])

    def last_stage_ms(self, arrivals: Arrivals | None = None) -> float | None:
        """Predicted time per row of the last stage alone, in ms; arguments and ``None`` as of :meth:`predicted_ms`."""
        curve, arrivals = self.curves[-1] if self.curves else None, arrivals or self.arrivals
        return None if curve is None or arrivals is None else float(arrivals.mean_ms(curve, np.ones(1))[0])

    @property
    def guarantees(self) -> Mapping[str, float]:
        """The certified targets by name, such as ``{"target_accuracy": 0.94}``; empty without a certificate."""
        return certified_targets(self.certificate)

    @property
    def guaranteed_agreement(self) -> float | None:
        """The least agreement with the last stage that is certified; ``None`` if another target is."""
        least = self.guarantees.get("target_agreement")
        return least if least is not None and 0 <= least <= 1 else None

    @property
    def observed_cost(self) -> float | None:
        """Mean cost per row on the table that the policy was calibrated on; ``None`` if it is not recorded."""
        return observed_cost(self.certificate)

    @property
    def reached_share(self) -> np.ndarray | None:
        """(K,) reach share of each stage at calibration; ``None`` if it is not recorded."""
        return observed_reach(self.certificate, len(self.stages))

    @cached_property
    def reference(self) -> Reference | None:
        """Counts of the calibration data for this policy; ``None`` if the certificate has none.

        Raises:
            PolicyError: the certificate's reference is something else, or of another number of stages.
        """
        values = self.certificate.get("reference")
        if values is None:
            return None
        try:
            reference = TypeAdapter(Reference).validate_python(values)
        except ValidationError as error:
            raise PolicyError(describe_problems("certificate.reference", error)) from error
        if len(reference.stage_rows) != len(self.stages):
            raise PolicyError(f"certificate.reference must be of {len(self.stages)} stages; got {values!r}")
        return reference

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        stages = [
            {
                "name": name,
                "score": router.score,
                "calibrator": calibrator_to_dict(router.calibrator),
                "threshold": self.threshold(k),
                "cost": float(self.cost[k]),
                **({} if router.head is None else {"head": head_to_dict(router.head)}),
                **({"defer_below": float(self.defer_below[k])} if self.defer_below[k : k + 1].any() else {}),
                **({"cost_per_mflop": float(self.cost_per_mflop[k])} if self.cost_per_mflop[k] else {}),
                **_curve_entry(self.curves, k),
                **({"cost_per_ms": float(self.cost_per_ms[k])} if self.cost_per_ms[k] else {}),
            }
            for k, (name, router) in enumerate(zip(self.stages, self.routers, strict=True))
        ]
        if self.abstains:
            stages[-1]["abstain_below"] = self.abstain_below
        return {
            "schema_version": SCHEMA_VERSION,
            "stages": stages,
            "cost_unit": self.cost_unit,
            "certificate": dict(self.certificate),
            **({} if self.arrivals is None else {"arrivals": self.arrivals.to_dict()}),
        }

    def to_json(self) -> str:
        """The same policy gives the same text: sorted keys, floats that round-trip."""
        return self._text

    @cached_property
    def _text(self) -> str:
        return json_text(self.to_dict())

    def save(self, path: Path | str) -> None:
        """Writes the policy atomically."""
        save_policies(self.to_json(), path)

    @classmethod
    def load(cls, path: Path | str) -> "Policy":
        """Reads a policy file.

        Raises:
            PolicyError: it is missing, is not JSON, or is not a policy.
        """
        return load_policies(path, cls.from_json)

    @classmethod
    def from_json(cls, text: str) -> "Policy":
        """The inverse of :meth:`to_json`.

        Raises:
            PolicyError: the text is not JSON, or not a policy.
        """
        return cls.from_dict(parse_policies(text))

    @classmethod
    def from_dict(cls, values: Any) -> "Policy":
        """The inverse of :meth:`to_dict`; takes the answer of ``GET /policy`` as well.

        Raises:
            PolicyError: the values are not a policy; the text lists every problem. Or they are such an answer, and were
                changed since.
        """
        return cls.from_entry(validated(values, PolicyEntry, "the policy", PolicyError))

    @classmethod
    def from_entry(cls, entry: PolicyEntry) -> "Policy":
        """A policy as read from a file.

        Raises:
            PolicyError: its values contradict each other; or a served cascade described it, and it was changed since.
        """
        policy = cls(**entry.arguments())
        served = entry.served_version
        if served not in (None, policy.version, digest(json_text(with_old_keys(policy.to_dict())))):
            raise PolicyError(
                f"the policy was downloaded as version {served!r} and has been changed since (it is "
                f"{policy.version!r} now); download it again, or, if the change is meant, remove {sorted(SERVED_KEYS)}"
            )
        return policy


def _curve_entry(curves: tuple[CostCurve | None, ...], stage: int) -> dict[str, Any]:
    curve = curves[stage] if curves else None
    return {} if curve is None else {"cost_curve": curve.to_dict()}
