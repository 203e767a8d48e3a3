"""The configuration of a cascade: a YAML file, checked in one go."""

import urllib.parse
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator
from typing_extensions import Self

from cascade.backends.config import BackendConfig
from cascade.errors import ConfigError
from cascade.files.patterns import text_of_form
from cascade.files.yaml_files import load_yaml_model

__all__ = [
    "AuditConfig",
    "CascadeConfig",
    "GearsConfig",
    "ReviewConfig",
    "RouterConfig",
    "RowsConfig",
    "ServingConfig",
    "StageConfig",
    "TracesConfig",
    "VariableName",
]

UNSEEN_BY_PROXY = (
    *("tls_certificate", "tls_key", "tls_client_ca", "max_connections", "max_header_bytes"),
    *("header_timeout_s", "body_timeout_s", "keep_alive_timeout_s"),
)
"""Settings of a gateway's own listener, which Ray Serve's proxy, where it listens instead, does not have."""

KIB = 1 << 10
MIB = 1 << 20
LOOPBACK = ("localhost", "127.0.0.1", "::1")


def _from_folder(path: Path, info: ValidationInfo) -> Path:
    return Path((info.context or {}).get("folder", Path()), path)


# Not checked to exist: who only tunes a cascade needs no keys and no certificate.
ConfigPath = Annotated[Path, AfterValidator(_from_folder)]
VariableName = Annotated[
    str, text_of_form(r"[A-Za-z_][A-Za-z0-9_]*", "a variable's name: letters of ASCII, digits and '_', no digit first")
]
Name = Annotated[str, text_of_form(r"[A-Za-z0-9_-]{1,40}", "1 to 40 letters of ASCII, digits, '_' and '-'")]


class _Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RowsConfig(_Config):
    """What a row is.

    Attributes:
        shape: shape of one row, without the axis n; empty for a scalar or a text.
        dtype: NumPy name of the numbers, or "text".
    """

    shape: tuple[Annotated[int, Field(ge=1)], ...] = ()
    dtype: str = "float32"

    @field_validator("dtype")
    @classmethod
    def _known(cls, value: str) -> str:
        try:
            known = value == "text" or np.dtype(value).kind in "biuf"
        except TypeError:
            known = False
        if not known:
            raise ValueError("dtype must be a NumPy number type such as 'uint8' or 'float32', or 'text'")
        return value

    @model_validator(mode="after")
    def _texts_are_scalars(self) -> Self:
        if self.dtype == "text" and self.shape:
            raise ValueError(f"rows of dtype 'text' have no shape; got {list(self.shape)}")
        return self

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        """The dtype of the array of rows; texts are objects."""
        return np.dtype(object if self.dtype == "text" else self.dtype)

    @property
    def row_bytes(self) -> int:
        """Bytes of one row; 0 for texts."""
        return 0 if self.dtype == "text" else int(np.prod(self.shape, dtype=np.int64)) * self.numpy_dtype.itemsize


class RouterConfig(_Config):
    """A stage's IDK rule.

    Attributes:
        score: how sure the model is, from its probabilities.
        calibrator: fitted by ``cascade calibrate``.
        head: a learned rule that decides instead of the score, fitted by ``cascade calibrate``; what it says is taken
            as it is unless the calibrator is "platt" or "isotonic".
    """

    score: Literal["maximum_probability", "margin", "negative_entropy"] = "maximum_probability"
    calibrator: Literal["identity", "temperature", "platt", "isotonic"] = "temperature"
    head: Literal["agreement", "cost_aware", "cost_oblivious", "deferral", "deferral_network"] | None = None

    @model_validator(mode="after")
    def _temperature_needs_probabilities(self) -> Self:
        if self.head and self.calibrator == "temperature" and "calibrator" in self.model_fields_set:
            raise ValueError(
                f"a temperature is applied to class probabilities, and the head {self.head!r} gives none; "
                "use identity, platt or isotonic"
            )
        return self

    @property
    def choice(self) -> tuple[str, str]:
        """Names of the score or head, and of the calibrator."""
        if self.head is None:
            return self.score, self.calibrator
        return self.head, "identity" if self.calibrator == "temperature" else self.calibrator


