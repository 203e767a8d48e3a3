"""Detection on a real Ray Serve: the last stage in a process of its own, and the boxes of the detector."""

import io
import sys
from pathlib import Path

import httpx
import pytest
from PIL import Image
from serving_process import serving_process

sys.path.append(str(Path(__file__).parents[2] / "detection"))

from bright_squares import picture, write_config

from cascade import Detector

pytestmark = pytest.mark.serve


def test_an_image_is_answered_with_the_boxes_of_the_detector(tmp_path):
    path = write_config(tmp_path, serving="max_batch_rows: 1024")
    image = picture(((30, 20, 12), (70, 40, 18)))
    expected = Detector.load(path).detect(image)
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    with serving_process(path, tmp_path / "log") as url:
        asked = {"headers": {"content-type": "image/png"}, "timeout": 60}
        found = httpx.post(f"{url}/detect", content=file.getvalue(), **asked)
        assert (found.status_code, found.json()) == (200, expected.to_dict())
        bad = httpx.post(f"{url}/detect", content=b"no image", **asked)
        assert bad.status_code == 400
        assert "not a whole JPEG, PNG or WebP file" in bad.json()["error"]
        traffic = httpx.get(f"{url}/dashboard/data", timeout=60).json()
        assert traffic["name"] == "squares"
    assert len(expected) == 2
