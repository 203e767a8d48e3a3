"""Neural module networks: the question of a row decides which modules look at its image.

Andreas, Rohrbach, Darrell and Klein, "Neural Module Networks", CVPR 2016, https://arxiv.org/abs/1511.02799
"""

from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from typing_extensions import override

from cascade.backends.dynamic.dynamic_network import DynamicNetwork
from cascade.backends.dynamic.gates import PathPolicy
from cascade.backends.dynamic.inputs import Inputs
from cascade.backends.dynamic.site_network import SiteNetwork
from cascade.backends.dynamic.sites import Branch
from cascade.datasets.shapes import ATTRIBUTES, CELLS, IMAGE_SHAPE, RELATIONS, parse_question
from cascade.errors import ConfigError, RowsError

__all__ = ["ModuleNetwork", "QuestionPath"]

SIDE = IMAGE_SHAPE[0] // CELLS
PIXELS = SIDE * SIDE * IMAGE_SHAPE[2]
"""Of a cell. Features are (n, PIXELS + 1, 3, 3): the pixels of each cell, and the attention to it."""
PIXEL_CHANNELS, ATTENTION_CHANNEL = slice(0, PIXELS), slice(PIXELS, PIXELS + 1)


class Find(nn.Sequential):
    """Where in the image is something red, or something round: (n, PIXELS, 3, 3) -> (n, 1, 3, 3)."""

    def __init__(self, width: int) -> None:
        half = width // 2
        super().__init__(
            *(nn.Conv2d(PIXELS, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()),
            *(nn.Conv2d(width, half, 1, bias=False), nn.BatchNorm2d(half), nn.ReLU()),
            nn.Conv2d(half, 1, 1),
        )


class Move(nn.Sequential):
    """Shifts the attention along a relation, such as to what is left of it: (n, 1, 3, 3) -> (n, 1, 3, 3)."""

    def __init__(self) -> None:
        kernel = nn.Conv2d(1, 1, 3, padding=1)
        nn.init.constant_(kernel.weight, 0.2)
        super().__init__(kernel, nn.ReLU())


class Modules(nn.Module):
    """All modules; each has its own weights, which the questions share."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.finds = nn.ModuleList(Find(width) for _ in ATTRIBUTES)
        self.moves = nn.ModuleList(Move() for _ in RELATIONS)
        self.measure = nn.Sequential(nn.Flatten(), nn.Linear(CELLS**2, 32), nn.ReLU(), nn.Linear(32, 2))


class AttentionSite(Branch):
    """A module for each alternative, whose result becomes the attention; the pixels stay where they are.

    Args:
        modules: of the alternatives; ``nn.Identity`` leaves the attention as it is.
        reads: channels that they read.
        joined: whether the result is where the attention is, too: its minimum with the attention.
    """

    def __init__(self, modules: Sequence[nn.Module], reads: slice, joined: bool = False) -> None:
        super().__init__(modules)
        self.reads = reads
        self.joined = joined

    @override
    def run(self, alternative: int, x: torch.Tensor) -> torch.Tensor:
        if self.is_identity(alternative):
            return x
        return torch.cat([x[:, PIXEL_CHANNELS], self._attention(alternative, x)], dim=1)

    @override
    def run_all(self, alternative: int, x: torch.Tensor) -> torch.Tensor:
        if not self.is_identity(alternative):
            x[:, ATTENTION_CHANNEL] = self._attention(alternative, x)
        return x

    @override
    def route(self, x: torch.Tensor, rows: Sequence[torch.Tensor]) -> torch.Tensor:
        """Gathers only the channels that the modules read, and puts back only the attention."""
        for alternative, mine in enumerate(rows):
            if len(mine) and not self.is_identity(alternative):
                found = self.modules[alternative](x[:, self.reads].index_select(0, mine))
                old = x[:, ATTENTION_CHANNEL]
                old.index_copy_(0, mine, torch.minimum(old.index_select(0, mine), found) if self.joined else found)
        return x

    def _attention(self, alternative: int, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.modules[alternative](x[:, self.reads])
        return torch.minimum(x[:, ATTENTION_CHANNEL], found) if self.joined else found


class QuestionPath(PathPolicy):
    """The path is the parse of the question: reference, moves from the reference on, subject. Nothing is learned.

    Args:
        moves: number of relations that a question may have.
    """

    looks_at_features = False
    scored = False

    def __init__(self, moves: int) -> None:
        super().__init__()
        self.moves = moves

    def begin(self, images: Inputs) -> None:
        """No state, and no work."""

    @override
    def paths(self, inputs: Inputs, choose: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """(n, 2 + moves) alternatives.

        Raises:
            ConfigError: the input has no slice "question".
            RowsError: a question is missing, is no text, cannot be parsed, or has more relations.
        """
        if isinstance(inputs, torch.Tensor) or "question" not in inputs:
            raise ConfigError(
                "a module network needs the slices 'image' and 'question' of the rows; name them in input"
            )
        texts = inputs["question"].cpu().numpy().astype(np.uint8)
        return np.array([self._path(row, bytes(text)) for row, text in enumerate(texts)]).reshape(-1, self.moves + 2)

    def _path(self, row: int, text: bytes) -> list[int]:
        try:
            program = parse_question(text.rstrip(b"\0").decode())
        except (UnicodeDecodeError, RowsError) as error:
            raise RowsError(f"row {row}: {error}") from error
        if len(program.relations) > self.moves:
            raise RowsError(
                f"row {row}: the question has {len(program.relations)} relations; the network has modules for "
                f"at most {self.moves}"
            )
        relations = [1 + list(RELATIONS).index(relation) for relation in reversed(program.relations)]
        moves = relations + [0] * (self.moves - len(relations))
        return [ATTRIBUTES.index(program.reference), *moves, ATTRIBUTES.index(program.subject)]


class ModuleNetwork(DynamicNetwork):
    """Answers questions about SHAPES; every row runs the modules of its own question only.

    Differences from the paper: a module is chosen by a grammar of the questions instead of a parser; there is no
    recurrent network that reads the question; attention is one number for each cell of the grid, joined by the minimum.

    Args:
        width: channels of the first layer of each module that finds.
        moves: number of relations that a question may have, 2 in the data set.
    """

    counts_sites = False

    def __init__(self, width: int = 64, moves: int = 2) -> None:
        super().__init__(Modules(width), QuestionPath(moves))
        self.steps = moves

    @property
    @override
    def sites(self) -> SiteNetwork:
        base = cast(Modules, self.base)
        moves = AttentionSite([nn.Identity(), *base.moves], ATTENTION_CHANNEL)
        reference = AttentionSite(list(base.finds), PIXEL_CHANNELS)
        subject = AttentionSite(list(base.finds), PIXEL_CHANNELS, joined=True)
        return SiteNetwork(_cells, (reference, *[moves] * self.steps, subject), self._measure)

    def _measure(self, x: torch.Tensor) -> torch.Tensor:
        """From the attention to (n, 2) logits."""
        logits: torch.Tensor = cast(Modules, self.base).measure(x[:, ATTENTION_CHANNEL])
        return logits


def _cells(inputs: Inputs) -> torch.Tensor:
    """The images of the rows, cut into cells, and no attention yet: (n, PIXELS + 1, 3, 3).

    Raises:
        ConfigError: there is no slice "image" of the right shape.
    """
    height, width, channels = IMAGE_SHAPE
    image = None if isinstance(inputs, torch.Tensor) else inputs.get("image")
    if image is None or image.shape[1:] != (channels, height, width):
        raise ConfigError(f"a module network needs a slice 'image' with shape {list(IMAGE_SHAPE)} and image scaling")
    return functional.pad(functional.pixel_unshuffle(image.contiguous(), SIDE), (0, 0, 0, 0, 0, 1))
