"""Dynamic networks as a backend: every row takes its own path, at its own cost."""

from dataclasses import replace
from typing import cast

import numpy as np
import torch
from typing_extensions import override

from cascade.backends.config import DynamicConfig
from cascade.backends.dynamic.dynamic_network import DynamicNetwork
from cascade.backends.dynamic.executor import Executor
from cascade.backends.dynamic.graph_executor import GraphExecutor
from cascade.backends.dynamic.inputs import Inputs, first_row, input_shapes, moved
from cascade.backends.dynamic.path_costs import PathCosts
from cascade.backends.torch_backend import TorchBackend, refuse_non_finite
from cascade.errors import ConfigError, RowsError
from cascade.prediction import Prediction

__all__ = ["DynamicBackend"]


class DynamicBackend(TorchBackend):
    """A network in which every row takes its own path.

    Rows are what its stem takes after the configured ``input``: one tensor, or named slices of the row.

    On a processor in float32, norms are folded and convolutions packed if oneDNN is installed.

    Args:
        config: of the network.

    Raises:
        ConfigError: the network cannot be built, or is not a ``DynamicNetwork``.
        WeightsError: its weights cannot be loaded.
    """

    def __init__(self, config: DynamicConfig) -> None:
        super().__init__(config)
        network = self.network
        if not isinstance(network, DynamicNetwork):
            raise ConfigError(
                f"a backend of type 'dynamic' needs a DynamicNetwork; {config.network} is a {type(network).__name__}, "
                "whose backend type is 'torch'"
            )
        self._executor = self._new_executor(network, config)
        self._prices_work = bool(config.price) and not network.counts_sites
        self._costs: dict[object, PathCosts] = {}

    @override
    def predict(self, rows: np.ndarray) -> Prediction:
        """Answers a batch: (n, ...) rows -> softmax of the logits, and the operations of each row's path.

        Raises:
            RowsError: images of this size do not fit the network, or a pixel is NaN or infinite.
        """
        refuse_non_finite(rows)
        images = self._tensor(rows)
        costs = self._path_costs(images)
        with torch.inference_mode(), self._precision():
            outcome = self._executor.run(images, costs.relative if self._prices_work else None)
            probabilities = torch.softmax(outcome.logits.float(), dim=1).cpu().numpy()
        return replace(Prediction.from_probabilities(probabilities), mflop=costs.of(outcome.paths).numpy() / 1e6)

    @override
    def flops_per_row(self, rows: np.ndarray) -> float:
        """Mean operations of the rows' paths."""
        mflop = self.predict(rows).mflop
        return float(np.mean(mflop)) * 1e6 if mflop is not None else 0.0

    def highest_row_cost(self, rows: np.ndarray) -> float:
        """Millions of operations of the longest path."""
        return self._path_costs(self._tensor(rows[:1])).highest / 1e6

    def _new_executor(self, network: DynamicNetwork, config: DynamicConfig) -> Executor | GraphExecutor:
        if config.price and not network.policy.scored:
            raise ConfigError(
                f"price: {config.price} has no effect on {config.network}: its paths are given; leave it out"
            )
        if not config.graphs:
            return Executor(network.sites, network.policy, config.price)
        if self.device.type != "cuda":
            raise ConfigError(f"graphs: true needs a CUDA device; the device is {config.device!r}")
        try:
            return GraphExecutor(network.sites, network.policy, config.price)
        except ValueError as error:
            raise ConfigError(f"graphs: true does not fit {config.network}: {error}") from error

    @override
    def _precision(self) -> torch.autocast:
        enabled = self.config.precision == "bfloat16"
        # A graph would keep the address of a cached weight beyond the batch, at whose end the cache is freed.
        cached = not isinstance(self._executor, GraphExecutor)
        return torch.autocast(self.device.type, torch.bfloat16, enabled=enabled, cache_enabled=cached)

    @override
    def _packs(self) -> bool:
        return self._can_pack() if self.config.packed is None else super()._packs()

    def _path_costs(self, inputs: Inputs) -> PathCosts:
        """The costs for inputs of this shape, counted once."""
        key = input_shapes(inputs)
        if key not in self._costs:
            network = cast(DynamicNetwork, self._blueprint or self.network)
            row = moved(first_row(inputs), "meta") if self._blueprint else first_row(inputs)
            try:
                self._costs[key] = PathCosts.count(network.sites, network.policy, row)
            except (RuntimeError, ValueError) as error:
                sizes = [f"{name or 'images'} of {' x '.join(map(str, shape))}" for name, shape in key]
                axes = " (channels, height, width)" if isinstance(inputs, torch.Tensor) and inputs.ndim == 4 else ""
                raise RowsError(f"{', '.join(sizes)}{axes} do not fit the network: {error}") from error
        return self._costs[key]
