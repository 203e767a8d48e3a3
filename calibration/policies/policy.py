"""A policy: an operating point of a cascade, as a file of numbers."""

import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from cascade.calibration.calibrators import Identity, calibrator_from_dict, calibrator_to_dict
from cascade.calibration.costs.arrivals import Arrivals, arrivals_from_dict
from cascade.calibration.costs.cost_curve import CostCurve
from cascade.calibration.policies.policy_file import load_policies, parse_policies, save_policies
from cascade.calibration.policies.reference import Reference
from cascade.errors import PolicyError
from cascade.prediction import Prediction
from cascade.routers import NEVER, SCORES, Router, running_stages
from cascade.routers.heads import head_from_dict, head_to_dict

__all__ = ["SCHEMA_VERSION", "TARGETS", "Policy"]

SCHEMA_VERSION = 1

KEYS = frozenset({"schema_version", "stages", "cost_unit", "certificate", "arrivals"})
SERVED_KEYS = frozenset({"version", "revision", "gear"})
"""What a served cascade adds to the policy that it describes (``GET /policy``)."""
STAGE_KEYS = frozenset(
    {"name", "score", "calibrator", "threshold", "cost", "head", "defer_below", "abstain_below"}
    | {"cost_per_mflop", "cost_curve", "cost_per_ms"}
)

TARGETS = ("target_accuracy", "max_accuracy_drop", "target_agreement", "max_cost")
"""What a certificate can promise."""


