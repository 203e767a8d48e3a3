"""Training of the network of a recipe; it may be interrupted and resumed at any time."""

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from cascade.backends.code.imports import import_object
from cascade.backends.dynamic.dynamic_network import DynamicNetwork
from cascade.backends.files.pretrained import load_pretrained
from cascade.backends.files.weights import load_weights, read_facts
from cascade.backends.networks.folding import fold_norms
from cascade.backends.torch_device import torch_device
from cascade.backends.training.augmentation import crop_and_flip
from cascade.backends.training.checkpoint import load_checkpoint, save_checkpoint
from cascade.backends.training.growth import grow_from
from cascade.backends.training.objectives import Batch, Objective
from cascade.backends.training.recipe import Recipe, Start
from cascade.errors import ConfigError

__all__ = ["Progress", "Trainer"]

EVALUATION_ROWS = 250
NORM_ROWS = 2048


@dataclass(frozen=True)
class Progress:
    """The progress of a training.

    Attributes:
        epoch: the present epoch, from 0.
        step: number of finished steps in the epoch.
        steps: number of steps per epoch.
        loss: mean loss of the epoch so far.
    """

    epoch: int
    step: int
    steps: int
    loss: float


@dataclass
class Trainer:
    """One training.

    Args:
        recipe: of the training.
        rows: (n, h, w, c) training rows, the held-out ones last.
        labels: (n,) int.
        checkpoint: file to resume from, written after every epoch.
        cache: folder for published weights.
        on_progress: called after every step.
        on_epoch: called with every new record of the history.
        device: that the network learns on, such as "cuda"; only on "cpu" does a resumed training end in the same bits.

    Attributes:
        network: the network with its present weights.
        history: one record per epoch: "epoch", "loss", "seconds", and figures on the held-out rows, such as
            "held_out_accuracy".
    """

    recipe: Recipe
    rows: np.ndarray
    labels: np.ndarray
    checkpoint: Path
    cache: Path
    on_progress: Callable[[Progress], None] = lambda progress: None
    on_epoch: Callable[[dict[str, float]], None] = lambda record: None
    device: str = "cpu"
    network: nn.Module = field(init=False)
    history: list[dict[str, float]] = field(init=False, default_factory=list)

    def fit(self) -> "Trainer":
        """Trains to the end; resumes from the checkpoint if there is one.

        Raises:
            ConfigError: the recipe does not fit the rows, the device cannot be used here, or the training diverged.
        """
        self._check_rows()
        device = torch_device(self.device)
        torch.manual_seed(self.recipe.seed)
        self.network = self._new_network().to(device)
        start = {name: value.clone() for name, value in self.network.state_dict().items()}
        optimizer = self._optimizer()
        recipe = self.recipe.model_dump(mode="json")
        metadata = load_checkpoint(self.checkpoint, self.network, optimizer, recipe)
        self.history = metadata["history"] if metadata else []
        for epoch in range(len(self.history), self.recipe.epochs):
            self.history.append(self._run_epoch(epoch, optimizer))
            metadata = {"recipe": recipe, "history": self.history}
            save_checkpoint(self.checkpoint, self.network, optimizer, metadata)
            self.on_epoch(self.history[-1])
        self._average_with(start)
        _set_attributes(self.network, self.recipe.final)
        self.network.eval()
        return self

    def accuracy(self, rows: np.ndarray, labels: np.ndarray) -> float:
        """Share of rows whose most probable class is the label, in [0, 1]; nan without rows."""
        return self.figures(rows, labels)["accuracy"]

    def figures(self, rows: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """Figures of the network on some rows.

        Returns:
            "accuracy", the share of rows whose most probable class is the label, in [0, 1], nan without rows. For a
            dynamic network also "kept", the mean number of columns in which a row did not take the cheapest
            alternative, and "paths", the number of distinct paths.
        """
        self.network.eval()
        hits, paths = 0, []
        with torch.inference_mode():
            for start in range(0, len(rows), EVALUATION_ROWS):
                batch = self.recipe.input.tensor(rows[start : start + EVALUATION_ROWS], self.device)
                if isinstance(self.network, DynamicNetwork):
                    outcome = self.network.run(batch)
                    paths.append(outcome.paths)
                    logits = outcome.logits
                else:
                    logits = self.network(batch)
                hits += int((logits.argmax(dim=1).cpu().numpy() == labels[start : start + EVALUATION_ROWS]).sum())
        figures = {"accuracy": hits / len(rows) if len(rows) else float("nan")}
        if paths:
            taken = torch.cat(paths)
            figures["kept"] = int((taken > 0).sum()) / len(taken)
            figures["paths"] = float(len(torch.unique(taken, dim=0)))
        return figures

    def _average_with(self, start: dict[str, torch.Tensor]) -> None:
        share = self.recipe.start_share
        for name, value in self.network.state_dict().items():
            if share and value.is_floating_point():
                value.mul_(1 - share).add_(start[name], alpha=share)

    def _check_rows(self) -> None:
        left = len(self.rows) - self.recipe.held_out_rows
        if left < self.recipe.batch_rows:
            raise ConfigError(
                f"held_out_rows {self.recipe.held_out_rows} of {len(self.rows)} rows leave {left} to train on, "
                f"less than one batch of batch_rows {self.recipe.batch_rows}"
            )

    def _new_network(self) -> nn.Module:
        recipe = self.recipe
        try:
            network: nn.Module = import_object(recipe.network)(**recipe.arguments)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{recipe.network} cannot be built with {recipe.arguments}: {error}") from error
        if recipe.initial_weights:
            load_pretrained(recipe.initial_weights, network, self.cache)
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        for start in recipe.start_from:
            _load_part(network, start)
        if recipe.fold_norms and not recipe.start_from:
            self._adapt_norms(network)
            fold_norms(network)
        return network

    def _adapt_norms(self, network: nn.Module) -> None:
        """Adapts the batch norms to the new data before they are folded, with the first phase's settings.

        Li, Wang, Shi, Hou, Liu, "Adaptive Batch Normalization for practical domain adaptation",
        Pattern Recognition 80, 2018, https://arxiv.org/abs/1603.04779
        """
        norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the plain average of all batches
        _set_attributes(network, self.recipe.phases[0].set)
        network.train()
        with torch.no_grad():
            for start in range(0, min(NORM_ROWS, len(self.rows)), EVALUATION_ROWS):
                network(self.recipe.input.tensor(self.rows[start : start + EVALUATION_ROWS]))

    def _optimizer(self) -> torch.optim.Optimizer:
        # Parameters of one group are updated by a few kernels together, which pays on a device. On the processor each
        # one has a group of its own, in the order that checkpoints have always had.
        grouped: dict[Any, dict[str, Any]] = {}
        for name, parameter in self.network.named_parameters():
            decay, factor = self.recipe.weight_decay if parameter.ndim > 1 else 0.0, self._factor(name)
            key = name if self.device == "cpu" else (decay, factor)
            group = grouped.setdefault(key, {"params": [], "weight_decay": decay, "factor": factor})
            group["params"].append(parameter)
        groups = list(grouped.values())
        if self.recipe.optimizer == "adamw":
            return torch.optim.AdamW(groups, lr=self.recipe.learning_rate)
        return torch.optim.SGD(groups, lr=self.recipe.learning_rate, momentum=0.9, nesterov=True)

    def _factor(self, parameter: str) -> float:
        factors = self.recipe.learning_rate_factors
        return next((factor for part, factor in factors.items() if parameter.startswith(f"{part}.")), 1.0)

    def _free(self) -> None:
        """Ends what an earlier phase froze; a factor of 0 freezes for all phases."""
        for name, parameter in self.network.named_parameters():
            parameter.requires_grad_(self._factor(name) != 0)

    def _run_epoch(self, epoch: int, optimizer: torch.optim.Optimizer) -> dict[str, float]:
        recipe, start = self.recipe, time.perf_counter()
        phase, first = recipe.phase_at(epoch)
        _set_attributes(self.network, phase.set)
        self._free()
        phase.objective.prepare(self.network)
        generator = torch.Generator().manual_seed(recipe.seed * 1000 + epoch)
        # Dropout uses the global generator; it is seeded per epoch, so that a resumed training draws the same.
        torch.manual_seed(recipe.seed * 1000 + 500 + epoch)
        batches = list(self._batches(generator))
        total = 0.0
        for step, index in enumerate(batches):
            _set_learning_rate(optimizer, recipe, (epoch * len(batches) + step) / (recipe.epochs * len(batches)))
            done = (first + step / len(batches)) / phase.epochs
            total += self._step(phase.objective, self._batch(index, generator), done, optimizer)
            if not math.isfinite(total):
                raise ConfigError(
                    f"the loss of batch {step} of epoch {epoch} is not finite: learning_rate {recipe.learning_rate} is "
                    "too high, or rows hold such values; nothing of this epoch is kept"
                )
            self.on_progress(Progress(epoch, step + 1, len(batches), total / (step + 1)))
        seconds = time.perf_counter() - start
        held_out = slice(len(self.rows) - recipe.held_out_rows, None)
        figures = self.figures(self.rows[held_out], self.labels[held_out])
        record = {"epoch": epoch, "loss": total / len(batches), "seconds": seconds}
        record |= {f"held_out_{name}": value for name, value in figures.items()}
        return {key: round(value, 5) for key, value in record.items()}

    def _batches(self, generator: torch.Generator) -> Iterator[np.ndarray]:
        """Indices of the training rows in random order, without the last, smaller batch."""
        size = self.recipe.batch_rows
        order = torch.randperm(len(self.rows) - self.recipe.held_out_rows, generator=generator).numpy()
        for start in range(0, len(order) - size + 1, size):
            yield order[start : start + size]

    def _batch(self, index: np.ndarray, generator: torch.Generator) -> Batch:
        recipe = self.recipe
        images: Any = recipe.input.tensor(self.rows[index], self.device)
        if recipe.flip or recipe.crop_padding:
            images = crop_and_flip(images, recipe.crop_padding, generator, recipe.flip)
        labels = torch.from_numpy(self.labels[index]).to(self.device)
        return Batch(images, labels, self.recipe.label_smoothing)

    def _step(self, objective: Objective, batch: Batch, done: float, optimizer: torch.optim.Optimizer) -> float:
        # Without the cache: a weight first cast under no_grad would get no gradient later in the step.
        enabled = self.recipe.precision == "bfloat16"
        with torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=enabled, cache_enabled=False):
            loss = objective.loss(self.network, batch, done)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())


def _load_part(network: nn.Module, start: Start) -> None:
    try:
        part = network.get_submodule(start.into)
    except AttributeError as error:
        raise ConfigError(f"start_from: {type(network).__name__} has no part {start.into!r}") from error
    if json.loads(read_facts(start.weights).get("folded", "false")):
        fold_norms(part)
    load = grow_from if start.grow else load_weights
    load(start.weights, part, start.without, start.part)


def _set_attributes(network: nn.Module, values: dict[str, Any]) -> None:
    for name, value in values.items():
        if not hasattr(network, name):
            raise ConfigError(f"{type(network).__name__} has no attribute {name!r} to set")
        setattr(network, name, value)


def _set_learning_rate(optimizer: torch.optim.Optimizer, recipe: Recipe, done: float) -> None:
    """Linear warm-up, then linear decay to 0; ``done`` is the share of finished steps, in [0, 1)."""
    rise = done / recipe.warmup_share if recipe.warmup_share else 1.0
    fall = (1.0 - done) / (1.0 - recipe.warmup_share)
    for group in optimizer.param_groups:
        group["lr"] = recipe.learning_rate * group["factor"] * min(rise, fall)
