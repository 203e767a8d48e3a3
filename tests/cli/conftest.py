"""The command, run in this process; and a whole small cascade on disk."""

import json
import sys

import numpy as np
import pytest
import skops.io
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cascade.cli.main import main

CONFIG = """
name: digits
rows: {shape: [64], dtype: float64}
stages:
  - name: pixels
    backend: {type: sklearn, model: models/pixels.skops}
    router: {score: margin, calibrator: platt}
  - name: middle
    backend: {type: custom, object: "digits_own_model:Halved", arguments: {model: models/neighbours.skops}}
    router: {calibrator: isotonic}
  - name: neighbours
    backend: {type: sklearn, model: models/neighbours.skops}
"""

MODULE = '''
"""A user's model beside the config: it looks at every other pixel."""

from pathlib import Path

import skops.io


class Halved:
    def __init__(self, model):
        self.model = skops.io.load(Path(__file__).parent / model)

    def predict(self, rows):
        halved = rows.copy()
        halved[:, ::4] = 0
        return self.model.predict_proba(halved)
'''


class Result:
    """What a run of the command left: ``code``, ``out``, ``err``, and ``out`` as JSON."""

    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    @property
    def json(self):
        return json.loads(self.out)


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs ``cascade`` with some arguments; a traceback or another exception fails the test."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["cascade", *map(str, arguments)])
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return Result(code, out, err)

    return run


@pytest.fixture(scope="session")
def digits_folder(tmp_path_factory):
    """Config, models, a user's module, and rows of which the models have not seen the last 900."""
    folder = tmp_path_factory.mktemp("digits")
    rows, label = load_digits(return_X_y=True)
    (folder / "models").mkdir()
    pixels = make_pipeline(StandardScaler(), LogisticRegression(C=0.001, max_iter=200))
    for name, model in (("pixels", pixels), ("neighbours", KNeighborsClassifier(3))):
        skops.io.dump(model.fit(rows[:897], label[:897]), folder / "models" / f"{name}.skops")
    (folder / "digits_own_model.py").write_text(MODULE)
    (folder / "config.yaml").write_text(CONFIG)
    np.savez(folder / "rows.npz", rows=rows[897:], label=label[897:])
    return folder
