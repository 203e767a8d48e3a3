"""An interrupted collection is resumed, and ends in the same table."""

import functools

import numpy as np
import pytest

from cascade.backends.fake_backend import FakeBackend
from cascade.calibration import ScoreTable
from cascade.collection.collect import collect as collect_with_curves
from cascade.collection.partial_collection import PartialCollection
from cascade.errors import InputError, StageError
from cascade.prediction import Prediction
from cascade.rows.labels import label_ids
from cascade.stage import Stage

collect = functools.partial(collect_with_curves, curve_seconds=0)

TABLE = np.random.default_rng(0).dirichlet(np.ones(3), size=100)
ROWS = np.arange(100)[:, None]
BATCH = 10
FIRST_CALLS = 3
"""Of every stage, on the first batch: whether it answers at all, and to warm up."""


class Failing(FakeBackend):
    """Fails in one of its calls."""

    def __init__(self, table, fails_in, error=RuntimeError):
        super().__init__(table)
        self.fails_in, self.error = fails_in, error

    def predict(self, rows):
        if len(self.batches) == self.fails_in:
            raise self.error("no luck")
        return super().predict(rows)


def stages_of(*backends, model="x"):
    return [Stage(name, backend, model=model) for name, backend in zip("abc", backends, strict=False)]


def gather(stages, folder, rows=ROWS, notes=None, **options):
    notes = [] if notes is None else notes
    return collect(stages, rows, batch_rows=BATCH, partial=folder, on_note=notes.append, **options)


def assert_same_predictions(one, other):
    for name in ("prediction", "confidence", "scores", "stage"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "scores.npz.partial"


@pytest.fixture(scope="module")
def whole():
    return collect(stages_of(FakeBackend(TABLE), FakeBackend(TABLE[::-1])), ROWS, batch_rows=BATCH)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit, MemoryError])
@pytest.mark.parametrize("done", [0, 1, 5, 9])
@pytest.mark.parametrize("stage", [0, 1])
def test_after_any_interruption_only_the_rest_is_predicted(folder, whole, stage, done, error):
    backends = [FakeBackend(TABLE), FakeBackend(TABLE[::-1])]
    backends[stage] = Failing(backends[stage].probabilities, FIRST_CALLS + done, error)
    notes, is_error = [], error is not KeyboardInterrupt
    with pytest.raises(StageError if is_error else error) as caught:
        gather(stages_of(*backends), folder, notes=notes)
    if is_error:
        assert f"stage {'ab'[stage]!r}: on the rows {done * BATCH} to {done * BATCH + 9}" in str(caught.value)
        assert str(caught.value).endswith(f"{error.__name__}: no luck")
    assert len(notes) == (stage > 0 or done > 0)
    assert all(f"stopped after {done * BATCH} of 100 rows" in note for note in notes)

    again = [FakeBackend(TABLE), FakeBackend(TABLE[::-1])]
    assert_same_predictions(gather(stages_of(*again), folder), whole)
    for k, backend in enumerate(again):
        had = 10 if k < stage else done if k == stage else 0
        assert len(backend.batches) == FIRST_CALLS + min(had, 3) + 10 - had


def test_a_stage_that_fails_stops_the_run_before_any_stage_begins(folder):
    first = FakeBackend(TABLE)
    with pytest.raises(StageError, match="stage 'b': on the rows 0 to 9"):
        gather(stages_of(first, Failing(TABLE, 0)), folder)
    assert first.batches == [BATCH]
    assert not folder.exists()


def test_parts_are_written_while_a_stage_runs(folder, monkeypatch):
    monkeypatch.setattr("cascade.collection.collected_stage.SAVE_SECONDS", 0.0)
    seen = []
    gather(stages_of(FakeBackend(TABLE)), folder, on_rows=lambda _, done: seen.append((done, len([*folder.iterdir()]))))
    assert seen == [(BATCH * k, k) for k in range(1, 11)], "a kill at any moment would lose one batch"


