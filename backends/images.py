"""Conversion of rows to the input of a network: images, and slices of rows."""

from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator
from typing_extensions import Self

from cascade.errors import ConfigError

if TYPE_CHECKING:
    import torch

__all__ = ["ImageInput", "RowInput", "RowSlices", "Slice"]


class ImageInput(BaseModel):
    """Layout and scale of image rows.

    Rows in "nhwc" (the layout of image files) become a channels-last tensor without reordering.

    Attributes:
        layout: order of the axes of the rows, (n, h, w, c) or (n, c, h, w).
        mean: mean of each channel, in the unit of the rows (0 to 255 for uint8).
        std: standard deviation of each channel, in the unit of the rows; above 0.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    layout: Literal["nhwc", "nchw"] = "nhwc"
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.mean) != len(self.std) or not all(value > 0 for value in self.std):
            raise ValueError(f"mean and std need a number for each channel, std above 0; got {self.mean}, {self.std}")
        return self

    def tensor(self, rows: np.ndarray, device: "torch.device | str" = "cpu") -> "torch.Tensor":
        """Scales rows to a channels-last float tensor.

        Args:
            rows: (n, h, w, c) or (n, c, h, w), any numeric dtype; (n, h, w) for images of one channel.
            device: of the tensor; rows are moved there before they are converted to float.

        Returns:
            (n, c, h, w) float32, ``(rows - mean) / std`` per channel.

        Raises:
            ConfigError: the rows have other axes or another number of channels.
        """
        import torch

        if rows.ndim == 3 and len(self.mean) == 1:
            rows = rows[..., None] if self.layout == "nhwc" else rows[:, None]
        if rows.ndim != 4 or rows.shape[-1 if self.layout == "nhwc" else 1] != len(self.mean):
            raise ConfigError(
                f"rows must be {self.layout} images of {len(self.mean)} channels, as in the backend's input; "
                f"got shape {rows.shape}"
            )
        # A copy: rows may be read-only, which torch does not support, and the operations below work in place.
        raw = torch.from_numpy(np.array(rows)).to(device)
        if self.layout == "nhwc":
            raw = raw.permute(0, 3, 1, 2)
        mean = torch.tensor(self.mean, device=device).view(1, -1, 1, 1)
        scale = 1.0 / torch.tensor(self.std, device=device).view(1, -1, 1, 1)
        return raw.to(torch.float32).sub_(mean).mul_(scale).contiguous(memory_format=torch.channels_last)


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
