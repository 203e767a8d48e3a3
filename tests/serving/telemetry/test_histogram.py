"""Histograms, against counting one by one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.serving.telemetry.histogram import Histogram, log_edges, percentiles

EDGES = log_edges(0.1, 6, 20)
VALUES = st.lists(st.floats(0, 1e7), max_size=60)


@given(st.lists(VALUES, max_size=4))
def test_counts_and_sum_are_those_of_counting_one_by_one(parts):
    histogram = Histogram(EDGES)
    for part in parts:
        histogram.add(np.array(part))
    values = [value for part in parts for value in part]
    assert histogram.size == len(values)
    assert histogram.total == pytest.approx(sum(values))
    for every in (1, 4):
        pairs = histogram.cumulative(every)
        assert pairs[-1] == ("+Inf", len(values))
        exact = [float(edge) for edge in EDGES[::every]]
        assert [count for _, count in pairs[:-1]] == [sum(value <= edge for value in values) for edge in exact]
        assert [float(edge) for edge, _ in pairs[:-1]] == pytest.approx(exact, rel=1e-5)


@given(st.lists(st.floats(0.1, 1e5), min_size=1, max_size=60), st.floats(1, 100))
def test_the_error_of_a_percentile_is_at_most_the_width_of_a_bucket(values, percent):
    histogram = Histogram(EDGES)
    histogram.add(np.array(values))
    ((found,),) = percentiles(histogram.counts[None], EDGES, (percent,))
    exact = np.percentile(values, percent, method="inverted_cdf")
    assert exact / 1.123 <= found <= exact * 1.123


def test_without_values_there_is_no_percentile_and_beyond_the_edges_it_is_the_edge():
    counts = np.zeros((3, len(EDGES) + 1), dtype=int)
    counts[1, 0] = counts[2, -1] = 5
    found = percentiles(counts, EDGES, (50.0,))[:, 0]
    assert np.isnan(found[0])
    assert found[1:] == pytest.approx([0.1, 1e5])
