"""Pyramids: an image in several sizes, so that windows of one size find objects of every size."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cascade.backends.detection.boxes import clipped
from cascade.backends.detection.level import Level
from cascade.backends.detection.windows import Windows

__all__ = ["Pyramid"]


@dataclass(frozen=True)
class Pyramid:
    """The levels of images of one size; a level is computed from the image when its windows are read.

    Level i is the image divided by ``min_size / window height * scale_factor ** i``; the levels end where a window no
    longer fits. Scaling is linear with antialiasing (Pillow's ``BILINEAR``: a triangle as wide as the factor).

    Attributes:
        height: of the image, in pixels.
        width: of the image, in pixels.
        window: (height, width) of a window.
        scale_factor: between two levels, above 1.
        stride: pixels of a level between two windows.
        min_size: height of the smallest object, in pixels of the image; below the window's height, level 0 is larger
            than the image.
        max_size: height of the largest object; ``None`` for as large as the image.
    """

    height: int
    width: int
    window: tuple[int, int]
    scale_factor: float = 1.25
    stride: int = 2
    min_size: int | None = None
    max_size: int | None = None

    @cached_property
    def levels(self) -> tuple[Level, ...]:
        """The largest level first; none if a window does not fit into the image."""
        levels: list[Level] = []
        first, least = 0, self.window[0] if self.min_size is None else self.min_size
        most = math.inf if self.max_size is None else self.max_size
        while True:
            size = least * self.scale_factor ** len(levels)
            height, width = (round(length * self.window[0] / size) for length in (self.height, self.width))
            if height < self.window[0] or width < self.window[1] or size > most:
                return tuple(levels)
            scale = (self.width / width, self.height / height)
            levels.append(Level(len(levels), height, width, scale, self.window, self.stride, first))
            first += len(levels[-1])

    def __len__(self) -> int:
        """Number of windows in all levels."""
        return self.levels[-1].first + len(self.levels[-1]) if self.levels else 0

    def windows(self, image: np.ndarray) -> Iterator[Windows]:
        """The windows of each level, level by level.

        Args:
            image: (height, width) grey or (height, width, 3) RGB, uint8.

        Yields:
            The windows of one level; its pixels are kept only as long as windows of it are.
        """
        from PIL import Image

        picture = None
        for level in self.levels:
            if (level.height, level.width) == image.shape[:2]:
                # A view of its own: backends may keep what they compute for these pixels, and callers may reuse theirs.
                yield Windows(level, image.view())
                continue
            picture = Image.fromarray(image) if picture is None else picture
            scaled = picture.resize((level.width, level.height), Image.Resampling.BILINEAR)
            yield Windows(level, np.asarray(scaled))

    def boxes(self, ids: np.ndarray) -> np.ndarray:
        """Windows as boxes in the image.

        Args:
            ids: (n,) int64, numbers of windows in the pyramid (:attr:`Windows.ids`).

        Returns:
            (n, 4) float64, (x, y, width, height) in pixels of the image, inside of it.
        """
        boxes = np.zeros((len(ids), 4))
        number = np.searchsorted([level.first for level in self.levels], ids, side="right") - 1
        for level in self.levels:
            here = number == level.number
            boxes[here] = level.boxes(ids[here] - level.first)
        return clipped(boxes, self.height, self.width)
