"""A cascade as a scikit-learn classifier."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from sklearn.base import ClassifierMixin, clone
from sklearn.model_selection import check_cv
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing, check_array, check_consistent_length, column_or_1d, get_tags, indexable
from sklearn.utils.metaestimators import _BaseComposition
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _num_samples, check_is_fitted, validate_data

from cascade.answers import Answers
from cascade.backends.digest import model_digest
from cascade.backends.sklearn_backend import SklearnBackend
from cascade.calibration import ScoreTable, calibrate
from cascade.calibration.costs.arrivals import RowsTogether
from cascade.cascade import Cascade
from cascade.collection.collect import collect, with_measured_curves
from cascade.collection.measure import measure_curves
from cascade.config import CascadeConfig
from cascade.errors import ConfigError, StageError
from cascade.prediction import Prediction
from cascade.rows.columns import described_columns
from cascade.stage import Stage

__all__ = ["CascadeClassifier"]

CURVE_SECONDS = 0.5


class CascadeClassifier(ClassifierMixin, _BaseComposition):  # type: ignore[misc]
    """Answers each row with the first of several classifiers that is sure enough.

    A certificate holds for the models that predict, on rows that they were not trained on. With
    ``guarantee="certified"`` the classifiers are therefore trained on the training part of the first split of ``cv``,
    and the thresholds are certified on its test part. With ``guarantee="none"`` all rows are used twice: thresholds are
    found on out-of-fold predictions of all splits, and the classifiers are then trained on all rows.

    Args:
        stages: (name, classifier) pairs, cheapest first. Classifiers need ``predict_proba``.
        max_accuracy_drop: most accuracy lost compared with the last classifier, in [0, 1]; the cheapest thresholds are
            taken.
        target_accuracy: least accuracy, in [0, 1], instead of a drop (``max_accuracy_drop=None``).
        max_cost: largest mean cost per row, in ms or in the unit of ``costs``.
        delta: risk that the guarantee is violated, in (0, 1).
        guarantee: "certified", or "none".
        cv: number of folds, or a splitter or splits as scikit-learn takes them; "prefit" if the classifiers are fitted,
            and the rows of ``fit`` are for calibration only.
        costs: (K,) cost per row of each stage; by default times are measured, for the rows that come together.
        rows_together: rows of a typical call of ``predict``, for the measured times.
        seed: of the split of the calibration rows.

    Attributes:
        classes_: (C,) the class labels.
        stages_: fitted (name, classifier) pairs.
        policy_: thresholds and certificate.
        score_table_: predictions on the calibration rows.
        n_features_in_, feature_names_in_: as in scikit-learn, where the rows have them.

    Example:
        >>> from sklearn.datasets import load_digits
        >>> from sklearn.ensemble import ExtraTreesClassifier
        >>> from sklearn.linear_model import LogisticRegression
        >>> from cascade import CascadeClassifier
        >>> rows, labels = load_digits(return_X_y=True)
        >>> stages = [("small", LogisticRegression(max_iter=5000)), ("big", ExtraTreesClassifier())]
        >>> model = CascadeClassifier(stages, guarantee="none", costs=(1, 20)).fit(rows, labels)
        >>> bool(model.score(rows, labels) > 0.95)
        True
    """

    def __init__(
        self,
        stages: Sequence[tuple[str, Any]],
        *,
        max_accuracy_drop: float | None = 0.01,
        target_accuracy: float | None = None,
        max_cost: float | None = None,
        delta: float = 0.05,
        guarantee: Literal["certified", "none"] = "certified",
        cv: Any = 5,
        costs: Sequence[float] | None = None,
        rows_together: int = 64,
        seed: int = 0,
    ) -> None:
        self.stages = stages
        self.max_accuracy_drop = max_accuracy_drop
        self.target_accuracy = target_accuracy
        self.max_cost = max_cost
        self.delta = delta
        self.guarantee = guarantee
        self.cv = cv
        self.costs = costs
        self.rows_together = rows_together
        self.seed = seed

    def fit(self, X: Any, y: Any) -> "CascadeClassifier":
        """Trains the classifiers and finds the thresholds.

        Args:
            X: (n, ...), in any form that the classifiers read: array, sparse matrix, data frame, list of texts.
            y: (n,) class labels: numbers or strings.

        Raises:
            InfeasibleTarget: the target cannot be reached or certified with these rows.
            ValueError: a parameter, or the rows or labels.
        """
        self._check_stages()
        validate_data(self, X, y, skip_check_array=True)
        (data,) = indexable(X)
        labels = column_or_1d(check_array(y, ensure_2d=False, dtype=None, input_name="y"), warn=True)
        check_consistent_length(data, labels)
        check_classification_targets(labels)
        self.classes_, ids = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"a classifier needs at least two classes; y has one class, {self.classes_[0]!r}")
        with _own_errors():
            self.score_table_ = self._scores(data, labels, ids)
            self.policy_ = calibrate(
                self.score_table_,
                target_accuracy=self.target_accuracy,
                max_accuracy_drop=self.max_accuracy_drop,
                max_cost=self.max_cost,
                delta=self.delta,
                guarantee=self.guarantee,
                seed=self.seed,
                arrivals=RowsTogether((self.rows_together,)),
            )
        self._row = _described_row(data)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """(n, ...) rows -> (n,) class labels."""
        answers, _ = self._run(X)
        return np.asarray(self.classes_[answers.answer])

    def predict_proba(self, X: Any) -> np.ndarray:
        """(n, ...) rows -> (n, C) class probabilities of the classifier that answers, not calibrated."""
        return self._run(X)[1]

    def answering_stage(self, X: Any) -> np.ndarray:
        """(n, ...) rows -> (n,) int, which of the stages answers."""
        return self._run(X)[0].stage

    def to_config(self, folder: Path | str, name: str = "cascade", *, before: Any = None, rows: Any = None) -> Path:
        """Writes what ``cascade serve`` serves: the classifiers (skops), ``config.yaml`` and ``policy.json``.

        Args:
            folder: is created; must not hold a configuration.
            name: of the cascade.
            before: fitted transformer that the rows of :meth:`fit` came from, such as ``pipeline[:-1]``; it becomes a
                part of each stage, and the served cascade takes rows as they come to it.
            rows: some of these rows, which describe them; required with ``before``.

        Returns:
            The path of the configuration.

        Raises:
            ConfigError: the folder holds a configuration, or a configuration cannot describe the rows.
            ValueError: only one of ``before`` and ``rows`` is given, or these rows are not those of ``before``.
        """
        import skops.io

        check_is_fitted(self)
        if (before is None) != (rows is None):
            raise ValueError("before and rows must be given together: a fitted transformer, and rows that come to it")
        folder = Path(folder)
        path = folder / "config.yaml"
        if path.exists():
            raise ConfigError(f"{path} exists; write to another folder, or remove it")
        row = self._row if before is None else self._row_before(before, rows)
        if row is None:
            raise ConfigError(
                "these rows cannot be described in a configuration; fit on an array of numbers, on texts, or on a data "
                "frame whose columns have names and hold numbers, booleans or texts"
            )
        folder.mkdir(parents=True, exist_ok=True)
        stages = []
        for stage, model in self.stages_:
            file = folder / f"{stage}.skops"
            skops.io.dump(model if before is None else Pipeline([("before", before), ("model", model)]), file)
            trusted = skops.io.get_untrusted_types(file=file)
            backend = {"type": "sklearn", "model": file.name, **({"trusted": trusted} if trusted else {})}
            stages.append({"name": stage, "backend": backend, "router": {"calibrator": "identity"}})
        names = [str(each) for each in self.classes_.tolist()]
        entry = {"name": name, "rows": row, "classes": names, "stages": stages, "policy": "policy.json"}
        path.write_text(yaml.safe_dump(entry, sort_keys=False), encoding="utf-8")
        config = CascadeConfig.load(path)
        digests = {stage.name: model_digest(stage.backend) for stage in config.stages}
        replace(self.policy_, certificate={**self.policy_.certificate, "model_sha256": digests}).save(config.policy)
        return path

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters, and with ``deep`` those of the classifiers, as ``<stage>__<parameter>``."""
        return dict(self._get_params("stages", deep=deep))

    def set_params(self, **parameters: Any) -> "CascadeClassifier":
        """Sets parameters of the cascade, a classifier by its stage's name, or a parameter of one."""
        self._set_params("stages", **parameters)
        return self

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        models = [get_tags(model) for _, model in self.stages]
        tags.input_tags.sparse = all(each.input_tags.sparse for each in models)
        tags.input_tags.allow_nan = all(each.input_tags.allow_nan for each in models)
        return tags

    def _check_stages(self) -> None:
        if len(self.stages) < 2:
            raise ValueError(f"a cascade needs at least two stages; got {len(self.stages)}")
        names, _ = zip(*self.stages, strict=True)
        self._validate_names(names)
        if self.costs is not None and len(self.costs) != len(self.stages):
            raise ValueError(f"costs must be {len(self.stages)} numbers, one for each stage; got {self.costs!r}")

    def _row_before(self, before: Any, rows: Any) -> dict[str, Any] | None:
        """The description of rows that come to a transformer, after a try of both."""
        self.predict(before.transform(rows))
        return _described_row(rows)

    def _scores(self, data: Any, labels: np.ndarray, ids: np.ndarray) -> ScoreTable:
        """Fits the classifiers; their predictions on rows that they were not trained on."""
        everything = np.arange(len(labels))
        if isinstance(self.cv, str):
            if self.cv != "prefit":
                raise ValueError(f"cv must be a number of folds, a splitter, splits or 'prefit'; got {self.cv!r}")
            self.stages_ = list(self.stages)
            return self._table(data, everything, ids)
        splits = list(check_cv(self.cv, labels, classifier=True).split(data, labels))
        if self.guarantee == "certified":
            train, held_out = splits[0]
            self.stages_ = self._fitted(data, labels, train)
            return self._table(data, held_out, ids)
        parts = []
        for train, held_out in splits:
            self.stages_ = self._fitted(data, labels, train)
            parts.append(self._table(data, held_out, ids, timed=False))
        self.stages_ = self._fitted(data, labels, everything)
        return self._timed(_joined(parts), data, everything)

    def _fitted(self, data: Any, labels: np.ndarray, rows: np.ndarray) -> list[tuple[str, Any]]:
        part, own = (data, labels) if len(rows) == len(labels) else (_safe_indexing(data, rows), labels[rows])
        return [(name, clone(model).fit(part, own)) for name, model in self.stages]

    def _table(self, data: Any, rows: np.ndarray, ids: np.ndarray, timed: bool = True) -> ScoreTable:
        table = collect(self._on(data)[0], rows[:, None], ids[rows], curve_seconds=0.0)
        return self._timed(table, data, rows) if timed else table

    def _timed(self, table: ScoreTable, data: Any, rows: np.ndarray) -> ScoreTable:
        """The table with the given costs, or with measured ones."""
        if self.costs is not None:
            return replace(table, cost=np.array(self.costs, dtype=np.float64), cost_unit="cost")
        measured = measure_curves(self._on(data)[0], rows[:, None], seconds=CURVE_SECONDS)
        return with_measured_curves(table, measured)

    def _on(self, data: Any) -> "tuple[list[Stage], np.ndarray]":
        """Stages whose rows are indices (n, 1) of the data, and (n, C) probabilities that they leave behind."""
        probabilities = np.zeros((_num_samples(data), len(self.classes_)))
        names = [str(each) for each in self.classes_.tolist()]
        stages = [
            Stage(name, _IndexedModel(SklearnBackend(model, names, name), data, probabilities), classes=len(names))
            for name, model in self.stages_
        ]
        return stages, probabilities

    def _run(self, data: Any) -> tuple[Answers, np.ndarray]:
        check_is_fitted(self)
        (data,) = indexable(data)
        if hasattr(self, "n_features_in_") and getattr(data, "ndim", 2) == 1:
            raise ValueError(
                f"rows must be (n, {self.n_features_in_}); got shape {data.shape}. Reshape your data: X.reshape(1, -1) "
                "if it is one row"
            )
        validate_data(self, data, reset=False, skip_check_array=True)
        stages, probabilities = self._on(data)
        with _own_errors():
            answers = Cascade(stages, self.policy_).predict(np.arange(len(probabilities))[:, None])
        return answers, probabilities