class StageConfig(_Config):
    """A model and what is done with its answers.

    Attributes:
        name: letters, digits, "_" and "-".
        backend: the model.
        router: its IDK rule.
        deployment: keys of Ray Serve's deployments, unchanged, for the segment that the stage begins.
    """

    name: Name
    backend: BackendConfig
    router: RouterConfig = RouterConfig()
    deployment: dict[str, Any] = {}


class GearsConfig(_Config):
    """When a gateway moves between the gears of a policy set, and how far.

    Attributes:
        floor_accuracy: least accuracy that every served gear must promise by certificate, in [0, 1].
        floor_agreement: least agreement with the last stage that it must promise, in [0, 1].
        floor_accuracy_drop: most accuracy lost against the last stage that it may have promised, in [0, 1].
        floor_delta: largest risk of a certificate that counts for a floor, in (0, 1).
        step_down_wait_ms: once the oldest rows have waited longer, the next cheaper gear is taken. It should be longer
            than two full batches take in any segment, and well below the latency that is wanted.
        step_up_wait_ms: a better gear is only taken while the oldest rows have waited less.
        step_up_after_s: and have done so for that long.
        retry_after_s: a better gear that was left under a load is tried again under the same load after that long;
            under a clearly lower one at once.
    """

    floor_accuracy: Annotated[float, Field(ge=0, le=1)] | None = None
    floor_agreement: Annotated[float, Field(ge=0, le=1)] | None = None
    floor_accuracy_drop: Annotated[float, Field(ge=0, le=1)] | None = None
    floor_delta: Annotated[float, Field(gt=0, lt=1)] = 0.05
    step_down_wait_ms: Annotated[float, Field(gt=0)] = 100.0
    step_up_wait_ms: Annotated[float, Field(gt=0)] = 50.0
    step_up_after_s: Annotated[float, Field(gt=0)] = 2.0
    retry_after_s: Annotated[float, Field(gt=0)] = 15.0

    @model_validator(mode="after")
    def _has_hysteresis(self) -> Self:
        if self.step_up_wait_ms >= self.step_down_wait_ms:
            raise ValueError(
                f"step_up_wait_ms must be less than step_down_wait_ms; got {self.step_up_wait_ms:g} and "
                f"{self.step_down_wait_ms:g}"
            )
        return self


class AuditConfig(_Config):
    """How the served answers are held against the last stage's, and the traffic against the calibration data.

    What costs nothing is always watched; nothing is sent to the last stage unless ``share`` says so.

    Attributes:
        share: of all rows, drawn at random; those that the last stage did not answer are sent to it afterwards.
        delta: risk of a false alarm, over all times, watched rates, policies, gateways and their starts together.
        least_agreement: with the last stage; by default what the certificate guarantees, or else a lower bound of what
            the calibration data said.
        rate_tolerance: by which the share of rows that a stage forwards may leave what the calibration data said.
        max_queue_rows: drawn rows that wait; while there are so many, no more are drawn.
        max_batch_rows: rows that the last stage is asked about at a time.
        busy_time_share: most of the time that may be spent on asking while requests wait as well; at 0 the last stage
            is only asked while none do.
    """

    share: Annotated[float, Field(ge=0, le=1)] = 0.0
    delta: Annotated[float, Field(gt=0, lt=1)] = 0.05
    least_agreement: Annotated[float, Field(ge=0, le=1)] | None = None
    rate_tolerance: Annotated[float, Field(ge=0, le=1)] = 0.01
    max_queue_rows: Annotated[int, Field(ge=1)] = 256
    max_batch_rows: Annotated[int, Field(ge=1)] = 8
    busy_time_share: Annotated[float, Field(ge=0, le=1)] = 0.01


