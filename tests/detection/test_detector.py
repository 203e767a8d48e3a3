"""The detector: what it finds, what it counts, and that it answers as the cascade on all windows at once."""

import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bright_squares import POLICY, picture, write_config

from cascade import Cascade, ConfigError, DataError, Detector, Policy, RowsError, Stage
from cascade.backends.detection.pyramid import Pyramid
from cascade.backends.detection.suppression import suppress
from cascade.config import CascadeConfig
from cascade.detection.detection_files import coco_document, draw_boxes
from cascade.detection.parts_run import PartsRun
from cascade.prediction import Prediction
from cascade.routers import NEVER
from cascade.rows.parts import gathered


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    return Detector.load(write_config(tmp_path_factory.mktemp("squares")))


def test_it_finds_squares_of_several_sizes_where_they_lie(detector):
    squares = ((30, 20, 8), (60, 30, 20), (10, 44, 14))
    found = detector.detect(picture(squares))
    assert len(found) == 3
    centres = {(round(x + w / 2), round(y + h / 2), round(w * 8 / 12)) for x, y, w, h in found.boxes.tolist()}
    for x, y, size in squares:
        distance = min(max(abs(x + size / 2 - cx), abs(y + size / 2 - cy), abs(size - s)) for cx, cy, s in centres)
        assert distance <= 3
    assert found.confidence.tolist() == sorted(found.confidence.tolist(), reverse=True)
    assert found.label == "square"


def test_it_answers_as_the_cascade_on_all_windows_at_once(detector):
    image = picture(((30, 20, 8), (60, 30, 20)))
    pyramid = Pyramid(80, 120, (12, 12), 1.2, 2, 12)
    answers = detector.cascade.predict(gathered(list(pyramid.windows(image))))
    positive = np.flatnonzero(answers.answer == 1)
    boxes = pyramid.boxes(positive)
    kept = suppress(boxes, answers.confidence[positive], 0.3)
    found = detector.detect(image)
    np.testing.assert_array_equal(found.boxes, boxes[kept])
    np.testing.assert_array_equal(found.confidence, answers.confidence[positive][kept])
    assert found.windows == len(pyramid) == len(answers)
    assert found.positives == len(positive)
    assert list(found.answered.values()) == np.bincount(answers.stage).tolist()
    assert found.cost == pytest.approx(answers.cost.sum())
    assert found.policy_version == POLICY.version


class Noise:
    """Confidences that depend on the pixels of a row alone."""

    def __init__(self, factor, windows=False):
        self.factor = factor
        self.sizes = []
        if windows:
            self.predict_windows = lambda windows: self.predict(np.asarray(windows))

    def predict(self, rows):
        self.sizes.append(len(rows))
        share = (rows.reshape(len(rows), -1).astype(np.int64).sum(axis=1) * self.factor % 1009) / 1009
        return Prediction.from_probabilities(np.stack([share, 1 - share], axis=1))


@pytest.mark.parametrize("windows", [False, True])
@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("most", [1, 7, 64, 5000])
def test_gathering_across_batches_changes_no_answer(most, early, windows):
    image = np.random.default_rng(0).integers(0, 256, (40, 50), dtype=np.uint8)
    pyramid = Pyramid(40, 50, (10, 10), 1.3, 3)
    backends = [Noise(7, windows), Noise(11), Noise(13, windows), Noise(17)]
    stages = [Stage(name, backend) for name, backend in zip("abcd", backends)]
    policy = Policy.from_thresholds(tuple("abcd"), np.array([0.8, NEVER, 0.7]))
    policy = replace(policy, cost=np.array([1.0, 2, 4, 8]), abstain_below=0.55)
    if early:
        policy = replace(policy, defer_below=np.array([0.6, 0, 0]))
    rows = gathered(list(pyramid.windows(image)))
    expected = Cascade(stages, policy).predict(rows)
    for backend in backends:
        backend.sizes.clear()
    columns = {name: np.full(len(rows), -5.0) for name in ("answer", "stage", "confidence", "cost", "abstained")}

    def reduce(numbers, answers):
        assert (columns["stage"][numbers] == -5).all()
        for name, column in columns.items():
            values = getattr(answers, name)
            column[numbers] = 0 if values is None else values

    PartsRun(stages, policy, most, reduce).run(pyramid.windows(image))
    for name in ("answer", "stage", "confidence", "cost", "abstained"):
        np.testing.assert_array_equal(columns[name], getattr(expected, name))
    assert not backends[1].sizes
    for backend in backends:
        assert max(backend.sizes, default=0) <= most
    if not windows and not early:  # every call but the last one is full; rows deferred early only pass through
        assert all(set(backend.sizes[:-1]) <= {most} for backend in backends)


def test_an_image_smaller_than_the_window_has_no_boxes_and_a_note(detector):
    for shape in ((1, 1), (11, 200), (200, 11)):
        found = detector.detect(np.zeros(shape, dtype=np.uint8))
        assert len(found) == found.windows == 0
        assert found.note == "the image has no window of 12 x 12 pixels"
    assert found.to_dict()["boxes"] == []
    section = detector.config.detection.model_copy(update={"min_size": 30})
    larger = Detector(detector.cascade, detector.config.model_copy(update={"detection": section}))
    note = "the image has no window of 12 x 12 pixels for objects of 30 (detection.min_size)"
    assert larger.detect(np.zeros((20, 20), dtype=np.uint8)).note == note


