"""Boxes: (x, y, width, height) in pixels of an image, x to the right and y down from the upper left corner."""

import numpy as np

__all__ = ["clipped", "overlap"]


def overlap(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Intersection over union (IoU) of one box with others.

    Args:
        box: (4,).
        boxes: (n, 4).

    Returns:
        (n,) float64 in [0, 1]; 0 for two boxes without area.
    """
    low = np.maximum(box[:2], boxes[:, :2])
    high = np.minimum(box[:2] + box[2:], boxes[:, :2] + boxes[:, 2:])
    shared: np.ndarray = np.clip(high - low, 0, None).prod(axis=1)
    union = box[2] * box[3] + boxes[:, 2] * boxes[:, 3] - shared
    return np.asarray(np.divide(shared, union, out=np.zeros(len(boxes)), where=union > 0))


def clipped(boxes: np.ndarray, height: int, width: int) -> np.ndarray:
    """The parts of boxes inside an image.

    Args:
        boxes: (n, 4).
        height: of the image, in pixels.
        width: of the image, in pixels.

    Returns:
        (n, 4) float64.
    """
    size = np.array([width, height], dtype=np.float64)
    low = np.clip(boxes[:, :2], 0, size)
    high = np.clip(boxes[:, :2] + boxes[:, 2:], 0, size)
    return np.concatenate([low, high - low], axis=1)
