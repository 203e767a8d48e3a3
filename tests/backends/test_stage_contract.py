"""The stage contract: every entry point gives the right answer, or one clear StageError."""

import asyncio
import warnings

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cascade.backends.config import CustomConfig
from cascade.backends.custom_backend import CustomBackend
from cascade.backends.fake_backend import FakeBackend
from cascade.calibration import Policy
from cascade.cascade import Cascade
from cascade.collection.collect import collect
from cascade.engine import Segment
from cascade.errors import CheckFailed, ConfigError, RowsError, StageError
from cascade.prediction import Prediction
from cascade.serving.batching.batcher import Batcher, BatcherOptions
from cascade.serving.batching.steps import single_step
from cascade.serving.errors import StageFailed
from cascade.stage import Stage
from cascade.stage_check import try_stage

ROWS = np.arange(3.0)[:, None]
SURE = np.array([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]])


class Says:
    """A backend that gives back whatever it was made with."""

    def __init__(self, said):
        self.said = said

    def predict(self, rows):
        return self.said


def answered(said, classes=None, rows=ROWS):
    return Stage("odd", Says(said), classes=classes).predict(rows)


def prediction(answer=(0, 1, 0), probabilities=None, **more):
    return Prediction(np.asarray(answer), probabilities, **more)


def rounded(dtype):
    table = np.random.default_rng(0).dirichlet(np.ones(1000), 3)
    return table.astype(dtype)


def to_bfloat16(table):
    """float32 numbers of 8 significant bits, as a network in bfloat16 gives them."""
    bits = table.astype(np.float32).view(np.uint32)
    return ((bits + 0x8000) & 0xFFFF0000).view(np.float32)


@pytest.mark.parametrize(
    "probabilities",
    [
        SURE,
        SURE.astype(np.float32),
        SURE.astype(np.float16),
        np.eye(2)[[0, 1, 1]],
        np.eye(2, dtype=bool)[[0, 1, 1]],
        np.eye(2, dtype=int)[[0, 1, 1]],
        rounded(np.float16),
        rounded(np.float32),
        to_bfloat16(rounded(np.float32)),
        np.array([[1 + 1e-7, -1e-7], [0.5, 0.5], [0.0, 1.0]]),
        SURE.astype(">f8"),
    ],
    ids=lambda table: f"{table.dtype} {table.shape[1]}",
)
@pytest.mark.parametrize("rows", [3, 1])
def test_probabilities_of_any_precision_are_taken(probabilities, rows):
    said = Prediction.from_probabilities(probabilities[:rows])
    stage = Stage("odd", Says(said))
    for _ in range(3):  # the first call is looked at more closely
        found = stage.predict(ROWS[:rows])
        assert found.answer.tolist() == probabilities[:rows].argmax(axis=1).tolist()
        assert found.answer.dtype == np.int64
        assert found.probabilities.dtype.kind == "f"
        assert found.probabilities.min() >= 0
        np.testing.assert_allclose(found.probabilities, probabilities[:rows], atol=1e-6)


def test_one_column_of_from_probabilities_becomes_two():
    said = answered(Prediction.from_probabilities(np.array([[0.2], [0.5], [0.9]])))
    np.testing.assert_allclose(said.probabilities, [[0.8, 0.2], [0.5, 0.5], [0.1, 0.9]])
    assert said.answer.tolist() == [0, 0, 1]


