"""ONNX networks, run by ONNX Runtime on the processor (extra ``onnx``)."""

import numpy as np

from cascade.backends.config import OnnxConfig
from cascade.backends.errors import WeightsError
from cascade.errors import ConfigError
from cascade.prediction import Prediction

__all__ = ["OnnxBackend"]


class OnnxBackend:
    """A network with one input of rows and an output of (n, C) logits or probabilities.

    Args:
        config: what to load.

    Raises:
        ConfigError: ONNX Runtime is not installed, or the model has no such output.
        WeightsError: the file is damaged, or has more than one input.
    """

    def __init__(self, config: OnnxConfig) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise ConfigError("the backend 'onnx' needs ONNX Runtime: pip install 'idk-cascade[onnx]'") from error
        self.config = config
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = config.threads
        options.log_severity_level = 3
        try:
            self.session = onnxruntime.InferenceSession(config.model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's own errors share no public root
            raise WeightsError(f"{config.model} cannot be loaded by ONNX Runtime: {error}") from error
        inputs, outputs = self.session.get_inputs(), [output.name for output in self.session.get_outputs()]
        if len(inputs) != 1:
            raise WeightsError(f"{config.model} must have one input; it has {[given.name for given in inputs]}")
        if config.output is not None and config.output not in outputs:
            raise ConfigError(f"{config.model} has no output {config.output!r}; choose one of {outputs}")
        self.input_name = inputs[0].name
        self.output_name = config.output or outputs[0]

    def predict(self, rows: np.ndarray) -> Prediction:
        """Answers a batch: (n, ...) rows -> (n, C) probabilities."""
        batch = self.config.input.tensor(rows).contiguous().numpy() if self.config.input else rows
        (output,) = self.session.run([self.output_name], {self.input_name: batch})
        return Prediction.from_probabilities(_softmax(output) if self.config.output_kind == "logits" else output)


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
