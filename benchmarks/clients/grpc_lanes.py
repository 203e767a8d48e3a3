"""Lanes over gRPC: the Open Inference Protocol."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
from google.protobuf.message import DecodeError

from cascade.benchmarks.clients.answers import AnswerReader, InvalidAnswer
from cascade.benchmarks.clients.call_lanes import CallLane
from cascade.benchmarks.clients.http_lanes import NO_CREDENTIALS, Credentials
from cascade.benchmarks.clients.lane import CONNECTION, GRPC, REFUSED
from cascade.benchmarks.clients.oip_tensors import InputForm, sent_tensors, timeout_us
from cascade.benchmarks.errors import TargetError
from cascade.benchmarks.workload import Workload
from cascade.serving.oip.protobuf import SERVICE, new_message, parse_message
from cascade.serving.oip.tensors import RAW_DATATYPES, TEXT

__all__ = ["GrpcLanes"]

MAX_MESSAGE_BYTES = 1 << 30
CONNECT_TIMEOUT_S = 5.0


@dataclass(frozen=True, eq=False)
class GrpcLanes:
    """Opens lanes that share one channel.

    Attributes:
        address: "host:port"; with "https://" before it over TLS.
        model: name of the model.
        workload: whose batches are sent.
        reader: of the answers.
        credentials: for the server.
    """

    address: str
    model: str
    workload: Workload
    reader: AnswerReader
    credentials: Credentials = NO_CREDENTIALS

    async def __call__(self, count: int) -> Sequence[CallLane]:
        """Opens lanes.

        Raises:
            TargetError: nothing answers at the address, or the model is not known there.
        """
        channel = self._channel()
        metadata = tuple((name.lower(), value) for name, value in self.credentials.headers.items())
        try:
            await asyncio.wait_for(channel.channel_ready(), CONNECT_TIMEOUT_S)
            inputs = await self._asked(channel, metadata)
        except (asyncio.TimeoutError, grpc.aio.AioRpcError) as error:
            await channel.close()
            is_secure = self.address.startswith("https://")
            silent = "no connection, or the certificates are not trusted" if is_secure else "no connection"
            reason = error.details() if isinstance(error, grpc.aio.AioRpcError) else silent
            raise TargetError(f"nothing answers for the model {self.model!r} at {self.address} ({reason})") from error
        messages = [self._message(batch.rows, inputs) for batch in self.workload.batches]
        infer = channel.unary_unary(f"/{SERVICE}/ModelInfer")

        async def call(request: int, timeout_s: float | None) -> dict[str, Any]:
            message = messages[request] if timeout_s is None else _limited(messages[request], timeout_s)
            content = await infer(message, metadata=metadata)
            return self.reader.check(self._columns(content), len(self.workload.batches[request]))

        return [CallLane(call, _status_of, channel.close) for _ in range(count)]

    def _channel(self) -> Any:
        options = [
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ]
        scheme, _, rest = self.address.rpartition("://")
        if scheme != "https":
            return grpc.aio.insecure_channel(rest, options=options)
        files = (
            self.credentials.authority,
            self.credentials.private_key or self.credentials.certificate,
            self.credentials.certificate,
        )
        try:
            contents = [None if file is None else file.read_bytes() for file in files]
        except OSError as error:
            raise TargetError(f"the authority or the client's certificate cannot be read: {error}") from error
        return grpc.aio.secure_channel(rest, grpc.ssl_channel_credentials(*contents), options=options)

    async def _asked(self, channel: Any, metadata: tuple[tuple[str, str], ...]) -> list[InputForm]:
        """The model's inputs."""
        ask = channel.unary_unary(f"/{SERVICE}/ModelMetadata")
        content = await ask(new_message("ModelMetadataRequest", name=self.model).SerializeToString(), metadata=metadata)
        inputs = parse_message("ModelMetadataResponse", content).inputs
        if not inputs:
            raise TargetError(f"the model {self.model!r} at {self.address} names no inputs")
        return [InputForm(one.name, one.datatype, len(one.shape)) for one in inputs]

    def _message(self, rows: np.ndarray, inputs: Sequence[InputForm]) -> bytes:
        message = new_message("ModelInferRequest", model_name=self.model)
        for tensor in sent_tensors(rows, inputs, raw=True):
            message.inputs.add(**tensor.head)
            message.raw_input_contents.append(tensor.raw)
        content: bytes = message.SerializeToString()
        return content

    def _columns(self, content: bytes) -> dict[str, Any]:
        try:
            message = parse_message("ModelInferResponse", content)
        except DecodeError as error:
            raise InvalidAnswer(f"the answer is not a ModelInferResponse: {error}") from error
        raw = list(message.raw_output_contents) or [None] * len(message.outputs)
        outputs = [
            {"name": output.name, "shape": list(output.shape), "data": _data(output, found)}
            for output, found in zip(message.outputs, raw)
        ]
        return self.reader.columns_of(outputs)


def _limited(content: bytes, timeout_s: float) -> bytes:
    """A request with the parameter "timeout"."""
    message = parse_message("ModelInferRequest", content)
    message.parameters["timeout"].int64_param = timeout_us(timeout_s)
    limited: bytes = message.SerializeToString()
    return limited


def _data(output: Any, raw: bytes | None) -> list[Any]:
    if raw is None:
        fields = [list(values) for _, values in output.contents.ListFields()]
        found = fields[0] if fields else []
        return [value.decode() if isinstance(value, bytes) else value for value in found]
    if output.datatype != TEXT:
        return list(np.frombuffer(raw, RAW_DATATYPES[output.datatype]).tolist())
    texts, start = [], 0
    while start < len(raw):
        end = start + 4 + int.from_bytes(raw[start : start + 4], "little")
        texts.append(raw[start + 4 : end].decode(errors="replace"))
        start = end
    return texts


def _status_of(error: Exception) -> tuple[int, str]:
    if not isinstance(error, grpc.aio.AioRpcError):
        return REFUSED, f"{type(error).__name__}: {error}"
    code = error.code()
    return (CONNECTION if code == grpc.StatusCode.UNAVAILABLE else GRPC + code.value[0]), str(error.details())
