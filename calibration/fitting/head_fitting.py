"""Fitting of heads, with scikit-learn."""

import warnings

import numpy as np

from cascade.routers import Agreement, Head, Layer, LearnedHead
from cascade.routers.heads import Inputs, head_features

__all__ = ["HEADS", "fit_head", "fit_logistic"]

HEADS = ("agreement", "cost_aware", "cost_oblivious", "deferral", "deferral_network")
"""Names of the heads that can be fitted."""

HIDDEN_UNITS = 8
NETWORK_DECAY = 5.0  # with less, a network memorises a thousand rows and misses the target on others
NETWORK_STEPS = 200


def fit_head(name: str, evidence: np.ndarray, inputs: Inputs, gain: np.ndarray) -> Head:
    """Fits the head of one stage.

    - "agreement" has no parameters.
    - "cost_oblivious" predicts whether the stage is right, from its own scores: Wang, Luo, Crankshaw, Tumanov, Yu,
      Gonzalez, "IDK Cascades", UAI 2018, section 3.2, https://arxiv.org/abs/1706.00885
    - "deferral" predicts that deferring would gain nothing, from the scores of all stages so far: Jitkrittum, Gupta,
      Menon, Narasimhan, Rawat, Kumar, "When Does Confidence-Based Cascade Deferral Suffice?", NeurIPS 2023, section 4,
      https://arxiv.org/abs/2307.02764; "deferral_network" does so with a hidden layer.

    Args:
        name: one of ``HEADS``. A "cost_aware" head of the last stage, which cannot defer, is fitted like a
            cost-oblivious one; those of other stages are fitted together
            (``cascade.calibration.fitting.cost_aware_fitting``).
        evidence: (n, 5 (k + 1)) of the stages 0 to k; k is the head's stage.
        inputs: which scores of a stage are read.
        gain: (n, K - k) in {0, 1}, gain of the answers of stage k and of all later ones.
    """
    if name == "agreement":
        return Agreement()
    history = name in ("deferral", "deferral_network")
    features = head_features(evidence, inputs, history).T
    # The last stage has no later one: there the target is whether it is right.
    deferring_gains = gain[:, 0] < gain[:, -1]
    target = ~deferring_gains if history and gain.shape[1] > 1 else gain[:, 0] > 0
    if name == "deferral_network" and 0 < target.sum() < len(target):
        return LearnedHead(inputs, history, _fit_network(features, target))
    return LearnedHead(inputs, history, (fit_logistic(features, target),))


def fit_logistic(features: np.ndarray, target: np.ndarray) -> Layer:
    """Logistic regression with a light quadratic penalty on standardised features.

    Args:
        features: (n, F).
        target: (n,) bool; all rows may be equal.
    """
    from sklearn.linear_model import LogisticRegression

    mean, scale = _standard(features)
    # As with Platt's targets, every row has a small weight as its opposite: a finite curve even without errors.
    rest = 1.0 / (len(target) + 2)
    weight = np.where(target, 1.0 - rest, rest)
    model = LogisticRegression(C=1.0, max_iter=1000)
    doubled = np.tile((features - mean) / scale, (2, 1))
    model.fit(doubled, np.repeat([1, 0], len(target)), sample_weight=np.concatenate([weight, 1.0 - weight]))
    return _on_raw_features(Layer(model.coef_, model.intercept_), mean, scale)


def _fit_network(features: np.ndarray, target: np.ndarray) -> tuple[Layer, Layer]:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    mean, scale = _standard(features)
    model = MLPClassifier((HIDDEN_UNITS,), solver="lbfgs", alpha=NETWORK_DECAY, max_iter=NETWORK_STEPS, random_state=0)
    with warnings.catch_warnings():
        # It need not converge: early stopping also limits the fitting of noise.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit((features - mean) / scale, target)
    hidden, last = (Layer(w.T, b) for w, b in zip(model.coefs_, model.intercepts_, strict=True))
    return _on_raw_features(hidden, mean, scale), last


def _standard(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(F,) means and (F,) standard deviations; 1 where a feature is constant."""
    scale = features.std(axis=0)
    return features.mean(axis=0), np.where(scale > 1e-9, scale, 1.0)


def _on_raw_features(layer: Layer, mean: np.ndarray, scale: np.ndarray) -> Layer:
    """The same map on features that are not standardised."""
    weights = layer.weights / scale
    return Layer(weights, layer.biases - weights @ mean)
