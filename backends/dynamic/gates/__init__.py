"""Gates inside dynamic networks: which alternative a row takes at each choice."""

from cascade.backends.dynamic.gates.convolutional_gates import ConvolutionalGates
from cascade.backends.dynamic.gates.one_shot_policy import OneShotPolicy
from cascade.backends.dynamic.gates.path_policy import PathPolicy, PathScorer, against_zero
from cascade.backends.dynamic.gates.recurrent_gate import RecurrentGate

__all__ = ["ConvolutionalGates", "OneShotPolicy", "PathPolicy", "PathScorer", "RecurrentGate", "against_zero"]
