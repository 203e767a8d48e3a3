"""What a request may ask for itself."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.backends.fake_backend import FakeBackend
from cascade.calibration import Policy
from cascade.cascade import Cascade
from cascade.errors import RowsError
from cascade.serving.policy.limits import StageLimit, limited_policy, marked_answers
from cascade.stage import Stage

NAMES = ("a", "b", "c")


def test_a_stage_below_the_least_counts_as_the_least():
    assert [StageLimit(NAMES).place(name) for name in NAMES] == [0, 1, 2]
    assert [StageLimit(NAMES, "b").place(name) for name in NAMES] == [1, 1, 2]


def test_an_unknown_stage_is_refused():
    with pytest.raises(RowsError, match="one of a, b, c; got 'd'"):
        StageLimit(NAMES).place("d")


@given(
    st.lists(st.lists(st.floats(0.4, 1), min_size=3, max_size=3), min_size=1, max_size=20),
    st.lists(st.floats(0, 1), min_size=2, max_size=2),
    st.floats(0, 0.5),
    st.integers(0, 2),
)
def test_no_later_stage_is_asked_and_rows_that_would_have_gone_on_are_marked(confidence, thresholds, skip, last):
    confidence = np.array(confidence)
    tables = [np.stack([column, 1 - column], axis=1) for column in confidence.T]
    stages = [Stage(name, FakeBackend(table.tolist())) for name, table in zip(NAMES, tables, strict=True)]
    policy = Policy(NAMES, Policy.from_thresholds(NAMES, np.zeros(2)).routers, np.array(thresholds),
                    cost=np.array([1.0, 10, 100]), defer_below=np.array([skip, 0]))  # fmt: skip
    rows = np.arange(len(confidence))[:, None]
    answers = marked_answers(Cascade(stages, limited_policy(policy, last)).predict(rows), policy, last)
    sure = np.stack([table.max(axis=1) for table in tables], axis=1) >= [*thresholds, 0]
    first = np.where(sure.any(axis=1), sure.argmax(axis=1), 2)
    if last < 2:
        assert answers.stage.tolist() == np.minimum(first, last).tolist()
        degraded = np.zeros(len(rows), bool) if answers.degraded is None else answers.degraded
        assert degraded.tolist() == (first > last).tolist()
        assert (answers.cost <= [1, 11][last]).all()
    else:
        assert answers.degraded is None


def test_the_last_stage_is_no_limit():
    policy = Policy.from_thresholds(NAMES, np.array([0.5, 0.6]))
    assert limited_policy(policy, 2) is policy
