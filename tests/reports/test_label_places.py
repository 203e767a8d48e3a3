"""Names in a picture do not cover each other."""

import numpy as np
import pytest

from cascade.reports.figures.label_places import label_places

WIDTH, HEIGHT = 100.0, 16.0
FRAME = (600.0, 400.0)


@pytest.mark.parametrize("across", [0.0, 1.0])
def test_two_names_never_overlap_even_where_lines_are_covered_instead(across):
    anchors = np.array([(300.0, 200.0), (300.0 + across, 200.0)])
    everywhere = np.stack(np.meshgrid(np.arange(0, 600, 5.0), np.arange(0, 400, 5.0)), axis=-1).reshape(-1, 2)
    (free,) = label_places(anchors[:1], [WIDTH], HEIGHT, np.zeros((0, 2)), FRAME)
    inside = ((everywhere > free - 3) & (everywhere < free + np.array([WIDTH + 3, HEIGHT + 3]))).all(axis=1)
    (left, low), (other_left, other_low) = label_places(anchors, [WIDTH, WIDTH], HEIGHT, everywhere[~inside], FRAME)
    assert abs(left - other_left) >= WIDTH or abs(low - other_low) >= HEIGHT
