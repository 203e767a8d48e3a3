"""A small cascade on disk."""

import numpy as np
import pytest
import skops.io
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

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
"""A user's model beside the config, without some of the pixels."""

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
