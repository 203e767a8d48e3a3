"""Gathering, scattering and adding of some rows of a batch of features of any rank.

The functions work on (n, values of a row) views in memory order. PyTorch's indexing of channels-last features either
returns another memory format or copies value by value, and takes up to six times as long: docs/decisions/0012-paths.md.
"""

import torch

__all__ = ["add_rows", "empty_rows", "put_rows", "some_rows"]


def some_rows(x: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """A copy of some rows, in the same memory format.

    Args:
        x: (n, ...), dense.
        rows: (m,) int64, on the same device.

    Returns:
        (m, ...).
    """
    taken = _flat(x).index_select(0, rows)
    if _is_channels_last(x):
        _, c, h, w = x.shape
        return taken.view(len(rows), h, w, c).permute(0, 3, 1, 2)
    return taken.view(len(rows), *x.shape[1:])


def empty_rows(n: int, like: torch.Tensor) -> torch.Tensor:
    """Uninitialised memory for n rows like those of a tensor, in its memory format."""
    memory_format = torch.channels_last if _is_channels_last(like) else torch.contiguous_format
    shape = (n, *like.shape[1:])
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=memory_format)


def put_rows(x: torch.Tensor, rows: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Overwrites some rows in place: (n, ...), (m,) int64, (m, ...); returns ``x``."""
    _flat(x).index_copy_(0, rows, _flat(_formatted_like(x, values)))
    return x


def add_rows(x: torch.Tensor, rows: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Adds to some rows in place, each at most once: (n, ...), (m,) int64, (m, ...); returns ``x``."""
    _flat(x).index_add_(0, rows, _flat(_formatted_like(x, values)))
    return x


def _is_channels_last(x: torch.Tensor) -> bool:
    return x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)


def _flat(x: torch.Tensor) -> torch.Tensor:
    """(n, values), a view: ``view`` refuses features that are not dense, where ``reshape`` would copy them."""
    whole = x.permute(0, 2, 3, 1) if _is_channels_last(x) else x
    return whole.view(len(x), x[:1].numel())


def _formatted_like(x: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    return values.contiguous(memory_format=torch.channels_last if _is_channels_last(x) else torch.contiguous_format)
