"""Facts read from an ONNX file without ONNX: its data files, and the operation that computes an output.

The format is a protocol buffer, https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3; only the fields that lead to
these facts are read, and no weights are copied.
"""

from collections.abc import Iterator
from pathlib import Path

__all__ = ["data_files", "last_operation"]

# Message and number of a field -> message that it holds.
_FOLLOWED = {
    ("model", 7): "graph",
    ("model", 25): "function",
    ("function", 7): "node",
    ("function", 11): "attribute",
    ("graph", 1): "node",
    ("graph", 5): "tensor",
    ("graph", 15): "sparse",
    ("node", 5): "attribute",
    ("attribute", 5): "tensor",
    ("attribute", 6): "graph",
    ("attribute", 10): "tensor",
    ("attribute", 11): "graph",
    ("attribute", 22): "sparse",
    ("attribute", 23): "sparse",
    ("sparse", 1): "tensor",
    ("sparse", 2): "tensor",
    ("tensor", 13): "entry",
}
_GRAPH, _NODE = 7, 1
_NODE_OUTPUT, _NODE_OPERATION = 2, 4
_KEY, _VALUE = 1, 2
_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5


class _Malformed(ValueError):
    """Not a protocol buffer."""


def data_files(path: Path) -> list[Path]:
    """The files beside an ONNX file that hold its external data, each once, in the order of their names.

    Args:
        path: of any file; one that is not a protocol buffer has no data files.
    """
    try:
        places = set(_locations("model", memoryview(path.read_bytes())))
    except (_Malformed, UnicodeDecodeError):
        return []
    return [path.parent / place for place in sorted(places)]


def last_operation(path: Path, output: str) -> str | None:
    """Name of the operation that computes an output, such as "Softmax"; ``None`` if unknown."""
    try:
        for graph in _held(memoryview(path.read_bytes()), _GRAPH):
            for node in _held(graph, _NODE):
                if output.encode() in (bytes(name) for name in _held(node, _NODE_OUTPUT)):
                    return "".join(bytes(name).decode() for name in _held(node, _NODE_OPERATION))
    except (_Malformed, UnicodeDecodeError):
        pass
    return None


def _locations(message: str, data: memoryview) -> Iterator[str]:
    for number, value in _fields(data):
        inner = _FOLLOWED.get((message, number))
        if inner == "entry":
            if b"".join(bytes(key) for key in _held(value, _KEY)) == b"location":
                yield b"".join(bytes(text) for text in _held(value, _VALUE)).decode()
        elif inner is not None:
            yield from _locations(inner, value)


def _held(data: memoryview, number: int) -> Iterator[memoryview]:
    return (value for found, value in _fields(data) if found == number)


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """(number, content) of the length-delimited fields."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == _VARINT:
            _, at = _varint(data, at)
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            at += 8 if kind == _EIGHT_BYTES else 4
        elif kind == _LENGTH:
            size, at = _varint(data, at)
            if at + size > len(data):
                raise _Malformed
            yield key >> 3, data[at : at + size]
            at += size
        else:
            raise _Malformed


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data):
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    raise _Malformed
