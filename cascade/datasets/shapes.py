"""SHAPES: questions about the arrangement of coloured shapes, 244 questions with 64 images each.

Andreas, Rohrbach, Darrell and Klein, "Neural Module Networks", CVPR 2016, https://arxiv.org/abs/1511.02799, section 6.

The questions and their splits are the published ones: all 36 without a relation, all 144 with one, 64 of the 576 with
two; no question is in two splits. The images are drawn anew by the rules found in the published ones: a grid of 3 x 3
cells, each filled with probability 0.8, with colour, shape and size at random; a relation concerns the neighbouring
cell. By these rules all 2,048 published answers of the validation and test splits are right.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np

from cascade.datasets.cifar10 import Arrays
from cascade.errors import RowsError

__all__ = [
    "ATTRIBUTES",
    "IMAGE_SHAPE",
    "QUESTION_BYTES",
    "RELATIONS",
    "Program",
    "draw_shapes",
    "make_shapes",
    "parse_question",
    "shapes_questions",
    "shapes_rows",
]

COLOURS = ("red", "green", "blue")
FORMS = ("circle", "square", "triangle")
ATTRIBUTES = COLOURS + FORMS
RELATIONS = {"above": (-1, 0), "below": (1, 0), "left of": (0, -1), "right of": (0, 1)}
"""From a relation to the (row, column) step from the second object to the first."""

CELLS, CELL_PIXELS, SUBPIXELS = 3, 10, 4
FILLED_SHARE = 0.8
HALF_SIZES = (2.0, 4.2)  # pixels
IMAGE_SHAPE = (CELLS * CELL_PIXELS, CELLS * CELL_PIXELS, 3)
QUESTION_BYTES = 64
IMAGES_PER_QUESTION = 64
SEEDS = {"train": 0, "validation": 1, "test": 2}

_THING = r"(?:a (red|green|blue) shape|a (circle|square|triangle)|(red|green|blue))"
_QUESTION = re.compile(rf"is {_THING} ((?:(?:above|below|left of|right of) )*){_THING}\??")
_RELATION = re.compile("|".join(RELATIONS))


@dataclass(frozen=True)
class Program:
    """The layout of a question: is there an object with both attributes, the second one after some steps?

    Attributes:
        subject: an attribute.
        relations: between subject and object, in the order of the question.
        reference: an attribute.
    """

    subject: str
    relations: tuple[str, ...]
    reference: str


@cache
def parse_question(question: str) -> Program:
    """The program of a question such as "is a red shape left of above a circle".

    Raises:
        RowsError: the question does not have this form.
    """
    found = _QUESTION.fullmatch(question.strip().lower())
    if found is None:
        known = {"is", "a", "shape", "of", "left", "right", "above", "below", *ATTRIBUTES}
        unknown = [word for word in re.findall(r"[^\s?]+", question.lower()) if word not in known]
        reason = f"unknown words {unknown}" if unknown else "the words are in another order"
        raise RowsError(
            f"the question {question!r} cannot be parsed: {reason}; the form is 'is a red shape left of a circle', "
            f"with the attributes {', '.join(ATTRIBUTES)} and the relations {', '.join(RELATIONS)}"
        )
    *names, between = found.group(1, 2, 3, 5, 6, 7, 4)
    subject, reference = (name for name in names if name)
    return Program(subject, tuple(_RELATION.findall(between)), reference)


@cache
def shapes_questions(split: str) -> tuple[str, ...]:
    """The published questions of the split "train", "validation" or "test": 212, 16 and 16."""
    lines = (files("cascade.datasets") / "shapes_questions.tsv").read_text().splitlines()
    return tuple(line.partition("\t")[2] for line in lines if line.startswith(f"{split}\t"))


def draw_shapes(questions: tuple[str, ...], per_question: int, seed: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Draws images for questions.

    Args:
        questions: Q questions.
        per_question: images for each of them.
        seed: of the images and of their order.

    Returns:
        (n, 30, 30, 3) uint8 RGB images, (n,) int64 answers (1 is yes), and n questions, n = Q times ``per_question``,
        in random order.
    """
    rng = np.random.default_rng(seed)
    asked = [question for question in questions for _ in range(per_question)]
    asked = [asked[i] for i in rng.permutation(len(asked))]
    colours, forms = _scenes(len(asked), rng)
    answers = [_answer(parse_question(q), c, f) for q, c, f in zip(asked, colours, forms, strict=True)]
    return _render(colours, forms, rng), np.array(answers, dtype=np.int64), asked