class TracesConfig(_Config):
    """Which requests have OpenTelemetry spans. Where they are sent to, the environment's OTEL_EXPORTER_OTLP_... say.

    Attributes:
        sample_share: of the requests, chosen at random.
        most_per_s: requests a gateway chooses in a second, however many there are.
        continue_callers: whether requests whose header ``traceparent`` says that they are sampled have spans as well,
            as children of their caller's. A caller can then have a span for every request.
    """

    sample_share: Annotated[float, Field(ge=0, le=1)] = 0.01
    most_per_s: Annotated[float, Field(gt=0)] = 10.0
    continue_callers: bool = False


class ReviewConfig(_Config):
    """Where the rows go that the cascade abstains on, as far as they are to be kept for a person.

    Attributes:
        file: JSON lines are appended to it, from the folder of the config; each node has its own.
        max_file_bytes: beyond it the file is renamed to end in ".1", in place of the one before.
        webhook: address that records are posted to as JSON: https, or http on loopback. Redirects are not followed.
        webhook_authorization_env: environment variable with the value of the header ``authorization``.
        include_rows: whether the rows themselves are written; else only what was said of them.
        max_queue_rows: most rows that wait for each of the two; further ones are dropped and counted.
        timeout_s: for the webhook to be reached, and to answer.
    """

    file: ConfigPath | None = None
    max_file_bytes: Annotated[int, Field(ge=4 * KIB)] = 100 * MIB
    webhook: str | None = None
    webhook_authorization_env: VariableName | None = None
    include_rows: bool = False
    max_queue_rows: Annotated[int, Field(ge=1)] = 10_000
    timeout_s: Annotated[float, Field(gt=0, le=300)] = 10.0

    @field_validator("webhook")
    @classmethod
    def _is_an_address(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urllib.parse.urlsplit(value)
        plain = value.isascii() and value.isprintable() and " " not in value and not parts.fragment
        if not (plain and parts.scheme in ("https", "http") and parts.hostname and parts.port != 0):
            raise ValueError("webhook must be an address such as https://example.org/review")
        if "@" in parts.netloc:
            raise ValueError("webhook must not hold a password; give webhook_authorization_env")
        if parts.scheme == "http" and parts.hostname not in LOOPBACK:
            raise ValueError(f"webhook must be https, or http on loopback ({', '.join(LOOPBACK)})")
        return value

    @model_validator(mode="after")
    def _leads_somewhere(self) -> Self:
        if self.file is None and self.webhook is None:
            raise ValueError("review needs a file, a webhook, or both")
        if self.webhook_authorization_env is not None and self.webhook is None:
            raise ValueError("webhook_authorization_env needs webhook")
        return self


class ServingConfig(_Config):
    """How the cascade is served.

    Attributes:
        host: address to listen on.
        port: of the listener.
        segments: names of the stages that share a process, all stages in order; by default the last stage has a
            process of its own and all others share the gateway.
        gateways: replicas of the first segment, each with a listener on the same port.
        max_batch_rows: most rows of a micro-batch.
        max_inline_ms: a batch that is expected to take no longer runs where requests are read, without a thread;
            meanwhile nothing else is read or answered. 0 for none.
        max_queue_rows: rows waiting at a replica of a segment, and rows that it asks the next segment about at a
            time; beyond it requests are refused with 503.
        max_request_rows: most rows of one request.
        max_body_bytes: longest body of a request.
        max_pending_body_bytes: bytes of all bodies that a gateway holds at a time, those that have not arrived
            completely included; beyond it requests are refused with 503.
        request_timeout_s: after it a request is answered with 504; a request may ask for less.
        least_max_stage: a request may ask that no stage after one of its choice looks at its rows (``max_stage``); one
            before this stage counts as this stage. ``None`` allows all.
        gears: how a gateway moves between the gears of a policy set; ``None`` to stay in the best one.
        on_failure: what becomes of a row whose later stages failed, are gone or are late: "error", or "degrade" for
            the best answer so far, marked as degraded.
        listener: "own" for gateways that listen themselves, or "serve" for Ray Serve's proxy in front of them.
        grpc_port: of a second listener, for the Open Inference Protocol over gRPC; ``None`` for none.
        open_to_network: whether an address that is not loopback may be bound to without keys.
        keys_env: environment variable with the keys, one of which every request but a health check must bear.
        keys_file: file with such keys, from the folder of the config; read again when it changes.
        admin_keys_env: environment variable with the keys that change what is served.
        admin_keys_file: file with such keys.
        tls_certificate: PEM file with the certificate and those that lead to its authority; with it, only TLS is
            spoken.
        tls_key: PEM file with the certificate's private key.
        tls_client_ca: PEM file with authorities; clients must then show a certificate of one of them.
        max_connections: open at a gateway; on those beyond it only health is answered, everything else gets a 503.
        max_header_bytes: longest header of a request.
        header_timeout_s: for a request's header to arrive, and for the TLS handshake.
        body_timeout_s: for a request's body to arrive, and for a client to take its answer.
        keep_alive_timeout_s: after it a connection without a request is closed.
        audit: what is watched while it is served.
        metrics: whether what happens is counted, for Prometheus and for the live page.
        metrics_port: on which a Ray of the cascade's own shows the metrics of this machine to Prometheus; ``None`` for
            one that is free. A cluster that is joined has its own.
        traces: OpenTelemetry spans; ``None`` for none.
        log_format: of the replicas' logs: lines of "text", or "json" objects.
        review: where the rows go that the cascade abstains on; ``None`` where callers see to them.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 8000
    segments: tuple[tuple[str, ...], ...] | None = None
    gateways: Annotated[int, Field(ge=1)] = 1
    max_batch_rows: Annotated[int, Field(ge=1)] = 64
    max_inline_ms: Annotated[float, Field(ge=0, le=100)] = 2.0
    max_queue_rows: Annotated[int, Field(ge=1)] = 4096
    max_request_rows: Annotated[int, Field(ge=1)] = 1024
    max_body_bytes: Annotated[int, Field(ge=1)] = 16 * MIB
    max_pending_body_bytes: Annotated[int, Field(ge=1)] = 256 * MIB
    request_timeout_s: Annotated[float, Field(gt=0)] = 30.0
    least_max_stage: str | None = None
    gears: GearsConfig | None = None
    on_failure: Literal["error", "degrade"] = "error"
    listener: Literal["own", "serve"] = "own"
    grpc_port: Annotated[int, Field(ge=1, le=65535)] | None = None
    open_to_network: bool = False
    keys_env: VariableName | None = None
    keys_file: ConfigPath | None = None
    admin_keys_env: VariableName | None = None
    admin_keys_file: ConfigPath | None = None
    tls_certificate: ConfigPath | None = None
    tls_key: ConfigPath | None = None
    tls_client_ca: ConfigPath | None = None
    max_connections: Annotated[int, Field(ge=1)] = 4096
    max_header_bytes: Annotated[int, Field(ge=1024)] = 16 * KIB
    header_timeout_s: Annotated[float, Field(gt=0)] = 10.0
    body_timeout_s: Annotated[float, Field(gt=0)] = 60.0
    keep_alive_timeout_s: Annotated[int, Field(ge=1)] = 75
    audit: AuditConfig = AuditConfig()
    metrics: bool = True
    metrics_port: Annotated[int, Field(ge=1, le=65535)] | None = None
    traces: TracesConfig | None = None
    log_format: Literal["text", "json"] = "text"
    review: ReviewConfig | None = None

    @model_validator(mode="after")
    def _ports_differ(self) -> Self:
        ports = {"port": self.port, "grpc_port": self.grpc_port, "metrics_port": self.metrics_port}
        given = [port for port in ports.values() if port is not None]
        if len(set(given)) < len(given):
            raise ValueError(f"{', '.join(ports)} must differ; got {', '.join(map(str, ports.values()))}")
        return self

    @field_validator("host")
    @classmethod
    def _has_no_brackets(cls, value: str) -> str:
        if value.startswith("[") or "/" in value:
            raise ValueError(
                "host must be an address or a name, such as 127.0.0.1, ::1 (without brackets) or localhost"
            )
        return value

    @model_validator(mode="after")
    def _listener_keeps_the_settings(self) -> Self:
        lost = [name for name in UNSEEN_BY_PROXY if name in self.model_fields_set and getattr(self, name) is not None]
        if self.listener == "serve" and lost:
            raise ValueError(
                f"listener 'serve' leaves it to Ray Serve's proxy to listen, which does not take {', '.join(lost)}; "
                "remove them and set them in a proxy in front of it, or use listener: own"
            )
        return self

    @model_validator(mode="after")
    def _one_body_fits(self) -> Self:
        if self.max_pending_body_bytes < self.max_body_bytes:
            raise ValueError(
                f"max_pending_body_bytes must be at least max_body_bytes, {self.max_body_bytes}; "
                f"got {self.max_pending_body_bytes}"
            )
        return self

    @model_validator(mode="after")
    def _certificate_has_a_key(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key go together; give both or none")
        if self.tls_client_ca is not None and self.tls_certificate is None:
            raise ValueError("tls_client_ca needs tls_certificate and tls_key")
        return self

    @property
    def url(self) -> str:
        """The address of the listener."""
        return f"{'http' if self.tls_certificate is None else 'https'}://{self.authority(self.port)}"

    def authority(self, port: int) -> str:
        """Host and port as they stand in an address: an IPv6 host between brackets."""
        return f"[{self.host}]:{port}" if ":" in self.host else f"{self.host}:{port}"


class CascadeConfig(_Config):
    """A whole cascade.

    Attributes:
        schema_version: of this format.
        name: of the application.
        rows: what a row is.
        classes: names of the answers 0 to C - 1, the same for every stage; ``None`` where numbers are enough.
        stages: cheapest first.
        policy: the policy file, from the folder of the config.
        serving: how the cascade is served.
    """

    schema_version: Literal[1] = 1
    name: Name
    rows: RowsConfig
    classes: tuple[str, ...] | None = None
    stages: tuple[StageConfig, ...]
    policy: Path = Path("policy.json")
    serving: ServingConfig = ServingConfig()

    @classmethod
    def load(cls, path: Path | str) -> "CascadeConfig":
        """Reads a configuration; relative paths in it start at its folder.

        Raises:
            ConfigError: it cannot be read, or something in it is wrong; the text lists every problem.
        """
        config = load_yaml_model(Path(path), cls, ConfigError)
        return config.model_copy(update={"policy": Path(path).resolve().parent / config.policy})

    @field_validator("stages")
    @classmethod
    def _not_empty(cls, value: tuple[StageConfig, ...]) -> tuple[StageConfig, ...]:
        # Not a min_length: pydantic then reports an empty tuple wherever a stage in it is wrong.
        if not value:
            raise ValueError("there must be at least one stage")
        return value

    @field_validator("classes")
    @classmethod
    def _are_different_names(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is not None and (len(value) < 2 or len(set(value)) < len(value)):
            raise ValueError("classes must be two or more different names")
        return value

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [stage.name for stage in self.stages]
        if len(set(names)) < len(names):
            raise ValueError(f"stages must have different names; got {names}")
        segments = self.serving.segments
        if segments is not None and [name for segment in segments for name in segment] != names:
            raise ValueError(f"serving.segments must hold every stage once, in order {names}; got {segments}")
        if segments is not None and not all(segments):
            raise ValueError("serving.segments must not hold an empty segment")
        least = self.serving.least_max_stage
        if least is not None and least not in names:
            raise ValueError(f"serving.least_max_stage must be a stage, one of {names}; got {least!r}")
        return self

    @property
    def segments(self) -> tuple[tuple[StageConfig, ...], ...]:
        """The stages, grouped by the process they run in."""
        by_name = {stage.name: stage for stage in self.stages}
        names = self.serving.segments
        if names is None:
            ordered = tuple(by_name)
            names = tuple(filter(None, (ordered[:-1], ordered[-1:])))
        return tuple(tuple(by_name[name] for name in segment) for segment in names)
