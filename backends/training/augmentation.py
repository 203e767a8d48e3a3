"""Random crops and flips of a batch."""

import torch
from torch.nn import functional

__all__ = ["crop_and_flip"]


def crop_and_flip(images: torch.Tensor, padding: int, generator: torch.Generator, flip: bool = True) -> torch.Tensor:
    """Crops every image at random after padding it by reflection, and flips half of the images.

    Args:
        images: (n, c, h, w) float, on any device.
        padding: pixels of the border on each side; 0 for no crop.
        generator: source of the randomness, on the processor: every device draws the same crops.
        flip: whether to flip.

    Returns:
        (n, c, h, w), channels-last.
    """
    n, _, height, width = images.shape
    rows = torch.arange(height).expand(n, -1)
    columns = torch.arange(width).expand(n, -1)
    flipped = (torch.rand(n, 1, generator=generator) < 0.5) & flip
    columns = torch.where(flipped, columns.flip(1), columns)
    if padding:
        images = functional.pad(images, (padding,) * 4, mode="reflect")
        rows = rows + torch.randint(0, 2 * padding + 1, (n, 1), generator=generator)
        columns = columns + torch.randint(0, 2 * padding + 1, (n, 1), generator=generator)
    rows, columns = rows.to(images.device), columns.to(images.device)
    each = torch.arange(n, device=images.device)[:, None, None]
    pixels = images.permute(0, 2, 3, 1)[each, rows[:, :, None], columns[:, None, :]]
    return pixels.permute(0, 3, 1, 2)
