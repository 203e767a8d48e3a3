"""What a request may override."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.backends.fake_backend import FakeBackend
from cascade.calibration import Policy
from cascade.engine import Segment
from cascade.errors import RowsError
from cascade.serving.policy.request_overrides import RequestOverrides
from cascade.stage import Stage

NAMES = ("a", "b", "c")


def config(least_max_stage=None, request_timeout_s=30.0):
    stages = [SimpleNamespace(name=name) for name in NAMES]
    serving = SimpleNamespace(least_max_stage=least_max_stage, request_timeout_s=request_timeout_s)
    return SimpleNamespace(stages=stages, serving=serving)


def test_a_stage_below_the_least_counts_as_the_least_and_the_cascades_last_one_is_no_limit():
    assert [RequestOverrides(max_stage=name).last_stage(config()) for name in (None, *NAMES)] == [None, 0, 1, None]
    assert [RequestOverrides(max_stage=name).last_stage(config("b")) for name in (None, *NAMES)] == [None, 1, 1, None]


def test_an_unknown_stage_is_refused():
    with pytest.raises(RowsError, match="one of a, b, c; got 'd'"):
        RequestOverrides(max_stage="d").last_stage(config())


def test_no_request_waits_longer_than_the_configuration_allows():
    assert [RequestOverrides(given).limited_timeout_s(config()) for given in (None, 2.0, 300.0)] == [30.0, 2.0, 30.0]


@given(
    st.lists(st.lists(st.floats(0.4, 1), min_size=3, max_size=3), min_size=1, max_size=20),
    st.lists(st.floats(0, 1), min_size=2, max_size=2),
    st.floats(0, 0.5),
    st.integers(0, 2),
)
def test_no_later_stage_runs_and_rows_that_would_have_gone_on_are_degraded(confidence, thresholds, skip, last):
    confidence = np.array(confidence)
    tables = [np.stack([column, 1 - column], axis=1) for column in confidence.T]
    stages = [Stage(name, FakeBackend(table.tolist())) for name, table in zip(NAMES, tables, strict=True)]
    policy = Policy(NAMES, Policy.from_thresholds(NAMES, np.zeros(2)).routers, np.array(thresholds),
                    cost=np.array([1.0, 10, 100]), defer_below=np.array([skip, 0]))  # fmt: skip
    rows = np.arange(len(confidence))[:, None]
    answers = Segment(stages).run(rows, policy, last_stage=last)
    sure = np.stack([table.max(axis=1) for table in tables], axis=1) >= [*thresholds, 0]
    first = np.where(sure.any(axis=1), sure.argmax(axis=1), 2)
    if last < 2:
        assert answers.stage.tolist() == np.minimum(first, last).tolist()
        degraded = np.zeros(len(rows), bool) if answers.degraded is None else answers.degraded
        assert degraded.tolist() == (first > last).tolist()
        assert (answers.cost <= [1, 11][last]).all()
    else:
        assert answers.degraded is None
