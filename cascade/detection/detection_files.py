"""Detections as files: JSON, COCO results, and pictures with boxes."""

import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from cascade.detection.detections import Detections
from cascade.theme import ACCENT

__all__ = ["coco_document", "draw_boxes", "json_text"]


def json_text(content: Any) -> str:
    """JSON as it is written to files, with a line for each value."""
    return json.dumps(content, indent=1, sort_keys=True) + "\n"


def coco_document(found: Mapping[str, Detections]) -> dict[str, Any]:
    """Detections in the format of the COCO data set (https://cocodataset.org/#format-data), with a score each.

    Args:
        found: detections by the file name of their image.

    Returns:
        "images", "annotations" (boxes as [x, y, width, height]) and "categories"; ids from 1.
    """
    labels = sorted({each.label for each in found.values()})
    annotations: list[dict[str, Any]] = []
    images = []
    for number, (name, each) in enumerate(found.items(), 1):
        images.append({"id": number, "file_name": name, "width": each.width, "height": each.height})
        for box, confidence in zip(each.boxes.tolist(), each.confidence.tolist(), strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": labels.index(each.label) + 1,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                    "score": confidence,
                }
            )
    categories = [{"id": number, "name": label} for number, label in enumerate(labels, 1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def draw_boxes(image: np.ndarray, found: Detections, suffix: str) -> bytes:
    """Draws boxes with their confidences.

    Args:
        image: (height, width) or (height, width, 3) uint8, upright.
        found: in this image.
        suffix: of the file, ".jpg" or ".png".

    Returns:
        The file's bytes.
    """
    from PIL import Image, ImageDraw

    picture = Image.fromarray(image).convert("RGB")
    draw = ImageDraw.Draw(picture)
    line = max(1, round(min(picture.size) / 300))
    for (x, y, width, height), confidence in zip(found.boxes.tolist(), found.confidence.tolist(), strict=True):
        draw.rectangle((x, y, x + width, y + height), outline=ACCENT.light, width=line)
        draw.text((x + line + 1, y + line + 1), f"{confidence:.2f}", fill=ACCENT.light)
    file = io.BytesIO()
    picture.save(file, "JPEG" if suffix in (".jpg", ".jpeg") else "PNG", quality=90)
    return file.getvalue()
