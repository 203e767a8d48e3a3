"""A trial of a stage on a few rows, in calls of several sizes, before it is used."""

from collections.abc import Iterator

import numpy as np

from cascade.errors import CascadeError, CheckFailed, StageError
from cascade.prediction import Prediction
from cascade.stage import Stage

__all__ = ["CALL_ROWS", "try_stage"]

CALL_ROWS = (1, 2, 3, 8, 64)
"""Rows per call; 64 is the default of ``collect`` and of a gateway."""
TOLERANCE = 0.02
"""Maximum difference of a probability between calls with other rows: bfloat16 has 8 bits."""


def try_stage(stage: Stage, rows: np.ndarray, made_up: bool) -> int:
    """Runs a stage on rows alone and together, and compares its predictions.

    Args:
        stage: the stage.
        rows: (m, ...), m >= 1; repeated where a call needs more.
        made_up: whether the rows after the first are synthetic. The model may refuse synthetic rows but the first;
            those are left out.

    Returns:
        Number of rows that the model accepted.

    Raises:
        CheckFailed: the model failed, broke the stage contract, or its prediction for a row depends on the other rows
            of the call.
    """
    alone, taken = [], []
    for row in range(len(rows)):
        try:
            prediction = _asked(stage, rows[row : row + 1])
        except CheckFailed as error:
            if not (made_up and _refuses(error)):
                raise
            if row == 0:
                raise CheckFailed(
                    f"{error} (the row was made up, all zeros; if the model is right to refuse it, use --rows)"
                ) from error
            continue
        alone.append(prediction)
        taken.append(row)
    for size in CALL_ROWS:
        for places in _calls(len(taken), size):
            together = _asked(stage, rows[[taken[place] for place in places]])
            for at, place in enumerate(places):
                _compare(stage, alone[place], together, at, size)
    return len(taken)


def _calls(rows: int, size: int) -> Iterator[list[int]]:
    """Indices of the rows of each call; every row is in one."""
    for start in range(0, rows, size):
        yield [place % rows for place in range(start, start + size)]


def _asked(stage: Stage, rows: np.ndarray) -> Prediction:
    try:
        prediction = stage.predict(np.ascontiguousarray(rows))
        stage.raw_confidence(prediction)
    except CascadeError as error:
        raise CheckFailed(str(error)) from error
    return prediction.copy()


def _refuses(error: CheckFailed) -> bool:
    """Whether the model raised, rather than returned something that breaks the contract."""
    return not isinstance(error.__cause__, StageError) or error.__cause__.__cause__ is not None


def _compare(stage: Stage, alone: Prediction, together: Prediction, at: int, size: int) -> None:
    name = "probabilities" if alone.probabilities is not None else "confidence"
    one, other = getattr(alone, name)[0], getattr(together, name)[at]
    # If two classes are equally likely, rounding decides.
    close = bool((np.abs(one.astype(np.float64) - other) <= TOLERANCE).all())
    same = alone.answer[0] == together.answer[at] or _is_tie(alone.probabilities)
    if not (close and same):
        raise CheckFailed(
            f"stage {stage.name!r}: its model returns {alone.answer[0]} ({name} {_rounded(one)}) for a row alone and "
            f"{together.answer[at]} ({_rounded(other)}) for the same row as number {at} of {size}; a prediction must "
            "depend neither on other rows nor on chance (batch norms and dropout in training mode, rows in another "
            "order)"
        )


def _rounded(values: np.ndarray) -> str:
    most = 5
    return str(np.round(values, 3) if values.ndim == 0 else np.round(values[:most], 3).tolist())


def _is_tie(probabilities: np.ndarray | None) -> bool:
    if probabilities is None:
        return False
    top = np.sort(probabilities[0].astype(np.float64))[-2:]
    return bool(top[1] - top[0] <= 2 * TOLERANCE)
