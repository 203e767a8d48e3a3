"""A policy set: several operating points of one cascade, from the best to the cheapest, as a file."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

from cascade.calibration.policies.policy import Policy
from cascade.calibration.policies.policy_file import load_policies, parse_policies, save_policies
from cascade.errors import PolicyError

__all__ = ["PolicySet"]

SCHEMA_VERSION = 1

STRICTER = {"target_accuracy": 1, "target_agreement": 1, "max_accuracy_drop": -1}
"""Of each promise about answers, whether a higher (1) or a lower (-1) value promises more."""


@dataclass(frozen=True, eq=False)
class PolicySet:
    """Gears of a served cascade: under load it moves to cheaper ones, and back.

    The idea of gears is that of CascadeServe (Kossmann, Wu, Turk, Tatbul, Cao, Madden, "CascadeServe: Unlocking Model
    Cascades for Inference Serving", 2024, https://arxiv.org/abs/2406.14424); here each gear is a policy with a
    certificate of its own.

    Attributes:
        gears: at least one policy, all of the same stages, the best (and dearest) first. Of several, each has the mean
            cost that was observed for it in its certificate; each costs less than the one before it, and promises
            no more of its answers.

    Raises:
        PolicyError: they are not.
    """

    gears: tuple[Policy, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "gears", tuple(self.gears))
        problem = _problem(self.gears)
        if problem:
            raise PolicyError(problem)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PolicySet) and self.gears == other.gears

    def __hash__(self) -> int:
        return hash(self.version)

    def __len__(self) -> int:
        return len(self.gears)

    def __repr__(self) -> str:
        return f"PolicySet({self.version}: {', '.join(gear.version for gear in self.gears)})"

    @property
    def best(self) -> Policy:
        """The first gear."""
        return self.gears[0]

    @cached_property
    def version(self) -> str:
        """That of the policy, where there is one gear; else the first 12 hexadecimal digits of the SHA-256."""
        if len(self.gears) == 1:
            return self.best.version
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:12]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {"schema_version": SCHEMA_VERSION, "gears": [gear.to_dict() for gear in self.gears]}

    def to_json(self) -> str:
        """The same set gives the same text: sorted keys, floats that round-trip."""
        return json.dumps(self.to_dict(), sort_keys=True, indent=1, allow_nan=False) + "\n"

    def save(self, path: Path | str) -> None:
        """Writes the set; a reader never sees half of it."""
        save_policies(self.to_json(), path)

    @classmethod
    def load(cls, path: Path | str) -> "PolicySet":
        """Reads a file that holds a set, or one policy, which is a set of one gear.

        Raises:
            PolicyError: it is missing, is not JSON, or is neither.
        """
        return load_policies(path, cls.from_json)

    @classmethod
    def from_json(cls, text: str) -> "PolicySet":
        """The inverse of :meth:`to_json`; takes the JSON of one policy as well.

        Raises:
            PolicyError: the text is not JSON, or neither a set nor a policy.
        """
        return cls.from_dict(parse_policies(text))

    @classmethod
    def from_dict(cls, values: Any) -> "PolicySet":
        """The inverse of :meth:`to_dict`; takes the values of one policy as well.

        Raises:
            PolicyError: the values are neither.
        """
        if not isinstance(values, Mapping) or "gears" not in values:
            return cls((Policy.from_dict(values),))
        if values.get("schema_version") != SCHEMA_VERSION:
            raise PolicyError(
                f"schema_version of the set must be {SCHEMA_VERSION}; got {values.get('schema_version')!r}"
            )
        unknown = sorted(map(str, set(values) - {"schema_version", "gears"}))
        if unknown:
            raise PolicyError(f"the set has unknown keys {unknown}; remove them or correct their spelling")
        entries = values["gears"]
        if not isinstance(entries, list) or not entries:
            raise PolicyError("'gears' must be a list of at least one policy")
        gears = []
        for index, entry in enumerate(entries):
            try:
                gears.append(Policy.from_dict(entry))
            except PolicyError as error:
                raise PolicyError(f"gears[{index}]: {error}") from error
        return cls(tuple(gears))


def _problem(gears: tuple[Policy, ...]) -> str | None:
    if not gears:
        return "a policy set needs at least one gear"
    for index, (better, cheaper) in enumerate(pairwise(gears), start=1):
        problem = _disorder(better, cheaper)
        if problem:
            return f"gears must go from the best to the cheapest; gears[{index}] {problem}"
    return None


def _disorder(better: Policy, cheaper: Policy) -> str | None:
    """Why two gears cannot follow each other."""
    if (cheaper.stages, cheaper.cost_unit) != (better.stages, better.cost_unit):
        return "is of other stages, or of another unit of cost, than the one before it"
    high, low = better.observed_cost, cheaper.observed_cost
    if high is None or low is None:
        return (
            "or the one before it has no observed mean cost in its certificate, so it cannot be told which is the "
            "cheaper; 'cascade calibrate' writes it"
        )
    if not low < high:
        return f"costs {low:.6g} {cheaper.cost_unit} a row, the one before it {high:.6g}"
    for name, sign in STRICTER.items():
        if name in cheaper.promises:
            value, before = cheaper.promises[name], better.promises.get(name)
            if before is None or sign * value > sign * before:
                return f"promises {name} {value:.6g}, the one before it {before}"
    return None
