"""AR-Net: at which resolution each frame of a clip is looked at, or how many frames are skipped.

Meng, Lin, Panda, Sattigeri, Karlinsky, Oliva, Saenko, Feris, "AR-Net: Adaptive Frame Resolution for Efficient Action
Recognition", ECCV 2020, https://arxiv.org/abs/2007.15796
"""

from collections.abc import Sequence
from typing import Literal, cast

import torch
from torch import nn
from torch.nn import functional
from typing_extensions import override

from cascade.backends.dynamic.dynamic_network import DynamicNetwork
from cascade.backends.dynamic.gates import IMPOSSIBLE, SequencePolicy
from cascade.backends.dynamic.inputs import Inputs
from cascade.backends.dynamic.site_network import SiteNetwork
from cascade.backends.dynamic.sites import Parts
from cascade.backends.dynamic.systems.frames import SKIPS, Film, FrameNet, Look, smaller
from cascade.errors import ConfigError

__all__ = ["ARNet"]

GLANCE_PIXELS = 8


class Glance(nn.Module):
    """All frames at 8 x 8 pixels, for the policy: (n, 3, T side, side) -> (n, T, features)."""

    def __init__(self, film: Film, features: int) -> None:
        super().__init__()
        self.film = film
        self.layers = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.ReLU(inplace=True),
            nn.Flatten(),
            nn.Linear(8 * GLANCE_PIXELS**2, features),
            nn.ReLU(inplace=True),
        )

    def forward(self, inputs: Inputs) -> torch.Tensor:
        """Two convolutions and a linear layer on each frame."""
        frames = self.film(inputs)
        seen: torch.Tensor = self.layers(smaller(frames.flatten(0, 1), GLANCE_PIXELS))
        return seen.view(*frames.shape[:2], seen.shape[1])


class FramePolicy(SequencePolicy):
    """Skips 1, 2 or 4 frames, or looks at a frame at one of the sizes.

    Attributes:
        taken: see :class:`ARNet`, with the index of a size.
    """

    taken: int | Literal["random"] | None = None

    @override
    def limits(self, inputs: Inputs) -> torch.Tensor:
        limits = super().limits(inputs)
        if self.taken is None:
            return limits
        if self.taken == "random":
            n = len(cast(torch.Tensor, inputs))
            sizes = self.alternatives - len(SKIPS)
            own = torch.randint(sizes, (n, self.parts), device=limits.device) + len(SKIPS)
            skipped = torch.rand(n, self.parts, device=limits.device) > torch.rand(n, 1, device=limits.device)
            own = own.masked_fill(skipped, 0)
        else:
            own = torch.full((1, self.parts), len(SKIPS) + self.taken, device=limits.device)
        is_own = functional.one_hot(own, self.alternatives)[:, :, None]
        return limits.expand(len(own), -1, -1, -1).masked_fill(is_own == 0, IMPOSSIBLE)

    @override
    def passed_over(self, decisions: Sequence[torch.Tensor]) -> torch.Tensor | None:
        """Whether an earlier decision skips the next frame as well."""
        over = None
        for back, decision in enumerate(reversed(decisions[-max(SKIPS) + 1 :]), start=1):
            own = (decision if decision.ndim == 2 else decision.argmax(dim=2))[:, 0]
            reaches = torch.stack([own == k for k, skip in enumerate(SKIPS) if skip > back]).any(dim=0)
            over = reaches if over is None else over | reaches
        return over


class ARNet(DynamicNetwork):
    """An LSTM decides for each frame of a clip at which size it is looked at, or whether 1, 2 or 4 frames are skipped.

    Each size has a network of its own, and the logits of the frames that were looked at are averaged. The policy sees
    all frames at 8 x 8 pixels. A clip of which no frame is looked at has equal probabilities.

    Differences from the paper: the policy has a small network of its own in place of that of the smallest frames, and
    its cost is that of all frames, skipped ones too.

    Args:
        frames: of a clip, T.
        side: of a frame, in pixels.
        sizes: that a frame may be looked at, in pixels, rising.
        widths: channels of the first group of the network of each size.
        hidden: size of the LSTM, and of the glance.
        classes: number of classes C.
        taken: the size at which every frame is looked at, in place of a decision; "random" for random sizes of a random
            part of the frames, to train the networks; ``None`` for the policy.

    Raises:
        ConfigError: the sizes do not rise, are larger than a frame, or have no width each.
    """

    counts_sites = False

    def __init__(
        self,
        frames: int = 16,
        side: int = 32,
        sizes: Sequence[int] = (8, 16, 24, 32),
        widths: Sequence[int] = (8, 16, 16, 16),
        hidden: int = 32,
        classes: int = 10,
        taken: int | Literal["random"] | None = None,
    ) -> None:
        if len(sizes) != len(widths) or not sizes or list(sizes) != sorted({*sizes}) or sizes[-1] > side:
            raise ConfigError(
                f"sizes must rise up to at most the side of a frame, {side}, with a width for each; got sizes "
                f"{list(sizes)}, widths {list(widths)}"
            )
        film = Film(frames, side)
        nets = nn.ModuleList(FrameNet(size, width, classes) for size, width in zip(sizes, widths, strict=True))
        shape = (frames, 1, len(SKIPS) + len(sizes))
        super().__init__(nets, FramePolicy(Glance(film, hidden), hidden, shape, hidden))
        self.film, self.sizes, self.classes = film, tuple(sizes), classes
        self.taken = taken

    @property
    def taken(self) -> int | Literal["random"] | None:
        """See the constructor; a recipe may set it for a phase.

        Raises:
            ConfigError: it is none of the sizes.
        """
        own = cast(FramePolicy, self.policy).taken
        return self.sizes[own] if isinstance(own, int) else own

    @taken.setter
    def taken(self, size: int | Literal["random"] | None) -> None:
        if size is not None and size != "random" and size not in self.sizes:
            raise ConfigError(f"taken: {size!r} is no size; choose from {list(self.sizes)}, 'random' or none")
        cast(FramePolicy, self.policy).taken = self.sizes.index(size) if isinstance(size, int) else size

    @property
    @override
    def sites(self) -> SiteNetwork[Parts]:
        look = Look(list(cast(nn.ModuleList, self.base)), self.classes)
        return SiteNetwork(self.film, (Parts(look, self.film.frames, _averaged),), _same)


def _averaged(results: torch.Tensor, _path: torch.Tensor) -> torch.Tensor:
    """(n, T, C + 1) sums of logits and counts -> (n, C) mean logits of the frames that were looked at."""
    total = results.sum(dim=1)
    return total[:, :-1] / total[:, -1:].clamp_min(1.0)


def _same(x: torch.Tensor) -> torch.Tensor:
    return x
