"""The first screen of a report: each target with its estimate, interval and verdict, in its unit."""

import dataclasses
import html
import re

import numpy as np
import pytest

from cascade.calibration import Policy, calibrate, judge
from cascade.reports import Replay, report_page
from cascade.reports.tables.judgement_table import judgement_table
from cascade.reports.text import MISSING


def first_screen(replay):
    section = re.search(r'<section id="judgement">(.*?)</section>', report_page(replay), re.DOTALL)[1]
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", section)).split())


@pytest.mark.parametrize(
    ("target", "claim"),
    [
        ({"max_accuracy_drop": 0.1}, "accuracy drop at most 10 points"),
        ({"target_accuracy": 0.6}, "accuracy at least 60 %"),
        ({"target_agreement": 0.6}, "agreement at least 60 %"),
        ({"max_cost": 9.0}, "mean cost at most 9 ms"),
        ({"target_accuracy": 0.5, "max_abstain": 0.25}, "abstained share at most 25 %"),
    ],
)
def test_the_verdict_on_each_target_precedes_all_other_numbers(make_table, target, claim):
    policy, table = calibrate(make_table(1500, 2, seed=1), **target), make_table(1000, 2, seed=2)
    replay, judgement = Replay.of(table, policy), judge(table, policy)
    text = first_screen(replay)
    assert "Guaranteed on future data with probability 0.95." in text
    assert claim in text
    for each in judgement.targets:
        assert each.words in text
    shown = judgement_table(judgement, "ms")
    assert [len(row) for row in shown.rows] == [len(shown.header)] * len(judgement.targets)
    page = report_page(replay)
    assert page.index('id="judgement"') < page.index('class="tiles"') < page.index('id="headline"')


def test_without_a_guarantee_the_first_screen_warns(make_table):
    table = make_table(500, 2, seed=3)
    unsafe = calibrate(make_table(500, 2, seed=4), max_accuracy_drop=0.1, guarantee="none")
    assert "Nothing was guaranteed: thresholds were chosen for this target" in first_screen(Replay.of(table, unsafe))
    bare = Policy.from_thresholds(tuple(table.stage.tolist()), np.array([0.5]))
    assert first_screen(Replay.of(table, bare)).endswith("Nothing was guaranteed, and the policy names no target.")


def test_targets_that_cannot_be_judged_are_named_and_a_cost_without_a_bound_has_an_open_end(make_table):
    certificate = {"guarantee": "certified", "delta": 0.1, "target": {"target_accuracy": 0.5, "max_cost": 99.0}}
    table = make_table(200, 2, labels=False, row_cost=True)
    policy = Policy.from_thresholds(tuple(table.stage.tolist()), np.array([0.5]))
    text = first_screen(Replay.of(table, dataclasses.replace(policy, certificate=certificate)))
    assert "Not judged: target_accuracy: the rows have no labels" in text
    assert re.search(rf"mean cost at most 99 ms [\d.]+ \[[\d.]+, {MISSING}\]", text)
