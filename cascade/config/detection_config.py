"""The configuration of detection: which windows of an image are rows, and which answers become boxes."""

from typing import Annotated

from pydantic import Field, model_validator
from typing_extensions import Self

from cascade.config.fields import ConfigModel

__all__ = ["DetectionConfig"]

MIB = 1 << 20


class DetectionConfig(ConfigModel):
    """How objects are found in images. The size of a window is ``rows.shape``.

    Attributes:
        positive: name of the class of the objects; by default the last of two classes. Without names of classes, class
            1 is positive.
        scale_factor: between two pyramid levels.
        stride: pixels of a level between two windows.
        min_size: height of the smallest object, in pixels of the image; by default the window's.
        max_size: height of the largest object, in pixels of the image; by default the image's.
        nms_iou: of two boxes whose intersection over union exceeds it, the more confident one is kept.
        max_bytes: maximum size of an image file.
        max_pixels: maximum size of an image, and of its largest pyramid level.
        max_windows: maximum number of windows of an image.
        max_candidates: maximum number of positive windows before non-maximum suppression, the most confident ones.
        max_boxes: maximum number of boxes, the most confident ones.
        batch_windows: windows that a stage gets at a time, unless its cost curve is best at fewer.
    """

    positive: str | None = None
    scale_factor: Annotated[float, Field(ge=1.01, le=16)] = 1.25
    stride: Annotated[int, Field(ge=1)] = 2
    min_size: Annotated[int, Field(ge=1)] | None = None
    max_size: Annotated[int, Field(ge=1)] | None = None
    nms_iou: Annotated[float, Field(ge=0, le=1)] = 0.3
    max_bytes: Annotated[int, Field(ge=1)] = 16 * MIB
    max_pixels: Annotated[int, Field(ge=1)] = 25_000_000
    max_windows: Annotated[int, Field(ge=1)] = 20_000_000
    max_candidates: Annotated[int, Field(ge=1)] = 10_000
    max_boxes: Annotated[int, Field(ge=1)] = 1000
    batch_windows: Annotated[int, Field(ge=1)] = 1024

    @model_validator(mode="after")
    def _sizes_are_ordered(self) -> Self:
        if self.min_size is not None and self.max_size is not None and self.max_size < self.min_size:
            raise ValueError(f"max_size must be at least min_size, {self.min_size}; got {self.max_size}")
        return self