def test_the_limits_of_the_configuration_are_kept(tmp_path, detector):
    tight = {"max_pixels": 9600, "max_windows": 1000, "max_candidates": 3, "max_boxes": 2}
    for name, value in tight.items():
        config = detector.config.model_copy(
            update={"detection": detector.config.detection.model_copy(update={name: value})}
        )
        limited = Detector(detector.cascade, config)
        squares = tuple((10 + 30 * i, 10 + 30 * j, 12) for i in range(3) for j in range(2))
        if name.startswith("max_p"):
            with pytest.raises(RowsError, match="9600 pixels; got 121 x 80"):
                limited.detect(picture(width=121))
        elif name == "max_windows":
            with pytest.raises(RowsError, match="may have 1000 windows; this one has"):
                limited.detect(picture())
        else:
            found = limited.detect(picture(squares))
            assert 1 <= len(found) <= value
            assert "most confident" in found.note or "at most 2 boxes" in found.note
    small = detector.config.detection.model_copy(update={"min_size": 3, "max_pixels": 20_000})
    with pytest.raises(RowsError, match="objects of 3 pixels need an image of 480 x 320 pixels"):
        Detector(detector.cascade, detector.config.model_copy(update={"detection": small})).detect(picture())


def test_colour_windows_and_files(tmp_path):
    from PIL import Image

    detector = Detector.load(write_config(tmp_path, "[12, 12, 3]"))
    Image.fromarray(picture()).save(tmp_path / "square.png")
    found = detector.detect(tmp_path / "square.png")
    assert len(found) == 1
    for same in (str(tmp_path / "square.png"), (tmp_path / "square.png").read_bytes(), picture()):
        np.testing.assert_array_equal(detector.detect(same).boxes, found.boxes)
    with pytest.raises(DataError, match=r"none\.png cannot be read"):
        detector.detect(tmp_path / "none.png")


def test_it_is_shown_in_one_line_and_as_a_table(detector):
    found = detector.detect(picture())
    assert repr(found).startswith("Detections(1 x square in 120 x 80 pixels; ")
    assert "<td>" in found._repr_html_()
    assert "windows of 12 x 12 pixels" in repr(detector)


def test_coco_documents_and_drawn_boxes(detector):
    found = detector.detect(picture())
    document = coco_document({"a.png": found, "b.png": found})
    assert [image["file_name"] for image in document["images"]] == ["a.png", "b.png"]
    assert [each["image_id"] for each in document["annotations"]] == [1, 2]
    assert document["annotations"][0]["bbox"] == found.boxes[0].tolist()
    assert document["categories"] == [{"id": 1, "name": "square"}]
    for suffix, start in ((".jpg", b"\xff\xd8"), (".png", b"\x89PNG")):
        assert draw_boxes(picture(), found, suffix).startswith(start)


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        ("{min_size: 20, max_size: 10}", "max_size must be at least min_size"),
        ("{scale_factor: 1.0}", "greater than or equal to 1.01"),
        ("{positive: circle}", "must be a class, one of"),
        ("{strides: 2}", "strides"),
    ],
)
def test_a_wrong_section_is_refused(tmp_path, section, problem):
    path = write_config(tmp_path)
    path.write_text(path.read_text().replace("{min_size: 12, stride: 2, scale_factor: 1.2}", section))
    with pytest.raises(ConfigError, match=problem):
        CascadeConfig.load(path)


def test_windows_must_be_rows_and_the_section_must_be_there(tmp_path):
    path = write_config(tmp_path, "[144]")
    with pytest.raises(ConfigError, match="detection needs rows that are windows"):
        CascadeConfig.load(path)
    path = write_config(tmp_path)
    path.write_text(path.read_text().replace("detection:", "# detection:"))
    with pytest.raises(ConfigError, match="no section 'detection'"):
        Detector.load(path)


MEMORY = """
import resource, sys
import numpy as np
from cascade import Cascade, Detector, Policy, Stage
from cascade.config import CascadeConfig
from bright_squares import POLICY, Mean, Border

class First(Mean):
    def predict(self, rows):
        assert rows.nbytes <= 1024 * 12 * 12 * 3
        return super().predict(rows)

config = CascadeConfig.load(sys.argv[1])
cascade = Cascade([Stage("mean", First()), Stage("border", Border())], POLICY, config.rows)
detector = Detector(cascade, config)
rng = np.random.default_rng(0)
small = rng.integers(0, 100, (300, 400, 3), dtype=np.uint8)
detector.detect(small)
image = np.tile(small, (9, 10, 1))[:2500]
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = detector.detect(image)
grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
print(found.windows, grown, image.shape[0] * image.shape[1])
"""


@pytest.mark.slow
def test_an_image_of_ten_megapixels_needs_the_stated_memory(tmp_path):
    path = write_config(tmp_path, "[12, 12, 3]")
    path.write_text(path.read_text().replace("stride: 2", "stride: 4"))
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n{textwrap.dedent(MEMORY)}"
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, timeout=300, check=True)
    windows, grown, pixels = map(int, done.stdout.split())
    assert pixels == 10_000_000
    assert windows > 1_000_000
    assert windows * 12 * 12 * 3 > 2 * grown  # all windows at once would need more
    assert grown < 20 * pixels + 4 * 1024 * 12 * 12 * 3 * 16


def test_a_very_wide_image(detector):
    wide = np.zeros((20, 20_000), dtype=np.uint8)
    wide[4:16, 15_000:15_012] = 240
    found = detector.detect(wide)
    assert found.windows > 10_000
    assert len(found) == 1
    assert abs(found.boxes[0, 0] - 15_000) <= 6
