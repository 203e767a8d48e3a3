"""The advice of a refusal is right: the printed target is certified, and so many more rows usually suffice."""

import itertools
import re

import numpy as np
import pytest
from drawn_table import draw
from hypothesis import given
from hypothesis import strategies as st

from cascade.calibration import InfeasibleTarget, ScoreTable, calibrate
from cascade.calibration.certificates.goal import Goal
from cascade.calibration.certificates.typed_value import typed


@given(st.floats(1e-9, 1e6), st.sampled_from(["max_cost", "target_accuracy"]))
def test_a_typed_value_is_printed_in_six_digits_and_no_harder(value, name):
    found = typed(Goal(name, 0.5), value)
    assert float(f"{found:.6g}") == found
    assert found >= value if name == "max_cost" else found <= value
    assert found == pytest.approx(value, rel=2e-5)


KINDS = {
    "accuracy": ({"target_accuracy": 0.985}, {}),
    "accuracy, early deferral": ({"target_accuracy": 0.985}, {"early_deferral": True}),
    "accuracy, calibrated": ({"target_accuracy": 0.985}, {"routers": [("cost_aware", "platt")] * 3}),
    "accuracy, ties": ({"target_accuracy": 0.97}, {}),
    "drop and budget": ({"max_accuracy_drop": 0.03, "max_cost": 3.0}, {}),
    "accuracy and budget": ({"target_accuracy": 0.93, "max_cost": 2.0}, {}),
    "abstaining, accuracy": ({"target_accuracy": 0.999, "max_abstain": 0.05}, {}),
    "abstaining, cost": ({"max_cost": 1.5, "max_abstain": 0.05}, {}),
}


FAILED = {
    "no policy": "max_cost",
    "mean cost": "max_cost",
    "abstained share": "max_abstain",
    "accuracy": "target_accuracy",
}


def refusal_of(table, **options):
    """The refusal of a calibration; ``None`` if it succeeds."""
    try:
        calibrate(table, **options)
    except InfeasibleTarget as refusal:
        return refusal
    return None


@pytest.mark.parametrize("kind", KINDS)
def test_the_printed_nearest_target_is_certified_when_it_is_typed(kind):
    targets, options = KINDS[kind]
    typed_again = 0
    for seed in range(5):
        table = draw(np.random.default_rng((seed, 5)), (100, 300, 1000)[seed % 3], kind.endswith("ties"))
        refusal = refusal_of(table, seed=seed, **targets, **options)
        printed = re.search(r"nearest (?:that can be|budget that can be met) is ([\d.e+-]*\d)", str(refusal))
        if refusal is None or printed is None:
            continue
        nearest = float(printed.group(1))
        assert nearest == refusal.nearest
        failed = FAILED[re.match(r"no policy|abstained share|mean cost|accuracy", str(refusal)).group()]
        # Of a gain and a budget, the gain is refused alone.
        others = targets if failed == "max_cost" or "max_abstain" in targets else {}
        assert refusal_of(table, seed=seed, **{**others, failed: nearest}, **options) is None
        typed_again += 1
    assert typed_again >= 2


@pytest.mark.parametrize("rows", [5, 10, 20, 50, 100])
def test_few_rows_never_claim_that_more_would_not_help_where_they_would(rows):
    for seed in range(8):
        table = draw(np.random.default_rng((seed, rows)), rows, False)
        assert "hardly" not in str(refusal_of(table, target_accuracy=0.9, seed=seed))


def test_for_rows_that_contradict_the_target_more_would_not_help():
    with pytest.raises(InfeasibleTarget, match="more rows of the same kind would hardly change that"):
        calibrate(draw(np.random.default_rng(0), 1000, False), target_accuracy=0.999)


def test_with_so_many_more_rows_at_least_seven_of_ten_are_certified():
    certified = []
    for seed, target in itertools.product(range(48), (0.92, 0.93)):
        rng = np.random.default_rng((seed, 8))
        rows = (50, 100, 200)[seed % 3]
        refusal = refusal_of(draw(rng, rows, False), target_accuracy=target, seed=seed)
        advice = re.search(r"about ([\d,]+) more rows", str(refusal))
        if advice is not None:
            more = int(advice.group(1).replace(",", ""))
            certified.append(refusal_of(draw(rng, rows + more, False), target_accuracy=target, seed=seed) is None)
    assert len(certified) >= 10
    assert np.mean(certified) >= 0.7


@pytest.mark.parametrize("look", [1, 2, 5])
def test_a_look_is_tested_at_its_part_of_delta(look):
    policy = calibrate(draw(np.random.default_rng(4), 1000, False), max_accuracy_drop=0.05, delta=0.1, look=look)
    certificate = policy.certificate
    assert (certificate["delta"], certificate["look"], certificate["level"]) == (0.1, look, 0.1 / 2**look)
    assert certificate["tests"][0]["p_value"] <= 0.1 / 2**look
    plain = calibrate(draw(np.random.default_rng(4), 1000, False), max_accuracy_drop=0.05, delta=0.1 / 2**look)
    assert policy.thresholds.tolist() == plain.thresholds.tolist()


@pytest.mark.parametrize("look", [0, -1, 1.5, True])
def test_a_look_that_is_not_a_whole_number_is_refused(look):
    with pytest.raises(ValueError, match="look must be a whole number"):
        calibrate(draw(np.random.default_rng(4), 50, False), max_accuracy_drop=0.05, look=look)


@pytest.mark.parametrize("is_planned", [True, False])
def test_calibrating_until_a_target_is_certified_errs_too_often_only_if_the_looks_are_not_planned(is_planned):
    delta, runs, looks, rng = 0.2, 60, 6, np.random.default_rng(9)

    def is_certified(look):
        """Whether a single stage that is right nine times in ten passes for a little more than that."""
        wrong = (rng.random((150, 1)) > 0.9).astype(int)
        table = ScoreTable(wrong, np.ones((150, 1)), np.ones(1), np.array(["only"]), label=np.zeros(150, dtype=int))
        planned = {"look": look} if is_planned else {}
        return refusal_of(table, target_accuracy=0.9001, delta=delta, seed=look, **planned) is None

    errors = sum(any(is_certified(look) for look in range(1, looks + 1)) for _ in range(runs))
    assert (errors <= delta * runs + 3 * np.sqrt(delta * (1 - delta) * runs)) == is_planned


def test_a_refusal_warns_that_to_ask_again_is_another_look():
    with pytest.raises(InfeasibleTarget, match="another look"):
        calibrate(draw(np.random.default_rng(4), 50, False), target_accuracy=0.99)