HALF = np.full((3, 2), 0.5)
BROKEN = {
    "a row too few": (prediction((0, 1), HALF[:2]), r"given 3 rows and returned answer of shape \(2,\)"),
    "a row too many": (prediction((0, 1, 1), np.full((4, 2), 0.5)), r"returned probabilities of shape \(4, 2\)"),
    "an axis too many": (prediction([[0], [1], [1]], HALF), r"answer of shape \(3, 1\); it must be \(3,\)"),
    "an axis too few": (prediction(probabilities=np.full(3, 0.5)), r"it must be \(3, C\)"),
    "confidence as a column": (prediction(confidence=np.ones((3, 1))), r"confidence of shape \(3, 1\)"),
    "costs too many": (prediction(confidence=np.ones(3), cost=np.ones(4)), r"cost of shape \(4,\)"),
    "neither": (prediction(), "neither probabilities nor a confidence"),
    "both": (prediction(probabilities=HALF, confidence=np.ones(3)), "both probabilities and a confidence"),
    "no answer": (Prediction(None, HALF), "no answer"),
    "ragged": (Prediction([0, 1, 0], [[0.5, 0.5], [1.0], [0.5, 0.5]]), "rows of different lengths"),
    "one column": (prediction((0, 0, 0), np.ones((3, 1))), "1 columns; a column for each of at least two classes"),
    "no column": (prediction((0, 0, 0), np.ones((3, 0))), "0 columns"),
    "texts": (prediction(("a", "b", "a"), HALF), "answer of type <U1; it must be whole numbers"),
    "float answers": (prediction((0.0, 1.0, 0.0), HALF), "answer of type float64"),
    "text probabilities": (prediction(probabilities=np.full((3, 2), "0.5")), "probabilities of type <U3"),
    "complex": (prediction(probabilities=HALF * 1j), "probabilities of type complex128"),
    "objects": (prediction(probabilities=HALF.astype(object)), "probabilities of type object"),
    "NaN": (prediction(probabilities=np.full((3, 2), np.nan)), "a probability of nan for row 0, class 0"),
    "a NaN": (prediction(probabilities=[[0.5, 0.5], [0.5, np.nan], [0.5, 0.5]]), "nan for row 1, class 1"),
    "infinite": (prediction(probabilities=[[0.5, 0.5], [np.inf, 0.5], [0.5, 0.5]]), "inf for row 1, class 0"),
    "logits": (prediction(probabilities=[[3.0, -2.0]] * 3), r"from -2 to 3, which look like logits; apply a softmax"),
    "sigmoids": (prediction(probabilities=[[0.5, 0.5], [0.9, 0.8], [0.5, 0.5]]), "row 1 that sum to 1.7"),
    "votes": (prediction(probabilities=[[0.0, 0.0]] * 3), "row 0 that sum to 0"),
    "negative id": (prediction((0, -1, 0), HALF), "answers from -1 to 0; the ids of classes are in 0 to 1"),
    "large id": (prediction((0, 2, 0), HALF), "answers from 0 to 2"),
    "negative id without classes": (prediction((0, -1, 0), confidence=np.ones(3)), "at least 0"),
    "huge id": (prediction(np.full(3, 2**63, np.uint64), confidence=np.ones(3)), "9223372036854775808"),
    "confidence above 1": (prediction(confidence=[0.5, 1.5, 0.5]), "confidence of 1.5 for row 1"),
    "confidence in %": (prediction(confidence=[50, 90, 20]), "confidence of 50.0 for row 0"),
    "confidence NaN": (prediction(confidence=[0.5, 0.5, np.nan]), "confidence of nan for row 2"),
    "negative cost": (prediction(confidence=np.ones(3), cost=[1, -1, 1]), "cost of -1.0 for row 1"),
    "infinite cost": (prediction(confidence=np.ones(3), cost=[1, np.inf, 1]), "cost of inf for row 1"),
    "no operations": (prediction(confidence=np.ones(3), mflop=[1, 1, 0]), "mflop of 0.0 for row 2"),
    "a list": ([[0.5, 0.5]] * 3, "returned list; a backend must return a Prediction"),
    "nothing": (None, "returned NoneType"),
}


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("before", [False, True])
def test_a_violation_of_the_contract_is_refused_with_the_value(kind, before):
    """In the first call, and after a good one."""
    said, message = BROKEN[kind]
    backend = Says(prediction(probabilities=HALF))
    stage = Stage("odd", backend)
    if before:
        stage.predict(ROWS)
        message = rf"{message}|before, it returned answer, probabilities"
    backend.said = said
    with pytest.raises(StageError, match=message) as caught:
        stage.predict(ROWS)
    assert caught.value.stage == "odd"
    assert str(caught.value).startswith("stage 'odd': its model")


