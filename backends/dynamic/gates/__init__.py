"""Policies of dynamic networks: which alternatives a row takes at each site."""

from cascade.backends.dynamic.gates.convolutional_gates import ConvolutionalGates
from cascade.backends.dynamic.gates.given_path import GivenPath
from cascade.backends.dynamic.gates.layer_gates import LayerGates
from cascade.backends.dynamic.gates.one_shot_policy import OneShotPolicy
from cascade.backends.dynamic.gates.path_policy import PathPolicy, PathScorer, against_zero, columns_of
from cascade.backends.dynamic.gates.recurrent_gate import RecurrentGate
from cascade.backends.dynamic.gates.sequence_policy import IMPOSSIBLE, SequencePolicy
from cascade.backends.dynamic.gates.task_path import TaskPath

__all__ = [
    "IMPOSSIBLE",
    "ConvolutionalGates",
    "GivenPath",
    "LayerGates",
    "OneShotPolicy",
    "PathPolicy",
    "PathScorer",
    "RecurrentGate",
    "SequencePolicy",
    "TaskPath",
    "against_zero",
    "columns_of",
]
