"""scikit-learn classifiers, loaded from skops files: no pickle."""

from typing import Any

import numpy as np

from cascade.backends.config import SklearnConfig
from cascade.backends.errors import WeightsError
from cascade.prediction import Prediction
from cascade.zip_files import check_zip

__all__ = ["SklearnBackend"]


class SklearnBackend:
    """A fitted classifier with ``predict_proba``.

    Rows of more than two axes are flattened to (n, features). Answers are the classes themselves where they are
    integers, else their places in ``classes_``.

    Args:
        config: what to load.

    Raises:
        WeightsError: the file is missing or damaged, holds types that are not trusted, or no such classifier.
    """

    def __init__(self, config: SklearnConfig) -> None:
        self.config = config
        self.model = _load(config)
        if not hasattr(self.model, "predict_proba") or not hasattr(self.model, "classes_"):
            raise WeightsError(f"{config.model} holds a {type(self.model).__name__}, which has no predict_proba")
        classes = np.asarray(self.model.classes_)
        self.classes = classes if np.issubdtype(classes.dtype, np.integer) else np.arange(len(classes))

    def predict(self, rows: np.ndarray) -> Prediction:
        """Answers a batch: (n, ...) rows -> (n, C) probabilities in the order of ``classes_``."""
        flat = rows if rows.dtype == object or rows.ndim <= 2 else rows.reshape(len(rows), -1)
        probabilities = np.asarray(self.model.predict_proba(flat))
        return Prediction(self.classes[probabilities.argmax(axis=1)].astype(np.int64), probabilities)


def _load(config: SklearnConfig) -> Any:
    import skops.io
    from skops.io.exceptions import UntrustedTypesFoundException

    try:
        check_zip(config.model, WeightsError)
        return skops.io.load(config.model, trusted=config.trusted)
    except WeightsError:
        raise
    except UntrustedTypesFoundException as error:
        types = sorted(set(skops.io.get_untrusted_types(file=config.model)) - set(config.trusted))
        raise WeightsError(
            f"{config.model} holds types that skops does not trust: {types}; "
            "if you know where the file comes from, list them under the backend's 'trusted'"
        ) from error
    except Exception as error:  # a damaged archive fails in many ways: zipfile, json, missing modules, ...
        raise WeightsError(f"{config.model} is not a whole skops file: {error}") from error
