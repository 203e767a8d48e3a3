"""A policy, and a set of policies, as files hold them."""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import (
    AfterValidator,
    BaseModel,
    Discriminator,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    Tag,
    model_validator,
)
from typing_extensions import Self

from cascade.calibration.costs.arrivals import Arrivals, RowsAtRate, RowsTogether
from cascade.calibration.policies.reference import Reference
from cascade.calibration.policies.stage_entry import Entry, StageEntry

__all__ = ["SCHEMA_VERSION", "SERVED_KEYS", "PolicyEntry", "PolicySetEntry", "with_old_keys"]

SCHEMA_VERSION = 1

SERVED_KEYS = frozenset({"version", "revision", "gear"})
"""Keys that a served cascade adds to the policy that it describes (``GET /policy``)."""


class _RowsTogetherEntry(Entry):
    rows: list[int]
    shares: list[float]

    @model_validator(mode="after")
    def _can_arrive(self) -> Self:
        self.arrivals()
        return self

    def arrivals(self) -> Arrivals:
        return RowsTogether(tuple(self.rows), tuple(self.shares))


class _RowsAtRateEntry(Entry):
    rows_per_s: float
    request_rows: int
    most_rows: int

    @model_validator(mode="after")
    def _can_arrive(self) -> Self:
        self.arrivals()
        return self

    def arrivals(self) -> Arrivals:
        return RowsAtRate(self.rows_per_s, self.request_rows, self.most_rows)


def _kind_of_arrivals(values: Any) -> str:
    return "rate" if isinstance(values, Mapping) and "rows_per_s" in values else "together"


ArrivalsEntry = Annotated[
    Annotated[_RowsTogetherEntry, Tag("together")] | Annotated[_RowsAtRateEntry, Tag("rate")],
    Discriminator(_kind_of_arrivals),
]


def _is_json(values: dict[str, Any]) -> dict[str, Any]:
    try:
        json.dumps(values, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"must hold finite numbers, texts, lists and objects only: {error}") from error
    return values


class _CertificateEntry(BaseModel):
    reference: Reference | None = None


def _has_a_reference(values: dict[str, Any]) -> dict[str, Any]:
    _CertificateEntry.model_validate(values)  # the values themselves stay as they are, so the version does
    return values


class PolicyEntry(Entry):
    """A policy of K stages."""

    schema_version: Literal[1]
    stages: Annotated[list[StageEntry], Field(min_length=1)]
    cost_unit: str = "ms"
    certificate: Annotated[dict[str, Any], AfterValidator(_is_json), AfterValidator(_has_a_reference)] = {}
    arrivals: ArrivalsEntry | None = None
    _served_version: str | None = PrivateAttr(default=None)

    @model_validator(mode="wrap")
    @classmethod
    def _read(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if not isinstance(values, Mapping):
            return handler(values)
        if "gears" in values:
            raise ValueError(
                "this is a set of policies, and one is needed here; take it out with "
                "cascade.calibration.PolicySet.load(path).gears[0].save(other)"
            )
        if values.get("schema_version") != SCHEMA_VERSION:
            raise ValueError(f"schema_version must be {SCHEMA_VERSION}; got {values.get('schema_version')!r}")
        if not values.keys() >= SERVED_KEYS:
            return handler(values)
        entry = handler({key: value for key, value in values.items() if key not in SERVED_KEYS})
        entry._served_version = str(values["version"])
        return entry

    @model_validator(mode="after")
    def _keys_fit_the_places(self) -> Self:
        *earlier, last = self.stages
        problems = [f"stages.{k} needs a 'threshold'" for k, entry in enumerate(earlier) if entry.threshold is None]
        if last.defer_below is not None:
            problems.append("the last stage cannot have 'defer_below': no stage comes after it")
        if any(entry.abstain_below is not None for entry in earlier):
            problems.append("only the last stage can have 'abstain_below': the others defer such rows")
        reference = self.certificate.get("reference")
        if reference is not None and len(reference["stage_rows"]) != len(self.stages):
            problems.append(f"certificate.reference must be of {len(self.stages)} stages; got {reference!r}")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @property
    def served_version(self) -> str | None:
        """The version that a served cascade reported with the policy; ``None`` for a file."""
        return self._served_version

    def arguments(self) -> dict[str, Any]:
        """The arguments of ``Policy``."""
        *earlier, last = self.stages
        curves = tuple(None if entry.cost_curve is None else entry.cost_curve.curve() for entry in self.stages)
        return {
            "stages": tuple(entry.name for entry in self.stages),
            "routers": tuple(entry.router() for entry in self.stages),
            "thresholds": np.array([entry.threshold for entry in earlier], dtype=np.float64),
            "cost": np.array([entry.cost for entry in self.stages]),
            "cost_unit": self.cost_unit,
            "certificate": self.certificate,
            "defer_below": np.array([entry.defer_below or 0.0 for entry in earlier]),
            "cost_per_mflop": np.array([entry.cost_per_mflop for entry in self.stages]),
            "abstain_below": last.abstain_below or 0.0,
            "curves": curves if any(curves) else (),
            "cost_per_ms": np.array([entry.cost_per_ms for entry in self.stages]),
            "arrivals": None if self.arrivals is None else self.arrivals.arrivals(),
        }


class PolicySetEntry(Entry):
    """Gears, from the most accurate to the cheapest."""

    schema_version: Literal[1]
    gears: Annotated[list[PolicyEntry], Field(min_length=1)]


def with_old_keys(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a policy with the keys of earlier versions, which computed the policy's version from them."""
    old = {"defer_below": "skip_below"}
    stages = [{old.get(key, key): value for key, value in stage.items()} for stage in values["stages"]]
    return {**values, "stages": stages}
