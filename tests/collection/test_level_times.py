"""Stages that evaluate pyramid levels: their time over a level, against gathered windows."""

import time

import numpy as np

from cascade.collection.level_times import WINDOWS_ACROSS, level_shares, mosaic
from cascade.prediction import Prediction
from cascade.stage import Stage

ROWS = np.arange(5 * 6 * 4, dtype=np.uint8).reshape(5, 6, 4)


class Gathered:
    """Two microseconds a window."""

    def predict(self, rows):
        time.sleep(len(rows) * 2e-6)
        return Prediction.from_probabilities(np.full((len(rows), 1), 0.5))


class OverLevels(Gathered):
    """A tenth of the time where a level is given."""

    def __init__(self):
        self.levels, self.windows = [], 0

    def predict_windows(self, windows):
        if windows.level not in self.levels:
            self.levels.append(windows.level)
        self.windows += len(windows)
        time.sleep(len(windows) * 2e-7)
        return Prediction.from_probabilities(np.full((len(windows), 1), 0.5))


def test_only_stages_that_take_levels_have_a_share():
    backend = OverLevels()
    stages = [Stage("a", Gathered()), Stage("b", backend)]
    shares = level_shares(stages, ROWS, stride=2, seconds=0.0)
    assert np.isnan(shares[0])
    assert 0.02 < shares[1] < 0.8
    assert backend.windows == len(backend.levels) * WINDOWS_ACROSS**2
    assert len(backend.levels) == 2
    assert level_shares(stages[:1], ROWS, stride=2, seconds=0.0) is None


def test_a_mosaic_consists_of_whole_rows_and_cut_ones_at_the_edges():
    for rows in (ROWS, np.stack([ROWS] * 3, axis=-1)):
        image = mosaic(rows, (15, 9), np.random.default_rng(0))
        assert image.shape == (15, 9, *rows.shape[3:])
        for top in (0, 6):
            for left in (0, 4):
                assert any((image[top : top + 6, left : left + 4] == row).all() for row in rows)
