"""Non-maximum suppression and boxes, against definitions written as loops."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cascade.backends.detection.boxes import clipped, overlap
from cascade.backends.detection.suppression import suppress

# Whole numbers, few of them: equal boxes and equal confidences are common.
BOXES = st.lists(
    st.tuples(*[st.integers(0, 12)] * 2, *[st.integers(0, 8)] * 2, st.sampled_from([0.2, 0.5, 0.5, 0.9])), max_size=12
)


def naive_iou(one, other):
    pixels = [
        {(x, y) for x in range(box[0], box[0] + box[2]) for y in range(box[1], box[1] + box[3])} for box in (one, other)
    ]
    union = len(pixels[0] | pixels[1])
    return len(pixels[0] & pixels[1]) / union if union else 0.0


def naive_suppression(found, iou):
    rest = sorted(range(len(found)), key=lambda i: (-found[i][4], i))
    kept = []
    while rest:
        first = rest.pop(0)
        kept.append(first)
        rest = [i for i in rest if naive_iou(found[first], found[i]) <= iou]
    return kept


@given(BOXES, st.sampled_from([0.0, 0.1, 0.25, 0.3, 0.5, 1.0]))
def test_the_kept_boxes_are_those_of_a_loop_over_pixels(found, iou):
    table = np.array(found, dtype=np.float64).reshape(-1, 5)
    kept = suppress(table[:, :4], table[:, 4], iou)
    assert kept.tolist() == naive_suppression(found, iou)
    assert suppress(table[:, :4], table[:, 4], iou, most=2).tolist() == kept.tolist()[:2]


@given(BOXES.filter(len))
def test_the_overlap_counts_shared_pixels(found):
    boxes = np.array(found, dtype=np.float64)[:, :4]
    wanted = [naive_iou(found[0], other) for other in found]
    np.testing.assert_allclose(overlap(boxes[0], boxes), wanted)


def test_boxes_are_clipped_to_the_image():
    boxes = np.array([[-2.0, -3.0, 5.0, 5.0], [8.0, 2.0, 5.0, 20.0], [1.0, 1.0, 2.0, 2.0]])
    assert clipped(boxes, height=10, width=10).tolist() == [[0, 0, 3, 2], [8, 2, 2, 8], [1, 1, 2, 2]]
