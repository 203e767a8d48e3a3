"""Boosting against a naive search and scikit-learn; training by stages, interrupted and continued."""

from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from haar_models import random_windows
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import AdaBoostClassifier

from cascade.backends.detection.haar.boosting import StumpSearch, boosting_weights
from cascade.backends.detection.haar.bootstrapping import HaarTrainer
from cascade.backends.detection.haar.cascade import HaarCascade
from cascade.backends.detection.haar.integral_image import WindowIntegrals
from cascade.backends.detection.haar.model import HaarModel
from cascade.backends.detection.haar.recipe import HaarRecipe
from cascade.backends.detection.haar.training_windows import CutWindows, training_windows
from cascade.calibration.fitting.rejection_trace import fit_rejection_trace
from cascade.errors import DataError


def naive_loss(values, weights, positive, boosting):
    """The least loss over all features and all splits between different values."""
    best = np.inf
    for column in values:
        for low, _ in pairwise(np.unique(column)):
            below = column <= low
            p, n = weights[below & positive].sum(), weights[below & ~positive].sum()
            q, m = weights[~below & positive].sum(), weights[~below & ~positive].sum()
            best = min(best, 2 * (np.sqrt(p * n) + np.sqrt(q * m)) if boosting == "real" else min(p + m, n + q))
    return best


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 30), st.integers(1, 5), st.sampled_from(["real", "discrete"]), st.integers(0, 999))
def test_the_best_stump_is_that_of_a_naive_search(n, features, boosting, seed):
    random = np.random.default_rng(seed)
    values = random.integers(0, 6, (features, n)).astype(np.float32)
    positive = np.arange(n) % 2 == 0
    weights = random.dirichlet(np.ones(n))
    found = StumpSearch(values, positive, boosting).best(weights, np.arange(features))
    expected = naive_loss(values, weights, positive, boosting)
    assert (found is None) == (expected == np.inf)
    if found is not None:
        assert found.loss == pytest.approx(expected, abs=1e-9)
        votes = found.votes(values[found.feature])
        if boosting == "discrete":
            error = weights[(votes > 0) != positive].sum()
            assert min(error, 1 - error) == pytest.approx(found.loss, abs=1e-9)
            assert abs(found.above) == abs(found.below)


@pytest.mark.parametrize("boosting", ["real", "discrete"])
def test_boosting_is_as_good_as_that_of_scikit_learn(boosting):
    random = np.random.default_rng(3)
    rows = random.normal(size=(600, 6)).astype(np.float32)
    positive = (rows[:, 0] * rows[:, 1] + rows[:, 2] + 0.3 * random.normal(size=600)) > 0
    values, sums = np.ascontiguousarray(rows[:400].T), np.zeros(400, dtype=np.float32)
    search, test = StumpSearch(values, positive[:400], boosting), np.zeros(200, dtype=np.float32)
    for _ in range(60):
        weights = np.exp(np.where(positive[:400], -sums, sums))
        stump = search.best(weights / weights.sum(), np.arange(6))
        sums = sums + stump.votes(values[stump.feature])
        test = test + stump.votes(rows[400:, stump.feature])
    theirs = AdaBoostClassifier(n_estimators=60, random_state=0).fit(rows[:400], positive[:400])
    assert np.mean((test > 0) == positive[400:]) >= theirs.score(rows[400:], positive[400:]) - 0.06


def test_weights_balance_the_classes():
    weights = boosting_weights(np.array([800.0, 0.0, -800.0, 1.0]), np.array([True, False, False, False]))
    assert weights[:1].sum() == weights[1:].sum() == 0.5
    assert weights.argsort().tolist()[-2:] == [3, 0]


def things(n, seed=0):
    """Half of the windows, label 1, have a bright bar in the middle."""
    windows = random_windows(n, 12, 12, seed) // 2
    labels = np.arange(n) % 2
    windows[labels == 1, 2:10, 5:8] += 25
    return windows, labels


def recipe(**changes):
    options = {
        "dataset": "fashion_mnist",
        "positive": 1,
        "classes": ("other", "bar"),
        "height": 12,
        "width": 12,
        "stages": (2, 3),
        "negatives_per_stage": 300,
        "pool": 60,
        "tried": 30,
        "detection": 0.95,
        "min_recall": 0.9,
    }
    return HaarRecipe(type="haar", **(options | changes))