@dataclass(frozen=True, eq=False)
class Policy:
    """Calibrators and thresholds of K stages.

    Attributes:
        stages: K names, cheapest first.
        routers: K routers; the last one only tells how sure the last stage is.
        thresholds: (K - 1,) float in [0, 1], or ``NEVER``; a stage answers the rows whose calibrated
            confidence reaches its threshold.
        cost: (K,) float >= 0, mean cost of each stage on a row that comes to it; zeros if none is given.
        cost_unit: unit of ``cost``.
        certificate: why the policy may be trusted: target, guarantee, sample size, digest of the data.
        defer_below: (K - 1,) float in [0, 1], early-deferral thresholds; zeros, by which no row is
            deferred early, if none are given.
        cost_per_mflop: (K,) float >= 0, of stages whose models count the operations of every row; zeros for others,
            whose rows cost ``cost`` each.
        abstain_below: in [0, 1], or ``NEVER``; a row whose calibrated confidence at the last stage is below it is not
            answered. At 0, the default, every row is.
        curves: K curves of the time of a call, ``None`` for stages that were not timed; empty if there are none. They
            decide into how many calls the rows of a stage are split.
        cost_per_ms: (K,) float >= 0, in ``cost_unit``; 0 for stages whose costs are constants per row.
        arrivals: the rows together for which the policy was chosen; ``None`` without curves.
    """

    stages: tuple[str, ...]
    routers: tuple[Router, ...]
    thresholds: np.ndarray
    cost: np.ndarray = field(default_factory=lambda: np.zeros(0))
    cost_unit: str = "ms"
    certificate: Mapping[str, Any] = field(default_factory=dict)
    defer_below: np.ndarray = field(default_factory=lambda: np.zeros(0))
    cost_per_mflop: np.ndarray = field(default_factory=lambda: np.zeros(0))
    abstain_below: float = 0.0
    curves: tuple[CostCurve | None, ...] = ()
    cost_per_ms: np.ndarray = field(default_factory=lambda: np.zeros(0))
    arrivals: Arrivals | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "thresholds", np.asarray(self.thresholds, dtype=np.float64))
        cost = np.asarray(self.cost, dtype=np.float64)
        object.__setattr__(self, "cost", cost if cost.size else np.zeros(len(self.stages)))
        defer_below = np.asarray(self.defer_below, dtype=np.float64)
        object.__setattr__(self, "defer_below", defer_below if defer_below.size else np.zeros(len(self.thresholds)))
        rate = np.asarray(self.cost_per_mflop, dtype=np.float64)
        object.__setattr__(self, "cost_per_mflop", rate if rate.size else np.zeros(len(self.stages)))
        factor = np.asarray(self.cost_per_ms, dtype=np.float64)
        object.__setattr__(self, "cost_per_ms", factor if factor.size else np.zeros(len(self.stages)))
        problem = _problem(self)
        if problem:
            raise PolicyError(problem)

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

    @classmethod
    def from_thresholds(cls, stages: tuple[str, ...], thresholds: np.ndarray) -> "Policy":
        """A policy that takes the stages' confidences at their word."""
        return cls(tuple(stages), (Router(None, Identity()),) * len(stages), thresholds)

    # Asked for at every request and at every hop; a policy never changes.
    @cached_property
    def version(self) -> str:
        """First 12 hexadecimal digits of the SHA-256 of the content."""
        return _digest(self.to_json())

    @cached_property
    def needs_evidence(self) -> bool:
        """Whether a head looks at what the stages so far said."""
        return any(router.head is not None for router in self.routers)

    @property
    def needs_probabilities(self) -> bool:
        """Whether a head looks at class probabilities."""
        return any(router.head is not None and router.head.needs_probabilities for router in self.routers)

    @cached_property
    def runs(self) -> np.ndarray:
        """(K,) bool, the stages that run; one with the threshold ``NEVER`` does not, unless a head looks at it."""
        return running_stages(self.thresholds, self.defer_below, self.needs_evidence)

    def last_running(self, stage: int) -> int | None:
        """The last stage up to one (from 0) that runs; ``None`` if there is none."""
        running = np.flatnonzero(self.runs[: stage + 1])
        return int(running[-1]) if len(running) else None

    def calls(self, stage: int, rows: int) -> int:
        """Into how many calls of a stage (from 0) its rows are best split: by its cost curve, else 1."""
        curve = self.curves[stage] if self.curves else None
        return 1 if curve is None else curve.calls(rows)

    def predicted_ms(self, arrivals: Arrivals | None = None, shares: np.ndarray | None = None) -> float | None:
        """Predicted time per row, in ms; ``None`` if that is not known.

        Args:
            arrivals: how many rows come together; by default those that the policy was chosen for.
            shares: (K,) of the rows that reach each stage; by default those at calibration.
        """
        arrivals, shares = arrivals or self.arrivals, self.reached_share if shares is None else shares
        if arrivals is None or shares is None or not self.curves or None in self.curves:
            return None
        asked = zip(self.curves, shares, self.runs, strict=True)
        times = [arrivals.mean_ms(curve, np.array([share])) for curve, share, runs in asked if curve and runs]
        return float(sum(time[0] for time in times))

    def last_stage_ms(self, arrivals: Arrivals | None = None) -> float | None:
        """Predicted time per row of the last stage alone, in ms; arguments and ``None`` as of :meth:`predicted_ms`."""
        curve, arrivals = self.curves[-1] if self.curves else None, arrivals or self.arrivals
        return None if curve is None or arrivals is None else float(arrivals.mean_ms(curve, np.ones(1))[0])

    @property
    def reached_share(self) -> np.ndarray | None:
        """(K,) share of the calibration's work that reached each stage; ``None`` if it is not known."""
        observed = self.certificate.get("observed")
        shares = observed.get("reached_share") if isinstance(observed, Mapping) else None
        known = isinstance(shares, list) and len(shares) == len(self.stages) and all(map(_is_number, shares))
        return np.array(shares, dtype=np.float64) if known else None

    @cached_property
    def defers_early(self) -> bool:
        """Whether a stage may send rows to the last stage at once."""
        return bool(self.defer_below.any())

    @property
    def promises(self) -> Mapping[str, float]:
        """The certified targets, by name, such as ``{"target_accuracy": 0.94}``; empty without a certificate."""
        if self.certificate.get("guarantee") != "certified":
            return {}
        target = self.certificate.get("target")
        given = target if isinstance(target, Mapping) else {}
        return {name: float(value) for name, value in given.items() if name in TARGETS and _is_number(value)}

    @property
    def observed_cost(self) -> float | None:
        """Mean cost of a row on the table that the policy was calibrated on; ``None`` if it is not known."""
        observed = self.certificate.get("observed")
        cost = observed.get("mean_cost") if isinstance(observed, Mapping) else None
        return float(cost) if _is_number(cost) else None

    @cached_property
    def reference(self) -> Reference | None:
        """What the calibration data said of this policy; ``None`` if the certificate does not tell.

        Raises:
            PolicyError: the certificate tells something else.
        """
        values = self.certificate.get("reference")
        return None if values is None else Reference.from_dict(values, len(self.stages))

    @property
    def promised_agreement(self) -> float | None:
        """The least agreement with the last stage that is certified; ``None`` if that is not what is promised."""
        least = self.promises.get("target_agreement")
        return least if least is not None and 0 <= least <= 1 else None

    @property
    def abstains(self) -> bool:
        """Whether rows may end without an answer."""
        return self.abstain_below > 0

    def threshold(self, stage: int) -> float | None:
        """Threshold of a stage (from 0); ``None`` for the last one, behind which there is no other."""
        return float(self.thresholds[stage]) if stage < len(self.thresholds) else None

    def row_cost(self, stage: int, prediction: Prediction) -> np.ndarray:
        """(n,) float64, what n rows cost at a stage (from 0): by what its model says of them, else its mean cost."""
        if prediction.cost is not None:
            return np.asarray(prediction.cost, dtype=np.float64)
        if prediction.mflop is not None and self.cost_per_mflop[stage]:
            return np.asarray(prediction.mflop * self.cost_per_mflop[stage])
        return np.full(len(prediction), self.cost[stage])

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
        return _json(self.to_dict())

    def save(self, path: Path | str) -> None:
        """Writes the policy; a reader never sees half of it."""
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
        if isinstance(values, Mapping) and values.keys() >= SERVED_KEYS:
            return _unchanged(cls.from_dict({k: v for k, v in values.items() if k not in SERVED_KEYS}), values)
        values = _renamed(values, "skip_below", "defer_below")
        if isinstance(values, Mapping) and "gears" in values:
            raise PolicyError(
                "this is a set of policies, and one is needed here; take it out with "
                "cascade.calibration.PolicySet.load(path).gears[0].save(other)"
            )
        if not isinstance(values, Mapping) or not isinstance(values.get("stages"), list) or not values["stages"]:
            raise PolicyError("a policy must be an object with a list of 'stages'")
        if values.get("schema_version") != SCHEMA_VERSION:
            raise PolicyError(f"schema_version must be {SCHEMA_VERSION}; got {values.get('schema_version')!r}")
        problems = _unknown_keys(values)
        routers = [_router(index, entry, problems) for index, entry in enumerate(values["stages"])]
        thresholds = [
            _number(index, entry, "threshold", NEVER, problems) for index, entry in enumerate(values["stages"][:-1])
        ]
        defer_below = [
            _number(index, entry, "defer_below", 1.0, problems)
            if isinstance(entry, Mapping) and "defer_below" in entry
            else 0.0
            for index, entry in enumerate(values["stages"][:-1])
        ]
        if isinstance(values["stages"][-1], Mapping) and "defer_below" in values["stages"][-1]:
            problems.append("the last stage cannot have 'defer_below': no stage comes after it")
        *earlier, last = values["stages"]
        if any(isinstance(entry, Mapping) and "abstain_below" in entry for entry in earlier):
            problems.append("only the last stage can have 'abstain_below': the others hand on what they are unsure of")
        abstains = isinstance(last, Mapping) and "abstain_below" in last
        abstain_below = _number(len(earlier), last, "abstain_below", NEVER, problems) if abstains else 0.0
        largest = sys.float_info.max
        cost = [_number(index, entry, "cost", largest, problems) for index, entry in enumerate(values["stages"])]
        cost_per_mflop, cost_per_ms = (
            [
                _number(index, entry, key, largest, problems) if isinstance(entry, Mapping) and key in entry else 0.0
                for index, entry in enumerate(values["stages"])
            ]
            for key in ("cost_per_mflop", "cost_per_ms")
        )
        certificate, cost_unit = values.get("certificate", {}), values.get("cost_unit", "ms")
        if not isinstance(certificate, Mapping) or not _is_json(certificate):
            problems.append("certificate must be an object of finite numbers, texts and lists")
        elif certificate.get("reference") is not None:
            try:
                Reference.from_dict(certificate["reference"], len(values["stages"]))
            except PolicyError as error:
                problems.append(str(error))
        if not isinstance(cost_unit, str):
            problems.append(f"cost_unit must be a text; got {cost_unit!r}")
        curves, arrivals = _curves(values["stages"], problems), None
        try:
            arrivals = None if values.get("arrivals") is None else arrivals_from_dict(values["arrivals"])
        except PolicyError as error:
            problems.append(str(error))
        entries = [entry for entry in values["stages"] if isinstance(entry, Mapping)]
        names = [entry["name"] for entry in entries if isinstance(entry.get("name"), str)]
        if len(set(names)) < len(names):
            problems.append(f"stages must have different names; got {names}")
        if problems:
            raise PolicyError("\n  ".join(["the policy cannot be used:", *problems]))
        return cls(
            tuple(names),
            tuple(router for router in routers if router),
            np.array(thresholds),
            np.array(cost),
            cost_unit,
            certificate,
            np.array(defer_below),
            np.array(cost_per_mflop),
            abstain_below,
            curves,
            np.array(cost_per_ms),
            arrivals,
        )


