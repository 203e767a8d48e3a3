"""A policy set: several policies of one cascade, from the most accurate to the cheapest, as a file."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

from cascade.calibration.policies.policy import Policy
from cascade.calibration.policies.policy_entry import SCHEMA_VERSION, PolicySetEntry
from cascade.calibration.policies.policy_file import digest, json_text, load_policies, parse_policies, save_policies
from cascade.errors import PolicyError
from cascade.files.problems import validated

__all__ = ["PolicySet"]

STRICTER = {"target_accuracy": 1, "target_agreement": 1, "max_accuracy_drop": -1, "min_recall": 1, "min_precision": 1}
"""Of each guarantee of answers, whether a higher (1) or a lower (-1) value is stricter."""


@dataclass(frozen=True, eq=False)
class PolicySet:
    """Gears of a served cascade: under load it moves to cheaper ones, and back again.

    The idea of gears is that of CascadeServe (Kossmann, Wu, Turk, Tatbul, Cao, Madden, "CascadeServe: Unlocking Model
    Cascades for Inference Serving", 2024, https://arxiv.org/abs/2406.14424); here each gear is a policy with a
    certificate of its own.

    Attributes:
        gears: at least one policy, all of the same stages, the most accurate and most expensive first. Of several,
            each has its observed mean cost in its certificate; each costs less than the one before it, and its
            guarantees are no stricter.

    Raises:
        PolicyError: the gears are not in this order, or of different stages.
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
        """The policy's version if there is one gear; else the first 12 hexadecimal digits of the SHA-256."""
        if len(self.gears) == 1:
            return self.best.version
        return digest(self.to_json())

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {"schema_version": SCHEMA_VERSION, "gears": [gear.to_dict() for gear in self.gears]}

    def to_json(self) -> str:
        """The same set gives the same text: sorted keys, floats that round-trip."""
        return json_text(self.to_dict())

    def save(self, path: Path | str) -> None:
        """Writes the set atomically."""
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
        entry = validated(values, PolicySetEntry, "the policy set", PolicyError)
        gears = []
        for index, gear in enumerate(entry.gears):
            try:
                gears.append(Policy.from_entry(gear))
            except PolicyError as error:
                raise PolicyError(f"gears[{index}]: {error}") from error
        return cls(tuple(gears))


def _problem(gears: tuple[Policy, ...]) -> str | None:
    if not gears:
        return "a policy set needs at least one gear"
    for index, (better, cheaper) in enumerate(pairwise(gears), start=1):
        problem = _disorder(better, cheaper)
        if problem:
            return f"gears must go from the most accurate to the cheapest; gears[{index}] {problem}"
    return None


def _disorder(better: Policy, cheaper: Policy) -> str | None:
    """Why two gears cannot follow each other."""
    if (cheaper.stages, cheaper.cost_unit) != (better.stages, better.cost_unit):
        return "is of other stages, or of another unit of cost, than the one before it"
    high, low = better.observed_cost, cheaper.observed_cost
    if high is None or low is None:
        return (
            "or the one before it has no observed mean cost in its certificate, by which they are ordered; "
            "'cascade calibrate' writes it"
        )
    if not low < high:
        return f"costs {low:.6g} {cheaper.cost_unit} per row, the one before it {high:.6g}"
    for name, sign in STRICTER.items():
        if name in cheaper.guarantees:
            value, before = cheaper.guarantees[name], better.guarantees.get(name)
            if before is None or sign * value > sign * before:
                return f"guarantees {name} {value:.6g}, the one before it {before}"
    return None
