"""A model whose rows contain its run time; copied beside a configuration."""

import time

import numpy as np

from cascade.prediction import Prediction


class SleepingBackend:
    """Answers ``row[0] % 4``; takes the longest ``row[1]`` of a batch, in milliseconds.

    Args:
        sleeps: whether it takes that time.
        sure: whether it is sure of odd rows; of even ones it always is.
    """

    def __init__(self, sleeps, sure):
        self.sleeps, self.sure = sleeps, sure

    def predict(self, rows):
        if self.sleeps:
            time.sleep(rows[:, 1].max() / 1000)
        confidence = np.where((rows[:, 0] % 2 == 0) | self.sure, 0.9, 0.6)
        return Prediction((rows[:, 0] % 4).astype(np.int64), confidence=confidence)
