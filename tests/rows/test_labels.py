"""Labels: names of classes become ids, everything else is refused with its row."""

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cascade.backends.outputs.class_columns import ClassColumns
from cascade.errors import ConfigError, DataError
from cascade.rows.labels import checked_ids, label_ids

NAMES = st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=("Cs",)), max_size=5).filter(
    lambda name: not name.endswith("\0")  # NumPy's texts end before it
)
CLASSES = st.lists(NAMES, min_size=1, max_size=6, unique=True)


@given(CLASSES, st.data())
def test_names_become_their_indices(classes, data):
    ids = data.draw(st.lists(st.integers(0, len(classes) - 1), min_size=1, max_size=20))
    names = [classes[each] for each in ids]
    for label in (names, np.array(names), np.array(names, dtype=object)):
        np.testing.assert_array_equal(label_ids(label, classes), ids)
    if all(name.isascii() for name in names):
        np.testing.assert_array_equal(label_ids(np.array([name.encode() for name in names]), classes), ids)


@given(st.lists(st.integers(-128, 127), min_size=1, max_size=20), st.sampled_from(["int8", "int64", "object"]))
def test_integers_that_are_all_names_are_looked_up(label, dtype):
    classes = [str(value) for value in sorted(set(label), reverse=True)]
    found = label_ids(np.array(label, dtype=dtype), classes)
    assert found.dtype == np.int64
    assert [classes[each] for each in found] == [str(value) for value in label]


@given(st.lists(st.integers(0, 127), min_size=1), st.sampled_from(["int8", "uint8", "uint64", "object"]))
def test_integers_that_are_not_names_are_ids(label, dtype):
    classes = [f"class {index}" for index in range(128)]
    for given_classes in (classes, None):
        found = label_ids(np.array(label, dtype=dtype), given_classes)
        assert (found.dtype, found.tolist()) == (np.int64, label)


@given(
    st.lists(st.sampled_from(["0", "1", "2", "3", "-1", "cat"]), min_size=2, unique=True),
    st.lists(st.integers(-1, 4), min_size=1, max_size=4, unique=True),
)
def test_an_integer_is_the_same_class_alone_among_others_and_in_a_model(classes, values):
    def ids(label):
        try:
            return label_ids(np.array(label), classes).tolist()
        except DataError:
            return None

    alone = [ids([value]) for value in values]
    together = ids(values)
    assert together == (None if None in alone else [each[0] for each in alone])
    try:
        assert ClassColumns(np.array(values), classes, "model").ids.tolist() == together
    except ConfigError:
        assert together is None


@given(st.permutations(range(5)), st.lists(st.integers(0, 4), min_size=1))
def test_ids_do_not_depend_on_the_names_of_the_classes(names, label):
    assert checked_ids(label, [str(name) for name in names]).tolist() == label


@pytest.mark.parametrize(("label", "message"), [([0, 2], "0 to 1; got 2 at row 1"), ([-1], "got -1"), (["a"], "texts")])
def test_other_values_are_refused_as_ids(label, message):
    with pytest.raises(DataError, match=message):
        checked_ids(label, ["a", "b"])


def test_a_name_that_only_looks_like_a_class_is_refused_with_the_difference():
    for label in ("gene\u0300ve", "Gen\xe8ve", " gen\xe8ve"):
        with pytest.raises(DataError, match=r"the class 'gen\\xe8ve' is spelled differently: "):
            label_ids([label], ["bern", "gen\xe8ve"])


def test_booleans_are_names_or_ids():
    label = np.array([True, False])
    assert label_ids(label).tolist() == [1, 0]
    assert label_ids(label, ["no", "yes"]).tolist() == [1, 0]
    assert label_ids(label, ["True", "False"]).tolist() == [0, 1]
    assert label_ids(label, ["1", "0"]).tolist() == [0, 1]


@given(CLASSES)
def test_without_classes_the_refusal_has_the_line_to_paste(classes):
    label = classes[::-1]
    with pytest.raises(DataError, match="add to the configuration") as caught:
        label_ids(label)
    line = str(caught.value).split("\n", 1)[1]
    pasted = yaml.safe_load(line)["classes"]
    assert pasted == sorted(classes)
    assert [pasted[each] for each in label_ids(label, pasted)] == label


def test_negative_labels_without_classes_are_refused_with_both_remedies():
    with pytest.raises(DataError, match=r'classes: \["-1", "1"\]\n\(or leave the rows out'):
        label_ids(np.array([1, -1, 1]))
    assert label_ids(np.array([1, -1, 1]), ["-1", "1"]).tolist() == [1, 0, 1]


def test_very_many_names_are_counted_instead_of_listed():
    with pytest.raises(DataError, match=r"with all 1001 of them$"):
        label_ids([f"user {index}" for index in range(1001)])


@pytest.mark.parametrize(
    ("label", "classes", "message"),
    [
        (["a", "b", "c", "d"], ["a", "b"], r"a name of the classes \['a', 'b'\]; got 'c' at row 2"),
        (["0", "1"], ["a", "b"], "got '0' at row 0"),
        ([0, 1, 2], ["a", "b"], "an id from 0 to 1 .* got 2 at row 2"),
        ([0, -1], ["a", "b"], "got -1 at row 1"),
        ([5, 0], ["5", "6"], "got 0 at row 1"),
        ([b"a", b"\xff"], None, "got b'.xff' at row 1"),
        (np.array([b"a", b"\xff"]), ["a"], "must be UTF-8; got .* at row 1"),
        (np.array([0.0, 1.0]), ["a", "b"], r"2 integers or texts; got float64 .*label.astype\(int\)"),
        (np.array([0.0, np.nan]), ["a", "b"], "nan at row 1"),
        ([0, None], ["a", "b"], "got None at row 1"),
        (["a", float("nan")], ["a", "b"], "got nan at row 1"),
        (["a", 0], ["a", "b"], "all texts or all integers; got both"),
        (np.ma.array([0, 1], mask=[False, True]), ["a", "b"], "row 1 is masked"),
        (np.zeros((2, 1), dtype=int), None, r"one label per row; got shape \(2, 1\)"),
        ([0, 1], ["a", "a"], "different names"),
        ([0, 2**63], None, "64 bits; one is too large"),
        (np.array([0, 2**63], dtype=np.uint64), None, "at most 9223372036854775807; got 9223372036854775808 at row 1"),
        (np.array([0, 1], dtype=complex), None, "got complex128"),
        (np.array(["2020-01-01"], dtype="datetime64[D]"), None, "got datetime64"),
    ],
    ids=str,
)
def test_a_value_that_is_not_a_class_is_refused_with_its_row(label, classes, message):
    with pytest.raises(DataError, match=message):
        label_ids(label, classes)
