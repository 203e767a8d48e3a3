"""Best prefix sums after every event, against adding up the rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.calibration.search.best_prefix import BestPrefix


@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 9), st.integers(0, 10_000))
def test_after_every_event_the_largest_prefix_sum_is_found(n, leaves, events, seed):
    random = np.random.default_rng(seed)
    leaf, event = random.integers(0, leaves, n), random.integers(0, events, n)
    before, after = random.normal(size=(2, n))
    tree = BestPrefix(leaf, event, leaves, events)
    weights = [np.bincount(tree.cell, weights=weight, minlength=tree.cells) for weight in (before, after)]
    found = tree.after_each_event(*weights)
    assert found.shape == (events,)
    for e in range(events):
        now = np.where(event <= e, after, before)
        prefixes = [now[leaf <= last].sum() for last in range(leaves)]
        assert found[e] == pytest.approx(max(prefixes))


def test_rows_of_the_same_leaf_and_event_share_a_cell():
    tree = BestPrefix(np.array([1, 0, 1, 1]), np.array([2, 2, 2, 0]), 2, 3)
    assert tree.cells == 3
    assert tree.cell[0] == tree.cell[2]
    assert len(set(tree.cell.tolist())) == 3
