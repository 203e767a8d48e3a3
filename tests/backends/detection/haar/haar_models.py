"""Haar models drawn at random."""

import numpy as np

from cascade.backends.detection.haar.features import all_features
from cascade.backends.detection.haar.model import HaarModel


def random_windows(n, height=12, width=10, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, height, width), dtype=np.uint8)


def random_model(learners=40, height=12, width=10, stages=1, rejects=True, seed=0):
    """Rejects about half of the windows in the first few learners, and more later."""
    random = np.random.default_rng(seed)
    pool = all_features(height, width)
    votes = random.uniform(0.1, 1.0, (learners, 1)) * [-1, 1]
    starts = np.zeros(learners, dtype=bool)
    starts[:: learners // stages] = True
    trace = np.where(random.random(learners) < 0.5, random.uniform(-2.0, -0.2, learners), -np.inf)
    return HaarModel(
        height,
        width,
        ("other", "thing"),
        pool[random.choice(len(pool), learners)],
        random.normal(0, 0.01, learners).astype(np.float32),
        votes.astype(np.float32),
        (trace if rejects else np.full(learners, -np.inf)).astype(np.float32),
        starts,
        {"seed": seed},
    )