CHANGES = {
    "rows": lambda stage: (stage, ROWS[::-1]),
    "fewer rows": lambda stage: (stage, ROWS[:50]),
    "type of the rows": lambda stage: (stage, ROWS.astype(np.int32)),
    "model": lambda stage: (Stage("a", stage.backend, model="y"), ROWS),
    "name": lambda stage: (Stage("z", stage.backend, model="x"), ROWS),
}


@pytest.mark.parametrize("change", CHANGES)
def test_predictions_of_other_data_or_models_are_not_used(folder, change):
    gather(stages_of(FakeBackend(TABLE)), folder)
    backend, notes = FakeBackend(TABLE), []
    stage, rows = CHANGES[change](*stages_of(backend))
    table = gather([stage], folder, rows, notes)
    assert ["1 files belong to other rows, models or batch sizes" in note for note in notes] == [True]
    assert sum(backend.batches[FIRST_CALLS:]) == len(rows)
    np.testing.assert_array_equal(table.prediction[:, 0], TABLE.argmax(axis=1)[rows[:, 0]])


def test_labels_and_kinds_of_cost_may_change_between_runs(folder):
    class Counting(FakeBackend):
        def flops_per_row(self, rows):
            return 5e6

    gather(stages_of(Counting(TABLE)), folder)
    backend, notes, names = Counting(TABLE), [], ["x", "y", "z"]
    table = gather(stages_of(backend), folder, notes=notes, label=[0] * 100, classes=names, cost="flops")
    assert (len(backend.batches), table.cost.tolist()) == (FIRST_CALLS + 3, [5.0])
    assert (table.classes.tolist(), table.label.tolist()) == (names, [0] * 100)
    assert ["resumed after 100 of 100 rows" in note for note in notes] == [True]


@pytest.mark.parametrize("row", [0, 95])
def test_a_model_that_predicts_differently_with_the_same_digest_runs_again(folder, row):
    gather(stages_of(FakeBackend(TABLE)), folder)
    changed = TABLE.copy()
    changed[row] = np.roll(changed[row], 1)
    notes = []
    table = gather(stages_of(FakeBackend(changed)), folder, notes=notes)
    assert ["predicts differently now; its 100 rows" in note for note in notes] == [True]
    np.testing.assert_array_equal(table.scores[:, 0], changed)
    assert_same_predictions(gather(stages_of(FakeBackend(changed)), folder), table)


@pytest.mark.parametrize("damage", [lambda content: content[:100], lambda content: b"", lambda content: content[::-1]])
def test_a_damaged_part_is_predicted_again(folder, whole, monkeypatch, damage):
    monkeypatch.setattr("cascade.collection.collected_stage.SAVE_SECONDS", 0.0)
    stages = stages_of(FakeBackend(TABLE), FakeBackend(TABLE[::-1]))
    gather(stages, folder)
    part = sorted(folder.iterdir())[7]
    part.write_bytes(damage(part.read_bytes()))
    notes = []
    assert_same_predictions(gather(stages, folder, notes=notes), whole)
    assert "or are damaged" in notes[0]
    assert any("resumed after 70 of 100 rows" in note for note in notes)


def test_parts_are_plain_arrays(folder):
    gather(stages_of(FakeBackend(TABLE)), folder)
    (path,) = folder.iterdir()
    with np.load(path, allow_pickle=False) as file:
        assert {name: file[name].dtype.kind for name in file.files} == {"answer": "i", "probabilities": "f", "key": "U"}


def test_all_arrays_of_a_prediction_are_saved(folder):
    class Own:
        def predict(self, rows):
            index = rows[:, 0]
            return Prediction(index % 3, confidence=index / 100, cost=index * 2.0)

    for _ in range(2):
        table = gather(stages_of(Own()), folder)
        np.testing.assert_array_equal(table.cost[:, 0], np.arange(100) * 2.0)
        np.testing.assert_array_equal(table.confidence[:, 0], np.arange(100) / 100)


