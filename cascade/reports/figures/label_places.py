"""Places for names in a picture so that they do not overlap."""

from collections.abc import Sequence

import numpy as np

__all__ = ["label_places", "text_width"]

OVERLAP = 1000.0  # penalty of a label on another one, above that of any line it could cover
WIDTH_OF_A_CHARACTER = 0.56  # of the font size, a little more than the mean of a sans-serif font


def text_width(text: str, size: float) -> float:
    """Estimated width of a text, in points; pages choose their own font, so it cannot be exact."""
    return WIDTH_OF_A_CHARACTER * size * len(text)


def label_places(
    anchors: np.ndarray, widths: Sequence[float], height: float, obstacles: np.ndarray, frame: tuple[float, float]
) -> np.ndarray:
    """The place beside each anchor where a label covers least, one after the other.

    Args:
        anchors: (m, 2) points, x to the right and y up.
        widths: m widths of the labels, in points.
        height: of every label, in points.
        obstacles: (o, 2) points that labels should not cover.
        frame: width and height that labels must stay in.

    Returns:
        (m, 2), the lower left corners.
    """
    taken: list[np.ndarray] = []
    for (x, y), width in zip(anchors, widths, strict=True):
        boxes = _candidates(x, y, width, height)
        boxes[:, 0] = np.clip(boxes[:, 0], 0, max(frame[0] - width, 0))
        boxes[:, 2] = boxes[:, 0] + width
        penalty = _covered_points(boxes, obstacles) + _outside(boxes, frame)
        penalty += sum((OVERLAP * _overlaps(boxes, other) for other in taken), np.zeros(len(boxes)))
        # The first candidates are nearest, and win among equals.
        taken.append(boxes[int(np.argmin(penalty))])
    return np.array([box[:2] for box in taken]).reshape(-1, 2)


def _candidates(x: float, y: float, width: float, height: float) -> np.ndarray:
    """(c, 4) boxes left, bottom, right, top: right and left of the anchor, at rising distances below and above."""
    lower_left = [
        (left, y - height / 2 + shift * height)
        for shift in (-0.6, 0.6, -1.1, 1.1, -1.9, 1.9, -2.7, 2.7)
        for left in (x + 9, x - 9 - width, x - width / 2)
        if abs(shift) > 1 or left != x - width / 2
    ]
    corners = np.array(lower_left)
    return np.hstack([corners, corners + np.array([width, height])])


def _covered_points(boxes: np.ndarray, points: np.ndarray) -> np.ndarray:
    low, high = boxes[:, None, :2] - 2, boxes[:, None, 2:] + 2
    return np.asarray(((points > low) & (points < high)).all(axis=2).sum(axis=1), dtype=np.float64)


def _overlaps(boxes: np.ndarray, other: np.ndarray) -> np.ndarray:
    apart = (boxes[:, :2] >= other[2:]).any(axis=1) | (boxes[:, 2:] <= other[:2]).any(axis=1)
    return np.asarray(~apart, dtype=np.float64)


def _outside(boxes: np.ndarray, frame: tuple[float, float]) -> np.ndarray:
    return 100.0 * ((boxes[:, 1] < 0) | (boxes[:, 3] > frame[1]))
