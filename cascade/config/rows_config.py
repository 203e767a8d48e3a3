"""The configuration of rows: their shape and type."""

from typing import Annotated, Any

import numpy as np
from pydantic import Field, field_validator, model_validator
from typing_extensions import Self

from cascade.config.fields import ConfigModel
from cascade.rows.columns import ColumnType, columns_dtype

__all__ = ["RowsConfig"]


class RowsConfig(ConfigModel):
    """Shape and type of a row.

    Attributes:
        shape: of one row, without the axis n; empty for a scalar or a text.
        dtype: NumPy name of the number type, or "text".
        columns: instead of both, the names of columns and the type of each: "number" (float64, may be missing),
            "integer", "boolean", "text" (may be missing), or a list of the texts that a category may have.
    """

    shape: tuple[Annotated[int, Field(ge=1)], ...] = ()
    dtype: str = "float32"
    columns: dict[Annotated[str, Field(min_length=1)], ColumnType] | None = None

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

    @model_validator(mode="after")
    def _columns_replace_shape_and_type(self) -> Self:
        if self.columns is None:
            return self
        if self.model_fields_set & {"shape", "dtype"}:
            raise ValueError("rows with columns have neither shape nor dtype")
        if not self.columns:
            raise ValueError("columns must hold at least one column")
        for name, kind in self.columns.items():
            if isinstance(kind, tuple) and (not kind or len(set(kind)) < len(kind)):
                raise ValueError(f"columns.{name} must be a list of different texts; got {list(kind)}")
        if "label" in self.columns:
            raise ValueError("columns must not hold 'label', the column of the right answers in files of rows")
        return self

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        """The dtype of the array of rows; texts are objects, and named columns are fields."""
        if self.columns is not None:
            return columns_dtype(self.columns)
        return np.dtype(object if self.dtype == "text" else self.dtype)

    @property
    def row_bytes(self) -> int:
        """Bytes of one row; 0 for texts and named columns."""
        return (
            0
            if self.numpy_dtype.hasobject or self.columns is not None
            else int(np.prod(self.shape, dtype=np.int64)) * self.numpy_dtype.itemsize
        )
