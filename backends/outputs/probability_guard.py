"""Refuses networks that already end in a softmax: a second one would flatten all confidences."""

import numpy as np

from cascade.errors import ConfigError

__all__ = ["ProbabilityGuard"]

EPSILONS = 8.0


class ProbabilityGuard:
    """Checks outputs that are used as logits, until a row is found that is not a distribution.

    Args:
        source: name of the network in messages.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._is_settled = False

    def check(self, logits: np.ndarray) -> None:
        """Checks a batch.

        Args:
            logits: (n, C) float.

        Raises:
            ConfigError: all numbers are in [0, 1], not all of them 0 or 1, and every row sums to 1.
        """
        if self._is_settled or logits.shape[1] < 2:
            return
        sums = logits.sum(axis=1, dtype=np.float64)
        in_range = bool((logits >= 0).all() and (logits <= 1).all())
        if not in_range or (np.abs(sums - 1) > EPSILONS * np.finfo(logits.dtype).eps).any():
            self._is_settled = True
        elif ((logits > 0) & (logits < 1)).any():
            raise ConfigError(
                f"{self._source} returned probabilities (rows that sum to 1) where logits are expected; write "
                "output_kind: probabilities"
            )