def _json(values: Mapping[str, Any]) -> str:
    return json.dumps(values, sort_keys=True, indent=1, allow_nan=False) + "\n"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _renamed(values: Any, old: str, new: str) -> Any:
    """The values of a policy, with a key of its stages renamed; files of before version 0.1.0 have "skip_below"."""
    if not isinstance(values, Mapping) or not isinstance(values.get("stages"), list):
        return values
    stages = [
        {new if key == old else key: value for key, value in entry.items()}
        if isinstance(entry, Mapping) and old in entry and new not in entry
        else entry
        for entry in values["stages"]
    ]
    return {**values, "stages": stages}


def _unchanged(policy: Policy, served: Mapping[str, Any]) -> Policy:
    """A policy that a served cascade described, if it is of the version that was described."""
    older = _digest(_json(_renamed(policy.to_dict(), "defer_below", "skip_below")))
    if served["version"] not in (policy.version, older):
        raise PolicyError(
            f"the policy was downloaded as version {served['version']!r} and has been changed since (it is "
            f"{policy.version!r} now); download it again, or, if the change is meant, remove {sorted(SERVED_KEYS)}"
        )
    return policy


def _problem(policy: Policy) -> str | None:
    stages = len(policy.stages)
    if not stages or len(set(policy.stages)) < stages:
        return f"a policy needs stages with different names; got {list(policy.stages)}"
    if len(policy.routers) != stages:
        return f"a policy of {stages} stages needs {stages} routers; got {len(policy.routers)}"
    if policy.thresholds.shape != (stages - 1,):
        return f"a policy of {stages} stages needs {stages - 1} thresholds; got shape {policy.thresholds.shape}"
    if policy.cost.shape != (stages,) or not np.all(np.isfinite(policy.cost) & (policy.cost >= 0)):
        return f"a policy of {stages} stages needs {stages} costs of at least 0; got {policy.cost.tolist()}"
    rate = policy.cost_per_mflop
    if rate.shape != (stages,) or not np.all(np.isfinite(rate) & (rate >= 0)):
        return f"a policy of {stages} stages needs {stages} values of cost_per_mflop of at least 0; got {rate.tolist()}"
    factor = policy.cost_per_ms
    if factor.shape != (stages,) or not np.all(np.isfinite(factor) & (factor >= 0)):
        return f"a policy of {stages} stages needs {stages} values of cost_per_ms of at least 0; got {factor.tolist()}"
    if any(f and not (policy.curves and policy.curves[k]) for k, f in enumerate(factor)):
        return "a stage with cost_per_ms needs a cost_curve"
    if policy.curves and len(policy.curves) != stages:
        return f"a policy of {stages} stages needs {stages} cost curves, or none; got {len(policy.curves)}"
    if not np.all((policy.thresholds >= 0) & (policy.thresholds <= NEVER)):
        return f"thresholds must be in [0, 1] (or {NEVER!r} for never); got {policy.thresholds.tolist()}"
    low = policy.defer_below
    if low.shape != (stages - 1,) or not np.all((low >= 0) & (low <= 1)):
        return f"a policy of {stages} stages needs {stages - 1} values of defer_below in [0, 1]; got {low.tolist()}"
    if not 0 <= policy.abstain_below <= NEVER:
        return f"abstain_below must be in [0, 1] (or {NEVER!r} for all rows); got {policy.abstain_below!r}"
    if policy.defers_early and policy.abstains and policy.routers[-1].head is not None:
        # A row that is deferred early lacks the evidence of the stages between, which a replay of a table would have.
        return (
            "early deferral does not go with abstaining by a head of the last stage; leave defer_below or the head out"
        )
    for name, router, k in zip(policy.stages, policy.routers, range(stages), strict=True):
        if router.head is not None and not router.head.fits(k):
            return f"the head of stage {name!r} is made for another place; {k} stages come before it"
    return None


