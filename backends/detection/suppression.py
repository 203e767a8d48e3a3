"""Greedy non-maximum suppression: of boxes that overlap, only the most confident one is kept.

Source: Felzenszwalb, Girshick, McAllester and Ramanan, "Object detection with discriminatively trained part-based
models", PAMI 2010, section 5.2; https://doi.org/10.1109/TPAMI.2009.167.
"""

import numpy as np

from cascade.backends.detection.boxes import overlap

__all__ = ["suppress"]


def suppress(boxes: np.ndarray, confidence: np.ndarray, iou: float, most: int | None = None) -> np.ndarray:
    """The boxes to keep.

    Boxes are taken in the order of their confidence, of equal ones the first; each one removes those after it whose
    intersection over union with it exceeds the limit.

    Args:
        boxes: (n, 4) as (x, y, width, height).
        confidence: (n,).
        iou: the limit, in [0, 1].
        most: maximum number of boxes to keep; ``None`` for all.

    Returns:
        (k,) int64 indices, the most confident box first.
    """
    order = np.argsort(-confidence, kind="stable")
    kept: list[int] = []
    while len(order) and (most is None or len(kept) < most):
        first, order = order[0], order[1:]
        kept.append(int(first))
        order = order[overlap(boxes[first], boxes[order]) <= iou]
    return np.array(kept, dtype=np.int64)
