"""Score tables with class probabilities, for the experiment on learned routers."""

from collections.abc import Callable, Iterator

import numpy as np

from cascade.benchmarks.harness.simulation import halves
from cascade.calibration import ScoreTable

__all__ = ["Pair", "digits", "draws", "halves_of", "hopeless", "independent", "nested"]

Pair = tuple[ScoreTable, ScoreTable]
"""Rows to fit and choose on, and rows to judge on."""


def from_logits(logits: np.ndarray, label: np.ndarray, cost: list[float]) -> ScoreTable:
    """(n, K, C) logits to a table."""
    powers = np.exp(logits - logits.max(axis=2, keepdims=True))
    scores = powers / powers.sum(axis=2, keepdims=True)
    names = np.array([f"stage{k}" for k in range(len(cost))])
    return ScoreTable(scores.argmax(axis=2), scores.max(axis=2), np.array(cost), names, "ms", label, scores)


def _noise(random: np.random.Generator, n: int, classes: int, own: float) -> np.ndarray:
    shared = random.normal(size=(n, 1, classes))
    return np.asarray(np.sqrt(1 - own) * shared + np.sqrt(own) * random.normal(size=(n, 3, classes)))


def nested(random: np.random.Generator, n: int, classes: int = 10) -> ScoreTable:
    """One difficulty for all stages, each later one better: the case for which plain confidence is right."""
    label = random.integers(0, classes, n)
    logits = _noise(random, n, classes, 0.3)
    logits[np.arange(n), :, label] += np.array([3.0, 4.0, 5.0]) - 1.2 * random.normal(size=(n, 1))
    return from_logits(1.5 * logits, label, [1.0, 6.0, 30.0])


def hopeless(random: np.random.Generator, n: int, classes: int = 10) -> ScoreTable:
    """Some hard rows are ambiguous between two classes, which the last stage resolves; no stage can answer others."""
    label = random.integers(0, classes, n)
    other = (label + random.integers(1, classes, n)) % classes
    kind = random.choice(3, n, p=[0.6, 0.2, 0.2])  # easy, ambiguous, hopeless
    logits = _noise(random, n, classes, 0.3)
    rows = np.arange(n)
    logits[rows, :, label] += np.array([5.0, 4.0, 0.3])[kind][:, None] * np.array([0.9, 1.0, 1.1])
    logits[rows, :, other] += np.where(kind == 1, 4.0, 0.0)[:, None] * np.array([1.0, 0.9, 0.2])
    return from_logits(logits, label, [1.0, 6.0, 30.0])


def independent(random: np.random.Generator, n: int, classes: int = 10) -> ScoreTable:
    """Stages err independently and confidences are noisy: agreement is better evidence than confidence."""
    label = random.integers(0, classes, n)
    logits = _noise(random, n, classes, 1.0)
    logits[np.arange(n), :, label] += np.array([3.0, 3.3, 4.5])
    return from_logits(logits * random.lognormal(0.3, 0.9, (n, 3, 1)), label, [1.0, 2.0, 30.0])


def digits() -> ScoreTable:
    """scikit-learn's digits: three classifiers fitted on 600 rows, the table of the other 1,197."""
    from sklearn.datasets import load_digits
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.tree import DecisionTreeClassifier

    rows, label = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(rows))
    fitted_on, rest = order[:600], order[600:]
    models = [
        DecisionTreeClassifier(min_samples_leaf=5, random_state=0),
        LogisticRegression(C=0.01, max_iter=2000),
        RandomForestClassifier(300, random_state=0),
    ]
    scores = [m.fit(rows[fitted_on] / 16, label[fitted_on]).predict_proba(rows[rest] / 16) for m in models]
    return from_logits(np.log(np.maximum(np.stack(scores, axis=1), 1e-6)), label[rest], [1.0, 6.0, 100.0])


def draws(family: Callable[..., ScoreTable], n: int, repeats: int, seed: int) -> Iterator[Pair]:
    """New tables every time."""
    for repeat in range(repeats):
        random = np.random.default_rng((seed, repeat))
        yield family(random, n), family(random, 20_000)


def halves_of(table: ScoreTable, repeats: int, seed: int) -> Iterator[Pair]:
    """Random halves of one table."""
    for first, second in halves(len(table), repeats, seed):
        yield table.take(first), table.take(second)
