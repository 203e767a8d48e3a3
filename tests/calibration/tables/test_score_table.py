"""The score table: a file from any source."""

import dataclasses
import pickle
import random
import zipfile
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.calibration import ScoreTable
from cascade.errors import ScoreTableError


def arrays_of(table):
    values = {field.name: getattr(table, field.name) for field in fields(table)}
    return {name: value for name, value in values.items() if value is not None}


def assert_equal(one, other):
    assert arrays_of(one).keys() == arrays_of(other).keys()
    for name, value in arrays_of(one).items():
        np.testing.assert_array_equal(value, arrays_of(other)[name])
        assert np.asarray(value).dtype == np.asarray(arrays_of(other)[name]).dtype


@pytest.mark.parametrize(
    "options",
    [{}, {"classes": 4}, {"classes": 4, "dtype": np.float32}, {"labels": False}, {"row_cost": True}, {"levels": 3}],
    ids=str,
)
def test_a_file_and_back(make_table, tmp_path, options):
    table = make_table(30, 3, **options)
    table.save(tmp_path / "scores.npz")
    again = ScoreTable.load(tmp_path / "scores.npz")
    assert_equal(again, table)
    assert again.digest == table.digest
    assert len(again) == 30
    assert again.stages == 3


def test_shares_of_levels_are_kept_selected_and_checked(make_table, tmp_path):
    table = dataclasses.replace(make_table(30, 3), level_share=np.array([0.5, np.nan, 0.1]))
    table.save(tmp_path / "scores.npz")
    again = ScoreTable.load(tmp_path / "scores.npz")
    assert_equal(again, table)
    assert again.select((2, 0)).level_share.tolist() == [0.1, 0.5]
    for wrong in ([0.5, 0.1], [0.5, 0.0, 0.1], [1, 2, 3]):
        with pytest.raises(ScoreTableError, match="level_share must be 3 float numbers above 0"):
            dataclasses.replace(table, level_share=np.array(wrong))


def test_a_table_survives_pickling(make_table):
    table = make_table(5, 2, classes=3)
    assert_equal(pickle.loads(pickle.dumps(table)), table)


def test_any_change_of_content_changes_the_digest(make_table):
    table = dataclasses.replace(make_table(30, 3, classes=4), classes=np.array(["a", "b", "c", "d"]))
    digests = {table.digest}
    for name, value in arrays_of(table).items():
        if name == "cost_unit":
            changed = "MFLOP"
        else:
            changed = value.copy()
            changed.flat[-1] = {"stage": "x", "classes": "x"}.get(name, 0.125)
            if name in ("prediction", "label"):
                changed.flat[-1] = (value.flat[-1] + 1) % 4
        digests.add(ScoreTable(**(arrays_of(table) | {name: changed})).digest)
    for left_out in ("label", "classes"):
        digests.add(ScoreTable(**{k: v for k, v in arrays_of(table).items() if k != left_out}).digest)
    assert len(digests) == 11


def test_taking_rows_takes_them_everywhere(make_table):
    table = dataclasses.replace(make_table(20, 3, classes=4, row_cost=True), model=np.array(["x", "y", "z"]))
    rows = np.array([3, 3, 7])
    some = table.take(rows)
    for name, value in arrays_of(table).items():
        expected = value if name in ("stage", "cost_unit", "model") else value[rows]
        np.testing.assert_array_equal(arrays_of(some)[name], expected)
    assert_equal(table.take(np.arange(20) == 4), table.take(np.array([4])))
    flat = make_table(20, 3, labels=False)
    np.testing.assert_array_equal(flat.take(rows).cost, flat.cost)
    assert flat.take(rows).label is None


@pytest.mark.parametrize("row_cost", [False, True])
def test_selecting_stages_selects_them_everywhere_in_their_new_order(make_table, row_cost):
    table = dataclasses.replace(make_table(10, 3, classes=4, row_cost=row_cost), model=np.array(["x", "y", "z"]))
    part = table.select(["stage2", 0])
    assert part.stage.tolist() == ["stage2", "stage0"]
    assert part.model.tolist() == ["z", "x"]
    for name in ("prediction", "confidence", "scores"):
        np.testing.assert_array_equal(getattr(part, name), getattr(table, name)[:, [2, 0]])
    np.testing.assert_array_equal(part.cost, table.cost[..., [2, 0]])
    np.testing.assert_array_equal(part.label, table.label)
    assert part.cost_unit == table.cost_unit
    assert_equal(table.select(range(3)), table)


@pytest.mark.parametrize("stages", [[], [0, 0], [0, "stage0"], ["stage3"], [3], [-1]], ids=str)
def test_stages_that_cannot_be_selected_are_refused(make_table, stages):
    with pytest.raises(ScoreTableError, match=r"stages to select must be different ones of \['stage0'"):
        make_table(10, 3).select(stages)


