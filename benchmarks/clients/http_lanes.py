"""Lanes over HTTP: ``cascade serve`` or a server of the Open Inference Protocol."""

import asyncio
import os
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

import orjson

from cascade.benchmarks.clients.answers import AnswerReader, InvalidAnswer, message_of
from cascade.benchmarks.clients.http_bodies import Body, body_of, whole_request
from cascade.benchmarks.clients.http_connection import HttpConnection
from cascade.benchmarks.clients.lane import ANSWERED, CONNECTION, INVALID, Done
from cascade.benchmarks.clients.oip_tensors import InputForm
from cascade.benchmarks.errors import TargetError
from cascade.benchmarks.workload import Workload

__all__ = ["NO_CREDENTIALS", "Credentials", "HttpAddress", "HttpLanes", "cause_of", "inputs_of"]


@dataclass(frozen=True)
class Credentials:
    """What a client shows to a server.

    Attributes:
        key: sent as a bearer token; ``None`` for none.
        authority: PEM file of the authority that signed the server's certificate; ``None`` for the machine's.
        certificate: PEM file of the client's certificate; ``None`` for none.
        private_key: PEM file of its key; ``None`` if it is in the same file.
    """

    key: str | None = field(default=None, repr=False)
    authority: Path | None = None
    certificate: Path | None = None
    private_key: Path | None = None

    @property
    def headers(self) -> dict[str, str]:
        """The header with the key, if there is one."""
        return {} if self.key is None else {"Authorization": f"Bearer {self.key}"}

    def tls_context(self) -> ssl.SSLContext:
        """The context of connections.

        Raises:
            TargetError: a file cannot be used.
        """
        try:
            context = ssl.create_default_context(cafile=self.authority)
            if self.certificate is not None:
                context.load_cert_chain(self.certificate, self.private_key)
        except (OSError, ssl.SSLError) as error:
            raise TargetError(f"the authority or the client's certificate cannot be used: {error}") from error
        return context


NO_CREDENTIALS = Credentials()


@dataclass(frozen=True)
class HttpAddress:
    """Where a server listens.

    Attributes:
        url: such as "http://127.0.0.1:8000".
        credentials: for it.
    """

    url: str
    credentials: Credentials = NO_CREDENTIALS

    @property
    def authority(self) -> str:
        """Host and port, as in the header Host."""
        return self._parts().netloc.rpartition("@")[2]

    def _parts(self) -> SplitResult:
        try:
            return urlsplit(self.url)
        except ValueError as error:
            raise TargetError(f"{self.url!r} is not an address: {error}") from error

    async def connect(self) -> HttpConnection:
        """A new connection.

        Raises:
            OSError: there is none.
            TargetError: the address is not one of HTTP.
        """
        parts = self._parts()
        try:
            host, secure = parts.hostname, parts.scheme == "https"
            port = parts.port or (443 if secure else 80)
        except ValueError as error:
            raise TargetError(f"{self.url!r} is not an address: {error}") from error
        if host is None or parts.scheme not in ("http", "https"):
            raise TargetError(f"{self.url!r} is not an address; it looks like http://127.0.0.1:8000")
        context = self.credentials.tls_context() if secure else None
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(HttpConnection, host, port, ssl=context)
        return connection


@dataclass(frozen=True, eq=False)
class HttpLanes:
    """Opens lanes of one connection each.

    Attributes:
        address: of the server.
        path: of requests.
        workload: whose batches are sent.
        reader: of the answers.
        body: form of the requests.
        inputs: of the model, in the Open Inference Protocol.
    """

    address: HttpAddress
    path: str
    workload: Workload
    reader: AnswerReader
    body: Body = "binary"
    inputs: Sequence[InputForm] = (InputForm(),)

    async def __call__(self, count: int) -> Sequence["HttpLane"]:
        """Opens lanes.

        Raises:
            TargetError: nothing answers at the address.
        """
        requests = [self.encoded(place) for place in range(len(self.workload.batches))]
        lanes = [HttpLane(self, requests) for _ in range(count)]
        try:
            for lane in lanes:
                await lane.connect()
        except OSError as error:
            raise TargetError(_unreachable(self.address.url, error)) from error
        return lanes

    def encoded(self, request: int, timeout_s: float | None = None) -> bytes:
        """A whole request.

        Args:
            request: index in the workload.
            timeout_s: seconds that the caller waits; ``None`` for no limit.
        """
        body, headers = body_of(self.workload.batches[request].rows, self.body, self.inputs, timeout_s)
        return whole_request(body, headers, self.address.authority, self.path, self.address.credentials.headers)


