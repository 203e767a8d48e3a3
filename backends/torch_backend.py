"""Torch networks: code of the architecture, weights from a safetensors file."""

import copy
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from cascade.backends.code.imports import import_object
from cascade.backends.config import NetworkConfig, TorchConfig
from cascade.backends.files.weights import load_weights, read_facts
from cascade.backends.networks.folding import fold_norms
from cascade.backends.networks.packing import can_pack, pack_convolutions
from cascade.backends.outputs.output_watch import OutputWatch
from cascade.backends.torch_device import torch_device
from cascade.errors import ConfigError, RowsError
from cascade.prediction import Prediction

__all__ = ["TorchBackend", "refuse_non_finite"]


class TorchBackend:
    """A network whose output is (n, C) logits, or probabilities (``output_kind``).

    A single output column is the logit or the probability of class 1, and becomes two columns. The network works on a
    copy of the rows.

    Args:
        config: of the network.

    Raises:
        ConfigError: the network cannot be built.
        WeightsError: its weights cannot be loaded.
    """

    copies_rows = True

    def __init__(self, config: NetworkConfig) -> None:
        self.config = config
        self.device = torch_device(config.device)
        if config.threads:
            torch.set_num_threads(config.threads)
        self.network = self._load_network()
        self._gives_probabilities = isinstance(config, TorchConfig) and config.output_kind == "probabilities"
        self._is_watched = self._gives_probabilities
        self._blueprint: nn.Module | None = None
        if self._packs():
            # An unpacked copy without memory, since operations of packed convolutions cannot be counted.
            self._blueprint = copy.deepcopy(self.network).to("meta")
            pack_convolutions(fold_norms(self.network))

    def predict(self, rows: np.ndarray) -> Prediction:
        """Answers a batch: (n, ...) rows -> softmax of the logits.

        Raises:
            ConfigError: the output has another shape, or already comes from a softmax or sigmoid.
            RowsError: convolutions are packed, and a value is NaN or infinite.
        """
        if self._blueprint:
            refuse_non_finite(rows)
        with torch.inference_mode():
            output = self._two_axes(self._forward(rows) if self._is_watched else self._watched(rows))
            if not self._gives_probabilities:
                output = torch.softmax(output, dim=1) if output.shape[1] > 1 else torch.sigmoid(output)
            probabilities = output.cpu().numpy()
        return Prediction.from_probabilities(probabilities)

    def flops_per_row(self, rows: np.ndarray) -> float:
        """Counted by ``torch.utils.flop_counter``: convolutions and matrix products, twice the multiply-adds."""
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            if self._blueprint:
                self._blueprint(self._tensor(rows).to("meta"))
            else:
                self._forward(rows)
        return float(counter.get_total_flops()) / len(rows)

    def _forward(self, rows: np.ndarray) -> torch.Tensor:
        batch = self._tensor(rows)
        with self._precision():
            logits: torch.Tensor = self.network(batch)
        return logits

    def _two_axes(self, output: object) -> torch.Tensor:
        """(n,) or (n, C) -> (n, C) float32."""
        if not isinstance(output, torch.Tensor):
            raise ConfigError(f"{self.config.network} must return one tensor (n, C); got {type(output).__name__}")
        output = output.float()
        if output.ndim == 1:
            output = output[:, None]
        if output.ndim != 2 or not output.shape[1]:
            raise ConfigError(f"{self.config.network} must return (n, C); got shape {tuple(output.shape)}")
        return output

    def _watched(self, rows: np.ndarray) -> object:
        """The first call, with a check that the output is not a probability.

        A softmax of probabilities would flatten all confidences, and a sigmoid of them is never below 0.5.
        """
        with OutputWatch() as watch:
            output = self._forward(rows)
        made_by = watch.operation(output)
        if made_by is not None:
            raise ConfigError(
                f"{self.config.network} ends in a {made_by}; write output_kind: probabilities, or leave it out"
            )
        self._is_watched = True
        return output

    def _tensor(self, rows: np.ndarray) -> Any:
        """The input of the network: a tensor, or tensors by name."""
        if self.config.input:
            return self.config.input.tensor(rows, self.device)
        return torch.from_numpy(np.array(rows)).to(self.device)

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bfloat16")

    def _packs(self) -> bool:
        """Whether to pack convolutions; ConfigError if it is configured but not possible."""
        if self.config.packed == "auto":
            return self._can_pack()
        if self.config.packed and not self._can_pack():
            raise ConfigError(
                "packed: true needs device: cpu, precision: float32 and oneDNN (pip install 'idk-cascade[onednn]'); "
                f"device is {self.config.device}, precision {self.config.precision}, "
                f"oneDNN {'was' if can_pack() else 'not'} found"
            )
        return bool(self.config.packed)

    def _can_pack(self) -> bool:
        return self.device.type == "cpu" and self.config.precision == "float32" and can_pack()

    def _load_network(self) -> nn.Module:
        config = self.config
        try:
            network = import_object(config.network, config.folder)(**config.arguments)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{config.network} cannot be built with {config.arguments}: {error}") from error
        if not isinstance(network, nn.Module):
            raise ConfigError(f"{config.network} must be a torch.nn.Module; got {type(network).__name__}")
        folded_on_disk = read_facts(config.weights).get("folded") == "true"
        if folded_on_disk:
            fold_norms(network)
        load_weights(config.weights, network)
        network.eval().requires_grad_(False)
        if config.fold_norms and not folded_on_disk:
            fold_norms(network)
        loaded: nn.Module = network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return loaded


def refuse_non_finite(rows: np.ndarray) -> None:
    """Refuses NaN and infinity: the ReLU of packed convolutions turns NaN into 0, and the answer would look valid."""
    if rows.dtype.kind != "f":
        return
    finite = np.isfinite(rows.reshape(len(rows), -1)).all(axis=1)
    if not finite.all():
        raise RowsError(f"row {int(np.argmin(finite))} holds a pixel that is NaN or infinite; leave such images out")