class _IndexedModel:
    """A model on rows of X, of any form, by their indices.

    Args:
        backend: the model.
        rows: X.
        probabilities: (n, C), in which the probabilities of the last model that ran on a row are left.
    """

    copies_rows = True

    def __init__(self, backend: SklearnBackend, rows: Any, probabilities: np.ndarray) -> None:
        self._backend = backend
        self._rows = rows
        self._probabilities = probabilities

    def predict(self, rows: np.ndarray) -> Prediction:
        """(n, 1) indices."""
        places = rows[:, 0]
        prediction, probabilities = self._backend.classify(lambda: _safe_indexing(self._rows, places), len(places))
        self._probabilities[places] = probabilities
        return prediction


@contextmanager
def _own_errors() -> Iterator[None]:
    """Raises what a classifier raises about its rows as it is, as scikit-learn's users expect."""
    try:
        yield
    except StageError as error:
        cause: BaseException | None = error
        while isinstance(cause, StageError):
            cause = cause.__cause__
        if isinstance(cause, (ValueError, TypeError)):
            raise cause from None
        raise


def _joined(tables: Sequence[ScoreTable]) -> ScoreTable:
    """The rows of several tables of the same stages; costs are the means."""

    def joined(name: str) -> np.ndarray | None:
        arrays = [getattr(table, name) for table in tables]
        return None if any(array is None for array in arrays) else np.concatenate(arrays)

    cost = np.mean([table.cost for table in tables], axis=0)
    columns = {name: joined(name) for name in ("prediction", "confidence", "label", "scores")}
    return replace(tables[0], cost=cost, **columns)  # type: ignore[arg-type]


def _described_row(rows: Any) -> dict[str, Any] | None:
    """The configuration's description of a row; ``None`` if there is none."""
    if hasattr(rows, "tocsr"):
        return None
    if hasattr(rows, "columns"):
        columns = described_columns(rows)
        return None if columns is None else {"columns": columns}
    array = np.asarray(rows)
    if array.dtype.kind in "US" or (array.dtype == object and all(isinstance(each, str) for each in array.ravel())):
        return {"dtype": "text"} if array.ndim == 1 else None
    return {"shape": list(array.shape[1:]), "dtype": str(array.dtype)} if array.dtype.kind in "biuf" else None