class HttpLane:
    """One connection, opened again where the server has closed it."""

    def __init__(self, lanes: HttpLanes, requests: Sequence[bytes]) -> None:
        self._lanes, self._address, self._requests = lanes, lanes.address, requests
        self._connection: HttpConnection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._done: Done | None = None
        self._request = 0
        self._sent = b""

    async def connect(self) -> None:
        """Connects.

        Raises:
            OSError: nothing answers.
        """
        self._connection = await self._address.connect()

    def send(self, request: int, done: Done, timeout_s: float | None = None) -> None:
        """See ``Lane``."""
        self._request, self._done = request, done
        self._sent = self._requests[request] if timeout_s is None else self._lanes.encoded(request, timeout_s)
        if self._connection is not None and self._connection.usable:
            self._connection.send(self._sent, self._ended)
        else:
            self._connecting = asyncio.ensure_future(self._send_on_new())

    async def _send_on_new(self) -> None:
        try:
            await self.connect()
        except OSError as error:
            self._ended(0, cause_of(error).encode())
            return
        if self._connection is not None:
            self._connection.send(self._sent, self._ended)

    def _ended(self, status: int, body: bytes) -> None:
        done = self._done
        if done is None:
            return
        if status != 200:
            done(status or CONNECTION, message_of(body) if status else body.decode())
            return
        try:
            columns = self._lanes.reader.read(body, len(self._lanes.workload.batches[self._request]))
        except (InvalidAnswer, TypeError, ValueError) as error:
            done(INVALID, str(error))
        else:
            done(ANSWERED, columns)

    def abort(self) -> None:
        """See ``Lane``."""
        self._done = None
        if self._connecting is not None:
            self._connecting.cancel()
        if self._connection is not None:
            self._connection.close()

    async def close(self) -> None:
        """See ``Lane``."""
        self.abort()


def cause_of(error: OSError) -> str:
    """The reason of a connection's failure, in lower case."""
    if isinstance(error, ssl.SSLError):  # its numbers are not those of the operating system
        return str(error.reason or error).lower()
    return os.strerror(error.errno).lower() if error.errno and error.errno > 0 else str(error) or type(error).__name__


def _unreachable(url: str, error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate of {url} is not trusted ({error.verify_message}); --ca FILE names its authority"
    return f"nothing answers at {url} ({cause_of(error)})"


async def inputs_of(address: HttpAddress, model: str, timeout_s: float) -> list[InputForm]:
    """The inputs of a model on a server of the Open Inference Protocol.

    Raises:
        TargetError: the server does not answer, or does not have the model.
    """
    path = f"/v2/models/{model}"
    head = [
        f"GET {path} HTTP/1.1",
        f"Host: {address.authority}",
        *(f"{k}: {v}" for k, v in address.credentials.headers.items()),
    ]
    try:
        connection = await address.connect()
        status, body = await connection.ask(("\r\n".join(head) + "\r\n\r\n").encode(), timeout_s)
        connection.close()
    except TimeoutError as error:
        raise TargetError(f"{address.url}{path} does not answer within {timeout_s:g} s") from error
    except OSError as error:
        raise TargetError(_unreachable(address.url, error)) from error
    if status != 200:
        raise TargetError(f"{address.url}{path} answered {status}: {message_of(body)}")
    try:
        inputs = orjson.loads(body)["inputs"]
        found = [InputForm(str(one["name"]), str(one["datatype"]), len(one["shape"])) for one in inputs]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        found = []
    if not found:
        raise TargetError(f"{address.url}{path} names no input of the model")
    return found