def shapes_rows(images: np.ndarray, questions: list[str]) -> np.ndarray:
    """Images and questions as rows of one array.

    Args:
        images: (n, 30, 30, 3) uint8.
        questions: n questions.

    Returns:
        (n, 2764) uint8: the pixels, then the question in UTF-8, padded with zero bytes to 64 bytes.

    Raises:
        RowsError: a question is longer, or the numbers differ.
    """
    encoded = [question.encode() for question in questions]
    longest = max(map(len, encoded), default=0)
    if longest > QUESTION_BYTES or len(images) != len(encoded):
        raise RowsError(
            f"got {len(images)} images and {len(encoded)} questions of at most {longest} bytes; each image needs a "
            f"question of at most {QUESTION_BYTES} bytes"
        )
    texts = np.array(encoded, dtype=f"S{QUESTION_BYTES}").view(np.uint8).reshape(len(encoded), QUESTION_BYTES)
    return np.concatenate([images.reshape(len(images), -1), texts], axis=1)


def make_shapes(_folder: Path, _on_bytes: Callable[[int, int], None], on_note: Callable[[str], None]) -> Arrays:
    """Draws the data set as it was published: 64 images for each question.

    Returns:
        "train_rows" (14592, 2764), the 13,568 rows of the training questions and then the 1,024 of the validation
        questions; "test_rows" (1024, 2764); "train_labels" and "test_labels" int64, 1 is yes.
    """
    on_note("The images of SHAPES are drawn.")
    arrays: Arrays = {}
    for name, parts in {"train": ("train", "validation"), "test": ("test",)}.items():
        drawn = [draw_shapes(shapes_questions(part), IMAGES_PER_QUESTION, SEEDS[part]) for part in parts]
        arrays[f"{name}_rows"] = np.concatenate([shapes_rows(images, asked) for images, _, asked in drawn])
        arrays[f"{name}_labels"] = np.concatenate([answers for _, answers, _ in drawn])
    return arrays


def _scenes(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(n, 3, 3) colours and forms as indices; -1 in an empty cell."""
    shape = (n, CELLS, CELLS)
    empty = rng.random(shape) >= FILLED_SHARE
    colours, forms = rng.integers(len(COLOURS), size=shape), rng.integers(len(FORMS), size=shape)
    return np.where(empty, -1, colours), np.where(empty, -1, forms)


def _answer(program: Program, colours: np.ndarray, forms: np.ndarray) -> bool:
    def having(attribute: str) -> np.ndarray:
        if attribute in COLOURS:
            return np.asarray(colours == COLOURS.index(attribute))
        return np.asarray(forms == FORMS.index(attribute))

    cells = having(program.reference)
    for relation in reversed(program.relations):
        down, right = RELATIONS[relation]
        padded = np.pad(cells, 1)
        cells = padded[1 - down : 1 - down + CELLS, 1 - right : 1 - right + CELLS]
    return bool((cells & having(program.subject)).any())


def _render(colours: np.ndarray, forms: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(n, 30, 30, 3) uint8: every object in the centre of its cell, edges smoothed, colours a little different."""
    n = len(colours)
    half = rng.uniform(*HALF_SIZES, size=(n, CELLS, CELLS, 1, 1))
    offsets = (np.arange(CELL_PIXELS * SUBPIXELS) + 0.5) / SUBPIXELS - CELL_PIXELS / 2
    y, x = offsets[:, None], offsets[None, :]
    pixels = np.zeros((n, CELLS, CELLS, CELL_PIXELS, CELL_PIXELS, 3), dtype=np.float32)
    shade = rng.uniform(0, 50, size=(n, CELLS, CELLS, 3)) * (rng.random((n, CELLS, CELLS, 3)) < 0.5)
    inside_of: tuple[Callable[[np.ndarray], np.ndarray], ...] = (
        lambda half: x**2 + y**2 <= half**2,
        lambda half: np.maximum(abs(x), abs(y)) <= half,
        lambda half: (abs(y) <= half) & (abs(x) <= (y + half) / 2),
    )
    for form, inside in enumerate(inside_of):
        where = np.nonzero(forms == form)
        shape = (len(where[0]), CELL_PIXELS, SUBPIXELS, CELL_PIXELS, SUBPIXELS)
        cover = inside(half[where]).reshape(shape).mean(axis=(2, 4))
        colour = shade[where]
        colour[np.arange(len(colour)), colours[where]] = 255 - colour[np.arange(len(colour)), colours[where]]
        pixels[where] = cover[..., None] * colour[:, None, None, :]
    return pixels.transpose(0, 1, 3, 2, 4, 5).reshape(n, *IMAGE_SHAPE).round().astype(np.uint8)
