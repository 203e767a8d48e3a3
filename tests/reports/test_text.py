"""Numbers as texts: never rounded to 0 % or 100 %."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.reports.text import MISSING, cell, number, percent, shortened, times_less


@given(st.floats(0, 1, exclude_min=True, exclude_max=True))
def test_only_0_and_1_are_shown_as_0_and_100_percent(share):
    text = percent(share)
    value = float(text.removesuffix(" %").lstrip("<> "))
    assert 0 < value < 100
    if text[0] == "<":
        assert 100 * share < value
    elif text[0] == ">":
        assert 100 * share > value
    else:
        assert value == pytest.approx(100 * share, abs=0.0501)


@pytest.mark.parametrize("share", [1 - 1e-3, 1 - 4e-4, 1 - 1e-5, 1 - 4e-6, 1 - 1e-6, 1 - 1e-9, 4e-4, 5e-4, 1e-9])
def test_shares_at_the_ends(share):
    test_only_0_and_1_are_shown_as_0_and_100_percent.hypothesis.inner_test(share)


def test_whole_and_unknown_shares():
    assert [percent(share) for share in (0.0, 1.0, None, float("nan"))] == ["0.0 %", "100.0 %", MISSING, MISSING]


@given(st.floats(1e-4, 1e9, exclude_max=True), st.sampled_from([1, -1]))
def test_a_number_has_three_digits_and_no_exponent(size, sign):
    text = number(sign * size)
    assert "e" not in text
    value = float(text.replace(",", ""))
    # Three significant digits are right to half of the third one; before the point all are shown.
    assert value == pytest.approx(sign * size, rel=0.00501, abs=0 if size < 100 else 0.5)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, MISSING),
        (True, "yes"),
        (1234567, "1,234,567"),
        (0.12345, "0.123"),
        (0.0, "0"),
        (float("inf"), MISSING),
        ("<b>", "<b>"),
    ],
)
def test_cells(value, text):
    assert cell(value) == text


@pytest.mark.parametrize(
    ("ratio", "text"), [(2.0, "2.00 times less"), (0.5, "2.00 times more"), (1.001, "the same"), (None, MISSING)]
)
def test_ratios_in_words(ratio, text):
    assert times_less(ratio) == text


@given(st.text(max_size=40), st.integers(2, 30))
def test_a_shortened_name_begins_like_the_name_and_fits(name, most):
    short = shortened(name, most)
    assert len(short) <= most
    assert short == name or (short.endswith("…") and name.startswith(short[:-1]) and len(name) > most)