@given(st.integers(0, 50), st.booleans())
def test_derived_columns_against_plain_loops(make_table, seed, row_cost):
    table = make_table(6, 3, seed, row_cost=row_cost)
    for i in range(6):
        total = 0.0
        for k in range(3):
            total += float(table.cost[i, k] if row_cost else table.cost[k])
            assert table.cumulative_cost[i, k] == pytest.approx(total)
            assert table.correct[i, k] == (table.prediction[i, k] == table.label[i])
            assert table.agrees[i, k] == (table.prediction[i, k] == table.prediction[i, 2])


def test_accuracy_without_labels_is_refused_with_a_remedy(make_table):
    with pytest.raises(ScoreTableError, match="target_agreement"):
        make_table(5, 2, labels=False).correct  # noqa: B018


BROKEN = {
    "prediction": (np.zeros((4, 2)), "prediction must be integers"),
    "confidence": (np.zeros((4, 3)), "confidence must be (4, 2)"),
    "cost": (np.array([1.0, -1.0]), "cost must be finite and >= 0; 1 values are not, first cost[1] = -1.0"),
    "stage": (np.array(["a", "a"]), "stage must have 2 different names"),
    "cost_unit": ("", "cost_unit must not be empty"),
    "label": (np.zeros(3, dtype=int), "label must be 4 integers"),
    "scores": (np.full((4, 2, 3), 1.5), "scores must be [0, 1]; 24 values are not"),
}


def whole():
    return {
        "prediction": np.zeros((4, 2), dtype=int),
        "confidence": np.full((4, 2), 0.5),
        "cost": np.array([1.0, 2.0]),
        "stage": np.array(["a", "b"]),
        "label": np.zeros(4, dtype=int),
        "scores": np.full((4, 2, 3), 1 / 3),
    }


@given(st.sets(st.sampled_from(sorted(BROKEN)), min_size=1))
def test_every_inconsistency_is_reported_and_no_other(names):
    with pytest.raises(ScoreTableError) as caught:
        ScoreTable(**(whole() | {name: BROKEN[name][0] for name in names}))
    for name, (_, text) in BROKEN.items():
        assert (text in str(caught.value)) == (name in names)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("stage", np.array(["a", ""])),
        ("prediction", np.zeros(4, dtype=int)),
        ("prediction", np.zeros((0, 2), dtype=int)),
        ("prediction", np.zeros((4, 0), dtype=int)),
        ("prediction", np.zeros((4, 2), dtype=bool)),
        ("confidence", np.full((4, 2), np.nan)),
        ("confidence", np.full((4, 2), 1.01)),
        ("confidence", np.full((4, 2), "0.5")),
        ("confidence", np.full((4, 2), 0.5 + 0j)),
        ("confidence", np.float64(0.5)),
        ("cost", np.array([1.0, np.inf])),
        ("cost", np.ones((2, 4))),
        ("cost", np.float64(-1.0)),
        ("stage", np.array([1, 2])),
        ("stage", np.array([b"a", b"b"])),
        ("stage", np.array("ab")),
        ("label", np.zeros(4)),
        ("label", np.zeros((4, 1), dtype=int)),
        ("scores", np.zeros((4, 2))),
        ("scores", np.zeros((2, 4, 3))),
    ],
)
def test_values_that_are_not_a_table_are_refused(name, value):
    with pytest.raises(ScoreTableError, match=name):
        ScoreTable(**(whole() | {name: value}))


def test_rounding_a_little_above_one_is_allowed():
    ScoreTable(**(whole() | {"confidence": np.full((4, 2), np.nextafter(np.float32(1), np.float32(2)))}))


class Grenade:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (Path(self.path),)


@pytest.mark.parametrize("name", ["prediction", "cost_unit", "scores", "label"])
def test_pickled_objects_are_refused_and_never_loaded(tmp_path, name):
    mark = tmp_path / "exploded"
    bomb = np.empty(1, dtype=object)
    bomb[0] = Grenade(str(mark))
    np.savez(tmp_path / "scores.npz", **(whole() | {name: bomb}))
    with pytest.raises(ScoreTableError):
        ScoreTable.load(tmp_path / "scores.npz")
    assert not mark.exists()
    with np.load(tmp_path / "scores.npz", allow_pickle=True) as file:
        file[name]
    assert mark.exists(), "the test's own grenade is a dud"


def test_a_pickle_in_place_of_the_file_is_refused_and_never_loaded(tmp_path):
    mark = tmp_path / "exploded"
    (tmp_path / "scores.npz").write_bytes(pickle.dumps(Grenade(str(mark))))
    with pytest.raises(ScoreTableError):
        ScoreTable.load(tmp_path / "scores.npz")
    assert not mark.exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("labels", r"'labels' \(did you mean 'label'\?\).* The known ones are prediction, confidence, cost, stage"),
        ("notes", "unknown arrays: 'notes'"),
        *((name, "weights of rows are not supported") for name in ("weight", "weights", "sample_weight")),
    ],
)
def test_an_array_that_would_be_ignored_is_refused_by_name(tmp_path, name, message):
    np.savez(tmp_path / "scores.npz", **whole(), **{name: np.ones(4)})
    with pytest.raises(ScoreTableError, match=message):
        ScoreTable.load(tmp_path / "scores.npz")


