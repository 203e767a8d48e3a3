"""Arrays from files of any source."""

import io
import pickle
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cascade.errors import RowsError
from cascade.files.npy import read_npy


def saved(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def with_header(text, values=b""):
    header = text.encode("latin-1") + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + values


PLAIN = hnp.boolean_dtypes() | hnp.integer_dtypes(endianness="?") | hnp.floating_dtypes() | hnp.unicode_string_dtypes()


@given(hnp.arrays(PLAIN, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)), st.booleans())
def test_what_numpy_writes_is_read_as_numpy_reads_it(array, fortran_order):
    array = np.asfortranarray(array) if fortran_order else array
    found = read_npy(saved(array), "it", RowsError)
    assert (found.shape, found.dtype) == (array.shape, array.dtype)
    np.testing.assert_array_equal(found, array)


def refusal(content):
    with pytest.raises(RowsError) as caught:
        read_npy(content, "the file", RowsError)
    message = str(caught.value)
    assert message.startswith("the file is not ")
    assert "0x" not in message
    assert len(message) < 300
    return message


@pytest.mark.parametrize(
    ("dtype", "shape"),
    [
        ("'<f8'", "(1152921504606846976,)"),
        ("'<f8'", "(3,)"),
        ("'<f8'", "(1,)"),
        ("'<f8'", "(-2, -1)"),
        ("'<f8'", "(-2,)"),
        ("'<f8'", "(2, 18446744073709551616)"),
        ("'<f8'", "(0,) * 5"),
        ("'<f8'", "(" + "1, " * 40 + "2)"),
        ("'<f8'", "(2.0,)"),
        ("'<f8'", "2"),
        ("'<f8'", "None"),
        ("'|O'", "(2,)"),
        ("'O'", "(2,)"),
        ("'|V8'", "(2,)"),
        ("'<U0'", "(16,)"),
        ("'|S0'", "(99999999999,)"),
        ("[('a', '<f8')]", "(2,)"),
        ("[('a', 'O')]", "(2,)"),
        ("('<f8', (2,))", "(1,)"),
        ("'<f8,<f8'", "(1,)"),
        ("'nonsense'", "(2,)"),
        ("{'names': ['a'], 'formats': ['<f8'], 'offsets': [-8]}", "(2,)"),
        ("lambda: 0", "(2,)"),
    ],
)
def test_a_header_that_lies_or_is_not_of_plain_values_is_refused(dtype, shape):
    refusal(with_header(f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}", b"\1" * 16))


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"\x93NUMPY", b"\x93NUMPY\x09\x00", b"\x93NUMPY\x01\x00\xff\xff{", with_header("-" * 3000 + "1")),
        *(with_header("(" * 900), with_header("{" * 200), with_header("[]"), pickle.dumps([1])),
    ],
    ids=range(9),
)
def test_content_without_a_header_is_refused(content):
    refusal(content)


@settings(max_examples=300)
@given(st.data())
def test_no_mutation_of_a_file_is_another_error(data):
    content = bytearray(saved(np.arange(6.0).reshape(2, 3)))
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = read_npy(bytes(content), "the file", RowsError)
    except RowsError:
        refusal(bytes(content))
    else:
        assert found.nbytes == 48


def test_no_memory_is_allocated_for_values_that_are_only_declared():
    content = with_header("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000,), }", b"\0" * 16)
    tracemalloc.start()
    refusal(content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000
