"""The trial of a stage in calls of several sizes."""

import numpy as np
import pytest

from cascade.config import RowsConfig
from cascade.errors import CheckFailed
from cascade.prediction import Prediction
from cascade.rows.checks import check_rows, example_row, example_rows
from cascade.stage import Stage
from cascade.stage_check import CALL_ROWS, try_stage

ROWS = np.arange(5.0)[:, None]


def probabilities(rows):
    p = rows[:, 0] % 2 * 0.6 + 0.2
    return np.stack([1 - p, p], axis=1)


class Model:
    """Answers by a function of the rows."""

    def __init__(self, answer):
        self.answer, self.sizes = answer, []

    def predict(self, rows):
        self.sizes.append(len(rows))
        return Prediction.from_probabilities(self.answer(rows))


def test_rows_go_alone_and_in_calls_of_every_size():
    model = Model(probabilities)
    assert try_stage(Stage("a", model), ROWS, made_up=False) == 5
    assert set(model.sizes) == set(CALL_ROWS)


RANDOM = np.random.default_rng(0)
FAULTS = {
    "normalised by the batch": lambda rows: probabilities(rows - (rows.mean() if len(rows) > 1 else 0) + 1),
    "another order": lambda rows: probabilities(rows)[::-1],
    "only the first row": lambda rows: np.repeat(probabilities(rows)[:1], len(rows), axis=0),
    "by chance": lambda rows: probabilities(RANDOM.integers(0, 2, rows.shape)),
    "a batch of one": lambda rows: probabilities(rows) if len(rows) == 1 else {}["batch"],
    "at most two rows": lambda rows: probabilities(rows[:2]),
    "at most sixteen rows": lambda rows: probabilities(rows[:16]),
}


@pytest.mark.parametrize("made_up", [False, True])
@pytest.mark.parametrize("fault", FAULTS)
def test_an_answer_that_depends_on_the_other_rows_fails_the_check(fault, made_up):
    with pytest.raises(CheckFailed, match="stage 'a'"):
        try_stage(Stage("a", Model(FAULTS[fault])), ROWS, made_up)


def test_a_tie_may_be_broken_by_rounding():
    def tied(rows):
        return np.tile([0.5, 0.5] if len(rows) == 1 else [0.4999, 0.5001], (len(rows), 1))

    assert try_stage(Stage("a", Model(tied)), ROWS, made_up=False) == 5


def test_made_up_rows_that_a_model_refuses_are_left_out_and_real_ones_are_not():
    def picky(rows):
        if (rows > 1).any():
            raise ValueError("no such row")
        return probabilities(rows)

    assert try_stage(Stage("a", Model(picky)), ROWS, made_up=True) == 2
    with pytest.raises(CheckFailed, match="no such row"):
        try_stage(Stage("a", Model(picky)), ROWS, made_up=False)
    with pytest.raises(CheckFailed, match=r"no such row.*use --rows"):
        try_stage(Stage("a", Model(picky)), ROWS + 2, made_up=True)


def test_made_up_rows_that_break_the_contract_fail_the_check():
    def logits(rows):
        return probabilities(rows) * np.where(rows > 1, 7, 1)

    with pytest.raises(CheckFailed, match="look like logits"):
        try_stage(Stage("a", Model(logits)), ROWS, made_up=True)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "uint8", "int8", "int64", "bool", "text"])
def test_made_up_rows_are_rows_and_begin_with_the_plain_one(dtype):
    config = RowsConfig(shape=() if dtype == "text" else (2, 3), dtype=dtype)
    rows = example_rows(config, 6)
    assert check_rows(rows, config).tolist() == rows.tolist()
    assert rows[:1].tolist() == example_row(config).tolist()
    assert len({str(row) for row in rows}) > 1
