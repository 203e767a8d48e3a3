"""Composites: one face pasted into a face-free image, at a random place and in a random size.

The faces are those of the data set "faces" (25 x 25 grey pixels, from LFW). Every other face-free image is a random
part of one of scikit-image's photographs and micrographs without a face, from 128 pixels up to the whole height; the
others are mosaics of 1, 4 or 16 images of CIFAR-10, enlarged linearly (a few of them show people in the distance).
All of them are grey, 128 x 128 pixels. A face is scaled to 26 to 72 pixels (uniform in the logarithm) with bicubic
interpolation, and fades into the image over the outer tenth of its width.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
from PIL import Image

from cascade.backends.detection.boxes import overlap
from cascade.backends.detection.haar.grey_windows import grey
from cascade.backends.detection.pyramid import Pyramid

__all__ = ["SCENES", "SIDE", "Composite", "composite", "face_free", "labelled_windows"]

SIDE, WINDOW = 128, (24, 24)
SMALLEST, LARGEST = 26, 72
MOSAICS = (1, 2, 4)
FADE = 0.1
SCALE_FACTOR, STRIDE = 1.25, 2
NEGATIVE_OVERLAP = 0.3
SCENES = (
    "brick", "chelsea", "coffee", "grass", "gravel", "hubble_deep_field", "immunohistochemistry", "microaneurysms",
    "moon", "page", "retina", "rocket", "text",
)  # fmt: skip
"""Images of scikit-image without a face."""


class Composite(NamedTuple):
    """An image with one face.

    Attributes:
        image: (SIDE, SIDE) uint8.
        box: (4,) float64, of the face: (x, y, width, height).
        face: number of the face.
    """

    image: np.ndarray
    box: np.ndarray
    face: int


@cache
def _scene(name: str) -> Image.Image:
    from skimage import data

    image = np.asarray(getattr(data, name)())
    return Image.fromarray(image if image.ndim == 2 else grey(image[None])[0])


def face_free(number: int, tiles: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """(SIDE, SIDE) uint8 without a face.

    Args:
        number: of the image; even ones are parts of photographs, odd ones mosaics.
        tiles: (n, 32, 32) uint8, for mosaics.
        random: source of the randomness.
    """
    if number % 2:
        across = int(random.choice(MOSAICS))
        chosen = tiles[random.choice(len(tiles), across * across, replace=False)]
        whole = chosen.reshape(across, across, *tiles.shape[1:]).transpose(0, 2, 1, 3).reshape(across * 32, across * 32)
        return np.asarray(Image.fromarray(whole).resize((SIDE, SIDE), Image.Resampling.BILINEAR))
    scene = _scene(str(random.choice(SCENES)))
    side = int(random.integers(min(SIDE, *scene.size), min(scene.size) + 1))
    left, top = (int(random.integers(length - side + 1)) for length in scene.size)
    part = scene.crop((left, top, left + side, top + side))
    return np.asarray(part.resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def composite(face: np.ndarray, number: int, free: np.ndarray, random: np.random.Generator) -> Composite:
    """Pastes a face.

    Args:
        face: (h, w) uint8.
        number: of the face.
        free: (SIDE, SIDE) uint8, without a face.
        random: source of the randomness.
    """
    side = round(float(np.exp(random.uniform(np.log(SMALLEST), np.log(LARGEST)))))
    pasted = np.asarray(Image.fromarray(face).resize((side, side), Image.Resampling.BICUBIC), dtype=np.float64)
    ramp = np.clip((np.minimum(np.arange(side), np.arange(side)[::-1]) + 0.5) / (FADE * side), 0, 1)
    weight = np.minimum.outer(ramp, ramp)
    left, top = (int(random.integers(SIDE - side + 1)) for _ in range(2))
    image = free.copy()
    part = image[top : top + side, left : left + side]
    part[...] = np.rint(weight * pasted + (1 - weight) * part)
    return Composite(image, np.array([left, top, side, side], dtype=np.float64), number)


def labelled_windows(made: Composite, negatives: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The window of the pyramid that overlaps most with the face, and random ones of those that overlap little.

    Args:
        made: the composite.
        negatives: number of windows whose intersection over union with the face is below 0.3.
        random: source of the randomness.

    Returns:
        (1 + negatives, 24, 24) uint8 windows, and their labels (1 + negatives,) int64, 1 for a face.
    """
    pyramid = Pyramid(SIDE, SIDE, WINDOW, SCALE_FACTOR, STRIDE)
    shared = overlap(made.box, pyramid.boxes(np.arange(len(pyramid))))
    others = random.choice(np.flatnonzero(shared < NEGATIVE_OVERLAP), negatives, replace=False)
    ids = np.array([int(shared.argmax()), *others])
    windows = np.empty((len(ids), *WINDOW), dtype=np.uint8)
    for level in pyramid.windows(made.image):
        here = np.flatnonzero((ids >= level.level.first) & (ids < level.level.first + len(level)))
        windows[here] = np.asarray(level[ids[here] - level.level.first])
    return windows, (np.arange(len(ids)) == 0).astype(np.int64)
