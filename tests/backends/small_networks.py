"""A user's networks with various outputs."""

import torch
from torch import nn

__all__ = ["Linear"]


class Linear(nn.Module):
    """A linear layer and what comes after it.

    Args:
        end: what the output goes through.
        columns: of the output.
        in_place: write to the input first.
    """

    def __init__(self, end: str = "nothing", columns: int = 1, in_place: bool = False) -> None:
        super().__init__()
        self.layer = nn.Linear(4, columns)
        self.softmax = nn.Softmax(dim=1)
        self.end = end
        self.in_place = in_place

    def forward(self, rows: torch.Tensor) -> object:
        """(n, 4) -> (n, columns)."""
        z = self.layer(rows.mul_(2.0) if self.in_place else rows * 2.0)
        ends = {
            "nothing": lambda: z,
            "sigmoid": lambda: torch.sigmoid(z),
            "sigmoid in place": lambda: z.clone().sigmoid_(),
            "squeezed sigmoid": lambda: torch.sigmoid(z).squeeze(1),
            "squeezed": lambda: z.squeeze(1),
            "softmax": lambda: self.softmax(z),
            "half of a softmax": lambda: self.softmax(z).half(),
            "attention": lambda: z * torch.sigmoid(z),
            "tuple": lambda: (z, z),
            "images": lambda: z[:, :, None, None],
        }
        return ends[self.end]()
