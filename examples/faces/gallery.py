"""Draws docs/images/faces.jpg: what precise.json finds in scikit-image's photographs, two of which show a person."""

import io
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data

from cascade import Detector
from cascade.detection.detection_files import draw_boxes

NAMES = ("astronaut", "camera", "chelsea", "coffee")
HEIGHT = 300
PICTURE = Path(__file__).resolve().parents[2] / "docs" / "images" / "faces.jpg"

if __name__ == "__main__":
    detector = Detector.load("config.yaml", "precise.json")
    parts = []
    for name in NAMES:
        pixels = np.asarray(getattr(data, name)())
        found = detector.detect(pixels)
        print(name, found, found.boxes.round().tolist())
        with Image.open(io.BytesIO(draw_boxes(pixels, found, ".png"))) as drawn:
            parts.append(np.asarray(drawn.convert("RGB").resize((drawn.width * HEIGHT // drawn.height, HEIGHT))))
    Image.fromarray(np.hstack(parts)).save(PICTURE, quality=85)
