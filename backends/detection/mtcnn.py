"""The P, R and O networks of MTCNN as models of windows: face, or not.

Source: Zhang, Zhang, Li and Qiao, "Joint face detection and alignment using multi-task cascaded convolutional
networks", IEEE Signal Processing Letters 2016, https://arxiv.org/abs/1604.02878. The layers are those of
facenet-pytorch (Esler; MIT licence), whose weights are used. Its outputs for box regression and landmarks are left out:
a cascade answers windows.
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from typing_extensions import override

from cascade.backends.config import MtcnnConfig, TorchConfig
from cascade.backends.detection.mtcnn_weights import mtcnn_weights
from cascade.backends.images import ImageInput
from cascade.backends.torch_backend import TorchBackend

__all__ = ["MtcnnBackend", "ONet", "PNet", "RNet"]

INPUT = ImageInput(mean=(127.5,) * 3, std=(128.0,) * 3)
CLASSES = 2


class _WindowNetwork(nn.Module):
    """A network of square windows; larger ones are averaged over areas, smaller ones interpolated.

    Attributes:
        size: height and width that it was trained on.
    """

    size: int

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        """(n, 3, h, w) in about [-1, 1] -> (n, 2) logits, not a face and a face."""
        height, width = windows.shape[2:]
        if (height, width) != (self.size, self.size):
            if height >= self.size and width >= self.size:
                windows = functional.interpolate(windows, (self.size, self.size), mode="area")
            else:
                windows = functional.interpolate(windows, (self.size, self.size), mode="bilinear")
        return self.logits(windows)

    def logits(self, windows: torch.Tensor) -> torch.Tensor:
        """(n, 3, size, size) -> (n, 2)."""
        raise NotImplementedError


class PNet(_WindowNetwork):
    """The proposal network, for windows of 12 x 12 pixels; fully convolutional."""

    size = 12

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 10, 3)
        self.prelu1 = nn.PReLU(10)
        self.pool1 = nn.MaxPool2d(2, 2, ceil_mode=True)
        self.conv2 = nn.Conv2d(10, 16, 3)
        self.prelu2 = nn.PReLU(16)
        self.conv3 = nn.Conv2d(16, 32, 3)
        self.prelu3 = nn.PReLU(32)
        self.conv4_1 = nn.Conv2d(32, CLASSES, 1)

    @override
    def logits(self, windows: torch.Tensor) -> torch.Tensor:
        return self.maps(windows).flatten(1)

    def maps(self, level: torch.Tensor) -> torch.Tensor:
        """(n, 3, h, w) -> (n, 2, h', w'), logits of the windows at every second pixel."""
        hidden = self.pool1(self.prelu1(self.conv1(level)))
        hidden = self.prelu3(self.conv3(self.prelu2(self.conv2(hidden))))
        found: torch.Tensor = self.conv4_1(hidden)
        return found


class RNet(_WindowNetwork):
    """The refinement network, for windows of 24 x 24 pixels."""

    size = 24

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 28, 3)
        self.prelu1 = nn.PReLU(28)
        self.pool1 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv2 = nn.Conv2d(28, 48, 3)
        self.prelu2 = nn.PReLU(48)
        self.pool2 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv3 = nn.Conv2d(48, 64, 2)
        self.prelu3 = nn.PReLU(64)
        self.dense4 = nn.Linear(576, 128)
        self.prelu4 = nn.PReLU(128)
        self.dense5_1 = nn.Linear(128, CLASSES)

    @override
    def logits(self, windows: torch.Tensor) -> torch.Tensor:
        hidden = self.pool1(self.prelu1(self.conv1(windows)))
        hidden = self.pool2(self.prelu2(self.conv2(hidden)))
        hidden = _columns_first(self.prelu3(self.conv3(hidden)))
        found: torch.Tensor = self.dense5_1(self.prelu4(self.dense4(hidden)))
        return found


class ONet(_WindowNetwork):
    """The output network, for windows of 48 x 48 pixels."""

    size = 48

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 3)
        self.prelu1 = nn.PReLU(32)
        self.pool1 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv2 = nn.Conv2d(32, 64, 3)
        self.prelu2 = nn.PReLU(64)
        self.pool2 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv3 = nn.Conv2d(64, 64, 3)
        self.prelu3 = nn.PReLU(64)
        self.pool3 = nn.MaxPool2d(2, 2, ceil_mode=True)
        self.conv4 = nn.Conv2d(64, 128, 2)
        self.prelu4 = nn.PReLU(128)
        self.dense5 = nn.Linear(1152, 256)
        self.prelu5 = nn.PReLU(256)
        self.dense6_1 = nn.Linear(256, CLASSES)

    @override
    def logits(self, windows: torch.Tensor) -> torch.Tensor:
        hidden = self.pool1(self.prelu1(self.conv1(windows)))
        hidden = self.pool2(self.prelu2(self.conv2(hidden)))
        hidden = self.pool3(self.prelu3(self.conv3(hidden)))
        hidden = _columns_first(self.prelu4(self.conv4(hidden)))
        found: torch.Tensor = self.dense6_1(self.prelu5(self.dense5(hidden)))
        return found


def _columns_first(maps: torch.Tensor) -> torch.Tensor:
    """(n, c, h, w) -> (n, w h c), in the order of the weights, which come from Caffe's column-major layout."""
    return maps.permute(0, 3, 2, 1).flatten(1)


class MtcnnBackend(TorchBackend):
    """One of the three networks: (n, h, w, 3) RGB or (n, h, w) grey windows, uint8 -> P(not a face), P(face).

    Args:
        config: of the network; the weights are fetched once into the cache.

    Raises:
        ConfigError: the device cannot be used.
        WeightsError: the weights cannot be fetched, or are not those of facenet-pytorch 2.6.0.
    """

    def __init__(self, config: MtcnnConfig) -> None:
        weights = mtcnn_weights(config.network)
        network = f"{__name__}:{config.network.upper()}Net"
        settings = {"device": config.device, "threads": config.threads, "input": INPUT, "weights": weights}
        super().__init__(TorchConfig.model_validate({"type": "torch", "network": network, **settings}))

    @override
    def _tensor(self, rows: np.ndarray) -> torch.Tensor:
        images: torch.Tensor = super()._tensor(np.repeat(rows[..., None], 3, axis=3) if rows.ndim == 3 else rows)
        return images