def test_different_texts_have_different_digests(folder):
    class Length:
        def predict(self, rows):
            return Prediction(np.array([len(text) % 3 for text in rows]), confidence=np.full(len(rows), 0.5))

    def texts(*values):
        return np.array(values, dtype=object)

    gather(stages_of(Length()), folder, texts("ab", "c"))
    notes = []
    assert gather(stages_of(Length()), folder, texts("a", "bc"), notes).prediction.tolist() == [[1], [2]]
    assert "other rows" in notes[0]
    with pytest.raises(InputError, match="numbers or texts"):
        gather(stages_of(Length()), folder, texts({}, {}))


def test_a_model_may_reuse_its_arrays():
    class Reusing:
        def __init__(self):
            self.answer, self.confidence = np.zeros(BATCH, int), np.zeros(BATCH)

        def predict(self, rows):
            self.answer[:], self.confidence[:] = rows[:, 0], rows[:, 0] / 100
            return Prediction(self.answer, confidence=self.confidence)

    assert collect(stages_of(Reusing()), ROWS, batch_rows=BATCH).prediction[:, 0].tolist() == list(range(100))


ODD = {
    "other width": (lambda n: Prediction.from_probabilities(np.full((n, 2), 0.5)), "2 columns"),
    "confidence": (lambda n: Prediction(np.zeros(n, int), confidence=np.ones(n)), "in every call"),
    "texts": (lambda n: Prediction(np.array(["a"] * n), np.full((n, 3), 1 / 3)), "answer of type <U1"),
}


@pytest.mark.parametrize("kind", ODD)
def test_a_model_that_changes_what_it_predicts_is_refused_and_its_rows_are_kept(folder, kind):
    odd, message = ODD[kind]

    class Changing(FakeBackend):
        def predict(self, rows):
            return odd(len(rows)) if rows[0, 0] == 50 else super().predict(rows)

    notes = []
    with pytest.raises(StageError, match=rf"stage 'a': on the rows 50 to 59, .*{message}"):
        gather(stages_of(Changing(TABLE)), folder, notes=notes)
    assert "stopped after 50 of 100 rows" in notes[0]


@pytest.mark.parametrize(
    ("answer", "width", "message"),
    [(3, 3, "answers from 3 to 3"), (-1, 3, "answers from -1 to -1"), (0, 2, "of 2 columns")],
)
def test_answers_outside_the_classes_are_refused_at_once(answer, width, message):
    class Model:
        def predict(self, rows):
            answers = np.where(rows[:, 0] < 10, 0, answer)
            return Prediction(answers, np.full((len(rows), width), 1 / width))

    stage = Stage("a", Model(), model="x", classes=3)
    with pytest.raises(StageError, match=f"stage 'a': on the rows .*{message}"):
        collect([stage], ROWS, classes=["x", "y", "z"], batch_rows=BATCH)


def test_other_files_in_the_folder_are_left_alone(folder):
    gather(stages_of(FakeBackend(TABLE)), folder)
    (folder / "notes.txt").write_text("mine")
    PartialCollection(folder).remove()
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
    (folder / "notes.txt").unlink()
    PartialCollection(folder).remove()
    PartialCollection(folder).remove()
    assert not folder.exists()


def test_missing_labels_are_refused_before_a_stage_runs():
    backend = FakeBackend(TABLE)
    for label, message in (
        (np.zeros(99, int), "n = 100 like rows; got 99"),
        (np.full(100, -1), "ids from 0 on; got -1"),
    ):
        with pytest.raises(InputError, match=message):
            collect(stages_of(backend), ROWS, label)
    assert not backend.batches


def test_a_table_names_its_classes(tmp_path):
    names = ["x", "y", "z"]
    label = [names[k % 3] for k in range(100)]
    collect(stages_of(FakeBackend(TABLE)), ROWS, label_ids(label, names), classes=names).save(tmp_path / "scores.npz")
    again = ScoreTable.load(tmp_path / "scores.npz")
    assert [again.classes[each] for each in again.label] == label
