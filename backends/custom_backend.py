"""A user's own class as a backend."""

import numpy as np

from cascade.backends.code.imports import import_object
from cascade.backends.config import CustomConfig
from cascade.errors import ConfigError
from cascade.prediction import Prediction

__all__ = ["CustomBackend"]


class CustomBackend:
    """A user's object with one method ``predict(rows)``, which may raise ``RowsError`` for invalid rows.

    It gets a copy of the rows, since it may write to them.

    Args:
        config: the class and its arguments.

    Raises:
        ConfigError: it cannot be imported or built, or has no ``predict``.
    """

    copies_rows = True

    def __init__(self, config: CustomConfig) -> None:
        self.config = config
        try:
            self.model = import_object(config.object, config.folder)(**config.arguments)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{config.object} cannot be built with {config.arguments}: {error}") from error
        if not callable(getattr(self.model, "predict", None)):
            raise ConfigError(f"{config.object} has no method predict(rows)")

    def predict(self, rows: np.ndarray) -> Prediction:
        """Answers a batch with the result of the user's method: a prediction, or (n, C) probabilities.

        A single column of probabilities is that of class 1.

        Raises:
            ConfigError: the method returned anything else.
        """
        result = self.model.predict(rows.copy())
        if isinstance(result, Prediction):
            return result
        # A fast path for the usual case, since a call may have one row only.
        usual = type(result) is np.ndarray and result.ndim == 2 and result.size
        return Prediction.from_probabilities(result if usual else self._probabilities(result))

    def highest_row_cost(self, rows: np.ndarray) -> float:
        """The result of the user's method of this name; inf if there is none.

        Raises:
            ConfigError: the result is not a number >= 0.
        """
        declared = getattr(self.model, "highest_row_cost", None)
        most = declared(rows.copy()) if callable(declared) else np.inf
        if isinstance(most, bool) or not isinstance(most, int | float | np.number) or not most >= 0:
            raise ConfigError(f"{self.config.object}.highest_row_cost must return a number of at least 0; got {most!r}")
        return float(most)

    def _probabilities(self, result: object) -> np.ndarray:
        wanted = f"{self.config.object}.predict must return (n, C) probabilities or a Prediction"
        try:
            probabilities = np.asarray(result)
        except ValueError as error:
            raise ConfigError(f"{wanted}; got rows of different lengths") from error
        if probabilities.ndim != 2 or not probabilities.shape[1] or probabilities.dtype.kind not in "fiub":
            raise ConfigError(f"{wanted}; got {probabilities.dtype} of shape {probabilities.shape}")
        return probabilities