def test_an_entry_that_is_no_array_is_refused(tmp_path):
    np.savez(tmp_path / "scores.npz", **{name: value for name, value in whole().items() if name != "label"})
    with zipfile.ZipFile(tmp_path / "scores.npz", "a") as archive:
        archive.writestr("label", b"0, 0, 0, 0")
    with pytest.raises(ScoreTableError, match="'label', which is not an array"):
        ScoreTable.load(tmp_path / "scores.npz")


@pytest.mark.parametrize("unit", [np.array(["ms", "s"]), np.array([b"ms"]), np.array(3)])
def test_a_cost_unit_that_is_not_one_text_is_refused(tmp_path, unit):
    np.savez(tmp_path / "scores.npz", **whole(), cost_unit=unit)
    with pytest.raises(ScoreTableError, match="cost_unit must be one text"):
        ScoreTable.load(tmp_path / "scores.npz")


def test_names_of_classes_stay_with_the_table(make_table, tmp_path):
    table = dataclasses.replace(make_table(20, 3), classes=np.array(["red", "green", "bl\u00fce"]))
    table.save(tmp_path / "scores.npz")
    assert_equal(ScoreTable.load(tmp_path / "scores.npz"), table)
    assert table.take(np.arange(5)).classes.tolist() == table.select([1]).classes.tolist() == table.classes.tolist()


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "scores.npz"
    with pytest.raises(ScoreTableError, match="'cascade collect' makes it"):
        ScoreTable.load(path)
    np.savez(path, confidence=np.zeros((1, 1)), stage=np.array(["a"]))
    with pytest.raises(ScoreTableError, match=r"lacks the arrays prediction, cost$"):
        ScoreTable.load(path)
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(ScoreTableError, match="single array"):
        ScoreTable.load(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("prediction.npy", b"\x93NUMPY\x01\x00\x06\x00{1:2}\n")
    with pytest.raises(ScoreTableError):
        ScoreTable.load(path)
    path.write_bytes(b"")
    with pytest.raises(ScoreTableError):
        ScoreTable.load(path)
    with pytest.raises(ScoreTableError):
        ScoreTable.load(tmp_path)


def test_a_header_that_announces_more_than_memory_is_refused(tmp_path):
    header = b"{'descr': '<i8', 'fortran_order': False, 'shape': (1000000000000000,), }\n"
    content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    with zipfile.ZipFile(tmp_path / "scores.npz", "w") as archive:
        archive.writestr("prediction.npy", content)
    with pytest.raises(ScoreTableError):
        ScoreTable.load(tmp_path / "scores.npz")


@pytest.mark.parametrize("seed", range(3))
def test_a_damaged_file_is_a_table_or_a_score_table_error(make_table, tmp_path, seed):
    path = tmp_path / "scores.npz"
    make_table(20, 2, classes=3).save(path)
    content, choose = path.read_bytes(), random.Random(seed)
    for _ in range(100):
        damaged = bytearray(content)
        if choose.random() < 0.3:
            del damaged[choose.randrange(len(content)) :]
        for _ in range(choose.randrange(1, 4)):
            if damaged:
                damaged[choose.randrange(len(damaged))] = choose.randrange(256)
        path.write_bytes(damaged)
        try:
            ScoreTable.load(path)
        except ScoreTableError:
            continue


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(make_table, tmp_path, share):
    path = tmp_path / "scores.npz"
    make_table(20, 2).save(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(ScoreTableError, match="not a readable"):
        ScoreTable.load(path)


def test_prices_of_operations_stay_with_their_stages(make_table, tmp_path):
    table = dataclasses.replace(make_table(5, 3, row_cost=True), cost_per_mflop=np.array([0.0, 0.5, 2.0]))
    table.save(tmp_path / "scores.npz")
    assert_equal(ScoreTable.load(tmp_path / "scores.npz"), table)
    assert table.take(np.array([0, 2])).cost_per_mflop.tolist() == [0.0, 0.5, 2.0]
    assert table.select([2, 0]).cost_per_mflop.tolist() == [2.0, 0.0]
    assert table.digest != dataclasses.replace(table, cost_per_mflop=None).digest
    for rate in (np.zeros(2), np.array([0.0, -1.0, 0.0]), np.array([0.0, np.nan, 0.0])):
        with pytest.raises(ScoreTableError, match="cost_per_mflop must be"):
            dataclasses.replace(table, cost_per_mflop=rate)
