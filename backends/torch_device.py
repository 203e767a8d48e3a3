"""Devices of torch, checked where they are named."""

import torch

from cascade.errors import ConfigError

__all__ = ["torch_device"]


def torch_device(name: str) -> torch.device:
    """The device, if this machine and this build of torch have it.

    Raises:
        ConfigError: they have not.
    """
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ConfigError(f"device {name!r} cannot be used here: {error}") from error
    return device
