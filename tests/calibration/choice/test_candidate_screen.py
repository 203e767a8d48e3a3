"""The screen: exact where there are few distinct confidences, never optimistic elsewhere."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.calibration.choice.candidate_screen import CandidateScreen
from cascade.calibration.choice.candidate_search import screen_candidates
from cascade.calibration.choice.model_pool import ModelPool
from cascade.calibration.search.best_thresholds import Target
from cascade.routers import NEVER


def make_pool(models, n, seed, levels=3, hop_cost=0.0):
    random = np.random.default_rng(seed)
    confidence = random.integers(0, levels + 1, (n, models)) / levels
    gain = (random.random((n, models)) < 0.3 + 0.6 * confidence).astype(float)
    cost = random.uniform(0.5, 5, (n, models))
    return ModelPool(confidence, gain, cost, cost.max(axis=0), hop_cost)


def brute_force(pool, target, stages):
    """The standing of a cascade, row by row and threshold by threshold."""
    values = [[*np.unique(pool.confidence[:, m]), NEVER] for m in stages[:-1]]
    standings = []
    for thresholds in itertools.product(*values):
        gain = cost = 0.0
        reached = False
        for row in range(len(pool)):
            for place, m in enumerate(stages):
                reached |= place == len(stages) - 1
                cost += pool.cost[row, m] + (pool.hop_cost if place else 0.0)
                if place == len(stages) - 1 or pool.confidence[row, m] >= thresholds[place]:
                    gain += pool.gain[row, m]
                    break
        if not reached:  # then it is a shorter cascade
            continue
        gain, cost = gain / len(pool), cost / len(pool)
        if target.least_gain is None:
            standings.append((max(cost / target.most_cost - 1, 0), -gain))
        else:
            standings.append((max(target.least_gain - gain, 0), cost))
    return min((missed if missed > 1e-9 else 0.0, value) for missed, value in standings)


@given(
    st.integers(1, 4),
    st.integers(1, 12),
    st.integers(0, 10_000),
    st.sampled_from([Target(least_gain=0.7), Target(least_gain=1.0), Target(most_cost=3.0)]),
    st.sampled_from([0.0, 0.4]),
)
def test_standings_equal_brute_force_for_all_subsets_in_all_orders(models, n, seed, target, hop_cost):
    pool = make_pool(models, n, seed, hop_cost=hop_cost)
    screen = CandidateScreen(pool, target)
    assert screen_candidates(screen, min(models, 3)) == "all orders"
    expected = [s for size in range(1, min(models, 3) + 1) for s in itertools.permutations(range(models), size)]
    assert set(screen.standings) == set(expected)
    for stages in expected:
        assert screen.standings[stages] == pytest.approx(brute_force(pool, target, stages), abs=1e-9)
    best = min(screen.standings.values())
    assert screen.standings[screen.ranked()[0]] == best


@given(st.integers(0, 10_000), st.floats(1, 15))
def test_only_cascades_within_the_deadline_have_a_standing(seed, deadline):
    pool = make_pool(4, 10, seed, hop_cost=0.3)
    for most_candidates in (0, 10_000):
        screen = CandidateScreen(pool, Target(least_gain=0.6), deadline)
        screen_candidates(screen, 3, most_candidates)
        longest = {s: pool.worst_cost[list(s)].sum() + 0.3 * (len(s) - 1) for s in screen.standings}
        assert all(value <= deadline for value in longest.values())
        assert {(m,) for m in range(4) if pool.worst_cost[m] <= deadline} <= set(screen.standings)


def test_a_coarse_grid_never_reports_more_than_the_rows_give():
    pool = make_pool(3, 150, 1, levels=1000)
    screen = CandidateScreen(pool, Target(least_gain=0.7))
    screen_candidates(screen, 3)
    for stages in itertools.permutations(range(3)):
        missed, cost = screen.standings[stages]
        # 64 candidates per threshold, of about 140: a little more expensive than the optimum, never cheaper.
        assert missed == 0
        assert brute_force_two_thresholds(pool, 0.7, stages) <= cost + 1e-9
        assert cost <= brute_force_two_thresholds(pool, 0.7, stages) * 1.05


def brute_force_two_thresholds(pool, least, stages):
    first, second, last = stages
    cheapest = np.inf
    for threshold in [*np.unique(pool.confidence[:, first]), NEVER]:
        left = pool.confidence[:, first] < threshold
        others = np.append(np.unique(pool.confidence[:, second]), NEVER)
        sure = pool.confidence[:, second] >= others[:, None]
        gain = np.where(left, np.where(sure, pool.gain[:, second], pool.gain[:, last]), pool.gain[:, first])
        later = pool.cost[:, second] + np.where(sure, 0, pool.cost[:, last])
        cost = pool.cost[:, first] + np.where(left, later, 0)
        reached = gain.mean(axis=1) >= least - 1e-9
        if reached.any():
            cheapest = min(cheapest, cost.mean(axis=1)[reached].min())
    return cheapest


@given(st.integers(0, 10_000), st.sampled_from([Target(least_gain=0.75), Target(most_cost=2.5)]))
def test_a_local_search_is_never_better_than_all_orders_and_seldom_much_worse(seed, target):
    pool = make_pool(5, 30, seed)
    found = {}
    for method, most in (("all orders", 10_000), ("local search", 0)):
        screen = CandidateScreen(pool, target)
        assert screen_candidates(screen, 3, most) == method
        found[method] = screen.standings[screen.ranked()[0]]
    (full_missed, full), (missed, value) = found["all orders"], found["local search"]
    assert full_missed <= missed + 1e-12
    if missed == 0:
        assert full <= value + 1e-9
        assert value <= full + 0.1 * abs(full)
