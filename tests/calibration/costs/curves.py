"""Random cost curves, and tables that have them."""

import dataclasses

import numpy as np
from hypothesis import strategies as st

from cascade.calibration.costs.cost_curve import CostCurve

SIZES = np.array([1, 2, 4, 8, 16, 32, 64])


@st.composite
def curves(draw):
    """Fixed and row parts that differ by orders of magnitude, and some noise; now and then few sizes."""
    random = np.random.default_rng(draw(st.integers(0, 10_000)))
    fixed, row = 10 ** random.uniform(-2, 1, 2)
    sizes = SIZES[: draw(st.integers(1, len(SIZES)))]
    return CostCurve.fit(sizes, (fixed + row * sizes) * random.uniform(0.7, 1.4, len(sizes)))


def line(fixed, row, sizes=SIZES):
    """A curve without noise."""
    return CostCurve.fit(sizes, fixed + row * sizes)


def with_curves(table, *stage_curves):
    """A score table whose stages cost what they do in calls of 64 rows."""
    cost = np.array([float(curve.split_ms(64)) / 64 for curve in stage_curves])
    return dataclasses.replace(table, cost=cost).with_curves(stage_curves, machine="a test")
