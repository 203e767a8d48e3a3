"""Changed copies of the positives: few positives become many windows."""

import numpy as np

from cascade.backends.detection.haar.grey_windows import grey_windows, resized
from cascade.backends.detection.haar.recipe import HaarRecipe, Views

__all__ = ["boosting_windows", "changed_views"]

BLEND_VIEWS = 4
BLEND_SHARES = (0.3, 0.7)
COVERED_PIXELS = (1 / 12, 1 / 3)
"""Width of a covered edge, as a share of the window: from, to."""
COVER = 0.7
"""Weight of the one grey level in a covered edge."""


def boosting_windows(rows: np.ndarray, recipe: HaarRecipe) -> np.ndarray:
    """The positives for the weak learners: the rows, changed copies, and changed blends of two rows.

    Args:
        rows: (n, h, w) or (n, h, w, 3) uint8.
        recipe: of the training.

    Returns:
        (m, height, width) uint8; the first n are the rows as they are.
    """
    views, random = recipe.views, np.random.default_rng(recipe.seed + 5)
    windows = changed_views(rows, recipe, views, recipe.seed)
    if recipe.blends:
        mixed = _blends(grey_windows(rows, *rows.shape[1:3]), recipe.blends, random)
        few = views.model_copy(update={"number": BLEND_VIEWS})
        windows = np.concatenate([windows, changed_views(mixed, recipe, few, recipe.seed + 9)[recipe.blends :]])
    if views.light or views.covered:
        windows = np.concatenate([windows[: len(rows)], _lit_and_covered(windows[len(rows) :], views, random)])
    return windows


def _blends(rows: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """(count, h, w) uint8, each a weighted mean of two rows, one of which may be mirrored."""
    first, second = random.integers(len(rows), size=(2, count))
    share = random.uniform(*BLEND_SHARES, size=(count, 1, 1))
    mirrored = random.random(count)[:, None, None] < 0.5
    other = np.where(mirrored, rows[second][:, :, ::-1], rows[second])
    return np.asarray(np.rint(share * rows[first] + (1 - share) * other), dtype=np.uint8)


def _lit_and_covered(windows: np.ndarray, views: Views, random: np.random.Generator) -> np.ndarray:
    """Light from a random side on all windows; an edge of some of them is covered."""
    lit = windows.astype(np.float32)
    n, height, width = lit.shape
    if views.light:
        angle = random.uniform(0, 2 * np.pi, size=(n, 1, 1))
        strength = random.uniform(-views.light, views.light, size=(n, 1, 1))
        y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
        spread = lit.reshape(n, -1).std(1)[:, None, None]
        lit = lit + strength * spread * (np.cos(angle) * x + np.sin(angle) * y)
    least, most = (max(1, int(share * min(height, width))) for share in COVERED_PIXELS)
    for window in (lit[place] for place in np.flatnonzero(random.random(n) < views.covered).tolist()):
        side, pixels, level = int(random.integers(4)), int(random.integers(least, most)), random.uniform(0, 255)
        edge = (window[:pixels], window[-pixels:], window[:, :pixels], window[:, -pixels:])[side]
        edge[...] = (1 - COVER) * edge + COVER * level
    return np.clip(np.rint(lit), 0, 255).astype(np.uint8)


def changed_views(rows: np.ndarray, recipe: HaarRecipe, views: Views, seed: int) -> np.ndarray:
    """(views n, h, w) uint8: all rows unchanged, then copies that are shifted, turned, zoomed and mirrored."""
    from scipy.ndimage import affine_transform

    plain = grey_windows(rows, *rows.shape[1:3])
    found = [resized(plain, recipe.height, recipe.width)]
    random = np.random.default_rng(seed)
    middle, target = (np.array(size) / 2 - 0.5 for size in (plain.shape[1:], (recipe.height, recipe.width)))
    scale = np.array(plain.shape[1:]) / (recipe.height, recipe.width)
    for _ in range(1, views.number):
        copies = np.empty((len(plain), recipe.height, recipe.width), dtype=np.uint8)
        for copy, window in zip(copies, plain, strict=True):
            angle = np.deg2rad(random.uniform(-views.turn, views.turn))
            turned = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
            matrix = turned * scale * random.uniform(1 - views.zoom, 1 + views.zoom)
            offset = middle - matrix @ target + random.uniform(-views.shift, views.shift, 2)
            affine_transform(window, matrix, offset, copy.shape, copy, order=1, mode="nearest")
            if views.flip and random.random() < 0.5:
                copy[...] = copy[:, ::-1].copy()
        found.append(copies)
    return np.concatenate(found)