def _unknown_keys(values: Mapping[str, Any]) -> list[str]:
    """A sentence for each object of the file that has keys which nothing reads; the certificate may hold any."""
    objects = {"the policy": (values, KEYS)}
    objects |= {f"stages[{index}]": (entry, STAGE_KEYS) for index, entry in enumerate(values["stages"])}
    return [
        f"{place} has unknown keys {sorted(map(str, entry.keys() - keys))}; remove them or correct their spelling"
        for place, (entry, keys) in objects.items()
        if isinstance(entry, Mapping) and entry.keys() - keys
    ]


def _curve_entry(curves: tuple[CostCurve | None, ...], stage: int) -> dict[str, Any]:
    curve = curves[stage] if curves else None
    return {} if curve is None else {"cost_curve": curve.to_dict()}


def _curves(entries: list[Any], problems: list[str]) -> tuple[CostCurve | None, ...]:
    """The cost curves of the stages, empty if there is none; notes what is wrong with them."""
    curves: list[CostCurve | None] = []
    for index, entry in enumerate(entries):
        given = entry.get("cost_curve") if isinstance(entry, Mapping) else None
        try:
            curves.append(None if given is None else CostCurve.from_dict(given))
        except PolicyError as error:
            problems.append(f"stages[{index}].cost_curve: {error}")
    return tuple(curves) if any(curves) else ()


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_json(value: object) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def _router(index: int, entry: Any, problems: list[str]) -> Router | None:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("name"), str):
        problems.append(f"stages[{index}] must be an object with a 'name'; got {entry!r}")
        return None
    score = entry.get("score")
    if score is not None and (not isinstance(score, str) or score not in SCORES):
        problems.append(f"stages[{index}].score must be null or one of {sorted(SCORES)}; got {score!r}")
        return None
    calibrator = entry.get("calibrator")
    if not isinstance(calibrator, Mapping):
        problems.append(f"stages[{index}].calibrator must be an object; got {calibrator!r}")
        return None
    try:
        head = head_from_dict(entry["head"]) if "head" in entry else None
    except PolicyError as error:
        problems.append(f"stages[{index}].head: {error}")
        return None
    try:
        return Router(score, calibrator_from_dict(calibrator), head)
    except PolicyError as error:
        problems.append(f"stages[{index}].calibrator: {error}")
        return None


def _number(index: int, entry: Any, key: str, highest: float, problems: list[str]) -> float:
    value = entry.get(key) if isinstance(entry, Mapping) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= highest:
        problems.append(f"stages[{index}].{key} must be a number in [0, {highest!r}]; got {value!r}")
        return 0.0
    return float(value)
