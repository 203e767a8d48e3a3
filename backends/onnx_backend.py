"""ONNX networks, run by ONNX Runtime on the processor (extra ``onnx``)."""

import numpy as np

from cascade.backends.config import OnnxConfig
from cascade.backends.files.onnx_file import last_operation
from cascade.backends.outputs.probability_guard import ProbabilityGuard
from cascade.errors import ConfigError, WeightsError
from cascade.prediction import Prediction

__all__ = ["OnnxBackend"]

FLOATS = ("tensor(float)", "tensor(double)", "tensor(float16)")
MAKE_PROBABILITIES = ("Sigmoid", "Softmax")


class OnnxBackend:
    """A network with one input of rows and an output of (n, C) logits or probabilities.

    A single output column is the probability or the logit of class 1, and becomes two columns. A network exported for
    a fixed number of rows runs on that many at a time; the last part is padded with copies of its last row.

    Args:
        config: of the network.

    Raises:
        ConfigError: ONNX Runtime is not installed, the model lacks the output, or it is not of the configured kind.
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
        inputs = self.session.get_inputs()
        if len(inputs) != 1:
            raise WeightsError(f"{config.model} must have one input; it has {[given.name for given in inputs]}")
        self.input_name = inputs[0].name
        self.output_name = self._output()
        fixed = inputs[0].shape[0] if inputs[0].shape else None
        self._fixed_rows = fixed if isinstance(fixed, int) and fixed > 0 else None
        self._guard = ProbabilityGuard(f"{config.model}: output {self.output_name!r}")

    def predict(self, rows: np.ndarray) -> Prediction:
        """Answers a batch: (n, ...) rows -> (n, C) probabilities."""
        batch = self.config.input.tensor(rows).contiguous().numpy() if self.config.input else rows
        output = self._run(batch) if self._fixed_rows is None else self._run_in_parts(batch, self._fixed_rows)
        if output.ndim == 1:
            output = output[:, None]
        if output.ndim != 2 or not output.shape[1]:
            raise ConfigError(
                f"{self.config.model}: output {self.output_name!r} must be (n, C); got shape {output.shape} for "
                f"{len(rows)} rows"
            )
        if self.config.output_kind == "probabilities":
            return Prediction.from_probabilities(output)
        self._guard.check(output)
        return Prediction.from_probabilities(_softmax(output))

    def _run(self, batch: np.ndarray) -> np.ndarray:
        (output,) = self.session.run([self.output_name], {self.input_name: batch})
        return np.asarray(output)

    def _run_in_parts(self, batch: np.ndarray, size: int) -> np.ndarray:
        parts = []
        for start in range(0, len(batch), size):
            part = batch[start : start + size]
            missing = size - len(part)
            whole = np.concatenate([part, np.repeat(part[-1:], missing, axis=0)]) if missing else part
            parts.append(self._run(whole)[: len(part)])
        return np.concatenate(parts)

    def _output(self) -> str:
        """Name of the configured output; ConfigError if it is not an array of the configured kind."""
        model, kind = self.config.model, self.config.output_kind
        types = {output.name: output.type for output in self.session.get_outputs()}
        name = self.config.output or next(iter(types))
        if name not in types:
            raise ConfigError(f"{model} has no output {name!r}; choose one of {list(types)}")
        if types[name] not in FLOATS:
            raise ConfigError(
                f"{model}: output {name!r} is a {types[name]}, not an array of {kind}; choose another one as 'output' "
                f"({types}), or export without ZipMap"
            )
        last = last_operation(model, name)
        if kind == "logits" and last in MAKE_PROBABILITIES:
            raise ConfigError(f"{model}: output {name!r} comes from a {last}; write output_kind: probabilities")
        return name


def _softmax(logits: np.ndarray) -> np.ndarray:
    """(n, C) -> (n, C) softmax; for one column the sigmoid, (n, 1)."""
    if logits.shape[1] == 1:
        powers = np.exp(-np.abs(logits))
        return np.asarray(np.where(logits >= 0, 1, powers) / (1 + powers))
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
