"""Patterns of frames that are the same for all clips: what they cost, and which is chosen."""

import numpy as np
import pytest
import torch

from cascade.backends.dynamic.systems.ar_net import ARNet
from cascade.backends.dynamic.systems.frames import SKIPS
from cascade.benchmarks.experiments.networks.ar_net import (
    best_fixed,
    compared,
    evenly,
    frame_table,
    grown,
    logits_along,
)

WORKS = [0.0, 0.0, 0.0, 1.0, 4.0]
SMALL, LARGE = len(SKIPS), len(SKIPS) + 1


def table(useful, n=40):
    """Two classes, six frames: the large size is right in one frame; the small one is right there, with less margin."""
    label = np.arange(n) % 2
    sign = torch.from_numpy(2.0 * label - 1)
    made = torch.zeros(n, 6, len(WORKS), 3)
    made[:, :, SMALL:, 2] = 1.0
    made[:, useful, SMALL, 1], made[:, useful, LARGE, 1] = sign, 4 * sign
    return made, label


def test_logits_along_paths_are_those_of_the_network():
    torch.manual_seed(0)
    network = ARNet(frames=4, side=8, sizes=(4, 8), widths=(2, 2), hidden=4, classes=3).eval()
    clips = torch.randn(9, 3, 32, 8).contiguous(memory_format=torch.channels_last)
    found = frame_table(network, [clips[:5], clips[5:]])
    paths = torch.randint(0, 5, (9, 4), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = network.sites.follow(clips, lambda d, _: paths)
    torch.testing.assert_close(logits_along(found, paths), expected)


@pytest.mark.parametrize("most", [0.5, 1.0, 4.0, 7.5, 24.0])
def test_no_pattern_costs_more_than_it_may(most):
    made, label = table(useful=2)
    patterns = [*evenly(6, WORKS, most), *grown(made, torch.from_numpy(label), WORKS, most)]
    costs = [sum(WORKS[a] for a in path.tolist()) for path in patterns]
    assert all(0 < cost <= most for cost in costs)
    assert bool(patterns) == (most >= 1)


def test_the_useful_frame_is_found():
    made, label = table(useful=4)
    assert best_fixed(made, label, WORKS, 4.0).tolist() == [0, 0, 0, 0, LARGE, 0]
    assert best_fixed(made, label, WORKS, 3.0).tolist() == [0, 0, 0, 0, SMALL, 0]


def test_differences_are_paired():
    right = {"adaptive": np.array([True, True, False, True]), "random": np.array([1.0, 0.5, 0.0, 0.5])}
    found = compared(right)
    assert found["random"]["adaptive less"] == pytest.approx(0.25)
    assert found["random"]["half width"] == pytest.approx(1.96 * np.std([0, 0.5, 0, 0.5], ddof=1) / 2)
    assert found["adaptive"]["half width"] == 0.0
