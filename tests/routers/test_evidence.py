"""The evidence that travels between segments."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.routers import EVIDENCE_COLUMNS, SCORES, Evidence, EvidenceColumn, new_evidence


def drawn(n, stages, has_stages, has_early_deferral):
    """Evidence of n rows after so many stages."""
    random = np.random.default_rng(n)
    early = (random.random(n) < 0.5, random.integers(-1, 9, n), random.random(n)) if has_early_deferral else (None,) * 3
    return Evidence(random.random((n, len(EvidenceColumn) * stages)) if has_stages else None, *early)


def values(evidence):
    return [
        None if each is None else (each.dtype, each.tolist())
        for each in (evidence.stages, evidence.deferred_early, evidence.answer, evidence.confidence)
    ]


@pytest.mark.parametrize(("has_stages", "has_early_deferral"), [(True, True), (True, False), (False, True)])
@given(st.integers(0, 9), st.integers(0, 3))
def test_evidence_comes_back_from_its_array_bit_for_bit(has_stages, has_early_deferral, n, stages):
    evidence = drawn(n, stages, has_stages, has_early_deferral)
    array = evidence.to_array()
    assert array.dtype == np.float64
    assert array.flags.c_contiguous
    assert array.shape == (n, 5 * stages * has_stages + 3 * has_early_deferral)
    found = Evidence.from_array(array, has_stages, has_early_deferral)
    assert values(found) == values(evidence)
    assert len(found) == n
    assert found.stages is None or found.stages.flags.c_contiguous


@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.booleans())
def test_parts_that_are_joined_can_be_taken_apart(sizes, has_early_deferral):
    parts = [drawn(n, 2, True, has_early_deferral) for n in sizes]
    whole, start = Evidence.join(parts), 0
    assert len(whole) == sum(sizes)
    for part in parts:
        assert values(whole.take(slice(start, start + len(part)))) == values(part)
        start += len(part)


def test_the_columns_of_a_stage_are_its_answer_its_confidence_and_the_scores():
    probabilities = np.array([[0.7, 0.3], [0.5, 0.5]])
    evidence = new_evidence(np.array([0, 1]), np.array([0.6, 0.4]), probabilities)
    assert evidence[:, EvidenceColumn.ANSWER].tolist() == [0, 1]
    assert evidence[:, EvidenceColumn.CONFIDENCE].tolist() == [0.6, 0.4]
    for name in EVIDENCE_COLUMNS[2:]:
        assert evidence[:, EvidenceColumn[name.upper()]].tolist() == SCORES[name](probabilities).tolist()
    assert np.isnan(new_evidence(np.array([0]), np.array([0.6]), None)[:, EvidenceColumn.MARGIN]).all()