@pytest.mark.parametrize("probabilities", [[[0.5, np.nan]], [[-0.5, 1.5]], [[0.7, 0.7]], [[np.inf, 0.0]]], ids=str)
def test_a_single_row_is_checked_as_thoroughly(probabilities):
    backend = Says(Prediction(np.array([0]), HALF[:1]))
    stage = Stage("odd", backend)
    stage.predict(ROWS[:1])
    backend.said = Prediction(np.array([0]), np.array(probabilities))
    with pytest.raises(StageError):
        stage.predict(ROWS[:1])


def test_columns_are_those_of_the_config_and_of_the_call_before():
    with pytest.raises(StageError, match=r"2 columns; the config's 'classes' are 3"):
        answered(prediction(probabilities=HALF), classes=3)
    with pytest.raises(StageError, match="answers from 0 to 3"):
        answered(prediction((0, 3, 0), confidence=np.ones(3)), classes=3)
    backend = Says(prediction(probabilities=HALF))
    stage = Stage("odd", backend)
    stage.predict(ROWS)
    backend.said = prediction(probabilities=np.full((3, 4), 0.25))
    with pytest.raises(StageError, match="4 columns; before it were 2"):
        stage.predict(ROWS)


def test_a_bad_first_call_does_not_fix_the_columns():
    backend = Says(prediction(probabilities=np.full((3, 4), np.nan), cost=np.ones(3)))
    stage = Stage("odd", backend)
    with pytest.raises(StageError):
        stage.predict(ROWS)
    backend.said = prediction(probabilities=HALF)
    assert stage.predict(ROWS).probabilities.shape == (3, 2)


class Raises:
    def __init__(self, error):
        self.error = error

    def predict(self, rows):
        raise self.error


@pytest.mark.parametrize(
    "error", [ValueError("bad luck"), KeyError("k"), MemoryError(), ConfigError("odd"), TypeError(), SystemExit(3)]
)
def test_an_exception_of_a_model_is_an_error_of_the_stage(error):
    with pytest.raises(StageError, match="stage 'odd'") as caught:
        Stage("odd", Raises(error)).predict(ROWS)
    assert caught.value.__cause__ is error
    assert str(error) in str(caught.value)


def test_rows_that_a_model_refuses_are_an_error_of_the_caller():
    with pytest.raises(RowsError, match="row 1 holds NaN"):
        Stage("odd", Raises(RowsError("row 1 holds NaN"))).predict(ROWS)


class Scales:
    """Writes to its rows, as many preprocessing functions do."""

    def predict(self, rows):
        rows /= 2.0
        p = rows[:, 0].clip(0, 1)
        return Prediction.from_probabilities(np.stack([1 - p, p], axis=1))


class ScalesAtHome(Scales):
    """The same as a user's own class."""

    def predict(self, rows):
        return super().predict(rows).probabilities


def test_rows_are_never_changed():
    rows = ROWS.copy()
    with pytest.raises(StageError, match="read-only"):
        Stage("odd", Scales()).predict(rows)
    own = CustomBackend(CustomConfig(type="custom", object=f"{__name__}:ScalesAtHome"))
    names = ("a", "b", "c")
    cascade = Cascade([Stage(name, own) for name in names], Policy.from_thresholds(names, np.array([0.9, 0.9])))
    answers = cascade.predict(rows)
    assert answers.stage.tolist() == [0, 2, 0]
    assert answers.confidence.tolist() == [1.0, 0.5, 1.0]
    np.testing.assert_array_equal(rows, ROWS)
    assert rows.flags.writeable


class Reuses:
    """Gives back the same memory in every call."""

    def __init__(self):
        self.answer, self.probabilities = np.zeros(64, np.int64), np.zeros((64, 2))

    def predict(self, rows):
        n = len(rows)
        self.probabilities[:n] = np.where(rows % 2 == 0, [0.9, 0.1], [0.2, 0.8])
        self.answer[:n] = self.probabilities[:n].argmax(axis=1)
        return Prediction(self.answer[:n], self.probabilities[:n])


