"""Fixtures of several folders of tests."""

import json
import signal
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from workers import pytest_collection_modifyitems, pytest_xdist_make_scheduler  # noqa: F401 (hooks of pytest)

from cascade.calibration import ScoreTable
from cascade.cli.main import main

settings.register_profile("project", deadline=None, max_examples=40, derandomize=True, database=None)
settings.load_profile("project")

# Shells ignore these in the background, and "nohup" does; processes that tests start and stop would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


def build_table(n, stages, seed=0, levels=None, classes=None, labels=True, row_cost=False, dtype=np.float64):
    """A synthetic score table: later stages are better and more expensive, and confidence is informative.

    Args:
        n: rows.
        stages: K.
        seed: of everything random.
        levels: number of distinct confidences, for ties; ``None`` for as many as there are rows.
        classes: C; then the table has scores, and the confidences are the largest of them.
        labels: whether there are labels.
        row_cost: whether costs differ from row to row.
        dtype: of the scores.
    """
    random = np.random.default_rng(seed)
    label = random.integers(0, classes or 3, n)
    skill = np.linspace(0.55, 0.95, stages)
    scores = None
    if classes:
        logits = random.normal(size=(n, stages, classes)) * 1.5
        logits[np.arange(n), :, label] += np.linspace(0.8, 3.0, stages)
        scores = np.exp(logits - logits.max(axis=2, keepdims=True))
        scores = (scores / scores.sum(axis=2, keepdims=True)).astype(dtype)
        prediction, confidence = scores.argmax(axis=2), scores.max(axis=2)
    else:
        confidence = np.clip(random.beta(4, 2, (n, stages)), 0, 1)
        if levels:
            confidence = np.round(confidence * levels) / levels
        right = random.random((n, stages)) < np.clip(confidence * 0.6 + skill * 0.5, 0, 1)
        prediction = np.where(right, label[:, None], (label[:, None] + 1) % 3)
    cost = np.geomspace(1.0, 10.0 ** (stages - 1), stages)
    if row_cost:
        cost = cost * random.uniform(0.5, 1.5, (n, stages))
    names = np.array([f"stage{k}" for k in range(stages)])
    return ScoreTable(prediction, confidence, cost, names, "ms", label if labels else None, scores)


@pytest.fixture(scope="session")
def make_table():
    """The function ``build_table``."""
    return build_table


class Result:
    """The result of a command: ``code``, ``out``, ``err``, and ``out`` as JSON."""

    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    @property
    def json(self):
        return json.loads(self.out)


@pytest.fixture
def run(monkeypatch, capsys, tmp_path_factory):
    """Runs ``cascade`` with some arguments; a traceback or any other exception fails the test."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["cascade", *map(str, arguments)])
        capsys.readouterr()
        try:
            with _own_imports(tmp_path_factory.getbasetemp()):
                main()
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return Result(code, out, err)

    return run


@contextmanager
def _own_imports(folder):
    """Starts and ends without the modules of a folder, as a new process does."""
    path = [*sys.path]
    _forget_modules(folder)
    try:
        yield
    finally:
        sys.path[:] = path
        _forget_modules(folder)


def _forget_modules(folder):
    for name, module in [*sys.modules.items()]:
        if Path(getattr(module, "__file__", None) or "/").is_relative_to(folder):
            del sys.modules[name]
