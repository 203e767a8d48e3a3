"""The configuration of rows: their shape and type."""

from typing import Annotated, Any

import numpy as np
from pydantic import Field, field_validator, model_validator
from typing_extensions import Self

from cascade.config.fields import ConfigModel

__all__ = ["RowsConfig"]


class RowsConfig(ConfigModel):
    """Shape and type of a row.

    Attributes:
        shape: of one row, without the axis n; empty for a scalar or a text.
        dtype: NumPy name of the number type, or "text".
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
