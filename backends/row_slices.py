"""Rows of several things in one array: which columns are the image, the question, the task."""

from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator
from typing_extensions import Self

from cascade.backends.images import ImageInput
from cascade.errors import ConfigError

if TYPE_CHECKING:
    import torch

__all__ = ["RowInput", "RowSlices", "Slice"]


class Slice(BaseModel):
    """One thing in a row.

    Attributes:
        columns: the first column, and the one after the last; of a row with all its axes flattened.
        shape: of the slice; flat by default.
        image: scaling of an image; its ``shape`` is then in the image's layout, (h, w, c) or (c, h, w).
        dtype: of the tensor otherwise.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    columns: tuple[int, int]
    shape: tuple[int, ...] | None = None
    image: ImageInput | None = None
    dtype: Literal["float32", "int64"] = "float32"

    @model_validator(mode="after")
    def _check(self) -> Self:
        first, end = self.columns
        if not 0 <= first < end:
            raise ValueError(f"columns must be [first, end] with 0 <= first < end; got {list(self.columns)}")
        if self.shape is not None and (min(self.shape) < 1 or np.prod(self.shape) != end - first):
            raise ValueError(f"shape {list(self.shape)} does not hold the {end - first} columns {list(self.columns)}")
        if self.image and (self.shape is None or len(self.shape) != 3):
            raise ValueError("an image needs a shape of three axes")
        if self.image and self.dtype != "float32":
            raise ValueError(f"an image becomes float32; dtype: {self.dtype} would have no effect")
        return self

    def tensor(self, flat: np.ndarray, device: "torch.device | str") -> "torch.Tensor":
        """(n, columns of a row) -> (n, ...)."""
        import torch

        first, end = self.columns
        own = flat[:, first:end].reshape(len(flat), *(self.shape or (end - first,)))
        if self.image:
            return self.image.tensor(own, device)
        return torch.from_numpy(own.astype(self.dtype)).to(device)


class RowSlices(BaseModel):
    """Named slices of a row, for a network whose input is a dictionary of tensors.

    Attributes:
        slices: such as "image", "program", "task"; every column of a row is in one of them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    slices: dict[str, Slice] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        ends = sorted(each.columns for each in self.slices.values())
        if ends[0][0] != 0 or any(end != start for (_, end), (start, _) in pairwise(ends)):
            raise ValueError(f"slices must cover the columns from 0 on, each once; got {[list(each) for each in ends]}")
        return self

    @property
    def width(self) -> int:
        """The number of columns of a row."""
        return max(each.columns[1] for each in self.slices.values())

    def tensor(self, rows: np.ndarray, device: "torch.device | str" = "cpu") -> "dict[str, torch.Tensor]":
        """The slices of (n, ...) rows.

        Raises:
            ConfigError: a row has another number of values.
        """
        width = int(np.prod(rows.shape[1:]))
        if width != self.width:
            raise ConfigError(f"the slices of the input need rows of {self.width} values; got {width}")
        flat = rows.reshape(len(rows), width)
        return {name: each.tensor(flat, device) for name, each in self.slices.items()}


def _kind(value: object) -> str:
    has_slices = "slices" in value if isinstance(value, dict) else isinstance(value, RowSlices)
    return "slices" if has_slices else "image"


RowInput = Annotated[Annotated[ImageInput, Tag("image")] | Annotated[RowSlices, Tag("slices")], Discriminator(_kind)]
"""How rows become the input of a network."""
