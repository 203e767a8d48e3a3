"""The gRPC listener of a gateway: the Open Inference Protocol; its rows join the same micro-batches as HTTP's."""

import functools
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from cascade.config import ServingConfig
from cascade.errors import CascadeError
from cascade.serving.auth.guard import Guard
from cascade.serving.auth.tls import new_tls_context
from cascade.serving.bodies.pending_bodies import PendingBodies
from cascade.serving.errors import http_status
from cascade.serving.oip import inference as oip
from cascade.serving.oip.grpc_messages import decode_request, encode_response
from cascade.serving.oip.protobuf import SERVICE, new_message, parse_message
from cascade.serving.service import Service
from cascade.serving.telemetry.observations import Observations

__all__ = ["GrpcListener"]

# Size of a message besides its rows: names, shapes, parameters.
MESSAGE_HEAD_BYTES = 64 * 1024
MAX_CONCURRENT_CALLS = 4096
HEALTH_CALLS = frozenset({"ServerLive", "ServerReady"})

_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
"""gRPC code of each HTTP status; INTERNAL for all others."""

logger = logging.getLogger(__name__)

Handler = Callable[[Any, Any], Awaitable[Any]]


class GrpcListener:
    """Serves the protocol's calls until it is stopped.

    Args:
        service: answers the calls; its configuration has the host, the certificate and the limits.
        guard: checks the keys; health checks need none.
        port: shared by all replicas of a node (``SO_REUSEPORT``).
        stats: counts errors; ``None`` to count nothing.
        bodies: bound of the bytes of all bodies, shared with the process's other listener; by default its own. A
            message is counted once it has arrived.
    """

    def __init__(
        self,
        service: Service,
        guard: Guard,
        port: int,
        stats: Observations | None = None,
        bodies: PendingBodies | None = None,
    ) -> None:
        self._bodies = bodies or PendingBodies(service.config.serving.max_pending_body_bytes)
        self.port = port
        self._service = service
        self._stats = stats
        self._guard = guard
        self._address = service.config.serving.authority(port)
        self._server: Any = None

    @property
    def alive(self) -> bool:
        """Whether the listener accepts calls."""
        return self._server is not None

    async def start(self) -> None:
        """Starts to listen.

        Raises:
            OSError: the address cannot be bound.
            ConfigError: the certificate cannot be used.
        """
        # Created here and not in the constructor, since it belongs to the running event loop.
        server = grpc.aio.server(
            maximum_concurrent_rpcs=MAX_CONCURRENT_CALLS,
            options=[
                ("grpc.so_reuseport", 1),
                ("grpc.max_receive_message_length", self._service.config.serving.max_body_bytes + MESSAGE_HEAD_BYTES),
                # A few compressed bytes could become gigabytes, so compressed messages are not expanded, and refused.
                ("grpc.per_message_decompression", 0),
            ],
        )
        calls: dict[str, Handler] = {
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
            "ServerMetadata": self._server_metadata,
            "ModelReady": self._model_ready,
            "ModelMetadata": self._model_metadata,
            "ModelInfer": self._model_infer,
        }
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(
                functools.partial(self._answer, name, handler), response_serializer=_serialized
            )
            for name, handler in calls.items()
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        try:
            credentials = _credentials(self._service.config.serving)
            if credentials is None:
                server.add_insecure_port(self._address)
            else:
                server.add_secure_port(self._address, credentials)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {self._address}: {error}") from error
        await server.start()
        self._server = server

    async def stop(self) -> None:
        """Answers the calls in progress, then stops."""
        server, self._server = self._server, None
        if server is not None:
            await server.stop(self._service.config.serving.request_timeout_s)

    async def _server_live(self, *_: object) -> Any:
        return new_message("ServerLiveResponse", live=True)

    async def _server_ready(self, *_: object) -> Any:
        return new_message("ServerReadyResponse", ready=self._service.is_ready)

    async def _server_metadata(self, *_: object) -> Any:
        return new_message("ServerMetadataResponse", **oip.server_metadata())

    async def _model_ready(self, request: Any, _: object) -> Any:
        oip.check_model(self._service, request.name, request.version or None)
        return new_message("ModelReadyResponse", ready=self._service.is_ready)

    async def _model_metadata(self, request: Any, _: object) -> Any:
        version = oip.check_model(self._service, request.name, request.version or None)
        return new_message("ModelMetadataResponse", **oip.model_metadata(self._service.config, version))

    async def _model_infer(self, request: Any, context: Any) -> Any:
        version = request.model_version or None
        oip.check_model(self._service, request.model_name, version)
        inference = decode_request(request, self._service.config)
        columns = await oip.answer(self._service, inference, version, context.time_remaining())
        return encode_response(inference, columns, self._service.config)

    async def _answer(self, name: str, handler: Handler, content: bytes, context: Any) -> Any:
        """Answers one call; every error becomes a code and one sentence."""
        try:
            if name not in HEALTH_CALLS:
                self._guard.check(_authorization(context))
            self._bodies.hold(len(content))
            try:
                return await handler(parse_message(f"{name}Request", content), context)
            finally:
                self._bodies.release(len(content))
        except DecodeError:
            code, text = (
                grpc.StatusCode.INVALID_ARGUMENT,
                f"the message is not a {name}Request; compressed messages are not supported",
            )
        except CascadeError as error:
            code, text = _CODES.get(http_status(error), grpc.StatusCode.INTERNAL), str(error)
            if self._stats is not None:
                self._stats.refused(error)
        except Exception:
            logger.exception("a call failed")
            if self._stats is not None:
                self._stats.refused(None)
            code, text = grpc.StatusCode.INTERNAL, "an internal error occurred"
        await context.abort(code, text)
        return None


def _authorization(context: Any) -> str | None:
    found = [value for name, value in context.invocation_metadata() or () if name == "authorization"]
    # With two headers, a proxy may have checked the other one, so neither is accepted.
    return str(found[0]) if len(found) == 1 else None


def _credentials(serving: ServingConfig) -> Any:
    """Credentials from the configured certificate; ``None`` without one."""
    # new_tls_context reads the same files, and raises a ConfigError for unusable ones.
    if new_tls_context(serving) is None or serving.tls_certificate is None or serving.tls_key is None:
        return None
    authorities = None if serving.tls_client_ca is None else serving.tls_client_ca.read_bytes()
    pair = (serving.tls_key.read_bytes(), serving.tls_certificate.read_bytes())
    return grpc.ssl_server_credentials([pair], authorities, require_client_auth=authorities is not None)


def _serialized(message: Any) -> bytes:
    content: bytes = message.SerializeToString()
    return content
