"""Folders of images as the input of a bulk job: sizes, labels, broken files."""

import pickle

import numpy as np
import pytest

from cascade import Cascade, CascadeConfig, FakeBackend, Policy, Stage
from cascade.bulk.image_folder import image_form
from cascade.bulk.part import PartKey, Unit
from cascade.bulk.segment_worker import read_parts
from cascade.bulk.sources import open_sources
from cascade.config import RowsConfig
from cascade.errors import ConfigError, DataError

pytest.importorskip("pyarrow")
from bulk_cases import answers, run
from PIL import Image

CONFIG = """
name: bulk
rows: {shape: [4, 6, 3], dtype: uint8}
classes: [dark, light]
stages: [{name: only, backend: {type: custom, object: "m:A"}}]
"""


class Brightness:
    def predict(self, rows):
        light = rows.reshape(len(rows), -1).mean(axis=1) / 255
        return FakeBackend(np.stack([1 - light, light], axis=1)).predict(np.arange(len(rows))[:, None])


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG)
    return CascadeConfig.load(path)


@pytest.fixture
def folder(tmp_path):
    """Ten images of each class."""
    for number in range(10):
        save(tmp_path / "in" / "dark" / f"{number}.png", 20 + number)
        save(tmp_path / "in" / "light" / f"{number}.jpg", 200 + number)
    return tmp_path / "in"


def save(path, level, size=(6, 4)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (level, level, level)).save(path)


def cascade():
    return Cascade([Stage("only", Brightness())], Policy.from_thresholds(("only",), np.zeros(0)))


def test_every_image_is_a_row_and_folders_are_labels(tmp_path, config, folder):
    summary = run(config, cascade(), folder, tmp_path / "out", 3)
    found = answers(tmp_path / "out")
    assert found["file"].to_pylist() == [f"dark/{n}.png" for n in range(10)] + [f"light/{n}.jpg" for n in range(10)]
    assert found["label"].to_pylist() == ["dark"] * 10 + ["light"] * 10
    assert found["row"].to_pylist() == list(range(20))
    assert summary["accuracy"] == 1.0


def test_broken_images_are_all_named_and_the_other_parts_scored(tmp_path, config, folder):
    (folder / "dark" / "3.png").write_bytes(b"no image")
    save(folder / "dark" / "5.png", 20, size=(8, 8))
    with pytest.raises(DataError) as caught:
        run(config, cascade(), folder, tmp_path / "out", 6)
    assert f"{folder / 'dark' / '3.png'}: the image is not a whole JPEG, PNG or WebP file" in str(caught.value)
    assert "5.png: the image has 8 x 8 pixels, and rows have 6 x 4; scale it, or give --resize" in str(caught.value)
    assert answers(tmp_path / "out")["row"].to_pylist() == list(range(6, 20))


def test_skipped_images_have_a_row_with_an_error_and_no_answer(tmp_path, config, folder):
    (folder / "dark" / "3.png").write_bytes(b"")
    summary = run(config, cascade(), folder, tmp_path / "out", 7, skip_broken=True)
    found = answers(tmp_path / "out").to_pylist()
    assert [row["row"] for row in found] == list(range(20))
    assert [row["row"] for row in found if row["answer"] is None] == [3]
    assert found[3]["error"].endswith("3.png: the image file is empty")
    assert found[3]["label"] is None
    assert found[4]["label"] == "dark"
    assert (summary["rows"], summary["unreadable_rows"], summary["accuracy"]) == (20, 1, 1.0)


def test_a_part_of_broken_images_only(tmp_path, config, folder):
    for number in range(3):
        (folder / "dark" / f"{number}.png").write_bytes(b"x")
    summary = run(config, cascade(), folder, tmp_path / "out", 3, skip_broken=True)
    assert (summary["rows"], summary["unreadable_rows"]) == (20, 3)


def test_images_are_resized_when_it_is_asked_for(tmp_path, config, folder):
    save(folder / "dark" / "5.png", 25, size=(60, 40))
    summary = run(config, cascade(), folder, tmp_path / "out", 7, resize=True)
    assert summary["accuracy"] == 1.0


def test_folders_of_which_only_some_are_classes_are_refused(tmp_path, config, folder):
    save(folder / "grey" / "0.png", 128)
    with pytest.raises(DataError, match=r"the folder 'dark' is called after a class.*grey/0.png is in no such folder"):
        open_sources(folder, config)


def test_other_files_among_images_are_refused(config, folder):
    (folder / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"notes.txt is no image"):
        open_sources(folder, config)


def test_options_of_images_are_refused_for_tables(tmp_path, config):
    np.save(tmp_path / "rows.npy", np.zeros((2, 4, 6, 3), np.uint8))
    with pytest.raises(DataError, match=r"--resize is for a folder of images"):
        open_sources(tmp_path / "rows.npy", config, resize=True)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((4, 6), ((4, 6), False)), ((4, 6, 3), ((4, 6, 3), False)), ((3, 4, 6), ((4, 6, 3), True))],
)
def test_rows_are_images_of_either_layout(shape, expected):
    assert image_form(RowsConfig(shape=shape, dtype="uint8")) == expected


@pytest.mark.parametrize("form", [{"shape": (4, 6, 3), "dtype": "float32"}, {"shape": (12,), "dtype": "uint8"}])
def test_rows_that_are_no_images_are_refused(form):
    with pytest.raises(ConfigError, match="a folder of images needs rows of dtype uint8"):
        image_form(RowsConfig(**form))


def test_a_reader_of_ray_gives_parts_and_their_rows_apart(config, folder):
    (source,) = pickle.loads(pickle.dumps(open_sources(folder, config)))
    items = list(read_parts(source, Unit(0), 8, frozenset({PartKey(0, 1)})))
    parts, rows = items[::2], items[1::2]
    assert [part.key.number for part in parts] == [0, 2]
    assert [part.rows.size for part in parts] == [0, 0]
    assert [batch.rows.shape for batch in rows] == [(8, 4, 6, 3), (4, 4, 6, 3)]
    assert parts[1].label.tolist() == [1] * 4
