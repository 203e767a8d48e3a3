"""Faces: 100 faces and 100 windows without a face, 25x25 grey pixels, a subset of Labeled Faces in the Wild (LFW).

Huang, Mattar, Lee and Learned-Miller, "Learning to align from scratch", NIPS 2012, http://vis-www.cs.umass.edu/lfw/.
The subset is part of scikit-image (``skimage.data.lfw_subset``), which does not name the persons; its faces were
drawn at random.
"""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cascade.datasets.cifar10 import Arrays
from cascade.errors import DataError

__all__ = ["fetch_faces"]


def fetch_faces(folder: Path, on_bytes: Callable[[int, int], None], on_note: Callable[[str], None]) -> Arrays:  # noqa: ARG001 (as other data sets)
    """Reads the images from the installed scikit-image.

    Returns:
        "train_rows" (200, 25, 25) uint8 and "train_labels" (200,) int64, 1 for a face. There is no test split.

    Raises:
        DataError: scikit-image is not installed, or its file is damaged.
    """
    found = importlib.util.find_spec("skimage")
    if found is None or found.origin is None:
        raise DataError("the faces are part of scikit-image; pip install 'idk-cascade[vision]'")
    path = Path(found.origin).parent / "data" / "lfw_subset.npy"
    try:
        images = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} cannot be read ({error}); install scikit-image again") from error
    labels = np.repeat(np.array([1, 0], dtype=np.int64), len(images) // 2)
    return {"train_rows": np.rint(images * 255).astype(np.uint8), "train_labels": labels}
