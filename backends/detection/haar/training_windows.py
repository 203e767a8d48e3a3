"""The windows that a Haar cascade is trained on."""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np

from cascade.backends.detection.haar.grey_windows import grey_windows, resized
from cascade.backends.detection.haar.recipe import HaarRecipe
from cascade.backends.detection.haar.views import boosting_windows, changed_views
from cascade.errors import DataError

__all__ = ["CutWindows", "NegativeWindows", "TrainingWindows", "WindowRows", "first_windows", "training_windows"]

BATCH_WINDOWS = 4096
HELD_OUT_SHARE = 0.2
"""Share of the negatives that only thresholds are fitted to."""
HELD_OUT_WINDOWS = 20_000


class NegativeWindows(Protocol):
    """Windows without a positive, in an order that depends on nothing but the stage."""

    def batches(self, stage: int) -> Iterator[np.ndarray]:
        """Yields (n, h, w) uint8; may not end."""


class WindowRows:
    """Windows of the trained size, each once for a stage.

    Args:
        windows: (n, h, w) uint8.
        seed: of the order.
    """

    def __init__(self, windows: np.ndarray, seed: int) -> None:
        self.windows, self.seed = windows, seed

    def batches(self, stage: int) -> Iterator[np.ndarray]:
        """Yields all windows, in a random order."""
        order = np.random.default_rng([self.seed, stage]).permutation(len(self.windows))
        for first in range(0, len(order), BATCH_WINDOWS):
            yield self.windows[order[first : first + BATCH_WINDOWS]]


class CutWindows:
    """Windows cut from images at random places and in random sizes, and mirrored at random.

    Args:
        images: (n, H, W) uint8.
        height: of a window.
        width: of a window.
        seed: of the windows.
        smallest: size of the smallest window, as a share of the image.
    """

    def __init__(self, images: np.ndarray, height: int, width: int, seed: int, smallest: float = 0.6) -> None:
        self.images, self.height, self.width, self.seed, self.smallest = images, height, width, seed, smallest

    def batches(self, stage: int) -> Iterator[np.ndarray]:
        """Yields windows without an end."""
        random = np.random.default_rng([self.seed, stage])
        n, rows, columns = self.images.shape
        while True:
            # One size and place for a batch: each image has one window in it.
            size = random.uniform(self.smallest, 1.0) * min(rows / self.height, columns / self.width)
            height, width = (max(1, int(size * length)) for length in (self.height, self.width))
            top, left = int(random.integers(rows - height + 1)), int(random.integers(columns - width + 1))
            chosen = random.choice(n, min(n, BATCH_WINDOWS), replace=False)
            windows = self.images[chosen, top : top + height, left : left + width]
            yield resized(windows[:, :, ::-1] if random.random() < 0.5 else windows, self.height, self.width)


class TrainingWindows(NamedTuple):
    """All windows, (n, h, w) uint8 each.

    Attributes:
        boosting: positives for the weak learners.
        fitting: positives for the thresholds.
        certifying: positives for the certificate, unchanged.
        negatives: for the weak learners.
        held_out: negatives for the thresholds.
    """

    boosting: np.ndarray
    fitting: np.ndarray
    certifying: np.ndarray
    negatives: NegativeWindows
    held_out: np.ndarray


def training_windows(
    recipe: HaarRecipe, rows: np.ndarray, labels: np.ndarray, images: np.ndarray | None
) -> TrainingWindows:
    """Splits the data of a recipe.

    Args:
        recipe: of the training.
        rows: (n, h, w) or (n, h, w, 3) uint8.
        labels: (n,) int.
        images: (m, H, W) or (m, H, W, 3) uint8 without positives; ``None`` to use the other rows.

    Raises:
        DataError: there are too few positives or negatives.
    """
    random = np.random.default_rng(recipe.seed)
    used = max(0, len(rows) - recipe.unused_rows)
    rows, labels = rows[:used], labels[:used]
    positives = rows[random.permutation(np.flatnonzero(labels == recipe.positive))]
    sizes = [int(share * len(positives)) for share in (recipe.fitting_share, recipe.certifying_share)]
    if sizes[0] < 2 or len(positives) - sum(sizes) < 2:
        raise DataError(f"there are {len(positives)} rows of label {recipe.positive}, too few for the recipe's shares")
    fitting, certifying, boosting = np.split(positives, np.cumsum(sizes))
    if images is None:
        others = rows[random.permutation(np.flatnonzero(labels != recipe.positive))]
        end = int(len(others) * HELD_OUT_SHARE)
        if end < 1:
            raise DataError(f"all {len(rows)} rows have the label {recipe.positive}; a cascade needs negatives")
        held_out, inner = (grey_windows(part, recipe.height, recipe.width) for part in (others[:end], others[end:]))
        negatives: NegativeWindows = WindowRows(inner, recipe.seed)
    else:
        plain = grey_windows(images, *images.shape[1:3])
        end = int(len(plain) * (1 - HELD_OUT_SHARE))
        negatives, others_cut = (
            CutWindows(part, recipe.height, recipe.width, recipe.seed, recipe.smallest_cut)
            for part in (plain[:end], plain[end:])
        )
        held_out = first_windows(others_cut, HELD_OUT_WINDOWS)
    return TrainingWindows(
        boosting_windows(boosting, recipe),
        changed_views(fitting, recipe, recipe.views, recipe.seed + 1),
        grey_windows(certifying, recipe.height, recipe.width),
        negatives,
        held_out,
    )


def first_windows(source: NegativeWindows, count: int) -> np.ndarray:
    """(count, h, w) windows of a source, in its order; fewer if it has no more."""
    found: list[np.ndarray] = []
    for batch in source.batches(0):
        found.append(batch)
        if sum(map(len, found)) >= count:
            break
    return np.concatenate(found)[:count]
