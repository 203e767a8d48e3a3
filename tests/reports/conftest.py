"""Replays of synthetic tables, with any stage names."""

import dataclasses

import numpy as np
import pytest

from cascade.calibration import Policy
from cascade.reports import Replay
from cascade.routers import NEVER


@pytest.fixture(scope="session")
def make_replay(make_table):
    """A function: the replay of a policy of thresholds (by default 0.8) on a table of ``make_table``'s options."""

    def build(n=200, stages=3, thresholds=None, names=None, cost=None, certificate=None, **options):
        table = make_table(n, len(names) if names else stages, **options)
        if names:
            table = dataclasses.replace(table, stage=np.array(names))
        if cost is not None:
            table = dataclasses.replace(table, cost=np.array(cost))
        thresholds = np.full(table.stages - 1, 0.8) if thresholds is None else np.array(thresholds)
        policy = Policy.from_thresholds(tuple(table.stage.tolist()), thresholds)
        return Replay.of(table, dataclasses.replace(policy, certificate=certificate or {}))

    return build


@pytest.fixture(scope="session", params=(1, 2, 3, 5, 6))
def any_replay(request, make_replay):
    """Of 1 to 6 stages; from 3 stages on, the second one is never sure of a row and the third one of all."""
    thresholds = [0.8] * (request.param - 1)
    thresholds[1:3] = [NEVER, 0.0][: max(request.param - 2, 0)]
    return make_replay(stages=request.param, thresholds=thresholds, seed=request.param)
