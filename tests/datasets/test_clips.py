"""Clips: the same on every machine, and frames of different use."""

import hashlib

import numpy as np
import pytest

from cascade import datasets
from cascade.datasets import clips as clips_module
from cascade.datasets.clips import CLIP_FRAMES, FRAME_SIDE, film, make_clips
from cascade.errors import DataError

DIGEST = "3214e06708ff7375ef767ee06cad6ea8df81ffda6c1dbc4b6e71966ba2ea4a68"


def checkerboard():
    """An image of fine squares, red at the left and blue at the right."""
    image = np.zeros((FRAME_SIDE, FRAME_SIDE, 3), np.uint8)
    image[:, :16, 0] = image[:, 16:, 2] = 200
    image[::2, ::2] = 255
    return image


def frames_of(clip):
    return clip.reshape(CLIP_FRAMES, FRAME_SIDE, FRAME_SIDE, 3)


def test_a_clip_is_fixed_by_image_and_seed():
    first, again, other = (film(checkerboard(), np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert (first.shape, first.dtype) == ((CLIP_FRAMES * FRAME_SIDE, FRAME_SIDE, 3), np.uint8)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert hashlib.sha256(first.tobytes()).hexdigest() == DIGEST


def test_near_and_centred_the_frame_is_the_image(monkeypatch):
    monkeypatch.setattr(clips_module, "FAR", clips_module.NEAR)
    monkeypatch.setattr(clips_module, "MOST_PAN", 0)
    monkeypatch.setattr(clips_module, "BLUR_ROUNDS", 0)
    monkeypatch.setattr(clips_module, "BAR_WIDTHS", (0, 1))
    image = checkerboard()
    assert (frames_of(film(image, np.random.default_rng(0))) == image).all()


def test_far_away_the_image_is_a_quarter_as_wide_before_its_wall(monkeypatch):
    monkeypatch.setattr(clips_module, "NEAR", clips_module.FAR)
    monkeypatch.setattr(clips_module, "MOST_PAN", 0)
    monkeypatch.setattr(clips_module, "BLUR_ROUNDS", 0)
    monkeypatch.setattr(clips_module, "BAR_WIDTHS", (0, 1))
    image = np.full((FRAME_SIDE, FRAME_SIDE, 3), 9, np.uint8)
    image[4:28, 4:28] = 250
    frame = frames_of(film(image, np.random.default_rng(0)))[3]
    assert (frame[13:19, 13:19] == 250).all()
    assert (frame == 250).all(axis=2).sum() == 36
    assert (frame[:12] == 9).all()


def test_some_frames_are_out_of_focus_and_others_are_hidden():
    clips = [frames_of(film(checkerboard(), np.random.default_rng(seed))).astype(float) for seed in range(30)]
    detail = np.array([[np.abs(np.diff(frame, axis=1)).mean() for frame in clip] for clip in clips])
    assert (detail.min(axis=1) < detail.max(axis=1) / 2).all()
    hidden = np.array([[(frame[:, 14:18] == frame[0, 14]).all() for frame in clip] for clip in clips])
    assert hidden.any(axis=1).mean() > 0.9
    assert 0.1 < hidden.mean() < 0.3


def test_training_clips_are_of_training_images(monkeypatch):
    monkeypatch.setattr(clips_module, "CLIP_ROWS", {"train": 3, "test": 2})
    random = np.random.default_rng(0)
    images = {
        f"{split}_rows": random.integers(0, 256, (5, FRAME_SIDE, FRAME_SIDE, 3), dtype=np.uint8)
        for split in ("train", "test")
    }
    labels = {"train_labels": np.array([3, 1, 2, 0, 0]), "test_labels": np.array([7, 8, 0, 0, 0])}
    progress, notes = [], []
    made = make_clips(images | labels, lambda *own: progress.append(own), notes.append)
    assert made["train_labels"].tolist() == [3, 1, 2]
    assert made["test_labels"].tolist() == [7, 8]
    assert [made[f"{split}_rows"].shape for split in ("train", "test")] == [(3, 512, 32, 3), (2, 512, 32, 3)]
    assert progress[-1] == (5 * 49_152, 5 * 49_152)
    assert len(notes) == 1
    of_images = film(images["train_rows"][0], np.random.default_rng(clips_module.SEEDS["train"]))
    assert np.array_equal(made["train_rows"][0], of_images)


def test_cifar10_is_fetched_first(monkeypatch, tmp_path):
    fetched = []
    monkeypatch.setenv("IDK_CASCADE_CACHE", str(tmp_path))
    source = datasets.DATASETS["cifar10"]

    def refused(*_):
        fetched.append("cifar10")
        raise DataError("no network")

    monkeypatch.setitem(datasets.DATASETS, "cifar10", source.__class__("cifar10", refused, source.sha256))
    with pytest.raises(DataError, match="no network"):
        datasets.fetch("clips")
    assert fetched == ["cifar10"]
