"""The configuration of serving: listeners, processes, limits, keys."""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator
from typing_extensions import Self

from cascade.config.audit_config import AuditConfig
from cascade.config.fields import ConfigModel, ConfigPath, VariableName
from cascade.config.gears_config import GearsConfig
from cascade.config.review_config import ReviewConfig
from cascade.config.traces_config import TracesConfig

__all__ = ["ServingConfig"]

KIB = 1 << 10
MIB = 1 << 20
OWN_LISTENER = (
    *("tls_certificate", "tls_key", "tls_client_ca", "max_connections", "max_header_bytes"),
    *("header_timeout_s", "body_timeout_s", "keep_alive_timeout_s"),
)
"""Settings of a gateway's own listener, which Ray Serve's proxy does not have."""


class ServingConfig(ConfigModel):
    """How the cascade is served.

    Attributes:
        host: address to listen on.
        port: of the listener.
        segments: names of the stages that share a process, all stages in order. By default the last stage has a
            process of its own, and all others share the gateway.
        gateways: number of replicas of the first segment; all listen on the same port.
        max_batch_rows: maximum rows per micro-batch.
        max_inline_ms: batches with an expected time up to this run on the event loop, without a thread; meanwhile the
            gateway neither reads nor answers other requests. 0 runs every batch in a thread.
        max_queue_rows: maximum rows that wait at a replica, and maximum rows that it has sent to the next segment and
            that are not answered yet. Requests beyond it get a 503.
        max_request_rows: maximum rows per request.
        max_body_bytes: maximum size of a request's body.
        max_pending_body_bytes: maximum size of all bodies that a gateway holds at a time, including incomplete ones.
            Requests beyond it get a 503.
        request_timeout_s: a request that takes longer gets a 504; a request may set a shorter time.
        least_max_stage: a request may name the last stage that sees its rows (``max_stage``); an earlier stage than
            this one is replaced by this one. ``None`` allows every stage.
        gears: when a gateway moves between the gears of a policy set; ``None`` keeps the best gear.
        on_failure: what a row gets whose later stages fail, are missing or are late: "error", or "degrade" for the
            latest answer so far, marked as degraded.
        listener: "own" for gateways that listen themselves, or "serve" for Ray Serve's proxy in front of them.
        grpc_port: of a second listener, for the Open Inference Protocol over gRPC; ``None`` for none.
        open_to_network: whether to listen on an address that is not loopback without any keys.
        keys_env: environment variable with API keys; every request except health checks must carry one of them.
        keys_file: file with API keys, relative to the folder of the configuration; read again when it changes.
        admin_keys_env: environment variable with the keys for changing what is served.
        admin_keys_file: file with such keys.
        tls_certificate: PEM file with the certificate chain; if given, the listener accepts TLS only.
        tls_key: PEM file with the certificate's private key.
        tls_client_ca: PEM file with certificate authorities; clients must then present a certificate of one of them.
        max_connections: maximum open connections per gateway; on further ones, every request but a health check gets a
            503.
        max_header_bytes: maximum size of a request's header.
        header_timeout_s: maximum time for a request's header to arrive, and for the TLS handshake.
        body_timeout_s: maximum time for a request's body to arrive, and for a client to read its response.
        keep_alive_timeout_s: time after which an idle connection is closed.
        audit: what is monitored while the cascade is served.
        metrics: whether to count events, for Prometheus and the dashboard.
        metrics_port: of this machine's Prometheus endpoint, where the cascade starts its own Ray; ``None`` takes a free
            port. A cluster that is joined has its own endpoint.
        traces: OpenTelemetry spans; ``None`` for none.
        log_format: of the replicas' logs: lines of "text", or "json" objects.
        review: where rows that the cascade abstains on are recorded; ``None`` leaves them to the callers.
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
        lost = [name for name in OWN_LISTENER if name in self.model_fields_set and getattr(self, name) is not None]
        if self.listener == "serve" and lost:
            raise ValueError(
                f"listener 'serve' uses Ray Serve's proxy, which does not support {', '.join(lost)}; "
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
        """Host and port as in a URL: an IPv6 host in brackets."""
        return f"[{self.host}]:{port}" if ":" in self.host else f"{self.host}:{port}"
