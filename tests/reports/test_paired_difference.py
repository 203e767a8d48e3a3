"""The paired interval: its coverage by enumeration of every outcome."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import multinomial

from cascade.reports import paired_difference_interval


@pytest.mark.parametrize(("n", "least"), [(10, 0.88), (40, 0.93)])  # of few rows it is known to be a little short
@pytest.mark.parametrize("p", [(0.05, 0.05), (0.1, 0.3), (0.02, 0.2), (0.4, 0.4)], ids=str)
def test_the_interval_covers_the_difference_at_its_level(n, least, p):
    covered = 0.0
    for better in range(n + 1):
        for worse in range(n + 1 - better):
            low, high = paired_difference_interval(better, worse, n)
            if low <= p[0] - p[1] <= high:
                covered += multinomial.pmf([better, worse, n - better - worse], n, [*p, 1 - sum(p)])
    assert covered >= least


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 30))
def test_it_contains_the_observed_difference_and_is_antisymmetric(better, worse, same):
    n = max(better + worse + same, 1)
    low, high = paired_difference_interval(better, worse, n)
    assert -1 <= low <= (better - worse) / n <= high <= 1
    assert paired_difference_interval(worse, better, n) == pytest.approx((-high, -low))
    assert np.isfinite([low, high]).all()
