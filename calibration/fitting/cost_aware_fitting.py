"""Fitting of cost-aware heads: all stages together, on the loss and the cost of the whole cascade."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cascade.calibration.fitting.head_fitting import fit_logistic
from cascade.calibration.search.best_thresholds import Target
from cascade.routers import Layer

__all__ = ["SoftCascade", "fit_cost_aware"]

PENALTY = 1e-6  # far below a price: 1e-4 outweighed the cost, and the heads learned nothing
LOG_PRICES = (-4.0, 1.0)  # powers of ten: gain that may be given up to save the cost of all stages
BISECTIONS = 8
STEPS = 60


@dataclass(frozen=True, eq=False)
class SoftCascade:
    """A cascade whose stages answer a row with a probability instead of by a threshold, so that it has a gradient.

    Attributes:
        features: K - 1 arrays (n, F_k + 1), standardised, the last column ones.
        gain: (n, K), gain of each stage's answer.
        cost: (n, K), cost of each stage per row, in units of the mean cost of all stages together.
    """

    features: tuple[np.ndarray, ...]
    gain: np.ndarray
    cost: np.ndarray

    def split(self, parameters: np.ndarray) -> list[np.ndarray]:
        """Each stage's weights (F_k + 1,)."""
        return np.split(parameters, np.cumsum([f.shape[1] for f in self.features])[:-1])

    def gates(self, parameters: np.ndarray) -> list[np.ndarray]:
        """K - 1 arrays (n,): the probability that a stage answers a row that reaches it."""
        pairs = zip(self.features, self.split(parameters), strict=True)
        return [1.0 / (1.0 + np.exp(-np.clip(f @ w, -50.0, 50.0))) for f, w in pairs]

    def means(self, parameters: np.ndarray) -> tuple[float, float]:
        """Expected gain and expected cost per row."""
        gain, cost = self.gain[:, -1], self.cost[:, -1]
        for k, gate in reversed(list(enumerate(self.gates(parameters)))):
            gain = gate * self.gain[:, k] + (1.0 - gate) * gain
            cost = self.cost[:, k] + (1.0 - gate) * cost
        return float(gain.mean()), float(cost.mean())

    def objective(self, parameters: np.ndarray, price: float) -> tuple[float, np.ndarray]:
        """J = mean(loss + price * cost), with a light penalty, and its gradient.

        Wang et al., "IDK Cascades", UAI 2018, section 3.2, https://arxiv.org/abs/1706.00885; the loss is 1 - gain.
        """
        gates = self.gates(parameters)
        loss = 1.0 - self.gain
        later = loss[:, -1] + price * self.cost[:, -1]
        saved = []  # of each stage, the last one first: by how much deferring is more expensive than answering
        for k, gate in reversed(list(enumerate(gates))):
            saved.append(later - loss[:, k])
            later = price * self.cost[:, k] + gate * loss[:, k] + (1.0 - gate) * later
        reached = np.full(len(loss), 1.0 / len(loss))
        gradient = []
        for features, gate, more in zip(self.features, gates, reversed(saved), strict=True):
            gradient.append(-features.T @ (reached * gate * (1.0 - gate) * more))
            reached = reached * (1.0 - gate)
        return (
            float(later.mean() + 0.5 * PENALTY * parameters @ parameters),
            np.concatenate(gradient) + PENALTY * parameters,
        )


def fit_cost_aware(
    features: Sequence[np.ndarray], gain: np.ndarray, cumulative_cost: np.ndarray, target: Target
) -> list[Layer]:
    """Fits the heads of all stages but the last.

    The price is the one at which the soft cascade just reaches the target: the exchange rate between gain and cost that
    the target implies. The threshold search determines the operating point afterwards.

    Args:
        features: K - 1 arrays (n, F_k).
        gain: (n, K).
        cumulative_cost: (n, K), cost of a row answered at a stage, all earlier ones included.
        target: least gain or most cost.

    Returns:
        K - 1 layers with one output.
    """
    means, scales = [f.mean(axis=0) for f in features], [np.maximum(f.std(axis=0), 1e-9) for f in features]
    whole = float(cumulative_cost[:, -1].mean()) or 1.0
    standard = [(f - m) / s for f, m, s in zip(features, means, scales, strict=True)]
    soft = SoftCascade(
        tuple(np.column_stack([f, np.ones(len(f))]) for f in standard),
        gain,
        np.diff(cumulative_cost, axis=1, prepend=0.0) / whole,
    )
    start = [fit_logistic(f, gain[:, k] > 0) for k, f in enumerate(standard)]
    parameters = _at_target(soft, np.concatenate([[*s.weights[0], *s.biases] for s in start]), target, whole)
    layers = []
    for weights, mean, scale in zip(soft.split(parameters), means, scales, strict=True):
        raw = weights[:-1] / scale
        layers.append(Layer(raw[None], weights[-1:] - raw @ mean))
    return layers


def _at_target(soft: SoftCascade, start: np.ndarray, target: Target, whole: float) -> np.ndarray:
    """Bisects the price; the best parameters at the last one that reaches the target (or at the lowest)."""
    from scipy.optimize import minimize

    def fit(log_price: float, first: np.ndarray) -> np.ndarray:
        price = 10.0**log_price
        found = minimize(soft.objective, first, (price,), "L-BFGS-B", jac=True, options={"maxiter": STEPS})
        return np.asarray(found.x)

    def reaches(parameters: np.ndarray) -> bool:
        gain, cost = soft.means(parameters)
        return gain >= target.least_gain if target.least_gain is not None else cost * whole > (target.most_cost or 0.0)

    low, high = LOG_PRICES  # a low price gives a high gain at a high cost
    best = fit(low, start)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        found = fit(middle, best)
        if reaches(found):
            low, best = middle, found
        else:
            high = middle
    return best