def trainer(recipe, folder, images=None, **options):
    windows = training_windows(recipe, *things(1200), images)
    fit = partial(fit_rejection_trace, min_recall=recipe.min_recall, delta=recipe.delta)
    return HaarTrainer(recipe, windows, fit, folder / "checkpoint.safetensors", **options)


@pytest.mark.parametrize("form", ["soft", "staged"])
def test_a_trained_cascade_finds_what_it_was_trained_for(tmp_path, form):
    model = trainer(recipe(form=form, stages=(3, 6, 6)), tmp_path).fit()
    windows, labels = things(400, seed=1)
    outcome = HaarCascade(model).evaluate(WindowIntegrals.of_windows(windows))
    assert outcome.survives[labels == 1].mean() > 0.85
    assert outcome.survives[labels == 0].mean() < 0.5
    assert outcome.features[labels == 0].mean() < outcome.features[labels == 1].mean()
    assert model.starts.sum() == (1 if form == "soft" else model.facts["stages"])
    if form == "soft":
        certificate = model.facts["certificate"]
        assert (certificate["positives"], certificate["min_recall"]) == (120, 0.9)
        assert certificate["lower_bound"] >= 0.9 or (model.trace == -np.inf).all()


@pytest.mark.parametrize("form", ["soft", "staged"])
def test_a_training_that_is_stopped_and_continued_gives_the_same_bytes(tmp_path, form):
    class Stopped(Exception):
        pass

    def stop(record):
        raise Stopped

    for name in ("once", "twice"):
        (tmp_path / name).mkdir()
    options = {"form": form, "false_positives": 0.05}
    trainer(recipe(**options), tmp_path / "once").fit().save(tmp_path / "once.safetensors")
    with pytest.raises(Stopped):
        trainer(recipe(**options), tmp_path / "twice", on_stage=stop).fit()
    steps = []
    again = trainer(recipe(**options), tmp_path / "twice", on_step=steps.append)
    again.fit().save(tmp_path / "twice.safetensors")
    assert {step.stage for step in steps} == {1}
    assert (tmp_path / "twice.safetensors").read_bytes() == (tmp_path / "once.safetensors").read_bytes()
    assert (tmp_path / "once.safetensors").stat().st_size > 500


def test_a_checkpoint_of_another_recipe_or_a_damaged_one_is_not_used(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    first = trainer(recipe(), tmp_path).fit()
    assert path.exists()
    other = trainer(recipe(seed=1), tmp_path).fit()
    assert not np.array_equal(first.features, other.features)
    path.write_bytes(b"damaged")
    np.testing.assert_array_equal(trainer(recipe(), tmp_path).fit().features, first.features)


def test_windows_are_cut_from_images_and_a_training_uses_them(tmp_path):
    images = random_windows(40, 20, 20)
    source = CutWindows(images, 12, 12, seed=0)
    first, again = (next(source.batches(3)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert first.shape == (40, 12, 12)
    assert not np.array_equal(first, next(source.batches(4)))
    model = trainer(
        recipe(views={"number": 3, "shift": 1, "turn": 5, "zoom": 0.1, "flip": True}), tmp_path, images
    ).fit()
    assert isinstance(model, HaarModel)
    assert len(model) in (2, 5)


@pytest.mark.parametrize(
    ("labels", "message"), [(np.zeros(50), "0 rows of label 1, too few"), (np.ones(50), "needs negatives")]
)
def test_data_of_one_class_is_refused(labels, message):
    with pytest.raises(DataError, match=message):
        training_windows(recipe(), random_windows(50), labels, None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fitting_share": 0.5, "certifying_share": 0.5}, "leave positives for boosting"),
        ({"stages": (3, 0)}, "at least one weak learner"),
        ({"classes": ("a", "a")}, "two names"),
        ({"height": 200}, "less than or equal to 64"),
    ],
    ids=str,
)
def test_a_recipe_that_cannot_be_trained_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        recipe(**change)
