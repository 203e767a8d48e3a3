"""AdaMML: which modalities are looked at, segment by segment of a recording.

Panda, Chen, Fan, Sun, Saenko, Oliva, Feris, "AdaMML: Adaptive Multi-Modal Learning for Efficient Video Recognition",
ICCV 2021, https://arxiv.org/abs/2105.05165
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import nn
from torch.nn import functional
from typing_extensions import override

from cascade.backends.dynamic.dynamic_network import DynamicNetwork
from cascade.backends.dynamic.gates import IMPOSSIBLE, SequencePolicy
from cascade.backends.dynamic.inputs import Inputs
from cascade.backends.dynamic.site_network import SiteNetwork
from cascade.backends.dynamic.sites import Parts, Subset
from cascade.errors import ConfigError

__all__ = ["AdaMML", "ModalityNet"]

GLANCE_SAMPLES = 4  # averaged to one for the glance of the policy


@dataclass(frozen=True)
class Recordings:
    """The slices of a row as one tensor.

    Attributes:
        modalities: names of the slices.
        shape: of each slice: segments, axes, samples.
    """

    modalities: tuple[str, ...]
    shape: tuple[int, ...]

    def __call__(self, inputs: Inputs) -> torch.Tensor:
        """(n, T, modalities, axes, 1, samples).

        Raises:
            ConfigError: the slices of the rows are not those of the modalities.
        """
        named = {} if isinstance(inputs, torch.Tensor) else inputs
        if set(named) != set(self.modalities):
            raise ConfigError(
                f"AdaMML needs one slice for each modality, {', '.join(self.modalities)}; got "
                f"{', '.join(named) or 'none'}; a modality that is missing in a row is all zeros"
            )
        for name, own in named.items():
            if own.shape[1:] != self.shape:
                raise ConfigError(
                    f"{name} must have shape {list(self.shape)}, segments, axes, samples; got {list(own.shape[1:])}"
                )
        return torch.stack([named[name] for name in self.modalities], dim=2).unsqueeze(4)


class ModalityNet(nn.Module):
    """Logits of one modality in one segment, times a learned weight for the late fusion.

    Args:
        modality: its index.
        axes: of the sensor.
        width: channels of the first layer; the others have twice as many.
        classes: number of classes C.
    """

    def __init__(self, modality: int, axes: int, width: int, classes: int) -> None:
        super().__init__()
        self.modality = modality
        self.norm = nn.BatchNorm2d(axes)
        first = _layer(axes, width, 9, 4)
        self.layers = nn.Sequential(first, _layer(width, 2 * width, 5, 2), _layer(2 * width, 2 * width, 5, 2))
        self.head = nn.Linear(2 * width, classes)
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, segments: torch.Tensor) -> torch.Tensor:
        """(m, modalities, axes, 1, samples) -> (m, C)."""
        hidden = self.layers(self.norm(segments[:, self.modality])).mean(dim=(2, 3))
        logits: torch.Tensor = self.weight * self.head(hidden)
        return logits


class Glance(nn.Module):
    """All modalities at a quarter of their rate, for the policy: a dictionary of recordings -> (n, T, features)."""

    def __init__(self, recordings: Recordings, features: int) -> None:
        super().__init__()
        self.recordings = recordings
        _, axes, samples = recordings.shape
        self.layer = nn.Linear(len(recordings.modalities) * axes * (samples // GLANCE_SAMPLES), features)

    def forward(self, inputs: Inputs) -> torch.Tensor:
        """Averages neighbouring samples, and one layer."""
        segments = self.recordings(inputs)
        slow = functional.avg_pool2d(segments.flatten(0, 2), (1, GLANCE_SAMPLES))
        seen: torch.Tensor = self.layer(slow.reshape(*segments.shape[:2], self.layer.in_features)).relu()
        return seen


class ModalityPolicy(SequencePolicy):
    """Takes a modality or not; one that is missing, or not in ``taken``, is not taken.

    Attributes:
        taken: (modalities,) whether each is taken in every segment; ``None`` if the policy decides.
    """

    taken: tuple[bool, ...] | None = None

    @override
    def limits(self, inputs: Inputs) -> torch.Tensor:
        segments = cast(Glance, self.glance).recordings(inputs)
        limits = segments.new_zeros(*segments.shape[:3], 2)
        if self.taken is not None:
            taken = torch.tensor(self.taken, device=segments.device)
            limits[..., 0] = IMPOSSIBLE * taken
            limits[..., 1] = IMPOSSIBLE * ~taken
        missing = segments.abs().amax(dim=(3, 4, 5)) == 0
        limits[..., 0].masked_fill_(missing, 0.0)
        limits[..., 1].masked_fill_(missing, 2 * IMPOSSIBLE)
        return limits


class AdaMML(DynamicNetwork):
    """An LSTM decides for each segment of a recording which modalities are looked at; their logits are added.

    A modality whose values in a segment are all zero is missing there, and is not looked at. A row with nothing to look
    at has equal probabilities.

    Differences from the paper: recordings of sensors instead of videos; the cost is the measured work with a target,
    instead of a weight for each modality and a penalty for errors; all parts learn together.

    Args:
        modalities: names of the slices of a row.
        shape: of each slice: segments T, axes of the sensor, samples of a segment.
        width: channels of the first layer of each modality's network.
        hidden: size of the LSTM, and of the glance.
        classes: number of classes C.
        taken: names of the modalities that every segment takes, instead of a decision; ``None`` for the policy.
    """

    counts_sites = False

    def __init__(
        self,
        modalities: Sequence[str] = ("accelerometer", "gyroscope"),
        shape: tuple[int, int, int] = (4, 3, 100),
        width: int = 32,
        hidden: int = 32,
        classes: int = 7,
        taken: Sequence[str] | None = None,
    ) -> None:
        count = len(modalities)
        base = nn.ModuleList(ModalityNet(m, shape[1], width, classes) for m in range(count))
        segments, axes, samples = shape
        recordings = Recordings(tuple(modalities), (segments, axes, samples))
        super().__init__(base, ModalityPolicy(Glance(recordings, hidden), hidden, (shape[0], count, 2), hidden))
        self.recordings, self.classes = recordings, classes
        self.taken = taken

    @property
    def taken(self) -> Sequence[str] | None:
        """See the constructor; a recipe may set it for a phase.

        Raises:
            ConfigError: a name is of no modality.
        """
        own = cast(ModalityPolicy, self.policy).taken
        return None if own is None else [name for name, on in zip(self.recordings.modalities, own, strict=True) if on]

    @taken.setter
    def taken(self, names: Sequence[str] | None) -> None:
        known = self.recordings.modalities
        if names is not None and (unknown := set(names) - set(known)):
            raise ConfigError(f"taken: {sorted(unknown)} are no modalities; choose from {list(known)}")
        cast(ModalityPolicy, self.policy).taken = None if names is None else tuple(name in names for name in known)

    @property
    @override
    def sites(self) -> SiteNetwork[Parts]:
        subset = Subset(list(cast(nn.ModuleList, self.base)), self._nothing)
        return SiteNetwork(self.recordings, (Parts(subset, self.recordings.shape[0], _added),), _same)

    def _nothing(self, segments: torch.Tensor) -> torch.Tensor:
        return segments.new_zeros(len(segments), self.classes)


def _layer(inputs: int, outputs: int, size: int, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, (1, size), stride=(1, stride), padding=(0, size // 2), bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


def _added(results: torch.Tensor, _path: torch.Tensor) -> torch.Tensor:
    return results.sum(dim=1)


def _same(x: torch.Tensor) -> torch.Tensor:
    return x
