"""Slices against a plain loop, and their file."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.errors import DataError
from cascade.reports import Replay, compare_slices, load_slices, paired_difference_interval, report_page
from cascade.reports.tables.detail_tables import slice_tables


@given(st.integers(1, 60), st.integers(1, 4), st.integers(1, 5), st.integers(0, 99), st.booleans())
def test_slices_equal_a_plain_loop(n, stages, kinds, seed, texts):
    random = np.random.default_rng(seed)
    value = random.integers(0, kinds, n)
    value = np.array([f"<{v}>" for v in value]) if texts else value
    gain, stage, cost = random.random((n, stages)) < 0.6, random.integers(0, stages, n), random.random(n)
    found = compare_slices(value, gain, cost, stage)
    assert sorted(str(part.value) for part in found) == sorted(set(map(str, value)))
    differences = [(part.difference, -part.rows) for part in found]
    assert differences == sorted(differences)
    for part in found:
        rows = [i for i in range(n) if str(value[i]) == str(part.value)]
        own, last = [bool(gain[i, stage[i]]) for i in rows], [bool(gain[i, -1]) for i in rows]
        better = sum(a and not b for a, b in zip(own, last, strict=True))
        worse = sum(b and not a for a, b in zip(own, last, strict=True))
        assert part.rows == len(rows)
        assert (part.gain, part.last_gain) == pytest.approx((np.mean(own), np.mean(last)))
        assert part.difference_interval == paired_difference_interval(better, worse, len(rows))
        assert part.mean_cost == pytest.approx(np.mean(cost[rows]))
        np.testing.assert_allclose(part.share, [np.mean(stage[rows] == k) for k in range(stages)])


@pytest.mark.parametrize("labels", [True, False])
def test_classes_are_named_where_the_table_has_their_names(make_replay, labels):
    replay = make_replay(labels=labels)
    named = dataclasses.replace(replay.table, classes=np.array(["red", "green", "blue"]))
    ids = replay.table.label if labels else replay.table.prediction[:, -1]
    for table, names in ((replay.table, "012"), (named, ("red", "green", "blue"))):
        (found,) = slice_tables(Replay.of(table, replay.policy), {})
        assert {row[0]: row[1] for row in found.rows} == {names[each]: str((ids == each).sum()) for each in set(ids)}


def test_many_slices_are_shortened_with_a_note(make_replay):
    page = report_page(make_replay(), slices={"<i>own": np.arange(200) % 50})
    assert "The 20 worst of 50 values." in page
    assert "By &lt;i&gt;own" in page


def test_a_file_of_slices_is_read(tmp_path):
    arrays = {"camera": np.array(["a", "b", "a"]), "hour": np.array([1, 2, 3]), "night": np.array([True, False, True])}
    np.savez(tmp_path / "s.npz", **arrays)
    found = load_slices(tmp_path / "s.npz", 3)
    assert list(found) == list(arrays)
    assert all(np.array_equal(found[name], arrays[name]) for name in arrays)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "at least one array of 3 values"),
        ({"a": np.zeros(2, dtype=int)}, r"a must be \(3,\)"),
        ({"a": np.zeros((3, 1), dtype=int)}, r"got shape \(3, 1\)"),
        ({"a": np.zeros(3)}, "cut numbers into bins"),
        ({"a": np.array([{}, {}, {}])}, "plain values"),
    ],
)
def test_unsuitable_arrays_are_refused_as_slices(tmp_path, arrays, message):
    np.savez(tmp_path / "s.npz", **arrays)
    with pytest.raises(DataError, match=message):
        load_slices(tmp_path / "s.npz", 3)
    with pytest.raises(DataError, match="does not exist"):
        load_slices(tmp_path / "none.npz", 3)
