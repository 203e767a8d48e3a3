"""Training of Haar cascades: stage by stage, with negatives drawn among the false positives of the cascade so far."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cascade.backends.detection.haar.boosting import Stump, StumpSearch, boosting_weights
from cascade.backends.detection.haar.cascade import HaarCascade
from cascade.backends.detection.haar.features import all_features, feature_values
from cascade.backends.detection.haar.integral_image import WindowIntegrals
from cascade.backends.detection.haar.model import HaarModel
from cascade.backends.detection.haar.recipe import HaarRecipe
from cascade.backends.detection.haar.training_windows import TrainingWindows
from cascade.errors import WeightsError

__all__ = ["HaarTrainer", "TraceFit", "TrainingStep"]

LEAST_NEGATIVES = 10
"""False positives below which a training ends before its last stage."""

TraceFit = Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, dict[str, Any]]]
"""From partial sums, (n, T) each, of positives, negatives and positives for the certificate, to the trace, (T,), and
facts about it."""


class TrainingStep(NamedTuple):
    """A weak learner was found.

    Attributes:
        stage: from 0.
        learners: found so far.
        most: weak learners of the whole recipe.
        loss: of the weak learner.
    """

    stage: int
    learners: int
    most: int
    loss: float


class HaarTrainer:
    """Trains a model; a checkpoint is written after every stage, and an interrupted training continues from it.

    Args:
        recipe: of the training.
        windows: its data.
        fit_trace: fits the rejection trace of a soft cascade.
        checkpoint: file of the checkpoint.
        on_step: called after every weak learner.
        on_stage: called with a record after every stage: negatives, windows drawn, share of false positives.
    """

    def __init__(
        self,
        recipe: HaarRecipe,
        windows: TrainingWindows,
        fit_trace: TraceFit,
        checkpoint: Path,
        on_step: Callable[[TrainingStep], None] = lambda step: None,
        on_stage: Callable[[dict[str, Any]], None] = lambda record: None,
    ) -> None:
        self.recipe, self.windows, self.checkpoint = recipe, windows, checkpoint
        self._fit_trace, self._on_step, self._on_stage = fit_trace, on_step, on_stage
        self._features = all_features(recipe.height, recipe.width)
        self._fitting, self._held_out = (
            WindowIntegrals.of_windows(part) for part in (windows.fitting, windows.held_out)
        )

    def fit(self) -> HaarModel:
        """Trains all stages, or those that are left, and fits the trace."""
        model = self._resumed()
        for stage in range(model.facts["stages"], len(self.recipe.stages)):
            negatives, drawn = self._false_positives(model, stage)
            if len(negatives) < LEAST_NEGATIVES:
                break
            model = self._with_stage(model, negatives, stage)
            record = {
                "stage": stage,
                "features": len(model),
                "negatives": len(negatives),
                "windows": drawn,
                "false_positive_share": len(negatives) / drawn,
            }
            facts = {"stages": stage + 1, "history": [*model.facts["history"], record]}
            model = replace(model, facts=model.facts | facts)
            model.save(self.checkpoint)
            self._on_stage(record)
        return self._finished(model)

    def _empty(self) -> HaarModel:
        recipe = self.recipe
        floats, facts = np.zeros(0, np.float32), {"recipe": recipe.model_dump(mode="json"), "stages": 0, "history": []}
        starts, features = np.zeros(0, bool), np.zeros((0, 5), np.int16)
        votes = np.zeros((0, 2), np.float32)
        return HaarModel(recipe.height, recipe.width, recipe.classes, features, floats, votes, floats, starts, facts)

    def _resumed(self) -> HaarModel:
        """The model of the checkpoint, if it is whole and of the same recipe."""
        empty = self._empty()
        try:
            found = HaarModel.load(self.checkpoint)
        except WeightsError:
            return empty
        return found if found.facts.get("recipe") == empty.facts["recipe"] else empty

    def _false_positives(self, model: HaarModel, stage: int) -> tuple[np.ndarray, int]:
        """Negatives that the model passes, and the number of windows that were tried."""
        found, drawn, count = [self.windows.held_out[:0]], 0, 0
        for batch in self.windows.negatives.batches(stage):
            passed = batch[HaarCascade(model).evaluate(WindowIntegrals.of_windows(batch)).survives] if stage else batch
            found.append(passed)
            drawn += len(batch)
            count += len(passed)
            if count >= self.recipe.negatives_per_stage or drawn >= self.recipe.most_windows:
                break
        return np.concatenate(found)[: self.recipe.negatives_per_stage], drawn

    def _with_stage(self, model: HaarModel, negatives: np.ndarray, stage: int) -> HaarModel:
        recipe, random = self.recipe, np.random.default_rng([self.recipe.seed, stage])
        positives = self.windows.boosting
        if recipe.form == "staged" and stage:
            passes = HaarCascade(model).evaluate(WindowIntegrals.of_windows(positives)).survives
            positives = positives[passes]
        both = WindowIntegrals.of_windows(np.concatenate([positives, negatives]))
        positive = np.arange(len(both)) < len(positives)
        pool = self._features[random.choice(len(self._features), min(recipe.pool, len(self._features)), replace=False)]
        search = StumpSearch(feature_values(pool, both), positive, recipe.boosting)
        sums = np.zeros(len(both), dtype=np.float32)
        if recipe.form == "soft" and stage:
            sums = HaarCascade(model).partial_sums(both)[:, -1]
        direction, first, weights = np.where(positive, -1.0, 1.0), sums, boosting_weights(sums, positive)
        before, most = len(model), sum(recipe.stages)
        for number in range(recipe.stages[stage]):
            current = weights * np.exp(direction * (sums - first))
            tried = random.choice(len(pool), min(recipe.tried, len(pool)), replace=False)
            stump = search.best(current / current.sum(), tried)
            if stump is None:
                break
            sums = sums + stump.votes(search.values[stump.feature])
            begins = not len(model) or (recipe.form == "staged" and number == 0)
            model = _extended(model, pool[stump.feature], stump, begins)
            self._on_step(TrainingStep(stage, len(model), most, stump.loss))
            if recipe.form == "staged" and self._reaches_targets(model, before):
                break
        return self._with_threshold(model, before)

    def _passing(self, model: HaarModel, windows: WindowIntegrals, before: int) -> np.ndarray:
        """(m,) sums at the end of the model, of the windows that pass its first weak learners."""
        sums = HaarCascade(model).partial_sums(windows)
        return np.asarray(sums[(sums[:, :before] >= model.trace[:before]).all(axis=1), -1])

    def _with_threshold(self, model: HaarModel, before: int) -> HaarModel:
        """The model with a threshold at its end that passes the share ``detection`` of the positives."""
        sums = np.sort(self._passing(model, self._fitting, before))
        trace = model.trace.copy()
        trace[-1] = sums[int((1 - self.recipe.detection) * len(sums))] if len(sums) else -np.inf
        return replace(model, trace=trace)

    def _reaches_targets(self, model: HaarModel, before: int) -> bool:
        threshold = self._with_threshold(model, before).trace[-1]
        sums = self._passing(model, self._held_out, before)
        return not len(sums) or float((sums >= threshold).mean()) <= self.recipe.false_positives

    def _finished(self, model: HaarModel) -> HaarModel:
        if self.recipe.form == "staged":
            return model
        parts = (self._fitting, self._held_out, WindowIntegrals.of_windows(self.windows.certifying))
        positive, negative, certifying = (HaarCascade(model).partial_sums(part) for part in parts)
        trace, facts = self._fit_trace(positive, negative, certifying)
        return replace(model, trace=np.asarray(trace, dtype=np.float32), facts=model.facts | facts)


def _extended(model: HaarModel, feature: np.ndarray, stump: Stump, begins: bool) -> HaarModel:
    return replace(
        model,
        features=np.concatenate([model.features, feature[None]]),
        threshold=np.append(model.threshold, np.float32(stump.threshold)),
        votes=np.concatenate([model.votes, np.array([[stump.below, stump.above]], dtype=np.float32)]),
        trace=np.append(model.trace, np.float32(-np.inf)),
        starts=np.append(model.starts, begins),
    )
