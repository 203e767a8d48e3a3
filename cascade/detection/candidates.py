"""The positive windows of an image, reduced to boxes."""

import numpy as np

from cascade.answers import Answers
from cascade.backends.detection.pyramid import Pyramid
from cascade.backends.detection.suppression import suppress
from cascade.calibration import Policy
from cascade.config import CascadeConfig, DetectionConfig
from cascade.detection.detections import Detections

__all__ = ["Candidates"]


class Candidates:
    """Collects the answers of windows as they come; memory holds the most confident positive windows only.

    Args:
        config: of the cascade.
        detection: its section of detection.
        policy: of the answers.
        pyramid: of the image.
    """

    def __init__(self, config: CascadeConfig, detection: DetectionConfig, policy: Policy, pyramid: Pyramid) -> None:
        self._detection = detection
        self._policy = policy
        self._pyramid = pyramid
        self._positive = config.positive
        self._label = str(config.positive) if config.classes is None else config.classes[config.positive]
        self._found: list[tuple[np.ndarray, np.ndarray]] = []
        self._kept = 0
        self._positives = 0
        self._abstained = 0
        self._degraded = 0
        self._answered = np.zeros(len(config.stages), dtype=np.int64)
        self._cost = 0.0

    def add(self, ids: np.ndarray, answers: Answers) -> None:
        """Adds answers.

        Args:
            ids: (n,) int64, numbers of the windows in the pyramid.
            answers: n of the whole cascade, none of them pending.
        """
        self._answered += np.bincount(answers.stage, minlength=len(self._answered))
        self._cost += float(answers.cost.sum())
        if answers.degraded is not None:
            self._degraded += int(answers.degraded.sum())
        positive = answers.answer == self._positive
        if answers.abstained is not None:
            self._abstained += int(answers.abstained.sum())
            positive &= ~answers.abstained
        if positive.any():
            self._found.append((ids[positive], answers.confidence[positive]))
            self._positives += len(self._found[-1][0])
            self._kept += len(self._found[-1][0])
        if self._kept > 2 * self._detection.max_candidates:
            self._found = [self._most_confident()]
            self._kept = len(self._found[0][0])

    def detections(self) -> Detections:
        """The boxes, once all windows have been added."""
        detection, pyramid = self._detection, self._pyramid
        ids, confidence = self._most_confident()
        boxes = pyramid.boxes(ids)
        kept = suppress(boxes, confidence, detection.nms_iou, detection.max_boxes)
        notes = []
        if not len(pyramid):
            least = pyramid.min_size
            scaled = (
                "" if least is None or least <= pyramid.window[0] else f" for objects of {least} (detection.min_size)"
            )
            notes.append(f"the image has no window of {_size(*pyramid.window)} pixels{scaled}")
        if self._positives > len(ids):
            notes.append(f"of {self._positives} positive windows, the {len(ids)} most confident ones were used")
        if len(kept) == detection.max_boxes:
            notes.append(f"at most {detection.max_boxes} boxes are returned")
        stages = zip(self._policy.stages, self._answered.tolist(), strict=True)
        return Detections(
            boxes[kept],
            confidence[kept],
            self._label,
            pyramid.height,
            pyramid.width,
            len(pyramid),
            self._positives,
            self._abstained,
            self._degraded,
            dict(stages),
            self._cost,
            self._policy.cost_unit,
            self._policy.version,
            "; ".join(notes),
        )

    def _most_confident(self) -> tuple[np.ndarray, np.ndarray]:
        """Numbers and confidences of the most confident positive windows, in the order of their numbers."""
        if not self._found:
            return np.zeros(0, dtype=np.int64), np.zeros(0)
        ids, confidence = map(np.concatenate, zip(*self._found, strict=True))
        # By number among equal confidences, so that the result does not depend on the order of the batches.
        best = np.lexsort((ids, -confidence))[: self._detection.max_candidates]
        best = best[np.argsort(ids[best])]
        return ids[best], confidence[best]


def _size(height: int, width: int) -> str:
    return f"{width} x {height}"
