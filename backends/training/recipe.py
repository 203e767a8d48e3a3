"""A training recipe: all settings of ``cascade train``, in one YAML file."""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator
from typing_extensions import Self

from cascade.backends.files.weights import StoredPrecision
from cascade.backends.images import RowInput, RowSlices
from cascade.backends.training.objectives import AnyObjective, CrossEntropy

__all__ = ["Phase", "Recipe", "Start"]


class Start(BaseModel):
    """Initial weights of a part of a network.

    Attributes:
        weights: file of an earlier training, relative to the folder of the recipe. If its batch norms were folded,
            those of the part are folded as well.
        part: dotted name of the part of the file's network to load; empty for all of it.
        into: dotted name of the part that gets the weights ("base", "policy.network"); empty for the whole network.
        without: layers of the part that keep their random initialisation ("head").
        grow: whether the file is of a shallower ``CifarResNet``, see ``cascade.backends.training.growth``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    weights: Path
    part: str = ""
    into: str = ""
    without: tuple[str, ...] = ()
    grow: bool = False

    @field_validator("weights")
    @classmethod
    def _from_the_folder(cls, value: Path, info: ValidationInfo) -> Path:
        return Path((info.context or {}).get("folder", Path()), value)


class Phase(BaseModel):
    """Consecutive epochs with the same settings of the network.

    Attributes:
        epochs: passes over the training rows.
        set: attributes of the network to set for the phase, such as ``resolution``.
        objective: the loss to minimise, see ``cascade.backends.training.objectives``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: int = Field(ge=1)
    set: dict[str, Any] = {}
    objective: AnyObjective = CrossEntropy()


class Recipe(BaseModel):
    """Network, data, phases and optimizer of a training.

    The learning rate rises linearly over ``warmup_share`` of all steps and then falls linearly to 0.

    Attributes:
        network: the ``nn.Module``, as "module:Class".
        arguments: keyword arguments of its constructor.
        input: conversion of rows to tensors.
        dataset: name of the data set (``cascade data``), or a file (.npz) of arrays "rows" and "label", relative to
            the folder of the recipe.
        test_dataset: such a file of test rows; without one, a ``dataset`` of one's own is only judged on the held-out
            rows.
        held_out_rows: number of rows, the last of the training set, that are only used for validation.
        initial_weights: published weights to start from (a name of ``cascade.backends.files.pretrained``).
        start_from: weights of earlier trainings, loaded in this order; a plain path is for the whole network.
        start_share: share of the initial weights in the result, in [0, 1): final and initial weights are averaged
            (Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022).
        fold_norms: whether to fold the batch norms into the convolutions before training, for the fine-tuning of a
            pretrained network: nearly twice as fast, and without batch statistics.
        phases: epochs and network settings, in order.
        final: attributes of the network to set after the training.
        batch_rows: rows per step.
        optimizer: "sgd" (Nesterov momentum 0.9) or "adamw".
        learning_rate: the peak.
        learning_rate_factors: factors for the parameters of a part, by its dotted name ("policy"); 1 elsewhere. 0
            freezes a part: no gradient is computed for it. Its batch norms still follow the rows, unless folded.
        weight_decay: applied to weights of two and more axes only.
        warmup_share: share of the steps, in [0, 1).
        label_smoothing: in [0, 1).
        crop_padding: pixels of reflected border from which a random crop is taken.
        flip: whether half of the images are flipped.
        precision: of the forward and backward pass.
        stored_precision: of the weights on disk, see ``save_weights``.
        seed: of initial weights, order, crops and flips.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    network: str
    arguments: dict[str, Any] = {}
    input: RowInput
    dataset: str = "cifar10"
    test_dataset: Path | None = None
    held_out_rows: int = Field(default=2000, ge=0)
    initial_weights: str | None = None
    start_from: tuple[Start, ...] = ()
    start_share: float = Field(default=0.0, ge=0, lt=1)
    fold_norms: bool = False
    phases: list[Phase] = Field(min_length=1)
    final: dict[str, Any] = {}
    batch_rows: int = Field(default=128, ge=1)
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = Field(gt=0)
    learning_rate_factors: dict[str, float] = {}
    weight_decay: float = Field(default=5e-4, ge=0)
    warmup_share: float = Field(default=0.2, ge=0, lt=1)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    crop_padding: int = Field(default=4, ge=0)
    flip: bool = True
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    stored_precision: StoredPrecision = "float32"
    seed: int = 0

    @field_validator("start_from", mode="before")
    @classmethod
    def _a_path_is_for_the_whole(cls, value: Any) -> Any:
        return ({"weights": value},) if isinstance(value, (str, Path)) else value

    @field_validator("dataset")
    @classmethod
    def _a_file_is_from_the_folder(cls, value: str, info: ValidationInfo) -> str:
        return str(Path((info.context or {}).get("folder", Path()), value)) if value.endswith(".npz") else value

    @field_validator("test_dataset")
    @classmethod
    def _a_test_file_too(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        return value and Path((info.context or {}).get("folder", Path()), value)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if isinstance(self.input, RowSlices) and (self.flip or self.crop_padding):
            raise ValueError("slices of rows are not cropped and flipped: set crop_padding: 0 and flip: false")
        if self.test_dataset and not self.dataset.endswith(".npz"):
            raise ValueError(f"test_dataset is for a file of one's own; {self.dataset} has its own test rows")
        return self

    @property
    def epochs(self) -> int:
        """Passes over the training rows, all phases together."""
        return sum(phase.epochs for phase in self.phases)

    def phase_at(self, epoch: int) -> tuple[Phase, int]:
        """The phase of an epoch (from 0), and the epoch's number (from 0) in the phase."""
        for phase in self.phases:
            if epoch < phase.epochs:
                return phase, epoch
            epoch -= phase.epochs
        raise IndexError("epoch is after the last phase")
