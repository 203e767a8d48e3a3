"""The bytes of HTTP requests: raw rows, JSON, and the Open Inference Protocol."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import orjson

from cascade.benchmarks.clients.oip_tensors import InputForm, sent_tensors, timeout_us
from cascade.rows.columns import records
from cascade.serving.oip.http_bodies import HEADER_LENGTH

__all__ = [
    "HEADER_END",
    "Body",
    "body_of",
    "request_body",
    "request_bytes",
    "whole_request",
]

Body = Literal["binary", "json", "oip-json", "oip-binary"]
HEADER_END = b"\r\n\r\n"
RAW_TYPE = "application/octet-stream"
JSON_TYPE = "application/json"


def request_body(rows: np.ndarray) -> tuple[bytes, dict[str, str]]:
    """Body and headers of a request for ``cascade serve``: raw C-order bytes for numbers, JSON for texts and columns.

    Args:
        rows: (n, ...).
    """
    return body_of(rows, "binary")


def body_of(
    rows: np.ndarray, kind: Body, inputs: Sequence[InputForm] = (InputForm(),), timeout_s: float | None = None
) -> tuple[bytes, dict[str, str]]:
    """Body and headers of a request.

    Args:
        rows: (n, ...); of dtype object for texts, structured for named columns.
        kind: "binary" and "json" for ``cascade serve``, the others for the Open Inference Protocol. "binary" is "json"
            for texts and named columns.
        inputs: of the model, in the Open Inference Protocol.
        timeout_s: seconds that the caller waits, above 0; ``None`` for no limit of its own.
    """
    if kind in ("binary", "json"):
        limit = {} if timeout_s is None else {"X-Timeout-Ms": f"{timeout_s * 1e3:.3f}"}
        if kind == "json" or rows.dtype.hasobject or rows.dtype.names is not None:
            plain = rows.tolist() if rows.dtype.names is None else records(rows)
            return orjson.dumps({"rows": plain}), {"Content-Type": JSON_TYPE, **limit}
        shape = ",".join(map(str, rows.shape))
        return rows.tobytes(), {"Content-Type": RAW_TYPE, "X-Dtype": rows.dtype.name, "X-Shape": shape, **limit}
    is_raw = kind == "oip-binary"
    tensors = sent_tensors(rows, inputs, raw=is_raw)
    content = {} if timeout_s is None else {"parameters": {"timeout": timeout_us(timeout_s)}}
    if not is_raw:
        sent = [{**tensor.head, "data": tensor.plain} for tensor in tensors]
        return orjson.dumps({**content, "inputs": sent}), {"Content-Type": JSON_TYPE}
    raw = [tensor.raw for tensor in tensors]
    sizes = [{"parameters": {"binary_data_size": len(each)}} for each in raw]
    heads = [{**tensor.head, **size} for tensor, size in zip(tensors, sizes, strict=True)]
    head = orjson.dumps({**content, "inputs": heads})
    return b"".join([head, *raw]), {"Content-Type": RAW_TYPE, HEADER_LENGTH.title(): str(len(head))}


def request_bytes(
    rows: np.ndarray, host: str = "127.0.0.1", path: str = "/predict", further: Mapping[str, str] | None = None
) -> bytes:
    """A whole request for ``cascade serve``."""
    return whole_request(*request_body(rows), host=host, path=path, further=further)


def whole_request(
    body: bytes, headers: Mapping[str, str], host: str, path: str, further: Mapping[str, str] | None = None
) -> bytes:
    """A whole POST request."""
    lines = [f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in {**headers, **(further or {})}.items()]
    return "\r\n".join(lines).encode() + HEADER_END + body
