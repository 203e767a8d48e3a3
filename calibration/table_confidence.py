"""The calibrated confidences of a score table's stages, and their evidence."""

from collections.abc import Sequence

import numpy as np

from cascade.calibration.calibrators import Temperature
from cascade.calibration.tables.score_table import ScoreTable
from cascade.errors import ScoreTableError
from cascade.routers import EVIDENCE_COLUMNS, Router, new_evidence, rejected_class

__all__ = ["calibrated_confidence", "check_rejected_classes", "table_evidence"]


def calibrated_confidence(table: ScoreTable, routers: tuple[Router, ...]) -> np.ndarray:
    """The confidences that a cascade's thresholds are compared with.

    Args:
        table: n rows, K stages.
        routers: K.

    Returns:
        (n, K) float64 in [0, 1].

    Raises:
        ScoreTableError: a router has a temperature or a head that needs class probabilities, and the table has none; or
            it rejects, and its stage also has other answers in the table.
    """
    for name, router in zip(table.stage, routers, strict=True):
        if table.scores is None and router.head is not None and router.head.needs_probabilities:
            raise ScoreTableError(
                f"stage {str(name)!r} has a head on class probabilities, but the score table has no 'scores'; "
                "collect them, or calibrate on this table"
            )
        if table.scores is None and isinstance(router.calibrator, Temperature):
            raise ScoreTableError(
                f"stage {str(name)!r} is calibrated by a temperature, but the score table has no 'scores'; "
                "collect them, or calibrate on this table"
            )
    check_rejected_classes(table, [router.score for router in routers])
    evidence = table_evidence(table) if any(router.head is not None for router in routers) else None
    columns = [
        router.confidence(
            None if table.scores is None else table.scores[:, k],
            table.confidence[:, k],
            None if evidence is None else evidence[:, : (k + 1) * len(EVIDENCE_COLUMNS)],
        )
        for k, router in enumerate(routers)
    ]
    return np.stack(columns, axis=1).astype(np.float64)


def check_rejected_classes(table: ScoreTable, scores: Sequence[str | None]) -> None:
    """Checks that stages with a reject router answer as the rejected class only.

    Args:
        table: of K stages.
        scores: K names of scores.

    Raises:
        ScoreTableError: one also has other answers in the table.
    """
    for name, answers, score in zip(table.stage, table.prediction.T, scores, strict=True):
        number = rejected_class(score)
        if number is not None and (answers != number).any():
            raise ScoreTableError(
                f"a router with the score {score!r} rejects rows as class {number}, but stage {str(name)!r} also has "
                "other answers in the score table; collect with 'reject' in the stage's router"
            )


def table_evidence(table: ScoreTable) -> np.ndarray:
    """(n, 5 K) float64, the evidence of all stages; a head of stage k reads the first 5 (k + 1) columns."""
    columns = [
        new_evidence(
            table.prediction[:, k], table.confidence[:, k], None if table.scores is None else table.scores[:, k]
        )
        for k in range(table.stages)
    ]
    return np.concatenate(columns, axis=1)
