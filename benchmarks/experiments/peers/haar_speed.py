"""How many windows does the evaluator of Haar cascades compute per second, compared with scikit-image and OpenCV?

    python -m cascade.benchmarks.experiments.peers.haar_speed

One process, one thread, by turns. The image is scikit-image's astronaut, grey; the windows are those of a pyramid of
24 x 24 pixels. The model is that of examples/faces. Needs the extra ``vision``.

1. scikit-image: ``integral_image`` and ``haar_like_feature`` for one window after the other, with as many features
   of each window as our cascade evaluates in the mean, and without a decision; ours is the backend on the same
   gathered windows, from pixels to probabilities.
2. OpenCV's ``CascadeClassifier`` (haarcascade_frontalface_default: 25 stages, 2,913 features) on the whole image,
   without grouping; ours evaluates all windows of the pyramid. Both scale the image themselves, with the same scale
   factor. Each is counted by its own windows: ours lie 2 pixels of a level apart; OpenCV's, too, but 1 pixel in levels
   of half the image and less. It leaves out the neighbour of a window that its first stage rejects; such windows are
   counted as done. The cascades differ: it is a comparison of whole detectors, not of the same features.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from cascade.backends.config import HaarConfig, OpencvConfig
from cascade.backends.detection.haar.backend import HaarBackend
from cascade.backends.detection.haar.grey_windows import grey
from cascade.backends.detection.haar.integral_image import WindowIntegrals
from cascade.backends.detection.pyramid import Pyramid
from cascade.benchmarks.harness.experiment import Figure, Figures, Found, run_experiment

MODEL = Path(__file__).resolve().parents[3] / "examples" / "faces" / "weights" / "haar_faces.safetensors"
SCALE_FACTOR, STRIDE, SIZE = 1.25, 2, 24
SOUGHT_SCIKIT_IMAGE, SOUGHT_OPENCV = 50.0, 0.05
THEIR_CASCADE = "haarcascade_frontalface_default"
THEIR_FAMILIES = ("type-2-x", "type-2-y", "type-3-x", "type-3-y", "type-4")


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def coordinates(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The types and the rectangles of features, as scikit-image takes them."""
    from skimage.feature import haar_like_feature_coord

    kinds, places = np.empty(len(features), dtype=object), np.empty(len(features), dtype=object)
    known = {
        family: haar_like_feature_coord(SIZE, SIZE, THEIR_FAMILIES[family])[0]
        for family in set(features[:, 0].tolist())
    }
    for number, (family, top, left, height, width) in enumerate(features.tolist()):
        kinds[number] = THEIR_FAMILIES[family]
        corners = [(top, left), (top + height - 1, left + width - 1)]
        places[number] = next(rectangles for rectangles in known[family] if rectangles[0] == corners)
    return kinds, places


def one_by_one(windows: np.ndarray, kinds: np.ndarray, places: np.ndarray) -> None:
    """scikit-image: the same features of every window."""
    from skimage.feature import haar_like_feature
    from skimage.transform import integral_image

    for window in windows:
        haar_like_feature(integral_image(window), 0, 0, SIZE, SIZE, feature_type=kinds, feature_coord=places)


def windows_of_opencv(height: int, width: int) -> int:
    """Windows of all levels, at the steps of OpenCV's evaluator."""
    count, factor = 0, 1.0
    while min(height, width) / factor >= SIZE:
        step = 1 if factor >= 2 else 2
        rows, columns = ((round(length / factor) - SIZE) // step + 1 for length in (height, width))
        count += rows * columns
        factor *= SCALE_FACTOR
    return count


def main(
    repeats: Annotated[int, typer.Option(min=1)] = 5,
    single_windows: Annotated[int, typer.Option(min=10, help="Windows for scikit-image.")] = 300,
) -> Found:
    """Measure the three by turns."""
    import cv2
    from skimage import data

    cv2.setNumThreads(1)
    image = grey(data.astronaut())
    backend = HaarBackend(HaarConfig(type="haar", model=MODEL))
    height, width = image.shape
    pyramid = Pyramid(height, width, (SIZE, SIZE), SCALE_FACTOR, STRIDE)
    gathered = np.concatenate([np.asarray(level) for level in pyramid.windows(image)])
    mean = float(backend.cascade.evaluate(WindowIntegrals.of_windows(gathered)).features.mean())
    count = max(1, round(mean))
    some = gathered[np.random.default_rng(0).choice(len(gathered), single_windows, replace=False)]
    kinds, places = coordinates(backend.cascade.model.features[:count])
    detector = cv2.CascadeClassifier(str(OpencvConfig(type="opencv", model=THEIR_CASCADE).file))

    theirs = windows_of_opencv(height, width)

    def whole_image() -> None:
        for level in pyramid.windows(image):
            backend.predict_windows(level)

    measured: dict[str, list[float]] = {"gathered": [], "whole_image": [], "scikit_image": [], "opencv": []}
    for _ in range(repeats):
        measured["gathered"].append(len(gathered) / seconds(lambda: backend.predict(gathered)))
        measured["whole_image"].append(len(pyramid) / seconds(whole_image))
        measured["scikit_image"].append(len(some) / seconds(lambda: one_by_one(some, kinds, places)))
        passes = seconds(lambda: detector.detectMultiScale(image, SCALE_FACTOR, 0))
        measured["opencv"].append(theirs / passes)
    return {
        "windows": len(pyramid),
        "windows_of_opencv": theirs,
        "mean_features": mean,
        "features_of_scikit_image": count,
        "windows_per_s": measured,
        "median_windows_per_s": {name: float(np.median(values)) for name, values in measured.items()},
    }


def figures(found: Found) -> Figures:
    """Ratios of medians."""
    speed = found["median_windows_per_s"]
    return {
        "windows/s over those of scikit-image": Figure(
            speed["gathered"] / speed["scikit_image"], SOUGHT_SCIKIT_IMAGE, ">="
        ),
        "windows/s over those of OpenCV": Figure(speed["whole_image"] / speed["opencv"], SOUGHT_OPENCV, ">="),
        "windows/s, whole image": Figure(speed["whole_image"]),
        "windows/s, gathered windows": Figure(speed["gathered"]),
    }


if __name__ == "__main__":
    run_experiment(main, figures)
