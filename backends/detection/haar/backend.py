"""A boosted Haar cascade as a backend: windows as rows; rows differ in cost by the number of features evaluated."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from cascade.backends.config import HaarConfig
from cascade.backends.detection.haar.cascade import HaarCascade, Outcome
from cascade.backends.detection.haar.grey_windows import grey_windows
from cascade.backends.detection.haar.integral_image import WindowIntegrals
from cascade.backends.detection.haar.level_cascade import LevelCascade
from cascade.backends.detection.haar.model import HaarModel
from cascade.backends.detection.windows import Windows
from cascade.backends.outputs.class_columns import ClassColumns
from cascade.prediction import Prediction

__all__ = ["HaarBackend"]

CHUNK_WINDOWS = 2048
"""Windows that are evaluated together; their integral images are about 5 MB."""
PIXEL_OPERATIONS = 4
"""Operations per pixel of the plain and the squared integral image."""
FEATURE_OPERATIONS = 10
"""Operations per feature, about: 6 to 9 corners, normalisation, comparison, sum."""


class HaarBackend:
    """Windows of any size, grey or RGB, become grey windows of the trained size.

    Args:
        config: of the model.
        classes: names of the cascade's classes; the model's two classes are found in them by name.

    Raises:
        WeightsError: the file is missing or damaged, or is not a Haar cascade.
        ConfigError: the cascade lacks a class of the model.
    """

    def __init__(self, config: HaarConfig, classes: Sequence[str] | None = None) -> None:
        self.cascade = HaarCascade(HaarModel.load(config.model))
        # Without names, the negative class is 0 and the positive one 1.
        own = np.arange(2) if classes is None else np.array(self.cascade.model.classes)
        self._level: LevelCascade | None = None
        self._counts_features = config.cost == "features"
        self._columns = ClassColumns(own, classes, str(config.model))

    def predict(self, rows: np.ndarray) -> Prediction:
        """Answers n windows; a rejected one has probability 0 of the positive class.

        Args:
            rows: (n, h, w) grey or (n, h, w, 3) RGB, uint8.

        Raises:
            RowsError: the rows have another shape or type.
        """
        parts = [rows[first : first + CHUNK_WINDOWS] for first in range(0, len(rows), CHUNK_WINDOWS)]
        return Prediction.join([self._prediction(self.cascade.evaluate(self._integrals(part))) for part in parts])

    def predict_windows(self, windows: Windows) -> Prediction:
        """Like :meth:`predict` on the gathered windows, and equal to it.

        Windows of the trained size share the integral image of their level. The whole level is evaluated at the first
        call with consecutive windows, as for a first stage; other windows one by one.
        """
        model = self.cascade.model
        if windows.level.window != (model.height, model.width):
            return self.predict(np.asarray(windows))
        level = self._level
        if level is None or level.level is not windows.level or level.pixels is not windows.pixels:
            self._level = level = LevelCascade(self.cascade, windows.level, windows.pixels)
        return self._prediction(level.evaluate(windows))

    def highest_row_cost(self, rows: np.ndarray) -> float:  # noqa: ARG002 (of the interface)
        """The number of features of the model, or its operations in millions, as configured."""
        most = np.array([len(self.cascade.model)])
        return float(most[0] if self._counts_features else self._mflop(most)[0])

    def flops_per_row(self, rows: np.ndarray) -> float:
        """Mean operations of the rows: those of the integral images and of the features evaluated."""
        return float(self._mflop(self.cascade.evaluate(self._integrals(rows)).features).mean() * 1e6)

    def _mflop(self, features: np.ndarray) -> np.ndarray:
        """(n,) float64 millions of operations of rows for which numbers of features were evaluated."""
        pixels = self.cascade.model.height * self.cascade.model.width
        return (PIXEL_OPERATIONS * pixels + FEATURE_OPERATIONS * features.astype(np.float64)) / 1e6

    def _integrals(self, rows: np.ndarray) -> WindowIntegrals:
        model = self.cascade.model
        return WindowIntegrals.of_windows(grey_windows(rows, model.height, model.width))

    def _prediction(self, outcome: Outcome) -> Prediction:
        positive = self.cascade.probability(outcome)
        probabilities = self._columns.spread(np.stack([1 - positive, positive], axis=1))
        prediction = Prediction.from_probabilities(probabilities)
        if self._counts_features:
            return replace(prediction, cost=outcome.features.astype(np.float64))
        return replace(prediction, mflop=self._mflop(outcome.features))
