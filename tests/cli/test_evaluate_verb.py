"""``cascade evaluate``: the verdict on each target, printed and as JSON, and its exit code."""

from dataclasses import replace

import pytest

from cascade.calibration import calibrate


@pytest.fixture(scope="module")
def files(make_table, tmp_path_factory):
    """A certified policy, a table like that of its calibration, and one where the cheap stages are always wrong."""
    folder = tmp_path_factory.mktemp("evaluated")
    table, fresh = make_table(2000, 3, seed=1), make_table(1000, 3, seed=2)
    spoilt = fresh.prediction.copy()
    spoilt[:, :2] = (fresh.label[:, None] + 1) % (fresh.prediction.max() + 1)
    unlabelled = replace(fresh, label=None)
    tables = {
        "calibration": table,
        "fresh": fresh,
        "unlabelled": unlabelled,
        "spoilt": replace(fresh, prediction=spoilt),
    }
    for name, each in tables.items():
        each.save(folder / f"{name}.npz")
    calibrate(table, max_accuracy_drop=0.1).save(folder / "policy.json")
    calibrate(table, max_accuracy_drop=0.1, guarantee="none").save(folder / "unsafe.json")
    return folder


def evaluated(run, files, scores, policy="policy.json", *options):
    return run("evaluate", "--scores", files / f"{scores}.npz", "--policy", files / policy, *options)


def test_the_verdict_is_printed_with_its_numbers(run, files):
    result = evaluated(run, files, "fresh")
    assert result.code == 0
    text = " ".join(result.out.split())
    for part in ("with probability 0.95", "accuracy drop at most 0.1", "holds on these rows", "has level 95 %"):
        assert part in text
    judgement = evaluated(run, files, "fresh", "policy.json", "--json", "--level", 0.8).json["judgement"]
    (target,) = judgement["targets"]
    assert (target["verdict"], target["rows"], target["level"]) == ("holds", 1000, pytest.approx(0.8))
    assert target["interval"][0] < target["estimate"] < target["interval"][1] <= 0.1


def test_only_a_guarantee_that_is_violated_is_a_failed_check(run, files):
    violated = evaluated(run, files, "spoilt", "policy.json", "--json")
    assert (violated.code, violated.json["judgement"]["targets"][0]["verdict"]) == (5, "violated")
    assert "violated on these 1,000 rows: accuracy drop at most 0.1" in " ".join(violated.err.split())
    nothing = evaluated(run, files, "spoilt", "unsafe.json")
    assert nothing.code == 0
    assert "nothing was guaranteed" in nothing.out


def test_rows_of_the_calibration_get_no_verdict(run, files):
    assert "no verdict: these are the rows of the calibration" in " ".join(
        evaluated(run, files, "calibration").out.split()
    )


def test_targets_that_cannot_be_judged_are_named(run, files):
    text = " ".join(evaluated(run, files, "unlabelled").out.split())
    assert "not judged: max_accuracy_drop: the rows have no labels" in text
