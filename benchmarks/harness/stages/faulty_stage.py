"""The busy stage, which hangs or raises on marked rows."""

import time

import numpy as np

from cascade.benchmarks.harness.stages import busy_stage

__all__ = ["HANG", "HANG_S", "RAISE", "BusyStage", "marked"]

MARK = slice(4, 8)
HANG, RAISE = b"HANG", b"FAIL"
HANG_S = 6.0


class BusyStage(busy_stage.BusyStage):
    """Only the last stage does it, so that the gateway itself goes on."""

    def predict(self, rows: np.ndarray) -> np.ndarray:
        """(n, ...) uint8 -> (n, C).

        Raises:
            RuntimeError: a row is marked with ``RAISE``.
        """
        if self.answer_byte == busy_stage.LATER_STAGE_BYTE:
            marks = {bytes(mark) for mark in rows.reshape(len(rows), -1)[:, MARK]}
            if HANG in marks:
                time.sleep(HANG_S)
            if RAISE in marks:
                raise RuntimeError("a marked row")
        return super().predict(rows)


def marked(rows: np.ndarray, mark: bytes) -> np.ndarray:
    """A copy of rows that the last stage hangs or raises on; the first stage defers all of them."""
    flat = rows.reshape(len(rows), -1).copy()
    flat[:, 0] = 0
    flat[:, MARK] = np.frombuffer(mark, np.uint8)
    return flat.reshape(rows.shape)
