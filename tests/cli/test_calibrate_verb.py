"""``cascade calibrate`` warns of duplicate rows."""

import numpy as np
import pytest
from typer.testing import CliRunner

from cascade.calibration import ScoreTable
from cascade.cli.main import app


@pytest.mark.parametrize(("distinct", "warns"), [(20, True), (200, True), (2000, False)])
def test_many_duplicates_in_a_table_get_a_warning(tmp_path, distinct, warns):
    rng = np.random.default_rng(0)
    answers = rng.integers(0, 2, (distinct, 2))
    table = ScoreTable(
        answers, rng.random((distinct, 2)), np.array([1.0, 5.0]), np.array(["a", "b"]), label=answers[:, 1]
    )
    table.take(np.arange(2000) % distinct).save(tmp_path / "scores.npz")
    options = ["--scores", str(tmp_path / "scores.npz"), "--out", str(tmp_path / "policy.json")]
    result = CliRunner().invoke(app, ["calibrate", *options, "--target-agreement", "0.6"])
    assert result.exit_code == 0
    assert ("look like duplicates" in result.stderr) == warns
