"""The sentences: no claim where the interval includes zero, and the right word for each direction."""

from dataclasses import replace

import pytest

from cascade.calibration import choose_cascade
from cascade.calibration.choice.cascade_choice import Alternative, Comparison
from cascade.calibration.choice.exclusion import Exclusion
from cascade.calibration.choice.verdicts import verdicts


@pytest.fixture(scope="module")
def choice(make_table):
    found = choose_cascade(make_table(300, 4, seed=1, levels=10), max_accuracy_drop=0.05)
    best = replace(found.best, stages=("stage0", "stage1", "stage3"), reaches_target=True)
    left_out = {"stage2": Exclusion("does not pay", 9.0, None)}
    return replace(
        found, choices=(best,), full_ladder=None, why_no_ladder="it is busy", best_shorter=None, left_out=left_out
    )


def against(choice, stages, saving, low, high, gain=0.0):
    cascade = replace(choice.best, stages=stages)
    return Alternative(cascade, Comparison(saving, (low, high), gain, (gain - 0.01, gain + 0.01)))


def test_a_clear_saving_is_stated_without_doubt(choice):
    found = verdicts(
        replace(
            choice,
            best_single=against(choice, ("stage3",), 0.412, 0.38, 0.441, gain=-0.003),
            with_model={"stage2": against(choice, ("stage0", "stage2", "stage3"), 0.031, 0.01, 0.05)},
        )
    )
    assert found == (
        "the cascade stage0 -> stage1 -> stage3 costs 41.2 % less [38.0, 44.1] than model 'stage3' alone, "
        "the best single one (-0.30 points accuracy [-1.30, +0.70])",
        "the full ladder of all 4 models cannot be compared: it is busy",
        "stage 3 (stage2) never pays: drop it; the best choice costs 3.1 % less [1.0, 5.0] than the best cascade with "
        "it, stage0 -> stage2 -> stage3",
    )


def test_a_doubtful_saving_is_called_doubtful(choice):
    single = against(choice, ("stage3",), 0.01, -0.02, 0.04)
    shorter = against(choice, ("stage0", "stage3"), 0.002, -0.01, 0.01)
    middle = against(choice, ("stage2", "stage3"), -0.01, -0.03, 0.02)
    found = verdicts(replace(choice, best_single=single, best_shorter=shorter, with_model={"stage2": middle}))
    assert "which on these rows cannot be distinguished from no difference; 'stage3' alone is simpler" in found[0]
    assert "the best shorter cascade, stage0 -> stage3, which on these rows cannot be" in found[1]
    assert found[3].startswith("stage 3 (stage2) is not needed: the best choice costs 1.0 % more [-2.0, 3.0] than")


def test_held_out_rows_may_reverse_the_choice(choice):
    single = against(choice, ("stage3",), -0.1, -0.15, -0.05)
    better = against(choice, ("stage2", "stage3"), -0.1, -0.15, -0.05)
    found = verdicts(replace(choice, best_single=single, with_model={"stage2": better}))
    assert found[0] == (
        "no cascade: model 'stage3' alone is better; the best cascade costs 10.0 % more [5.0, 15.0] than it"
    )
    assert found[2].startswith("stage 3 (stage2) may pay after all: on the judging rows")


def test_a_shorter_cascade_that_is_clearly_worse_is_not_worth_a_sentence(choice):
    found = verdicts(replace(choice, best_shorter=against(choice, ("stage0", "stage3"), 0.2, 0.1, 0.3)))
    assert not any("shorter" in text for text in found)


def test_a_budget_compares_gains(choice):
    budget = replace(choice.goal, name="max_cost")
    single = against(choice, ("stage0",), -0.25, -0.3, -0.2, gain=0.03)
    found = verdicts(replace(choice, goal=budget, best_single=single, left_out={}))
    assert "has 3.00 points more accuracy [2.00, 4.00] than model 'stage0' alone" in found[0]
    assert found[0].endswith("(+25.00 % cost [+20.00, +30.00])")


@pytest.mark.parametrize(
    ("left_out", "words"),
    [
        (Exclusion("too slow", 30.0, None), "is too slow for the deadline: 30 ms at worst, the deadline is 20 ms"),
        (Exclusion("too slow in a cascade", 21.5, None), "beside any other model: at least 21.5 ms at worst"),
        (Exclusion("misses the target", 9.0, None), "screened within the deadline misses the target"),
        (Exclusion("answers no row", 9.0, "stage1"), "(dominated: 'stage1' has no less accuracy alone"),
    ],
)
def test_a_model_that_is_left_out_has_its_reason_and_a_missed_target_is_reported(choice, left_out, words):
    missed = replace(choice.best, reaches_target=False)
    found = verdicts(replace(choice, choices=(missed,), best_single=None, deadline=20.0, left_out={"stage2": left_out}))
    assert found[0] == "no model alone reaches the target"
    assert found[2].startswith("stage 3 (stage2) ")
    assert words in found[2]
    assert ("never pays" in found[2]) is (left_out.reason == "answers no row")
    assert found[-1].startswith("the best choice misses its target on the 150 judging rows")
