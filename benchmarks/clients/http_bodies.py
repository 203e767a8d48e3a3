"""The bytes of HTTP requests: raw rows, JSON, and the Open Inference Protocol."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
import orjson

from cascade.serving.oip.http_bodies import HEADER_LENGTH
from cascade.serving.oip.tensors import RAW_DATATYPES, TEXT

__all__ = [
    "HEADER_END",
    "Body",
    "body_of",
    "datatype_of",
    "raw_texts",
    "request_body",
    "request_bytes",
    "whole_request",
]

Body = Literal["binary", "json", "oip-json", "oip-binary"]
HEADER_END = b"\r\n\r\n"
RAW_TYPE = "application/octet-stream"
JSON_TYPE = "application/json"


def request_body(rows: np.ndarray) -> tuple[bytes, dict[str, str]]:
    """Body and headers of a request for ``cascade serve``: raw C-order bytes for numbers, JSON for texts.

    Args:
        rows: (n, ...).
    """
    return body_of(rows, "json" if rows.dtype == object else "binary")


def body_of(
    rows: np.ndarray, kind: Body, name: str = "rows", datatype: str | None = None
) -> tuple[bytes, dict[str, str]]:
    """Body and headers of a request.

    Args:
        rows: (n, ...); of dtype object for texts.
        kind: "binary" and "json" for ``cascade serve``, the others for the Open Inference Protocol.
        name: of the protocol's input.
        datatype: of the protocol's input, such as "FP32"; ``None`` for that of the rows.
    """
    if kind == "binary":
        shape = ",".join(map(str, rows.shape))
        return rows.tobytes(), {"Content-Type": RAW_TYPE, "X-Dtype": rows.dtype.name, "X-Shape": shape}
    if kind == "json":
        return orjson.dumps({"rows": rows.tolist()}), {"Content-Type": JSON_TYPE}
    if datatype is not None and datatype in RAW_DATATYPES:
        rows = rows.astype(RAW_DATATYPES[datatype], copy=False)
    tensor = {"name": name, "datatype": datatype or datatype_of(rows), "shape": list(rows.shape)}
    if kind == "oip-json":
        return orjson.dumps({"inputs": [{**tensor, "data": rows.ravel().tolist()}]}), {"Content-Type": JSON_TYPE}
    content = raw_texts(rows) if rows.dtype == object else rows.tobytes()
    head = orjson.dumps({"inputs": [{**tensor, "parameters": {"binary_data_size": len(content)}}]})
    return head + content, {"Content-Type": RAW_TYPE, HEADER_LENGTH.title(): str(len(head))}


def raw_texts(rows: np.ndarray) -> bytes:
    """Texts in UTF-8, each after its length in 4 bytes."""
    texts = [str(text).encode() for text in rows.ravel()]
    return b"".join(len(text).to_bytes(4, "little") + text for text in texts)


def datatype_of(rows: np.ndarray) -> str:
    """Datatype of the Open Inference Protocol for rows."""
    if rows.dtype == object:
        return TEXT
    return next(name for name, dtype in RAW_DATATYPES.items() if dtype == rows.dtype.newbyteorder("<"))


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
