"""A router: the confidence that is compared with the threshold."""

import numpy as np
import pytest

from cascade.calibration import Identity, Isotonic, Platt, Temperature
from cascade.routers import NEVER, SCORES, Router, accepted

CALIBRATORS = [Identity(), Temperature(2.5), Platt(1.7, -0.4), Isotonic((0.1, 0.4, 0.9), (0.2, 0.2, 0.8))]


def distributions(n=60, classes=12, dtype=np.float64):
    powers = np.exp(np.random.default_rng(0).normal(size=(n, classes)) * 4)
    return (powers / powers.sum(axis=1, keepdims=True)).astype(dtype)


@pytest.mark.parametrize("calibrator", CALIBRATORS, ids=lambda c: type(c).__name__)
@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_same_row_has_the_same_bits_in_every_batch_and_layout(score, calibrator, dtype):
    probabilities, router = distributions(dtype=dtype), Router(score, calibrator)
    together = router.confidence(probabilities)
    assert together.dtype == np.float64
    assert ((together >= 0) & (together <= 1)).all()
    alone = np.concatenate([router.confidence(probabilities[i : i + 1]) for i in range(len(probabilities))])
    strided = np.stack([probabilities, probabilities], axis=1)[:, 1]
    np.testing.assert_array_equal(alone, together)
    np.testing.assert_array_equal(router.confidence(np.asfortranarray(probabilities)), together)
    np.testing.assert_array_equal(router.confidence(strided), together)
    np.testing.assert_array_equal(router.confidence(probabilities[::3]), together[::3])


@pytest.mark.parametrize("score", SCORES)
def test_probabilities_that_sum_to_a_little_above_one_do_not_reach_never(score):
    probabilities = np.array([[1.0000002, 0.0], [1.0, 0.0]])
    assert not accepted(Router(score, Identity()).confidence(probabilities), NEVER).any()


def test_a_score_is_taken_from_probabilities_before_an_own_confidence():
    probabilities, own = np.array([[0.9, 0.1]]), np.array([0.3])
    assert Router("margin", Identity()).confidence(probabilities, own) == pytest.approx([0.8])
    assert Router(None, Identity()).confidence(probabilities, own) == pytest.approx([0.3])
    assert Router("margin", Identity()).confidence(None, own) == pytest.approx([0.3])


def test_nothing_to_go_by_is_refused():
    with pytest.raises(ValueError, match="needs probabilities"):
        Router(None, Identity()).confidence(np.array([[1.0, 0.0]]))
    with pytest.raises(ValueError, match="needs probabilities"):
        Router("margin", Identity()).confidence(None)
