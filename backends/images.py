"""Conversion of image rows to the input of a network: layout, scale, memory format."""

from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, model_validator
from typing_extensions import Self

from cascade.errors import ConfigError

if TYPE_CHECKING:
    import torch

__all__ = ["ImageInput"]


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
