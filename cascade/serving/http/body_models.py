"""The JSON bodies of a gateway's routes, as pydantic models for the OpenAPI document.

No body passes through these models: requests are read by :mod:`cascade.serving.bodies.wire` and
:mod:`cascade.serving.oip`, which are faster. Tests compare the answers with the models.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from cascade.serving.oip.tensors import OUTPUTS

__all__ = ["FIXED_BODIES", "Body", "ClosedBody", "Parameters", "RequestedOutput"]

Share = Annotated[float, Field(ge=0, le=1)]
Parameters = dict[str, str | float | bool]
OutputName = Annotated[str, Field(json_schema_extra={"enum": [*OUTPUTS, "boxes"]})]


class Body(BaseModel):
    """A JSON object."""

    model_config = ConfigDict(use_attribute_docstrings=True, protected_namespaces=())


class ClosedBody(Body):
    """A JSON object without further fields."""

    model_config = ConfigDict(extra="forbid")


class Error(Body):
    error: str
    """What was wrong, in one sentence."""


class Detection(Body):
    box: Annotated[list[float], Field(min_length=4, max_length=4)]
    """x, y, width and height in pixels of the upright image."""
    confidence: Share
    label: str


class Detections(Body):
    """The objects in an image."""

    boxes: list[Detection]
    """The most confident one first."""
    height: int
    width: int
    windows: int
    positives: int
    """Positive windows, before non-maximum suppression."""
    abstained: int
    degraded: int
    answered: dict[str, int]
    """Windows that each stage answered."""
    cost: float
    cost_unit: str
    policy_version: str
    note: str
    """What is unusual about the image or the answer."""


class Health(Body):
    status: str
    name: str
    """Name of the cascade."""


class Gear(Body):
    index: int
    """Gear in force; 0 is the most accurate one."""
    versions: list[str]
    """Version of each gear's policy."""
    usable: int
    """Number of gears that may be used at the moment."""
    changes: int
    """Number of gear changes since the start."""


class Policy(Body):
    """The policy in force: the content of its file, and these fields."""

    version: str
    revision: int
    """0 for the policy of the start, then 1, 2, ..."""
    gear: Gear


class Policies(Body):
    """The content of a policy file, or of a policy set's."""

    model_config = ConfigDict(json_schema_extra={"anyOf": [{"required": ["stages"]}, {"required": ["gears"]}]})


class LateGateway(Body):
    node: str
    pid: int
    revision: int


class PolicyChange(Body):
    version: str
    revision: int
    gears: list[str]
    """Version of each gear's policy."""
    gateways: int
    """Number of gateways that have this policy in force."""
    behind: list[LateGateway]
    """Gateways that still have an earlier policy in force."""


class HistoryEntry(Body):
    revision: int
    version: str
    kind: Literal["start", "reload", "rollback"]
    at: str
    """Time in ISO 8601, UTC."""


class PolicyHistory(Body):
    history: list[HistoryEntry]
    """The oldest entry first."""


class Rollback(ClosedBody):
    version: str = Field(default_factory=str)
    """Version to go back to; by default the one before."""


class AgreementEstimate(Body):
    rows: int
    """Number of audited rows."""
    agreed: int
    """Number of those whose answer was the last stage's."""
    rate: float | None
    """Null until a row has been audited."""
    low: Share
    """Lower end of the confidence sequence."""
    high: Share
    """Upper end of the confidence sequence."""


class WatchedRate(Body):
    name: str
    stage: str | None
    source: str
    """Where the expected rate comes from."""
    rows: int
    rate: float | None
    """Null until a row has been counted."""
    low: Share
    """Lower end of the expected rate."""
    high: Share
    """Upper end of the expected rate."""
    e_value: Annotated[float, Field(ge=0)]
    alarm_at: float
    """e-value at which the alarm is raised."""
    alarm: bool
    alarm_rows: int | None
    """Number of rows until the alarm; null without an alarm."""


class PolicyAudit(Body):
    """The audit of one policy."""

    alarm: bool
    delta: Share
    """Probability of a false alarm, over all time."""
    watched: list[WatchedRate]
    answered_rows: dict[str, int]
    """By stage."""
    agreement: AgreementEstimate
    accepted_agreement: AgreementEstimate
    """Of the rows that an earlier stage answered."""
    stage_agreement: dict[str, AgreementEstimate]
    drawn_rows: int
    audited_rows: int
    dropped_rows: int
    lost_rows: int


class Audit(Body):
    """The audit of one gateway."""

    gateway: str
    gateways: int
    """Number of gateways of the cascade."""
    start: int
    share: Share
    """Share of the answers that are audited."""
    policy_version: str
    alarm: bool
    waiting_rows: int
    policies: dict[str, PolicyAudit]
    """By version."""


class Traffic(Body):
    """The dashboard's numbers of one gateway."""

    name: str
    metrics: bool
    """Whether traffic is counted; without it the fields with counts are missing."""


class ServerMetadata(Body):
    name: str
    version: str
    extensions: list[str]


class Live(Body):
    live: bool


class Ready(Body):
    ready: bool


class ModelReady(Body):
    name: str
    ready: bool


class TensorMetadata(Body):
    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(Body):
    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class RequestedOutput(Body):
    """An output that a request asks for."""

    name: OutputName
    parameters: Parameters = Field(default_factory=dict)


class OutputTensor(Body):
    name: OutputName
    datatype: str
    shape: list[int]
    data: list[Any] = Field(default_factory=list)
    """Missing where the values follow the JSON as raw bytes."""
    parameters: Parameters = Field(default_factory=dict)


class InferenceResponse(Body):
    model_name: str
    model_version: str
    id: str = Field(default_factory=str)
    parameters: Parameters
    outputs: list[OutputTensor]


FIXED_BODIES: tuple[type[Body], ...] = (
    Error,
    Detections,
    Health,
    Policy,
    Policies,
    PolicyChange,
    PolicyHistory,
    Rollback,
    Audit,
    Traffic,
    ServerMetadata,
    Live,
    Ready,
    ModelReady,
    ModelMetadata,
    InferenceResponse,
)
"""Bodies that are the same for every cascade."""
