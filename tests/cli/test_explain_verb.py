"""``cascade explain``: the stages of a row, its source, and other operating points."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from cascade.calibration import Policy, PolicySet
from cascade.cascade import Cascade

NAMES = ("pixels", "middle", "neighbours")


@pytest.fixture(scope="module")
def policies(digits_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("policies")
    for name, threshold in (("sure", 1.0), ("daring", 0.0)):
        Policy.from_thresholds(NAMES, np.full(2, threshold)).save(folder / f"{name}.json")
    return folder


def test_the_explanation_of_a_row_matches_the_cascades_answer(run, digits_folder, policies):
    config, rows = digits_folder / "config.yaml", digits_folder / "rows.npz"
    both = ("--policy", policies / "sure.json", "--policy", policies / "daring.json")
    result = run("explain", config, "--rows", rows, "--index", 7, *both, "--json")
    assert result.code == 0, result.err
    explained = result.json
    with np.load(rows) as file:
        row, label = file["rows"][7:8], int(file["label"][7])
    answers = Cascade.load(config, policies / "sure.json").predict(row)
    assert (explained["answer"], explained["stage"]) == (answers.answer[0], NAMES[answers.stage[0]])
    assert explained["confidence"] == answers.confidence[0]
    assert explained["label"] == label
    assert [word["stage"] for word in explained["stages"]] == list(NAMES)
    assert explained["other_policies"][0]["stage"] == "pixels"
    assert explained["frontier"] == []


def test_each_gear_of_a_policy_set_is_explained(run, digits_folder, policies, tmp_path):
    gears = [
        replace(Policy.load(policies / f"{name}.json"), certificate={"observed": {"mean_cost": cost}})
        for name, cost in (("sure", 2.0), ("daring", 1.0))
    ]
    PolicySet(tuple(gears)).save(tmp_path / "set.json")
    asked = ("explain", digits_folder / "config.yaml", "--rows", digits_folder / "rows.npz")
    explained = run(*asked, "--policy", tmp_path / "set.json", "--json").json
    assert [explained["policy_version"], *(way["policy_version"] for way in explained["other_policies"])] == [
        gear.version for gear in gears
    ]


def test_a_row_from_its_own_file(run, digits_folder, policies, tmp_path):
    config, policy = digits_folder / "config.yaml", ("--policy", policies / "sure.json")
    with np.load(digits_folder / "rows.npz") as file:
        row = file["rows"][7]
    np.save(tmp_path / "row.npy", row)
    (tmp_path / "row.json").write_text(json.dumps(row.tolist()))
    of_rows = run("explain", config, "--rows", digits_folder / "rows.npz", "--index", 7, *policy, "--json").json
    for name in ("row.npy", "row.json"):
        explained = run("explain", config, "--row", tmp_path / name, *policy, "--json").json
        assert explained == of_rows | {"label": None}


def test_the_printed_tables_include_the_frontier(run, digits_folder, policies, tmp_path):
    config, rows, scores = digits_folder / "config.yaml", digits_folder / "rows.npz", tmp_path / "s.npz"
    options = ("--rows", rows, "--limit", 200, "--out", scores, "--curve-seconds", 0)
    assert run("collect", config, *options).code == 0
    policy = ("--policy", policies / "sure.json", "--policy", policies / "daring.json")
    result = run("explain", config, "--rows", rows, *policy, "--scores", scores)
    assert result.code == 0, result.err
    for text in ("calibrated", "so far", "answers", "under policy", "Along the frontier", "the label is"):
        assert text in result.out, text
    assert {
        p["stage"]
        for p in run("explain", config, "--rows", rows, *policy, "--scores", scores, "--json").json["frontier"]
    } <= set(NAMES)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ((), 2),
        (("--rows", "rows.npz", "--row", "row.json"), 2),
        (("--rows", "rows.npz", "--index", 900), 2),
        (("--row", "none.npy"), 3),
        (("--row", "config.yaml"), 3),
        (("--row", "short.json"), 3),
        (("--rows", "rows.npz", "--policy", "short.json"), 3),
        (("--rows", "rows.npz", "--scores", "none.npz"), 3),
    ],
    ids=str,
)
def test_invalid_arguments_of_explain_are_refused(run, digits_folder, policies, arguments, code):
    (digits_folder / "short.json").write_text("[1, 2]")
    files = [digits_folder / word if str(word).endswith(("npz", "json", "npy", "yaml")) else word for word in arguments]
    policy = () if "--policy" in arguments else ("--policy", policies / "sure.json")
    assert run("explain", digits_folder / "config.yaml", *files, *policy).code == code


LYING = b"\x93NUMPY\x01\x00\x40\x00{'descr': '<f8', 'fortran_order': False, 'shape': (1 << 60,)}\n"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("row.npy", b""),
        ("row.npy", LYING),
        ("row.npy", LYING.replace(b"1 << 60", b"99999, ")),
        ("row.json", b"[" * 100_000),
        ("row.json", b"\xff"),
        ("row.json", b"{}"),
    ],
)
def test_a_hostile_row_file_is_refused(run, digits_folder, policies, tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    policy = ("--policy", policies / "sure.json")
    result = run("explain", digits_folder / "config.yaml", "--row", tmp_path / name, *policy)
    assert result.code == 3
    assert not re.search(r"0x[0-9a-f]{4}", result.err)
