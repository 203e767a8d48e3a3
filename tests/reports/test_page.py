"""The page: complete, safe, self-contained and deterministic."""

import dataclasses
import os
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

from cascade.calibration import Policy
from cascade.errors import InputError, PolicyError
from cascade.reports import Replay, ReportTable, report_page, write_report
from cascade.reports.text import MISSING
from cascade.routers import NEVER

VOID = {"meta", "br", "link", "img", "input", "hr", "source", "base"}
OUTSIDE = re.compile(r"^\s*(https?:|//|file:|data:|javascript:)", re.IGNORECASE)


class Page(HTMLParser):
    """What a page holds; raises where a tag is not closed in order."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.texts, self.attributes = [], [], [], []
        self.rows = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.handle_startendtag(tag, attributes)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        names = [name for name, _ in attributes]
        assert len(names) == len(set(names))
        self.attributes += [(tag, *attribute) for attribute in attributes]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        if text.strip() and self.open[-1:] not in (["style"], ["script"]):
            self.texts.append(text)
            if self.open[-1] in ("th", "td"):
                self.rows[-1].append(text)

    def values(self, name):
        return [value for _, key, value in self.attributes if key == name]


def check(text):
    """A page that is well-formed, needs nothing but itself, and whose references meet something."""
    assert text.startswith("<!DOCTYPE html>")
    page = Page(text)
    assert page.tags.count("html") == page.tags.count("title") == page.tags.count("h1") == 1
    assert page.tags.count("script") == 1
    assert [name for tag, name, _ in page.attributes if tag == "script"] == []
    script = re.search(r"<script>(.*)</script>", text, re.DOTALL)[1]
    assert not re.search(
        r"fetch|import|XMLHttp|https?:(?!//www\.w3\.org/2000/svg)|innerHTML|eval|document\.write", script
    )
    assert not {"link", "iframe", "object", "embed", "base", "img", "form"} & set(page.tags)
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    references = page.values("href") + page.values("src") + page.values("xlink:href")
    assert not [reference for reference in references if OUTSIDE.match(reference)]
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    styles = " ".join(value for _, name, value in page.attributes if name in ("style", "clip-path"))
    targets = {reference.removeprefix("#") for reference in references} | set(re.findall(r"url\(#([^)]*)\)", styles))
    assert targets <= set(ids)
    assert targets
    return page


def test_a_page_of_any_number_of_stages_is_whole_and_alone(any_replay):
    page = check(report_page(any_replay))
    names = any_replay.policy.stages
    assert page.tags.count("svg") == 2 + 2 * len(names)  # flow, frontier, reliability and risk of each stage
    rows = {row[0]: row for row in page.rows if len(row) == 9}
    for k, name in enumerate(names):
        assert rows[name][4:6] == [str(any_replay.reached[k]), str(any_replay.answered[k])]
    assert sum(int(rows[name][5]) for name in names) == 200
    if len(names) > 3:
        assert rows["stage1"][1] == "never"
        assert rows["stage2"][1] == "≥ 0.0000"
        assert rows["stage3"][4:8] == ["0", "0", "0.0 % [0.0, 1.8]", MISSING]
        assert "no row comes here" in page.texts


@pytest.mark.parametrize("stages", [1, 2, 4])
def test_without_labels_agreement_takes_the_place_of_accuracy(make_replay, stages):
    replay = make_replay(stages=stages, labels=False)
    page = check(report_page(replay))
    text = " ".join(page.texts)
    assert "The table has no labels" in text
    assert "Agreement and cost" in text
    assert not [row for row in page.rows if row[0] == "accuracy"]
    assert page.tags.count("svg") == 2 + 2 * (stages - 1)  # the last stage only agrees with itself
    assert ("those below show agreement" in text) == (stages > 1)


def test_one_row_and_no_cost_are_a_page_too(make_replay):
    page = check(report_page(make_replay(n=1, stages=2, cost=[0.0, 0.0])))
    assert "same" in page.texts


@pytest.mark.parametrize(
    ("cost", "thresholds", "number"),
    [
        ([1.0, 9.0], [0.0], "9.00\N{MULTIPLICATION SIGN}"),
        ([1.0, 1.0], [1.0], "2.00\N{MULTIPLICATION SIGN}"),
        ([0.0, 5.0], [0.0], "0"),
        ([5.0, 0.0], [0.0], "5.00"),
    ],
)
def test_the_first_number_is_the_cost_against_the_last_stage(make_replay, cost, thresholds, number):
    # All rows at the first stage, or (at a threshold that no confidence here reaches) all at the last one.
    page = check(report_page(make_replay(stages=2, cost=cost, thresholds=thresholds)))
    assert number in page.texts
    assert "same" not in page.texts


EVIL = ("<b>x</b>", '"><script>alert(1)</script>', "a & $m^2$ {{ 7 * 7 }}", 'id="x" fill: #ffffff url(#y)', "模型")


@pytest.mark.parametrize("labels", [True, False])
def test_names_are_always_text(make_replay, labels):
    replay = make_replay(
        names=EVIL, labels=labels, certificate={"<i>key</i>": "<i>value</i>", "n": {"<u>": [1.5, "<u>"]}}
    )
    tables = [ReportTable("<b>title", ("<b>head", "n"), (("<b>cell", 3), (None, 2.5)), "<b>note")]
    page = check(report_page(replay, tables))
    assert not {"b", "i", "u"} & set(page.tags)
    names = [row[0] for row in page.rows]
    for name in EVIL:
        assert name in names
        # In the pictures long names are cut.
        assert any(text == name or (text.endswith("…") and name.startswith(text[:-1])) for text in page.texts)
    assert ["<i>key</i>", "<i>value</i>"] in page.rows
    assert ["n: <u>", "1.5, <u>"] in page.rows
    for text in ("<b>title", "<b>note"):
        assert text in page.texts
    assert page.rows[page.rows.index(["<b>head", "n"]) :][:3] == [["<b>head", "n"], ["<b>cell", "3"], [MISSING, "2.50"]]
    assert any("rows answered by <b>x</b>: " in label.lower() for label in page.values("aria-label"))


def test_a_named_table_is_a_section_of_its_own(make_replay):
    replay = make_replay()
    plain = check(report_page(replay))
    more = check(report_page(replay, [ReportTable("Throughput", ("a",), ((1,),)), ReportTable("Latency", ("b",), ())]))
    assert more.tags.count("section") == plain.tags.count("section") + 2
    assert [text for text in more.texts if text in ("Throughput", "Latency")] == ["Throughput", "Latency"]


def test_the_page_states_whether_the_rows_are_those_of_the_calibration(make_replay):
    digest = make_replay().table.digest
    same = report_page(make_replay(certificate={"table_sha256": digest}))
    other = report_page(make_replay(certificate={"table_sha256": digest[::-1]}))
    unknown = report_page(make_replay())
    assert "These are the rows that the thresholds were chosen on" in same
    assert "not that of the calibration" in other
    assert "Nothing was guaranteed, and the policy names no target." in unknown
    page = check(same)
    assert digest in page.values("title")  # whole, where the table shows its first digits


def test_colours_follow_the_theme_of_the_reader(make_replay):
    text = report_page(make_replay())
    body = text.split("</style>", 1)[1]
    assert set(re.findall(r"var\((--[\w-]+)\)", text)) <= set(re.findall(r"(--[\w-]+):", text))
    assert "prefers-color-scheme: dark" in text
    # What matplotlib draws in a colour of the theme would be unreadable on the other ground.
    assert not re.findall(r"(?:fill|stroke): #[0-9a-f]{6}", body)


SCRIPT = """
import sys
from cascade.calibration import Policy, ScoreTable
from cascade.reports import write_report
write_report(ScoreTable.load("scores.npz"), Policy.load("policy.json"), sys.argv[1])
"""


def test_the_same_input_gives_the_same_bytes_in_any_process(make_replay, tmp_path):
    replay = make_replay(stages=3, classes=4)
    replay.table.save(tmp_path / "scores.npz")
    replay.policy.save(tmp_path / "policy.json")
    environment = os.environ | {"PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", SCRIPT, "other.html"], check=True, cwd=tmp_path, env=environment)
    for name in ("first.html", "second.html"):
        write_report(replay.table, replay.policy, tmp_path / name)
    first, second, other = ((tmp_path / f"{name}.html").read_bytes() for name in ("first", "second", "other"))
    assert first == second == other
    assert first.decode() == report_page(replay)


def test_unusable_input_is_refused(make_replay, tmp_path):
    replay = make_replay(stages=2)
    with pytest.raises(InputError, match="cannot write the report"):
        write_report(replay.table, replay.policy, tmp_path / "no" / "report.html")
    with pytest.raises(PolicyError, match="the score table has"):
        write_report(replay.table, Policy.from_thresholds(("a", "b"), np.array([0.5])), tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


def test_early_deferral_is_shown(make_replay):
    plain = make_replay(n=300, stages=4, seed=3)
    lowest = np.array([float(np.median(plain.table.confidence[:, 0])), 0.0, 0.0])
    replay = Replay.of(plain.table, dataclasses.replace(plain.policy, defer_below=lowest))
    skipped = int((plain.table.confidence[:, 0] < min(lowest[0], 0.8)).sum())
    assert replay.deferred_early.tolist() == [skipped, 0, 0, 0]
    assert replay.reached[1] == plain.reached[1] - skipped
    assert replay.cost.mean() == pytest.approx(replay.evaluation.mean_cost)
    assert replay.answered / 300 == pytest.approx(replay.evaluation.stage_share)
    page = report_page(replay)
    assert f"({skipped} deferred early)" in page
    assert f"; &lt; {lowest[0]:.4f} to stage3" in page
    assert "deferred early)" not in report_page(plain)


def test_a_stage_that_is_left_out_defers_no_row_early(make_replay):
    replay = make_replay(stages=4, thresholds=[0.8, NEVER, NEVER])
    assert replay.reached[1] == replay.reached[2] == 0 < replay.reached[3]
    assert replay.deferred_early.tolist() == [0, 0, 0, 0]


def test_a_policy_with_a_recall_has_the_rates_of_its_stages(make_replay):
    replay = make_replay(certificate={"target": {"min_recall": 0.5}, "positive": 1})
    page = Page(report_page(replay))
    seen = replay.evaluation.detection
    rows = {row[0]: row[1:] for row in page.rows if row}
    assert rows["recall"][0].startswith(f"{100 * seen.recall:.1f} %")
    assert rows["precision"][0].startswith(f"{100 * seen.precision:.1f} %")
    assert {"product of the stages", "whole cascade", *replay.policy.stages} <= rows.keys()
    assert "product of the stages" not in report_page(make_replay())
