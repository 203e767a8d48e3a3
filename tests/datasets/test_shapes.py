import numpy as np
import pytest

from cascade import datasets
from cascade.datasets import shapes as shapes_module
from cascade.datasets.shapes import (
    COLOURS,
    FORMS,
    Program,
    _answer,
    _render,
    draw_shapes,
    parse_question,
    shapes_questions,
    shapes_rows,
)
from cascade.errors import RowsError


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IDK_CASCADE_CACHE", str(tmp_path_factory.mktemp("cache")))
        datasets.fetch("shapes")
        return {split: datasets.load("shapes", split) for split in ("train", "test")}


def scene(*rows: str) -> tuple[np.ndarray, np.ndarray]:
    """Colours and forms of words such as "rc" (red circle) and "--"."""
    words = [row.split() for row in rows]
    colours = [["rgb".find(word[0]) for word in row] for row in words]
    forms = [["cst".find(word[1]) for word in row] for row in words]
    return np.array(colours), np.array(forms)


def answer(question: str, *rows: str) -> bool:
    return _answer(parse_question(question), *scene(*rows))


def test_the_published_questions_are_split_by_question():
    splits = [shapes_questions(split) for split in ("train", "validation", "test")]
    assert [len(set(questions)) for questions in splits] == [212, 16, 16]
    programs = {parse_question(question) for questions in splits for question in questions}
    assert [sum(len(p.relations) == k for p in programs) for k in range(3)] == [36, 144, 64]


@pytest.mark.parametrize(
    ("question", "program"),
    [
        ("is a red shape a square", Program("red", (), "square")),
        ("is a triangle blue", Program("triangle", (), "blue")),
        ("Is a circle left of above a green shape?", Program("circle", ("left of", "above"), "green")),
    ],
)
def test_programs(question, program):
    assert parse_question(question) == program


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        ("is a purple shape above a circle", "unknown words.*purple"),
        ("", "another order"),
        ("a circle is red", "another order"),
        ("is a circle above", "another order"),
    ],
)
def test_a_question_that_cannot_be_parsed_is_refused(question, reason):
    with pytest.raises(RowsError, match=reason):
        parse_question(question)


def test_a_relation_concerns_the_neighbouring_cell():
    rows = ("rc -- --", "bs -- gt", "-- -- --")
    assert answer("is a red shape above a square", *rows)
    assert not answer("is a square above a red shape", *rows)
    assert answer("is a square below a circle", *rows)
    assert not answer("is a blue shape left of a triangle", *rows)  # two cells away
    assert answer("is a blue shape left of left of a triangle", *rows)
    assert not answer("is a circle left of a triangle", *rows)
    assert answer("is a circle left of above left of a triangle", *rows)
    assert not answer("is a red shape green", *rows)


def test_the_published_answers_are_right():
    """The first scenes of published questions, transcribed from the images."""
    assert answer("is a green shape right of a blue shape", "gs gc rs", "gt rt bs", "rs -- rs") is False
    assert answer("is a green shape right of a blue shape", "-- gc bs", "rs gt --", "bs gc bt") is True


def test_images_show_the_scene(monkeypatch):
    monkeypatch.setattr(shapes_module, "HALF_SIZES", (3.0, 3.0))
    colours, forms = scene("rc gs bt", "-- -- --", "bc rs gt")
    images = _render(colours[None], forms[None], np.random.default_rng(0))
    cells = images[0].reshape(3, 10, 3, 10, 3).transpose(0, 2, 1, 3, 4)
    assert not cells[1].any()
    for i, j in zip(*np.nonzero(colours >= 0), strict=True):
        assert cells[i, j].sum(axis=(0, 1)).argmax() == colours[i, j]
    covered = (cells > 127).any(axis=-1).sum(axis=3)
    for i, j in zip(*np.nonzero(forms >= 0), strict=True):
        widths = covered[i, j][covered[i, j] > 0]
        shape = FORMS[forms[i, j]]
        assert (widths[0] == widths[-1] == widths.max()) == (shape == "square")
        assert (widths[0] < widths[-1]) == (shape == "triangle")


def test_rows_hold_image_and_question(shapes):
    rows, labels = shapes["train"]
    assert (rows.shape, rows.dtype, labels.dtype) == ((14_592, 2764), np.uint8, np.int64)
    questions = [bytes(row[2700:]).rstrip(b"\0").decode() for row in rows]
    assert set(questions[:13_568]) == set(shapes_questions("train"))
    assert set(questions[13_568:]) == set(shapes_questions("validation"))
    rows, labels = shapes["test"]
    assert len(rows) == 1024
    assert 0.25 < labels.mean() < 0.45  # published: 0.35


def test_draws_are_fixed_by_the_seed():
    questions = shapes_questions("test")
    first, again, other = (draw_shapes(questions, 2, seed) for seed in (5, 5, 6))
    assert np.array_equal(first[0], again[0])
    assert first[2] == again[2]
    assert not np.array_equal(first[0], other[0])
    images, answers, asked = first
    assert (len(images), len(answers), len(asked)) == (32, 32, 32)


def test_questions_that_do_not_fit_into_a_row_are_refused():
    image = np.zeros((1, 30, 30, 3), np.uint8)
    with pytest.raises(RowsError, match="at most 64 bytes"):
        shapes_rows(image, ["is a red shape " + "left of " * 10 + "a circle"])
    with pytest.raises(RowsError, match="1 images and 2 questions"):
        shapes_rows(image, ["is a circle red", "is a circle blue"])
    assert COLOURS == ("red", "green", "blue")
