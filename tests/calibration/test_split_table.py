"""The split of a table: its count of rows that are in both parts."""

from dataclasses import replace

import numpy as np
import pytest

from cascade.calibration import calibrate
from cascade.calibration.certificates.certification import split_rows
from cascade.calibration.split_table import SplitTable


@pytest.mark.parametrize("with_scores", [False, True])
def test_copies_of_searching_rows_among_the_testing_rows_are_counted(make_table, with_scores):
    rows = 400
    table = make_table(rows, 3, seed=0, classes=4 if with_scores else None)
    assert SplitTable.of(table, 7, None, False).duplicate_rows == 0
    search, test = split_rows(rows, 7)
    source = np.arange(rows)
    source[test[:25]] = np.resize(search, 25)
    copied = table.take(source)
    assert SplitTable.of(copied, 7, None, False).duplicate_rows == 25
    assert calibrate(copied, max_accuracy_drop=0.05, seed=7).certificate["duplicate_rows"] == 25
    if with_scores:
        changed = replace(copied, scores=np.random.default_rng(2).dirichlet(np.ones(4), (rows, 3)))
        assert SplitTable.of(changed, 7, None, False).duplicate_rows == 0
