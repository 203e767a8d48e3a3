"""The stage contract: the predictions of every backend are checked here."""

from typing import Any

import numpy as np

from cascade.backends.backend import Backend, PredictsWindows
from cascade.backends.detection.windows import Windows
from cascade.errors import CascadeError, RowsError, StageError
from cascade.prediction import Prediction
from cascade.rows.parts import Parts

__all__ = ["StageContract"]

ROUNDING = 1e-6
"""Maximum rounding error by which a probability may leave [0, 1]."""
SUM_TOLERANCE = 5e-3
"""Maximum difference from 1 of the sum of a row's probabilities: bfloat16 has 8 bits, float16 has 11."""
LEAST_SUM, MOST_SUM = 1 - SUM_TOLERANCE, 1 + ROUNDING
"""Range of the sum of a row that passes the quick check; with probabilities >= 0, none of them is above 1 then."""
FEW_COLUMNS = 64
"""Up to this many probabilities of one row, a list is faster than NumPy."""
AXES = {"answer": 1, "probabilities": 2, "confidence": 1, "cost": 1, "mflop": 1}
INT64 = np.dtype(np.int64)


class StageContract:
    """Calls a model and checks its predictions.

    The model gets the rows read-only, or copies them itself (``copies_rows``). For n rows it must return n entries of
    each: integer classes in 0 to C - 1; either probabilities (finite, in [0, 1], C >= 2 columns, each row with sum 1)
    or a finite confidence in [0, 1]; optionally a finite cost >= 0, and finite operations > 0. Every call must return
    the same of these, and the same C. Probabilities that rounding made negative become 0.

    Args:
        stage: its name, for messages.
        backend: the model.
        classes: C, if the configuration names the classes; ``None`` takes C from the first probabilities.
    """

    def __init__(self, stage: str, backend: Backend, classes: int | None = None) -> None:
        self.stage = stage
        self.backend = backend
        self.classes = classes
        self._copies_rows = bool(getattr(backend, "copies_rows", False))
        self._columns = classes
        self._given: tuple[str, ...] = ()
        self._dtype: np.dtype[Any] | None = None
        self._ones = np.zeros(0)
        self._is_plain = False

    def predict(self, rows: np.ndarray | Parts) -> Prediction:
        """The model's prediction, checked.

        Args:
            rows: (n, ...), n >= 1; never changed. Parts are gathered unless the model predicts them as they are.

        Raises:
            RowsError: the model refuses the rows.
            StageError: the model raised anything else, or broke the contract.
        """
        try:
            returned = self._call(rows)
        except RowsError:
            raise
        except StageError as error:  # from a nested stage, as in an ensemble
            raise StageError(self.stage, f"{error.stage}: {error.problem}") from error.__cause__
        except CascadeError as error:
            raise StageError(self.stage, str(error)) from error
        except (Exception, SystemExit) as error:  # a model may raise anything, and must not end the process
            what = f"rows of shape {rows.shape} and type {rows.dtype}: {type(error).__name__}: {error}"
            raise StageError(self.stage, f"its model failed on {what}") from error
        if self._is_plain and type(returned) is Prediction and self._is_sound(returned, len(rows)):
            return returned
        return self._checked(returned, len(rows))

    def _call(self, rows: np.ndarray | Parts) -> Any:
        if not isinstance(rows, np.ndarray):
            if isinstance(rows, Windows) and isinstance(self.backend, PredictsWindows):
                return self.backend.predict_windows(rows)
            rows = np.asarray(rows)
        if not self._copies_rows and rows.flags.writeable:
            rows = rows.view()
            rows.setflags(write=False)
        return self.backend.predict(rows)

    def _is_sound(self, returned: Prediction, rows: int) -> bool:
        """A quick check for the usual case, probabilities only; ``False`` leads to the full check."""
        answer, probabilities, columns = returned.answer, returned.probabilities, self._columns
        if type(answer) is not np.ndarray or type(probabilities) is not np.ndarray or columns is None:
            return False
        if returned.confidence is not None or returned.cost is not None or returned.mflop is not None:
            return False
        if answer.dtype is not INT64 or probabilities.dtype is not self._dtype:
            return False
        if answer.shape != (rows,) or probabilities.shape != (rows, columns):
            return False
        if rows == 1 and columns <= FEW_COLUMNS:
            (row,) = probabilities.tolist()
            # min may miss a NaN, sum does not.
            return bool(min(row) >= 0 and LEAST_SUM <= sum(row) <= MOST_SUM and 0 <= answer.item() < columns)
        sums = probabilities.dot(self._ones)
        return bool(
            np.minimum.reduce(probabilities, axis=None) >= 0
            and np.minimum.reduce(sums) >= LEAST_SUM
            and np.maximum.reduce(sums) <= MOST_SUM
            and np.maximum.reduce(answer.view(np.uint64)) < columns  # negative ones are large then
        )

    def _checked(self, returned: object, rows: int) -> Prediction:
        if not isinstance(returned, Prediction):
            raise self._broken(f"its model returned {type(returned).__name__}; a backend must return a Prediction")
        found = {name: self._array(name, getattr(returned, name), axes, rows) for name, axes in AXES.items()}
        answer, probabilities, confidence = found["answer"], found["probabilities"], found["confidence"]
        if answer is None:
            raise self._broken("its model returned no answer")
        if (probabilities is None) == (confidence is None):
            raise self._broken(
                f"its model returned {'neither' if confidence is None else 'both'} probabilities "
                f"{'nor' if confidence is None else 'and'} a confidence; return one of them, for the router"
            )
        given = tuple(name for name, array in found.items() if array is not None)
        if self._given and given != self._given:
            raise self._broken(
                f"its model returned {', '.join(given)}; before, it returned {', '.join(self._given)}. Return the same "
                "in every call"
            )
        columns = self.classes
        if probabilities is not None:
            columns = self._check_columns(probabilities.shape[1])
            probabilities = self._checked_probabilities(probabilities)
        self._check_range("confidence", confidence, 0.0, 1.0)
        self._check_range("cost", found["cost"], 0.0, np.inf)
        self._check_range("mflop", found["mflop"], np.nextafter(0.0, 1.0), np.inf)
        answer = self._checked_answer(answer, columns)
        self._given, self._columns = given, columns
        if probabilities is not None:
            self._dtype, self._ones = probabilities.dtype, np.ones(probabilities.shape[1], probabilities.dtype)
        self._is_plain = given == ("answer", "probabilities")
        return Prediction(answer, probabilities, confidence, found["cost"], found["mflop"])

    def _array(self, name: str, value: object, axes: int, rows: int) -> np.ndarray | None:
        if value is None:
            return None
        try:
            array = np.asarray(value)
        except ValueError as error:
            raise self._broken(f"its model returned {name} of rows of different lengths") from error
        if array.ndim != axes or len(array) != rows:
            wanted = f"({rows},)" if axes == 1 else f"({rows}, C)"
            raise self._broken(
                f"its model was given {rows} rows and returned {name} of shape {array.shape}; it must be {wanted}, one "
                "entry for every row, in their order"
            )
        kinds = {"answer": "iu", "probabilities": "fiub"}.get(name, "fiu")
        if array.dtype.kind not in kinds:
            raise self._broken(
                f"its model returned {name} of type {array.dtype}; "
                f"it must be {'whole numbers, the ids of the classes' if name == 'answer' else 'numbers'}"
            )
        return array if name == "answer" or array.dtype.kind == "f" else array.astype(np.float64)

    def _check_columns(self, columns: int) -> int:
        if columns < 2:
            raise self._broken(
                f"its model returned probabilities of {columns} columns; a column for each of at least two classes is "
                "needed (of one sigmoid p, the columns are 1 - p and p)"
            )
        if self._columns is not None and columns != self._columns:
            source = "before it were" if self.classes is None else "the config's 'classes' are"
            raise self._broken(
                f"its model returned probabilities of {columns} columns; {source} {self._columns}. Return a column for "
                "every class, in the order of 'classes', with 0 for a class that the model lacks"
            )
        return columns

    def _checked_probabilities(self, probabilities: np.ndarray) -> np.ndarray:
        finite = np.isfinite(probabilities)
        if not finite.all():
            row, column = np.argwhere(~finite)[0].tolist()
            raise self._broken(
                f"its model returned a probability of {probabilities[row, column]} for row {row}, class {column}; all "
                "must be finite numbers"
            )
        low, high = float(probabilities.min()), float(probabilities.max())
        if low < -ROUNDING or high > 1 + ROUNDING:
            raise self._broken(
                f"its model returned probabilities from {low:.4g} to {high:.4g}, which look like logits; apply a "
                "softmax (a sigmoid, if there is one column), or let the backend do so (output_kind: logits)"
            )
        sums = probabilities.sum(axis=1, dtype=np.float64)
        wrong = np.abs(sums - 1) > SUM_TOLERANCE
        if wrong.any():
            row = int(wrong.argmax())
            raise self._broken(
                f"its model returned probabilities of row {row} that sum to {sums[row]:.4g}; every row must sum to 1 "
                "(apply a softmax to logits; divide votes, or sigmoids of each class, by their sum)"
            )
        return probabilities if low >= 0 else np.maximum(probabilities, 0)

    def _check_range(self, name: str, values: np.ndarray | None, low: float, high: float) -> None:
        if values is None:
            return
        wrong = ~(np.isfinite(values) & (values >= low) & (values <= high))
        if wrong.any():
            row = int(wrong.argmax())
            wanted = "in [0, 1]" if high == 1 else f"finite and {'above' if low else 'at least'} 0"
            raise self._broken(f"its model returned a {name} of {values[row]} for row {row}; it must be {wanted}")

    def _checked_answer(self, answer: np.ndarray, classes: int | None) -> np.ndarray:
        low, high = int(answer.min()), int(answer.max())
        if low < 0 or high > (np.iinfo(np.int64).max if classes is None else classes - 1):
            wanted = "at least 0" if classes is None else f"in 0 to {classes - 1}, as there are {classes} classes"
            raise self._broken(f"its model returned answers from {low} to {high}; the ids of classes are {wanted}")
        return answer.astype(np.int64, copy=False)

    def _broken(self, problem: str) -> StageError:
        return StageError(self.stage, problem)
