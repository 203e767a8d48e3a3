"""MobileNetV2: inverted residuals of depthwise convolutions.

Sandler, Howard, Zhu, Zhmoginov, Chen, "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018,
https://arxiv.org/abs/1801.04381
"""

from cascade.backends.networks.efficientnet import EfficientNetLite

__all__ = ["MobileNetV2"]


class MobileNetV2(EfficientNetLite):
    """MobileNetV2 on images scaled up to a working resolution inside the network.

    The layers are of the same kinds and in the same order as in EfficientNet-Lite, which came later, so the arguments
    are the same: ``resolution``, ``classes``, ``dropout``, ``flip``.

    Shape:
        (n, 3, h, w) float -> (n, C) logits.
    """

    # (expansion, output channels, blocks, stride of the first block, kernel) of each group: Table 2 of the paper.
    groups = (
        (1, 16, 1, 1, 3),
        (6, 24, 2, 2, 3),
        (6, 32, 3, 2, 3),
        (6, 64, 4, 2, 3),
        (6, 96, 3, 1, 3),
        (6, 160, 3, 2, 3),
        (6, 320, 1, 1, 3),
    )
    norm = (1e-5, 0.1)
