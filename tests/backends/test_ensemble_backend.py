"""An ensemble as one model: votes against a plain count, means, and its configuration."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import TypeAdapter, ValidationError

from cascade.backends.config import BackendConfig
from cascade.backends.digest import model_digest
from cascade.backends.ensemble_backend import EnsembleBackend
from cascade.backends.fake_backend import FakeBackend
from cascade.backends.loading import load_backend
from cascade.calibration import Policy
from cascade.cascade import Cascade
from cascade.errors import ConfigError, StageError
from cascade.prediction import Prediction
from cascade.stage import Stage


class Says:
    """Returns fixed answers, row by row."""

    def __init__(self, answer, cost=None):
        self.answer, self.cost = np.asarray(answer), cost

    def predict(self, rows):
        cost = None if self.cost is None else np.full(len(rows), self.cost)
        return Prediction(self.answer, confidence=np.ones(len(self.answer)), cost=cost)


@given(
    st.integers(1, 6).flatmap(
        lambda m: arrays(np.int64, st.tuples(st.integers(1, 8), st.just(m)), elements=st.integers(0, 3))
    )
)
def test_the_vote_is_that_of_a_plain_count(answers):
    said = EnsembleBackend([Says(column) for column in answers.T]).predict(np.zeros((len(answers), 2)))
    for line, answer, share in zip(answers.tolist(), said.answer.tolist(), said.confidence.tolist(), strict=True):
        counts = Counter(line)
        winners = [each for each in line if counts[each] == max(counts.values())]
        assert answer == winners[0]
        assert share == counts[answer] / len(line)


def test_the_mean_is_that_of_the_probabilities():
    one, other = FakeBackend([[0.9, 0.1], [0.3, 0.7]]), FakeBackend([[0.2, 0.8], [0.4, 0.6]])
    said = EnsembleBackend([one, other], "mean").predict(np.array([[1], [0]]))
    np.testing.assert_allclose(said.probabilities, [[0.35, 0.65], [0.55, 0.45]])
    assert said.answer.tolist() == [1, 0]
    with pytest.raises(ConfigError, match="rule: votes"):
        EnsembleBackend([one, Says([0, 0])], "mean").predict(np.array([[1], [0]]))
    with pytest.raises(ConfigError, match="same classes"):
        EnsembleBackend([one, FakeBackend(np.eye(3))], "mean").predict(np.array([[1], [0]]))


def test_costs_of_rows_add_up_where_every_member_has_one():
    rows = np.zeros((2, 1))
    assert EnsembleBackend([Says([0, 1], 1.5), Says([0, 0], 2.0)]).predict(rows).cost.tolist() == [3.5, 3.5]
    assert EnsembleBackend([Says([0, 1], 1.5), Says([0, 0])]).predict(rows).cost is None


def test_a_member_that_breaks_its_contract_is_named():
    broken = EnsembleBackend([Says([0, 1]), Says([0])])
    with pytest.raises(StageError, match="'member 1 of an ensemble'"):
        broken.predict(np.zeros((2, 1)))
    with pytest.raises(StageError, match="stage 'pair': member 1 of an ensemble: its model was given 2 rows"):
        Stage("pair", broken).predict(np.zeros((2, 1)))


def test_a_cascade_forwards_the_rows_that_its_members_disagree_on():
    members = [FakeBackend(np.eye(2)[[0, 0, 1]]), FakeBackend(np.eye(2)[[0, 1, 1]])]
    stages = [Stage("pair", EnsembleBackend(members)), Stage("big", FakeBackend(np.eye(2)[[1, 1, 0]]))]
    answers = Cascade(stages, Policy.from_thresholds(("pair", "big"), np.ones(1))).predict(np.arange(3)[:, None])
    assert answers.stage.tolist() == [0, 1, 0]
    assert answers.answer.tolist() == [0, 1, 1]


def description(*tables, **more):
    fake = "cascade.backends.fake_backend:FakeBackend"
    members = [{"type": "custom", "object": fake, "arguments": {"probabilities": table}} for table in tables]
    return TypeAdapter(BackendConfig).validate_python({"type": "ensemble", "members": members, **more})


def test_it_is_described_by_its_members():
    config = description([[1.0, 0.0]], [[0.0, 1.0]], [[0.0, 1.0]])
    said = load_backend(config).predict(np.zeros((1, 1)))
    assert (said.answer[0], said.confidence[0]) == (1, pytest.approx(2 / 3))
    others = [
        description([[1.0, 0.0]], [[0.0, 1.0]]),
        description([[1.0, 0.0]], [[0.0, 1.0]], [[0.0, 1.0]], rule="mean"),
        description([[0.0, 1.0]], [[1.0, 0.0]], [[0.0, 1.0]]),
    ]
    assert len({model_digest(each) for each in (config, *others)}) == 4
    with pytest.raises(ValidationError, match="at least 2"):
        description([[1.0, 0.0]])
