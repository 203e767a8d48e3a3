"""``cascade detect``: boxes, files, and images that cannot be used."""

import json
import sys
from pathlib import Path

import pytest
from PIL import Image

sys.path.append(str(Path(__file__).parents[1] / "detection"))

from bright_squares import picture, write_config


@pytest.fixture
def folder(tmp_path):
    write_config(tmp_path)
    Image.fromarray(picture()).save(tmp_path / "one.jpg", quality=95)
    Image.fromarray(picture(((20, 20, 12), (70, 40, 18)))).save(tmp_path / "two.png")
    (tmp_path / "bad.png").write_bytes(b"no image")
    return tmp_path


def test_it_prints_a_line_for_each_image(run, folder):
    result = run("detect", folder / "config.yaml", folder / "one.jpg", folder / "two.png")
    assert result.code == 0
    first, second = result.out.strip().splitlines()
    assert f"{folder / 'one.jpg'}: 1 x square (" in first
    assert f"{folder / 'two.png'}: 2 x square (" in second


def test_it_draws_boxes_and_writes_json(run, folder):
    out = folder / "out"
    asked = ("detect", folder / "config.yaml", folder / "one.jpg", folder / "two.png", "--out", out, "--json")
    result = run(*asked, "--policy", folder / "policy.json")
    assert result.code == 0
    found = result.json[str(folder / "two.png")]
    assert len(found["boxes"]) == 2
    assert {"box", "confidence", "label"} == found["boxes"][0].keys()
    assert found["width"] == 120
    assert json.loads((out / "detections.json").read_text()) == result.json
    assert sorted(path.name for path in out.iterdir()) == ["detections.json", "one-boxes.jpg", "two-boxes.png"]
    with Image.open(out / "two-boxes.png") as drawn:
        assert drawn.size == (120, 80)


def test_images_of_the_same_name_do_not_overwrite_each_other(run, folder):
    (folder / "other").mkdir()
    Image.fromarray(picture()).save(folder / "other" / "two.png")
    images = (folder / "two.png", folder / "other" / "two.png")
    result = run("detect", folder / "config.yaml", *images, "--out", folder / "out")
    assert result.code == 0
    assert sorted(path.name for path in (folder / "out").iterdir()) == [
        "detections.json",
        "two-boxes-2.png",
        "two-boxes.png",
    ]


def test_it_writes_the_coco_format(run, folder):
    asked = ("detect", folder / "config.yaml", folder / "one.jpg", "--out", folder / "out", "--format", "coco")
    assert run(*asked).code == 0
    document = json.loads((folder / "out" / "detections.json").read_text())
    assert [len(document[name]) for name in ("images", "annotations", "categories")] == [1, 1, 1]
    assert run(*asked[:-1], "xml").code == 2


def test_a_bad_image_is_named_and_the_others_go_on(run, folder):
    result = run("detect", folder / "config.yaml", folder / "bad.png", folder / "none.png", folder / "one.jpg")
    assert result.code == 3
    assert "bad.png: the image is not a whole JPEG, PNG or WebP file" in result.err
    assert "none.png cannot be read: No such file" in result.err
    assert "2 of 3 images could not be used" in result.err
    assert "one.jpg: 1 x square" in result.out


def test_an_image_smaller_than_a_window_has_no_boxes(run, folder):
    Image.fromarray(picture()[:5, :5]).save(folder / "small.png")
    result = run("detect", folder / "config.yaml", folder / "small.png")
    assert result.code == 0
    assert "0 x square; 0 windows; the image has no window of 12 x 12 pixels" in result.out