def test_a_table_keeps_predictions_whose_arrays_a_model_reuses():
    rows = np.arange(50)[:, None]
    table = collect([Stage("a", Reuses())], rows, batch_rows=7, curve_seconds=0)
    assert table.prediction[:, 0].tolist() == (np.arange(50) % 2).tolist()
    assert try_stage(Stage("a", Reuses()), rows[:16], made_up=False) == 16


# Random outputs.

VALUES = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0, 1.5, -1.0, 2.0, np.nan, np.inf])
DTYPES = st.sampled_from([np.float16, np.float32, np.float64, np.int64, np.uint8, np.bool_, np.complex64])


@st.composite
def any_array(draw):
    shape = draw(st.sampled_from([(2,), (2, 2), (2, 1), (2, 3), (1, 2), (3, 2), (3,), (2, 2, 1), ()]))
    values = draw(st.lists(VALUES, min_size=1, max_size=6))
    with np.errstate(invalid="ignore", over="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.resize(np.array(values), shape).astype(draw(DTYPES))


@settings(max_examples=500)
@given(any_array(), *[st.none() | any_array() for _ in range(4)])
def test_an_accepted_prediction_satisfies_the_contract_unchanged(answer, probabilities, confidence, cost, mflop):
    said = Prediction(answer, probabilities, confidence, cost, mflop)
    try:
        found = answered(said, rows=ROWS[:2])
    except StageError:
        return
    for name in ("answer", "probabilities", "confidence", "cost", "mflop"):
        came, got = getattr(said, name), getattr(found, name)
        assert (came is None) == (got is None)
        assert came is None or np.array_equal(came, got)
    assert found.answer.shape == (2,)
    assert (found.answer >= 0).all()
    assert (found.probabilities is None) != (found.confidence is None)
    if found.probabilities is not None:
        assert found.probabilities.min() >= 0
        assert (found.answer < found.probabilities.shape[1]).all()
        np.testing.assert_allclose(found.probabilities.sum(axis=1, dtype=float), 1, atol=6e-3)
    else:
        assert ((found.confidence >= 0) & (found.confidence <= 1)).all()
    assert cost is None or (np.isfinite(found.cost) & (found.cost >= 0)).all()
    assert mflop is None or (np.isfinite(found.mflop) & (found.mflop > 0)).all()


SIZE = 8
TRUTH = np.random.default_rng(5).dirichlet(np.ones(3), SIZE)


class Mutated:
    """Answers row i with line i of a table, spoilt as asked wherever a marked row is among the rows."""

    def __init__(self, spoil, marked, dtype):
        self.spoil, self.marked, self.dtype = spoil, marked, dtype

    def predict(self, rows):
        lines = rows[:, 0].astype(int)
        probabilities = TRUTH[lines].astype(self.dtype)
        answer = TRUTH[lines].argmax(axis=1)
        hit = np.flatnonzero(lines == self.marked)
        if not len(hit):
            return Prediction(answer, probabilities)
        return SPOILS[self.spoil](answer, probabilities, hit[0])


def put(array, place, value):
    array = array.copy()
    array[place] = value
    return array


SPOILS = {
    "nothing": lambda a, p, i: Prediction(a, p),
    "list": lambda a, p, i: Prediction(a.tolist(), p.tolist()),
    "short answer type": lambda a, p, i: Prediction(a.astype(np.uint8), p),
    "NaN": lambda a, p, i: Prediction(a, put(p, (i, 0), np.nan)),
    "infinite": lambda a, p, i: Prediction(a, put(p, (i, 1), np.inf)),
    "row short": lambda a, p, i: Prediction(np.delete(a, i), np.delete(p, i, axis=0)),
    "row long": lambda a, p, i: Prediction(np.append(a, 0), np.append(p, p[:1], axis=0)),
    "only the answer short": lambda a, p, i: Prediction(np.delete(a, i), p),
    "logits": lambda a, p, i: Prediction(a, put(p, i, [-3.0, 2.0, 5.0])),
    "sum above": lambda a, p, i: Prediction(a, put(p, i, [0.5, 0.5, 0.5])),
    "sum below": lambda a, p, i: Prediction(a, put(p, i, [0.1, 0.2, 0.3])),
    "negative": lambda a, p, i: Prediction(a, put(p, i, [-0.2, 0.6, 0.6])),
    "one column": lambda a, p, i: Prediction(a, p[:, :1]),
    "a column less": lambda a, p, i: Prediction.from_probabilities(p[:, :2] / p[:, :2].sum(axis=1, keepdims=True)),
    "a column more": lambda a, p, i: Prediction(a, np.append(p, 0 * p[:, :1], axis=1)),
    "flat": lambda a, p, i: Prediction(a, p.ravel()),
    "id -1": lambda a, p, i: Prediction(put(a, i, -1), p),
    "id 3": lambda a, p, i: Prediction(put(a, i, 3), p),
    "float ids": lambda a, p, i: Prediction(a.astype(float), p),
    "text ids": lambda a, p, i: Prediction(a.astype(str), p),
    "confidence instead": lambda a, p, i: Prediction(a, confidence=p.max(axis=1)),
    "confidence too": lambda a, p, i: Prediction(a, p, p.max(axis=1)),
    "a cost too": lambda a, p, i: Prediction(a, p, cost=np.ones(len(a))),
    "negative cost": lambda a, p, i: Prediction(a, p, cost=-np.ones(len(a))),
    "texts": lambda a, p, i: Prediction(a, p.astype(str)),
    "no prediction": lambda a, p, i: p,
    "raises": lambda a, p, i: {}["bad luck"],
}
HARMLESS = {"nothing", "list", "short answer type"}
SOUND_ALONE = {"confidence instead", "a cost too"}
"""Breaks the contract only beside calls without the marked row."""


async def chained(stage, rows, policy):
    """One caller a row, all at once, through two segments; the first is never sure."""
    first = Stage("first", FakeBackend(np.full((SIZE, 3), 1 / 3)))
    last = Batcher(single_step(Segment([stage], 1).run), None, BatcherOptions(64, 1000, partial=True))
    gateway = Batcher(single_step(Segment([first]).run), last.answer, BatcherOptions(64, 1000))
    found = await asyncio.gather(*(gateway.answer(row[None], policy) for row in rows), return_exceptions=True)
    gateway.close()
    last.close()
    return found


@settings(max_examples=300)
@given(
    st.sampled_from(sorted(SPOILS)),
    st.integers(0, SIZE - 1),
    st.sampled_from([np.float16, np.float32, np.float64]),
    st.booleans(),
)
def test_random_outputs_give_the_right_answer_or_a_stage_error_on_every_way_in(spoil, marked, dtype, named):
    def stage():
        return Stage("odd", Mutated(spoil, marked, dtype), classes=3 if named else None)

    assume(named or spoil != "a column less")  # without names it is a model of two classes
    rows = np.arange(SIZE)[:, None].astype(np.float64)
    right = TRUTH.argmax(axis=1)
    harmless = spoil in HARMLESS
    ways = {
        "check": lambda: try_stage(stage(), rows, made_up=False),
        "collect": lambda: collect([stage()], rows, batch_rows=3, curve_seconds=0).prediction[:, 0].tolist(),
        "engine": lambda: Segment([stage()]).run(rows, Policy.from_thresholds(("odd",), np.zeros(0))).answer.tolist(),
    }
    for way, ask in ways.items():
        if harmless:
            assert ask() == (SIZE if way == "check" else right.tolist())
            continue
        if way == "engine" and (spoil in SOUND_ALONE or (spoil == "a column more" and not named)):
            assert ask() == right.tolist()
        else:
            with pytest.raises((StageError, CheckFailed), match="stage 'odd'"):
                ask()
    policy = Policy.from_thresholds(("first", "odd"), np.array([0.9]))
    for place, found in enumerate(asyncio.run(chained(stage(), rows, policy))):
        if isinstance(found, Exception):
            assert not harmless
            assert isinstance(found, StageFailed), found
            assert str(found) == "stage 'odd' failed on these rows"
            assert place == marked
        else:
            assert found.answer.tolist() == [right[place]]
