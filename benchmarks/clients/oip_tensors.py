"""Rows as the tensors of the Open Inference Protocol: one tensor, or one for each named column."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cascade.serving.oip.column_tensors import MISSING_SUFFIX
from cascade.serving.oip.tensors import RAW_DATATYPES, TEXT

__all__ = ["InputForm", "SentTensor", "sent_tensors", "timeout_us"]


@dataclass(frozen=True)
class InputForm:
    """An input of a model, as its server describes it.

    Attributes:
        name: of the input.
        datatype: of the protocol, such as "FP32"; ``None`` for that of the rows.
        axes: number of axes; ``None`` for that of the rows.
    """

    name: str = "rows"
    datatype: str | None = None
    axes: int | None = None


@dataclass(frozen=True, eq=False)
class SentTensor:
    """A tensor of a request.

    Attributes:
        name: of the input.
        datatype: of the protocol.
        values: (n, ...); of dtype object for texts, of which a missing one is ``None``.
    """

    name: str
    datatype: str
    values: np.ndarray

    @property
    def head(self) -> dict[str, Any]:
        """Name, datatype and shape."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.values.shape)}

    @property
    def plain(self) -> list[Any]:
        """The values for JSON, flat; a missing one is ``None``."""
        values = self.values.ravel().tolist()
        return [None if value != value else value for value in values] if self.values.dtype.kind == "f" else values

    @property
    def raw(self) -> bytes:
        """The values as raw contents."""
        if self.values.dtype != object:
            return self.values.tobytes()
        texts = [("" if text is None else str(text)).encode() for text in self.values.ravel()]
        return b"".join(len(text).to_bytes(4, "little") + text for text in texts)


def sent_tensors(rows: np.ndarray, forms: Sequence[InputForm], *, raw: bool) -> list[SentTensor]:
    """The tensors of a request.

    Args:
        rows: (n, ...); structured for named columns, which are sent as one tensor each.
        forms: inputs of the model; the first one is that of rows without named columns.
        raw: whether contents are sent as bytes, in which a missing text needs a tensor of its own.
    """
    if rows.dtype.names is None:
        return [_tensor(rows, forms[0])]
    known = {form.name: form for form in forms}
    found = []
    for name in rows.dtype.names:
        values = rows[name]
        found.append(_tensor(values, known.get(name, InputForm(name))))
        gone = np.array([value is None for value in values]) if values.dtype == object else np.zeros(1, bool)
        if raw and gone.any():
            found.append(SentTensor(name + MISSING_SUFFIX, "BOOL", gone))
    return found


def timeout_us(timeout_s: float) -> int:
    """The protocol's parameter "timeout": whole microseconds, at least 1, since 0 is no limit."""
    return max(round(timeout_s * 1e6), 1)


def _tensor(values: np.ndarray, form: InputForm) -> SentTensor:
    """Values in the datatype of an input, with a last axis of 1 where the input has one more."""
    datatype = form.datatype or _datatype_of(values)
    if datatype in RAW_DATATYPES and values.dtype != object:
        values = values.astype(RAW_DATATYPES[datatype], copy=False)
    if form.axes == values.ndim + 1:
        values = values[..., None]
    return SentTensor(form.name, datatype, np.ascontiguousarray(values))


def _datatype_of(rows: np.ndarray) -> str:
    if rows.dtype == object:
        return TEXT
    return next(name for name, dtype in RAW_DATATYPES.items() if dtype == rows.dtype.newbyteorder("<"))
