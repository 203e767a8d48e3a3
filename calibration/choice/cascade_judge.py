"""The judge: figures of cascades on rows that did not choose them, and paired comparisons."""

import numpy as np

from cascade.calibration.choice.bootstrap import bootstrap_means, percentile_interval
from cascade.calibration.choice.candidate_screen import Stages
from cascade.calibration.choice.cascade_choice import Alternative, ChosenCascade, Comparison
from cascade.calibration.choice.model_pool import ModelPool
from cascade.calibration.choice.refinement import Candidate, replay
from cascade.calibration.evaluation.evaluation import proportion_interval
from cascade.calibration.search.best_thresholds import Target

__all__ = ["CascadeJudge"]


class CascadeJudge:
    """Replays candidates on held-out rows; all comparisons use the same resamples.

    Args:
        pool: the held-out rows.
        names: M names of the models.
        target: on these rows.
        candidates: each of different stages.
        level: of the intervals, in (0, 1).
        seed: of the resamples.
        chosen_share: mean gain of a cascade that gains wherever it can, on the rows that chose the candidates.
    """

    def __init__(
        self,
        pool: ModelPool,
        names: tuple[str, ...],
        target: Target,
        candidates: list[Candidate],
        level: float,
        seed: int,
        chosen_share: float = 1.0,
    ) -> None:
        self.pool, self.names, self.target, self.level = pool, names, target, level
        self._place = {candidate.stages: i for i, candidate in enumerate(candidates)}
        self._candidates = candidates
        replayed = [replay(pool, candidate.stages, candidate.thresholds) for candidate in candidates]
        self._stage = [stage for stage, _, _ in replayed]
        gain = np.stack([gain for _, gain, _ in replayed], axis=1)
        cost = np.stack([cost for _, _, cost in replayed], axis=1)
        self._gain, self._cost, self._chosen_share = gain.mean(axis=0), cost.mean(axis=0), chosen_share
        # A recall is a ratio: also the share of positive rows differs between resamples.
        detection = pool.detection
        most = np.ones(len(pool)) if detection is None else detection.is_positive.astype(np.float64)
        draws = bootstrap_means(np.hstack([gain, cost, most[:, None]]), seed=seed)
        self._gain_draws, self._cost_draws = np.split(draws[:, :-1], 2, axis=1)
        self._gain_draws = self._gain_draws / np.maximum(draws[:, -1:], 1 / len(pool))

    def cascade(self, stages: Stages) -> ChosenCascade:
        """The figures of one of the candidates."""
        i = self._place[stages]
        candidate, n = self._candidates[i], len(self._stage[i])
        gain, cost, most = float(self._gain[i]), float(self._cost[i]), self.pool.most_gain
        return ChosenCascade(
            stages=tuple(self.names[m] for m in stages),
            thresholds=candidate.thresholds,
            gain=gain / most,
            gain_interval=proportion_interval(round(gain * n), round(most * n), self.level),
            mean_cost=cost,
            mean_cost_interval=percentile_interval(self._cost_draws[:, i], self.level),
            stage_share=np.bincount(self._stage[i], minlength=len(stages)) / n,
            last_stage_cost=float(self.pool.price(stages[-1], self.pool.work[:, stages[-1]].mean())),
            worst_cost=self.pool.longest(stages),
            reaches_target=bool(len(self.target.rank(np.array([gain]), np.array([cost])))),
            chosen_gain=candidate.gain / self._chosen_share,
            chosen_cost=candidate.cost,
        )

    def alternative(self, best: Stages, other: Stages) -> Alternative:
        """One candidate, and the best one compared with it."""
        i, j = self._place[best], self._place[other]
        saving = _saving(self._cost_draws[:, i], self._cost_draws[:, j])
        difference = self._gain_draws[:, i] - self._gain_draws[:, j]
        comparison = Comparison(
            cost_saving=float(_saving(self._cost[i], self._cost[j])),
            cost_saving_interval=percentile_interval(saving, self.level),
            gain_difference=float(self._gain[i] - self._gain[j]) / self.pool.most_gain,
            gain_difference_interval=percentile_interval(difference, self.level),
        )
        return Alternative(self.cascade(other), comparison)


def _saving(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """1 - first / second; 0 where the second costs nothing."""
    return np.where(second > 0, 1 - first / np.where(second > 0, second, 1.0), 0.0)
