"""scikit-learn classifiers, loaded from skops files: no pickle."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cascade.backends.config import SklearnConfig
from cascade.backends.outputs.class_columns import ClassColumns
from cascade.errors import ConfigError, WeightsError
from cascade.files.zip_files import check_zip
from cascade.prediction import Prediction
from cascade.rows.columns import data_frame

__all__ = ["SklearnBackend"]

# According to the code of scikit-learn 1.4 to 1.9, except for ties.
ANSWERS_THE_LIKELIEST = frozenset(
    {
        "AdaBoostClassifier",
        "BaggingClassifier",
        "BernoulliNB",
        "CalibratedClassifierCV",
        "CategoricalNB",
        "ComplementNB",
        "DecisionTreeClassifier",
        "ExtraTreeClassifier",
        "ExtraTreesClassifier",
        "GaussianNB",
        "GradientBoostingClassifier",
        "HistGradientBoostingClassifier",
        "KNeighborsClassifier",
        "LinearDiscriminantAnalysis",
        "LogisticRegression",
        "LogisticRegressionCV",
        "MLPClassifier",
        "MultinomialNB",
        "QuadraticDiscriminantAnalysis",
        "RandomForestClassifier",
        "VotingClassifier",
    }
)
INNER_MODEL = {
    "FrozenEstimator": "estimator",
    "GridSearchCV": "best_estimator_",
    "HalvingGridSearchCV": "best_estimator_",
    "HalvingRandomSearchCV": "best_estimator_",
    "RandomizedSearchCV": "best_estimator_",
    "StackingClassifier": "final_estimator_",
}
"""Models that return the answers of an inner model, and its attribute."""
HARMLESS = ("numpy.dtype",)
"""Types that skops does not trust by default, and that run no code of the file: here the one of an empty array, which
every fitted ``SimpleImputer`` holds."""


class SklearnBackend:
    """A fitted classifier with ``predict_proba``.

    Rows with more than two axes are flattened to (n, features), and rows of named columns become a pandas data frame,
    of which a ``ColumnTransformer`` takes columns by name. The model works on a copy, since a pipeline may write to its
    input. Columns are mapped by ``classes_``, see ``ClassColumns``.

    The answer is that of the model's ``predict``. If scikit-learn's code makes this the most probable class, only
    ``predict_proba`` is called. For any other model (``TunedThresholdClassifierCV``, ``SVC``, a user's class, a
    pipeline that ends in one) both are called; the confidence is then the probability of the answered class, and the
    prediction has no class probabilities, from which a router could derive another answer.

    Args:
        model: fitted.
        names: of the cascade's classes; ``None`` if the configuration has none.
        source: name of the model in messages.

    Raises:
        ConfigError: a class of the model has no id.
        WeightsError: the model is no such classifier.
    """

    copies_rows = True

    def __init__(self, model: Any, names: Sequence[str] | None = None, source: str = "the model") -> None:
        self.model = model
        if not hasattr(model, "predict_proba") or not hasattr(model, "classes_"):
            raise WeightsError(f"{source} is a {type(model).__name__}, which has no predict_proba")
        classes = model.classes_
        if isinstance(classes, list) or np.ndim(classes) != 1:
            raise WeightsError(f"{source} is a multi-output classifier; a stage has one output")
        self.columns = ClassColumns(np.asarray(classes), names, source)
        self._decides = not _answers_the_likeliest(model)

    @classmethod
    def load(cls, config: SklearnConfig, names: Sequence[str] | None = None) -> "SklearnBackend":
        """The model of a configuration.

        Raises:
            ConfigError, WeightsError: as above; or the file is missing or damaged, or holds types that are not trusted.
        """
        return cls(_load(config), names, str(config.model))

    def predict(self, rows: np.ndarray) -> Prediction:
        """Answers a batch: (n, ...) rows -> (n, C) probabilities, or (n,) confidences, see above."""
        return self.classify(lambda: _features(rows), len(rows))[0]

    def classify(self, new_rows: Callable[[], Any], count: int) -> tuple[Prediction, np.ndarray]:
        """The prediction, and the class probabilities beside it.

        Args:
            new_rows: returns a copy of n rows, in any form that the model reads.
            count: n.

        Returns:
            As of :meth:`predict`, and (n, C) probabilities.
        """
        probabilities = np.asarray(self.model.predict_proba(new_rows()))
        if probabilities.shape != (count, len(self.columns.ids)):
            raise ConfigError(
                f"predict_proba was given {count} rows and returned shape {probabilities.shape}; the model has "
                f"{len(self.columns.ids)} classes"
            )
        spread = self.columns.spread(probabilities)
        if not self._decides:
            return Prediction.from_probabilities(spread), spread
        places = self.columns.places(np.asarray(self.model.predict(new_rows())))
        return Prediction(self.columns.ids[places], confidence=probabilities[np.arange(count), places]), spread


def _features(rows: np.ndarray) -> Any:
    """A copy of the rows, as scikit-learn takes them."""
    if rows.dtype.names is not None:
        return data_frame(rows)
    return np.array(rows if rows.dtype == object or rows.ndim <= 2 else rows.reshape(len(rows), -1))


def _answers_the_likeliest(model: Any) -> bool:
    """Whether ``predict`` is known to return the class with the largest ``predict_proba``."""
    kind = type(model)
    if not kind.__module__.startswith("sklearn."):
        return False
    if kind.__name__ == "Pipeline":
        return _answers_the_likeliest(model.steps[-1][1])
    inner = INNER_MODEL.get(kind.__name__)
    return kind.__name__ in ANSWERS_THE_LIKELIEST if inner is None else _answers_the_likeliest(getattr(model, inner))


def _load(config: SklearnConfig) -> Any:
    import skops.io
    from skops.io.exceptions import UntrustedTypesFoundException

    try:
        check_zip(config.model, WeightsError)
        return skops.io.load(config.model, trusted=[*config.trusted, *HARMLESS])
    except WeightsError:
        raise
    except UntrustedTypesFoundException as error:
        types = sorted(set(skops.io.get_untrusted_types(file=config.model)) - {*config.trusted, *HARMLESS})
        raise WeightsError(
            f"{config.model} holds types that skops does not trust: {types}; "
            "if you know where the file comes from, list them under the backend's 'trusted'"
        ) from error
    except Exception as error:  # a damaged archive can raise anything: zipfile, json, missing modules, ...
        raise WeightsError(f"{config.model} is not a whole skops file: {error}") from error
