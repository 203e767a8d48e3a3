"""The choice of a cascade: as good as brute force on small pools, right where the answer is known, judged fairly."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.calibration import InfeasibleTarget, ScoreTable, calibrate, choose_cascade, evaluate
from cascade.calibration.choice.model_pool import ModelPool
from cascade.calibration.choice.verdicts import verdicts
from cascade.errors import ScoreTableError
from cascade.routers import NEVER


def table_of(right, sure, cost, names="abcdefgh"):
    """A table where model k is right on the rows ``right[k]`` and sure (0.9, else 0.2) on the rows ``sure[k]``."""
    right, sure = np.stack(right, axis=1), np.stack(sure, axis=1)
    order = np.random.default_rng(5).permutation(len(right))
    right, sure = right[order], sure[order]
    cost = np.array(cost, dtype=float)
    return ScoreTable(
        np.where(right, 0, 1),
        np.where(sure, 0.9, 0.2),
        cost,
        np.array(list(names[: right.shape[1]])),
        label=np.zeros(len(right), int),
    )


SHARE = np.arange(400) / 400
ALL, NONE = np.ones(400, bool), np.zeros(400, bool)


def all_points(pool, stages):
    """(gain, cost) of every combination of thresholds on the rows of a pool."""
    values = [[*np.unique(pool.confidence[:, m]), NEVER] for m in stages[:-1]]
    for thresholds in itertools.product(*values):
        gain, cost = pool.gain[:, stages[-1]], pool.cost[:, stages[-1]] + pool.hop_cost * (len(stages) > 1)
        for place in range(len(stages) - 2, -1, -1):
            m = stages[place]
            sure = pool.confidence[:, m] >= thresholds[place]
            gain = np.where(sure, pool.gain[:, m], gain)
            cost = pool.cost[:, m] + pool.hop_cost * (place > 0) + np.where(sure, 0, cost)
        yield gain.mean(), cost.mean()


@given(
    st.integers(1, 4), st.integers(2, 40), st.integers(0, 10_000), st.sampled_from([0.0, 1.5]), st.booleans(),
    st.sampled_from(["target_accuracy", "max_accuracy_drop", "target_agreement", "max_cost"]), st.floats(0, 1),
)  # fmt: skip
@settings(max_examples=40)
def test_no_subset_in_any_order_at_any_thresholds_is_better(make_table, models, n, seed, hop, row_cost, name, share):
    table = make_table(n, models, seed, levels=3, row_cost=row_cost)
    pool, _ = ModelPool.of(table, name == "target_agreement", hop).halves(0)
    chains = [s for size in range(1, min(models, 3) + 1) for s in itertools.permutations(range(models), size)]
    points = np.array([point for stages in chains for point in all_points(pool, stages)])
    gain, cost = points.T
    reference = pool.gain[:, -1].mean()
    least = gain.min() + share * (gain.max() - gain.min())
    value = {
        "target_accuracy": least,
        "max_accuracy_drop": float(np.clip(reference - least, 0, 1)),
        "target_agreement": least,
        "max_cost": cost.min() + share * (cost.max() - cost.min()),
    }[name]
    if name == "max_accuracy_drop":
        least = reference - value
    choice = choose_cascade(table, hop_cost=hop, max_stages=3, **{name: value})
    best = choice.best
    if name == "max_cost":
        assert best.chosen_cost <= value * (1 + 1e-9)
        assert best.chosen_gain == pytest.approx(gain[cost <= value * (1 + 1e-9)].max())
    else:
        assert best.chosen_gain >= least - 1e-9
        assert best.chosen_cost == pytest.approx(cost[gain >= least - 1e-9].min())


def test_the_figures_come_from_the_rows_that_did_not_choose(make_table):
    table = make_table(600, 4, seed=3, levels=20)
    choice = choose_cascade(table, max_accuracy_drop=0.05, seed=7)
    order = np.random.default_rng(7).permutation(600)
    held_out = table.take(order[300:])
    assert (choice.choosing_rows, choice.judging_rows) == (300, 300)
    for cascade in choice.choices:
        part = held_out.select(cascade.stages)
        seen = evaluate(part, cascade.policy(held_out))
        assert (cascade.gain, cascade.mean_cost) == pytest.approx((seen.accuracy, seen.mean_cost))
        assert cascade.stage_share == pytest.approx(seen.stage_share)
        assert cascade.gain_interval == pytest.approx(seen.accuracy_interval)
        assert cascade.mean_cost_interval == pytest.approx(seen.mean_cost_interval, rel=0.05)
        chosen = evaluate(table.take(order[:300]).select(cascade.stages), cascade.policy(table))
        assert (cascade.chosen_gain, cascade.chosen_cost) == pytest.approx((chosen.accuracy, chosen.mean_cost))


def test_comparisons_are_differences_of_the_figures(make_table):
    choice = choose_cascade(make_table(400, 4, seed=2, levels=20), max_accuracy_drop=0.03, hop_cost=0.1)
    for alternative in (choice.full_ladder, choice.best_single, *choice.with_model.values()):
        other, seen = alternative.cascade, alternative.comparison
        assert seen.cost_saving == pytest.approx(1 - choice.best.mean_cost / other.mean_cost)
        assert seen.gain_difference == pytest.approx(choice.best.gain - other.gain)
        assert seen.cost_saving_interval[0] <= seen.cost_saving <= seen.cost_saving_interval[1]
        assert seen.gain_difference_interval[0] <= seen.gain_difference <= seen.gain_difference_interval[1]


def test_the_winner_looks_better_on_the_rows_that_chose_it():
    # Eight models with the same true accuracy of 0.8: more than that is chance.
    flattered, held_out = [], []
    for seed in range(12):
        random = np.random.default_rng(seed)
        right = random.random((200, 8)) < 0.8
        names = np.array(list("abcdefgh"))
        table = ScoreTable(np.where(right, 0, 1), random.random((200, 8)), np.ones(8), names, label=np.zeros(200, int))
        best = choose_cascade(table, max_cost=1.0, deadline=1.0, seed=seed).best
        flattered.append(best.chosen_gain)
        held_out.append(best.gain)
    assert np.mean(flattered) > 0.83
    assert np.mean(held_out) == pytest.approx(0.8, abs=0.02)


def test_a_useless_middle_model_is_dropped():
    half = SHARE < 0.5
    table = table_of([half, NONE, ALL], [half, NONE, ALL], [1, 4, 20])
    choice = choose_cascade(table, target_accuracy=1.0)
    assert choice.best.stages == ("a", "c")
    assert choice.best.thresholds.tolist() == [0.9]
    assert choice.best_single.cascade.stages == ("c",)
    # Every unsure row pays for b in the ladder: 1 + 0.5 * 24 = 13 compared with 11.
    assert choice.full_ladder.comparison.cost_saving == pytest.approx(1 - 11 / 13, abs=0.03)
    dominated = "stage 2 (b) (dominated: 'a' has no less accuracy alone and costs no more) never pays: drop it"
    assert any(text.startswith(dominated) for text in verdicts(choice))
    assert any("less" in text and "the full ladder" in text for text in verdicts(choice))


def test_a_dominated_model_is_left_out():
    half, less = SHARE < 0.5, SHARE < 0.4
    # b accepts fewer rows than a and is more expensive.
    table = table_of([half, less, ALL], [half, less, ALL], [1, 2, 20])
    assert choose_cascade(table, target_accuracy=1.0).best.stages == ("a", "c")


def test_a_more_expensive_model_goes_first_where_that_is_cheaper():
    first, second = SHARE < 0.3, (SHARE >= 0.3) & (SHARE < 0.9)
    table = table_of([first, second, ALL], [first, second, ALL], [1.0, 1.5, 10.0])
    for most_candidates in (0, 10_000):
        choice = choose_cascade(table, target_accuracy=1.0, most_candidates=most_candidates)
        assert choice.best.stages == ("b", "a", "c")
        # The two halves together are the whole table.
        both = (choice.best.chosen_cost + choice.best.mean_cost) / 2
        assert both == pytest.approx(1.5 + 0.4 * 1.0 + 0.1 * 10.0)


def test_no_cascade_where_one_model_is_enough():
    half = SHARE < 0.5
    # a answers half of the rows, but costs more than it saves.
    table = table_of([half, ALL], [half, ALL], [12, 20])
    choice = choose_cascade(table, target_accuracy=1.0)
    assert choice.best.stages == ("b",)
    assert choice.best_several.cascade.stages == ("a", "b")
    assert verdicts(choice)[0].startswith("no cascade: model 'b' alone is better; it costs")
    everything = table_of([ALL, ALL], [half, ALL], [1, 20])
    choice = choose_cascade(everything, target_accuracy=1.0)
    assert choice.best.stages == ("a",)
    assert choice.best_several is None
    assert "is better than every cascade screened" in verdicts(choice)[0]


def test_a_hop_can_cost_more_than_a_cascade_saves():
    half = SHARE < 0.5
    table = table_of([half, ALL], [half, ALL], [1, 4])
    assert choose_cascade(table, target_accuracy=1.0, hop_cost=0.5).best.stages == ("a", "b")
    choice = choose_cascade(table, target_accuracy=1.0, hop_cost=3.0)
    assert choice.best.stages == ("b",)
    assert verdicts(choice)[0].startswith("no cascade: model 'b' alone is better")


def test_a_deadline_forbids_chains_that_are_too_long():
    half, rest = SHARE < 0.5, (SHARE >= 0.5) & (SHARE < 0.9)
    table = table_of([half, rest, ALL], [half, rest, ALL], [1, 2, 20])
    assert choose_cascade(table, target_accuracy=1.0, hop_cost=0.5).best.stages == ("a", "b", "c")
    choice = choose_cascade(table, target_accuracy=1.0, hop_cost=0.5, deadline=23.0)
    assert choice.best.stages == ("a", "c")
    assert choice.best.worst_cost == 21.5
    assert choice.full_ladder is None
    assert any("misses the deadline: 24 at worst" in text for text in verdicts(choice))
    with pytest.raises(InfeasibleTarget, match=r"no model meets the deadline of 0\.5 ms: the fastest takes 1 ms"):
        choose_cascade(table, target_accuracy=1.0, deadline=0.5)
    choice = choose_cascade(table, target_accuracy=0.4, deadline=10)
    assert choice.left_out["c"].reason == "too slow"
    assert "stage 3 (c) is too slow for the deadline: 20 ms at worst, the deadline is 10 ms" in verdicts(choice)


@given(
    st.integers(2, 5), st.integers(0, 10_000), st.floats(1.5, 60), st.integers(1, 3), st.sampled_from([0.3, 0.6, 0.8]),
)  # fmt: skip
@settings(max_examples=60)
def test_each_model_that_is_left_out_has_its_own_reason(make_table, models, seed, deadline, most, accuracy):
    table = make_table(60, models, seed, levels=4)
    try:
        choice = choose_cascade(table, target_accuracy=accuracy, deadline=deadline, max_stages=most, hop_cost=0.1)
    except InfeasibleTarget:
        return
    pool, _ = ModelPool.of(table, False, 0.1).halves(0)
    gain, cost = pool.gain.mean(axis=0), pool.cost.mean(axis=0)
    assert set(choice.left_out) == set(choice.models) - set(choice.best.stages)
    for name, left_out in choice.left_out.items():
        k = choice.models.index(name)
        others = [m for m in range(models) if m != k]
        assert (left_out.reason == "too slow") is bool(table.cost[k] > deadline)
        fastest = min(table.cost[k] + table.cost[m] + 0.1 for m in others)
        too_slow_beside = most > 1 and fastest > deadline >= table.cost[k]
        assert (left_out.reason == "too slow in a cascade") is bool(too_slow_beside)
        assert (left_out.reason == "does not pay") is (name in choice.with_model)
        better = [
            choice.models[m]
            for m in others
            if table.cost[m] <= deadline >= table.cost[k]
            and gain[m] >= gain[k] and cost[m] <= cost[k] and (gain[m], cost[m]) != (gain[k], cost[k])
        ]  # fmt: skip
        assert (left_out.better in better) if better else left_out.better is None
        (sentence,) = (text for text in verdicts(choice) if f"({name})" in text)
        assert ("too slow for the deadline" in sentence) is left_out.reason.startswith("too slow")
        assert ("dominated" in sentence) is bool(better)


def test_a_model_that_helps_no_cascade_reach_the_target_is_not_called_useless():
    # Only c reaches the target, and beside it b is too slow; beside a it is not.
    half, less = SHARE < 0.5, SHARE < 0.3
    table = table_of([less, half, ALL, ALL], [less, half, ALL, ALL], [1, 4, 8, 20])
    choice = choose_cascade(table, target_accuracy=0.9, deadline=10)
    assert choice.best.stages == ("a", "c")
    assert {name: left_out.reason for name, left_out in choice.left_out.items()} == {
        "b": "misses the target",
        "d": "too slow",
    }
    assert any(
        "(b) cannot be used" in text and "within the deadline misses the target" in text for text in verdicts(choice)
    )


def test_a_model_that_fits_the_deadline_only_alone_is_too_slow_in_a_cascade():
    half = SHARE < 0.5
    table = table_of([half, half, ALL], [half, half, ALL], [1, 2, 10])
    choice = choose_cascade(table, target_accuracy=0.4, deadline=10)
    assert choice.left_out["c"].reason == "too slow in a cascade"
    assert any("beside any other model: at least 11 ms at worst, the deadline is 10" in t for t in verdicts(choice))


def test_one_model():
    table = table_of([SHARE < 0.7], [ALL], [2])
    choice = choose_cascade(table, target_accuracy=0.5, deadline=2.0)
    assert (choice.best.stages, choice.best.thresholds.tolist(), choice.best.mean_cost) == (("a",), [], 2.0)
    assert verdicts(choice) == ("the pool has one model, 'a': there is nothing to choose",)


def test_equal_models_and_ties_take_the_shortest():
    choice = choose_cascade(table_of([ALL] * 3, [ALL] * 3, [5, 5, 5]), target_accuracy=1.0)
    assert len(choice.best.stages) == 1
    assert choice.best.mean_cost == 5
    free = choose_cascade(table_of([ALL] * 2, [ALL] * 2, [0, 0]), target_accuracy=1.0)
    assert free.best_single.comparison.cost_saving == 0


def test_agreement_needs_no_labels_and_its_reference_stays_the_last_model(make_table):
    table = make_table(300, 4, seed=4, labels=False, levels=20)
    choice = choose_cascade(table, target_agreement=0.7)
    assert choice.gain == "agreement"
    assert choice.best.chosen_gain >= 0.7
    half = SHARE < 0.5
    # b alone is right everywhere, but it agrees with the reference, c, on half of the rows only.
    table = table_of([half, ALL, half], [half, ALL, ALL], [1, 2, 9])
    assert choose_cascade(table, target_accuracy=1.0).best.stages == ("b",)
    assert choose_cascade(table, target_agreement=1.0).best.stages[-1] in ("a", "c")
    assert choose_cascade(table, max_accuracy_drop=0.0).best.stages == ("a",)
    with pytest.raises(ScoreTableError, match="no labels"):
        choose_cascade(make_table(10, 2, labels=False), target_accuracy=0.5)


def test_two_models_are_as_good_as_calibrate(make_table):
    table = make_table(500, 2, seed=5)
    choice = choose_cascade(table, max_accuracy_drop=0.02, seed=1)
    half = table.take(np.random.default_rng(1).permutation(500)[:250])
    assert (
        choice.best.chosen_cost
        <= evaluate(half, calibrate(half, max_accuracy_drop=0.02, guarantee="none")).mean_cost + 1e-9
    )


@pytest.mark.parametrize(("name", "value"), [("max_accuracy_drop", 0.03), ("max_cost", 30.0)])
def test_the_local_search_comes_close(make_table, name, value):
    table = make_table(400, 6, seed=8, levels=8)
    local = choose_cascade(table, **{name: value}, max_stages=3, most_candidates=0)
    full = choose_cascade(table, **{name: value}, max_stages=3)
    assert (local.method, full.method) == ("local search", "all orders")
    if name == "max_cost":
        assert local.best.chosen_gain >= full.best.chosen_gain - 0.01
    else:
        assert local.best.chosen_cost <= full.best.chosen_cost * 1.02


def test_a_target_that_cannot_be_reached_names_the_nearest():
    half = SHARE < 0.5
    table = table_of([half, SHARE < 0.8], [half, ALL], [1, 4])
    with pytest.raises(
        InfeasibleTarget, match=r"no cascade of these 2 models reaches accuracy 0.99 on the 200"
    ) as found:
        choose_cascade(table, target_accuracy=0.99)
    assert 0.7 < found.value.nearest < 0.9
    choose_cascade(table, target_accuracy=found.value.nearest)
    with pytest.raises(InfeasibleTarget, match="the cheapest model that may be used costs 1 ms") as found:
        choose_cascade(table, max_cost=0.5)
    choose_cascade(table, max_cost=found.value.nearest)
    with pytest.raises(InfeasibleTarget, match="one row cannot both"):
        choose_cascade(table.take(np.array([0])), max_cost=5)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({}, "give one of"),
        ({"max_cost": 1, "target_accuracy": 0.5}, "give one of the targets, not two; got target_accuracy, max_cost"),
        ({"max_cost": 1, "hop_cost": -1}, "hop_cost must be a finite number of at least 0; got -1"),
        ({"max_cost": 1, "deadline": 0}, "deadline must be above 0; got 0"),
        ({"max_cost": 1, "max_stages": 0}, r"max_stages must be in \[1, 12\]; got 0"),
        ({"max_cost": 1, "level": 1.0}, r"level must be in \(0, 1\); got 1.0"),
    ],
)
def test_bad_arguments_are_refused(make_table, arguments, text):
    with pytest.raises(ValueError, match=text):
        choose_cascade(make_table(20, 2), **arguments)


def test_the_same_table_and_seed_give_the_same_choice(make_table):
    table = make_table(200, 4, seed=6, levels=20)
    first, second = (choose_cascade(table, max_accuracy_drop=0.05, seed=3) for _ in range(2))
    assert first.to_dict() == second.to_dict()


def test_a_ladder_too_long_for_the_threshold_search_is_reported(make_table):
    table = make_table(60, 3, seed=1)
    columns = [0] * 16 + [2]
    names = np.array([f"m{k}" for k in range(17)])
    wide = ScoreTable(table.prediction[:, columns], table.confidence[:, columns], np.ones(17), names, label=table.label)
    choice = choose_cascade(wide, max_accuracy_drop=0.1, max_stages=2)
    assert choice.full_ladder is None
    assert any(
        "the full ladder of all 17 models cannot be compared: it has more than 16" in t for t in verdicts(choice)
    )


def detectors(seed=0):
    """A pool of two stages that reject and two that answer both classes."""
    random = np.random.default_rng(seed)
    label = (random.random(4000) < 0.05).astype(np.int64)
    scores = (2 * label - 1)[:, None] * [1.0, 1.8, 1.8, 2.2] + random.normal(size=(4000, 4))
    prediction = (scores > -0.8).astype(np.int64)
    prediction[:, :2] = 0
    confidence = 1 / (1 + np.exp(scores))
    confidence[:, 2:] = np.maximum(confidence[:, 2:], 1 - confidence[:, 2:])
    stage = np.array(["cheap", "middle", "good", "best"])
    return ScoreTable(prediction, confidence, np.array([1.0, 4.0, 12.0, 30.0]), stage, label=label)


def test_a_cascade_for_a_recall_is_judged_on_positive_rows():
    table = detectors()
    choice = choose_cascade(table, min_recall=0.9, positive=1)
    best = choice.best
    assert choice.gain == "recall"
    assert best.stages[-1] in ("good", "best")
    assert set(best.stages) & {"cheap", "middle"}
    assert best.chosen_gain >= 0.9 - 1e-9
    assert best.gain_interval[0] <= best.gain <= best.gain_interval[1] <= 1
    assert best.mean_cost < best.last_stage_cost
    policy = best.policy(table)
    seen = evaluate(table.select(best.stages), policy, positive=1).detection
    assert seen.recall == pytest.approx((best.gain + best.chosen_gain) / 2, abs=0.02)


def test_a_recall_that_no_cascade_reaches_or_without_positive_rows_is_refused():
    table = detectors()
    blind = np.where(np.arange(len(table))[:, None] % 9, table.prediction, 0)
    with pytest.raises(InfeasibleTarget, match="reaches recall 1 on the"):
        choose_cascade(replace(table, prediction=blind), min_recall=1, positive=1)
    with pytest.raises(InfeasibleTarget, match=r"none of the .* rows is labelled"):
        choose_cascade(table.take(table.label == 0), min_recall=0.9, positive=1)
    with pytest.raises(ValueError, match="positive must be a class from 0 to 1; got 'face'"):
        choose_cascade(table, min_recall=0.9, positive="face")
    with pytest.raises(ValueError, match="positive goes with min_recall"):
        choose_cascade(table, max_cost=9.0, positive=1)
