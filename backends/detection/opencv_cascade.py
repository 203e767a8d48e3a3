"""OpenCV's cascades of Haar or LBP features as a model of windows (extra ``vision``).

Sources: Viola and Jones, "Robust real-time face detection", IJCV 2004, https://doi.org/10.1023/B:VISI.0000013087.49260.fb;
Lienhart and Maydt, "An extended set of Haar-like features for rapid object detection", ICIP 2002; Liao et al.,
"Learning multi-scale block local binary patterns for face recognition", ICB 2007.
"""

import re
from typing import Any

import numpy as np

from cascade.backends.config import OpencvConfig
from cascade.errors import ConfigError, RowsError, WeightsError
from cascade.prediction import Prediction

__all__ = ["OpencvCascade"]

# The default of detectMultiScale; only one scale is evaluated.
SCALE_FACTOR = 1.1


class OpencvCascade:
    """A file of OpenCV's ``CascadeClassifier``: class 1 is the object, class 0 everything else.

    A window is converted to grey and scaled to the size that the cascade was trained on. One that the cascade rejects
    has P(1) = 0; one that it accepts has the logistic function of what its score exceeds the last stage's threshold by,
    which is at least 0.5.

    Args:
        config: of the model.

    Raises:
        ConfigError: OpenCV is not installed.
        WeightsError: the file is no cascade.
    """

    def __init__(self, config: OpencvConfig) -> None:
        try:
            import cv2
        except ImportError as error:
            raise ConfigError(
                "a backend of type 'opencv' needs OpenCV; pip install 'idk-cascade[vision]', or "
                "opencv-python-headless below version 5"
            ) from error
        if not hasattr(cv2, "CascadeClassifier"):
            raise ConfigError(
                f"OpenCV {cv2.__version__} has no cascades; install opencv-python-headless below version 5"
            )
        self._cv2: Any = cv2
        path = config.file
        text = path.read_text(encoding="utf-8", errors="replace")
        try:
            self._classifier = cv2.CascadeClassifier(str(path))
        except (cv2.error, SystemError) as error:  # the second for a file that is not XML
            raise WeightsError(f"{path} is no cascade of OpenCV: {error}") from error
        if self._classifier.empty():
            raise WeightsError(f"{path} is no cascade of OpenCV (an XML file of Haar or LBP features)")
        thresholds = re.findall(r"<stageThreshold>\s*([^<\s]+)\s*<", text)
        self._last_threshold = float(thresholds[-1]) if thresholds else 0.0
        width, height = self._classifier.getOriginalWindowSize()
        self.size = (width, height)

    def predict(self, rows: np.ndarray) -> Prediction:
        """(n, h, w) grey or (n, h, w, 3) RGB windows, uint8 -> (n, 2) probabilities.

        Raises:
            RowsError: the rows are no such windows.
        """
        if rows.dtype != np.uint8 or rows.ndim not in (3, 4) or rows.shape[3:] not in ((), (3,)):
            raise RowsError(f"rows must be uint8 windows, (n, h, w) or (n, h, w, 3); got {rows.dtype} {rows.shape}")
        probability = np.array([self._probability(window) for window in rows])
        return Prediction.from_probabilities(probability[:, None])

    def _probability(self, window: np.ndarray) -> float:
        cv2 = self._cv2
        grey = window if window.ndim == 2 else cv2.cvtColor(window, cv2.COLOR_RGB2GRAY)
        if grey.shape != self.size[::-1]:
            shrinks = grey.shape[0] > self.size[1]
            grey = cv2.resize(grey, self.size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
        found, _, weights = self._classifier.detectMultiScale3(
            grey,
            scaleFactor=SCALE_FACTOR,
            minNeighbors=0,
            minSize=self.size,
            maxSize=self.size,
            outputRejectLevels=True,
        )
        if not len(found):
            return 0.0
        return float(1 / (1 + np.exp(-max(float(np.max(weights)) - self._last_threshold, 0.0))))
