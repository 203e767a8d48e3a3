"""Clips of CIFAR-10 images: a camera moves before an image; 16 frames, in few of which it is seen well.

Only integers are computed with, so that all machines make the same clips.
"""

from collections.abc import Callable

import numpy as np

from cascade.datasets.cifar10 import Arrays

__all__ = ["CLIP_FRAMES", "CLIP_ROWS", "FRAME_SIDE", "film", "make_clips"]

CLIP_FRAMES, FRAME_SIDE = 16, 32
CLIP_ROWS = {"train": 7000, "test": 2000}
SEEDS = {"train": 20, "test": 21}
KEY_STEP = 5  # frames from one drawn position of the camera to the next
NEAR, FAR = 64, 256  # distances in 64ths: the image fills the frame, or a quarter of its width
MOST_PAN = 6  # pixels of the frame
SUBPIXELS = 4  # of each axis of a pixel, averaged
BLUR_ROUNDS = 8  # of the kernel 1 2 1 along both axes
BLURRED_FRAMES = (4, 9)  # least, and one more than most, that are out of focus together
BAR_WIDTHS = (12, 25)
BAR_SPEEDS = (3, 8)  # pixels from frame to frame


def make_clips(images: Arrays, on_bytes: Callable[[int, int], None], on_note: Callable[[str], None]) -> Arrays:
    """Makes a clip of each of the first images of both splits.

    Args:
        images: of CIFAR-10, by name.
        on_bytes: called with (bytes so far, bytes in total) of the clips.
        on_note: called with a sentence.

    Returns:
        "train_rows" (7000, 512, 32, 3) and "test_rows" (2000, 512, 32, 3) uint8, see :func:`film`; "train_labels" and
        "test_labels" int64, those of the images. Training clips are of training images, test clips of test images.
    """
    on_note("The clips are made from CIFAR-10 images (440 MB, two minutes).")
    clip_bytes = CLIP_FRAMES * FRAME_SIDE * FRAME_SIDE * 3
    total, done = clip_bytes * sum(CLIP_ROWS.values()), 0
    arrays: Arrays = {}
    for split, n in CLIP_ROWS.items():
        rng = np.random.default_rng(SEEDS[split])
        rows = np.empty((n, CLIP_FRAMES * FRAME_SIDE, FRAME_SIDE, 3), dtype=np.uint8)
        for k, image in enumerate(images[f"{split}_rows"][:n]):
            rows[k] = film(image, rng)
            done += clip_bytes
            on_bytes(done, total)
        arrays[f"{split}_rows"] = rows
        arrays[f"{split}_labels"] = images[f"{split}_labels"][:n].astype(np.int64)
    return arrays


def film(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Films an image that hangs on a wall in the mean colour of its border.

    The camera is drawn at four moments, and moves evenly between them. At one of them it is near, at the others it is
    anywhere up to four times as far away, and always a little beside the centre. In four to eight frames together the
    picture is out of focus. Something of one colour passes between camera and image, 12 to 24 pixels wide.

    Args:
        image: (32, 32, 3) uint8.
        rng: of the camera, the focus and what passes.

    Returns:
        (512, 32, 3) uint8: the 16 frames, one below the other.
    """
    moments = -(-CLIP_FRAMES // KEY_STEP)
    distances = rng.integers(NEAR, FAR + 1, size=moments)
    distances[rng.integers(moments)] = NEAR
    pans = rng.integers(-MOST_PAN, MOST_PAN + 1, size=(2, moments))
    y, x = (_seen(_between(distances), _between(64 * pan)) for pan in pans)
    frames = _through_lens(image, y, x)
    _defocus(frames, rng)
    _pass_by(frames, rng)
    return frames.reshape(-1, FRAME_SIDE, 3)


def _between(moments: np.ndarray) -> np.ndarray:
    """(16,) values of the frames, from those of the moments."""
    frames = np.arange(CLIP_FRAMES)
    first = np.minimum(frames // KEY_STEP, len(moments) - 2)
    after = frames - first * KEY_STEP
    return np.asarray((moments[first] * (KEY_STEP - after) + moments[first + 1] * after) // KEY_STEP)


def _seen(distances: np.ndarray, pans: np.ndarray) -> np.ndarray:
    """(16, 128) pixel of the image that each subpixel of an axis sees; outside of the image below 0 or above 31.

    Args:
        distances: (16,), 64 where the image fills the frame.
        pans: (16,), in 64ths of a pixel of the frame.
    """
    half = FRAME_SIDE * SUBPIXELS // 2
    subpixels = (2 * np.arange(-half, half) + 1) * (64 // (2 * SUBPIXELS))  # centres, in 64ths of a pixel of the frame
    place = (subpixels[None] - pans[:, None]) * distances[:, None]
    return np.asarray((place >> 12) + FRAME_SIDE // 2)


def _through_lens(image: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """(16, 32, 32, 3) uint8 means of subpixels."""
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]]).astype(np.int64)
    wall = (border.sum(axis=0) // len(border)).astype(np.uint8)
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0)))
    padded[[0, -1]] = padded[:, [0, -1]] = wall
    y, x = (np.clip(axis + 1, 0, FRAME_SIDE + 1) for axis in (y, x))
    seen = padded[y[:, :, None], x[:, None, :]]
    pixels = seen.reshape(CLIP_FRAMES, FRAME_SIDE, SUBPIXELS, FRAME_SIDE, SUBPIXELS, 3)
    half = SUBPIXELS**2 // 2
    return np.asarray((pixels.sum(axis=(2, 4), dtype=np.uint16) + half) // SUBPIXELS**2).astype(np.uint8)


def _defocus(frames: np.ndarray, rng: np.random.Generator) -> None:
    length = int(rng.integers(*BLURRED_FRAMES))
    start = int(rng.integers(CLIP_FRAMES - length + 1))
    blurred = frames[start : start + length].astype(np.uint16)
    for _ in range(BLUR_ROUNDS):
        for axis in (1, 2):
            padded = np.pad(blurred, [(int(axis == k),) * 2 for k in range(4)], mode="edge")
            before, middle, after = (padded.take(range(k, k + FRAME_SIDE), axis=axis) for k in range(3))
            blurred = (before + 2 * middle + after + 2) // 4
    frames[start : start + length] = blurred


def _pass_by(frames: np.ndarray, rng: np.random.Generator) -> None:
    width, speed = int(rng.integers(*BAR_WIDTHS)), int(rng.integers(*BAR_SPEEDS))
    moment, goes_left = int(rng.integers(CLIP_FRAMES)), bool(rng.integers(2))
    colour = rng.integers(256, size=3)
    for t, frame in enumerate(frames):
        left = (t - moment) * speed + (FRAME_SIDE - width) // 2  # in the middle at its moment
        view = frame[:, ::-1] if goes_left else frame
        view[:, max(left, 0) : max(left + width, 0)] = colour
