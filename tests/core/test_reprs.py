"""Values at a prompt, and in a notebook."""

from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from cascade import (
    Answers,
    Cascade,
    CascadeConfig,
    OperatingPoint,
    Policy,
    PolicySet,
    Prediction,
    Stage,
    calibrate,
    evaluate,
    explain,
    judge,
)
from cascade.backends.fake_backend import FakeBackend
from cascade.html_table import html_table
from cascade.reports import Replay

SMALL = Stage("small", FakeBackend([[0.9, 0.1], [0.5, 0.5]]))
BIG = Stage("big", FakeBackend([[0.8, 0.2], [0.1, 0.9]]))
POLICY = Policy.from_thresholds(("small", "big"), np.array([0.8]))
CASCADE = Cascade([SMALL, BIG], POLICY)
ROWS = np.array([[0], [1]])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (SMALL, "Stage('small', FakeBackend, maximum_probability)"),
        (CASCADE, f"Cascade(small -> big; policy {POLICY.version})"),
        (CASCADE.predict(ROWS), "Answers(2 rows: 1 by stage 0, 1 by stage 1)"),
        (Answers.empty(3), "Answers(3 rows: 3 pending)"),
        (Answers.empty(0), "Answers(0 rows)"),
        (SMALL.predict(ROWS), "Prediction(2 rows, probabilities of 2 classes)"),
        (Prediction(np.arange(3), confidence=np.ones(3)), "Prediction(3 rows, with confidences)"),
        (explain([SMALL, BIG], ROWS[1:], [POLICY])[0][0], "Explanation(answer 1 by big, confidence 0.9)"),
        (OperatingPoint(np.array([0.25, 1.5]), 0.9, 2.0), "OperatingPoint(gain 0.9, cost 2, thresholds [0.25, never])"),
        (PolicySet((POLICY,)), f"PolicySet({POLICY.version}: {POLICY.version})"),
        (
            CascadeConfig(name="x", rows={}, stages=[{"name": "a", "backend": {"type": "custom", "object": "a:B"}}]),
            "CascadeConfig('x': a)",
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_repr_is_one_short_line(value, text):
    assert repr(value) == text


def test_reprs_of_offline_results_name_their_figures(make_table):
    table = make_table(400, 2)
    policy = calibrate(table, target_accuracy=0.6)
    evaluation, judgement = evaluate(table, policy), judge(make_table(400, 2, seed=1), policy)
    assert repr(evaluation).startswith(f"Evaluation(400 rows: accuracy {evaluation.accuracy:.4f}, agreement ")
    assert repr(judgement).startswith("Judgement(400 rows, certified; accuracy at least 0.6: ")
    for value in (table, policy, evaluation, judgement, Replay.of(table, policy)):
        assert "\n" not in repr(value)
        assert len(repr(value)) < 200


class Cells(HTMLParser):
    """Tags and texts of a fragment; every tag that is opened is closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.texts = [], set(), []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        assert attrs == []
        self.open.append(tag)
        self.tags.add(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def test_notebooks_show_policies_tables_and_evaluations(make_table):
    table = make_table(400, 2)
    policy = calibrate(table, target_accuracy=0.6)
    found = Cells(policy._repr_html_())
    assert {"stage0", "stage1", f"Policy {policy.version}", "Certified: target_accuracy 0.6; delta 0.05"} <= {
        *found.texts
    }
    assert "Without a guarantee" in Cells(POLICY._repr_html_()).texts
    assert "never" in Cells(Policy.from_thresholds(("a", "b"), np.array([1.0000000000000002]))._repr_html_()).texts
    found = Cells(table._repr_html_())
    assert {"Score table of 400 rows", "accuracy", f"{table.correct[:, 1].mean():.4g}"} <= {*found.texts}
    assert "agreement" in Cells(replace(table, label=None)._repr_html_()).texts
    found = Cells(evaluate(table, policy)._repr_html_())
    assert {"Evaluation on 400 rows", "stage0", "95 % interval"} <= {*found.texts}
    assert any(text.startswith("accuracy: 0.") for text in found.texts)


def test_html_is_escaped():
    found = Cells(html_table("<script>", ["<b>"], [["<i>", 0.123456, None]], ["a & b"]))
    assert found.tags == {"div", "strong", "table", "thead", "tbody", "tr", "th", "td"}
    assert found.texts == ["<script>", "<b>", "<i>", "0.1235", "a & b"]
