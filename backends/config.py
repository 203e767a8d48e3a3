"""The configuration of backends; imports no model library."""

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    PrivateAttr,
    ValidationInfo,
    field_validator,
    model_validator,
)
from typing_extensions import Self

from cascade.backends.images import ImageInput, RowInput
from cascade.errors import WeightsError
from cascade.files.yaml_files import text_of_form

__all__ = [
    "MTCNN_SHA256",
    "BackendConfig",
    "CombinationRule",
    "CustomConfig",
    "DynamicConfig",
    "EnsembleConfig",
    "HaarConfig",
    "MtcnnConfig",
    "NetworkConfig",
    "OnnxConfig",
    "OpencvConfig",
    "SklearnConfig",
    "TorchConfig",
]

PACKAGED_CASCADE = re.compile(r"haarcascade_\w+(\.xml)?")
MTCNN_SHA256 = {
    "p": "a2a71925e0b9996a42f63e47efc1ca19043e69558b5c523b978d611dfae49c8f",
    "r": "bbb937de72efc9ef83b186c49f5f558467a1d7e3453a8ece0d71a886633f6a86",
    "o": "165bfbe42940416ccfb977545cf0e976d5bf321f67083ae2aaaa5c764280118d",
}
"""Of the weights of each network, in facenet-pytorch 2.6.0."""


def _existing_file(path: Path, info: ValidationInfo) -> Path:
    folder = (info.context or {}).get("folder", Path())
    whole = Path(folder, path)
    if not whole.is_file():
        raise ValueError(f"file {whole} does not exist; a relative path starts at the folder of the config")
    return whole


ExistingFile = Annotated[Path, AfterValidator(_existing_file)]
ObjectPath = Annotated[
    str, text_of_form(r"[\w.]+:[\w.]+", "module:Class, such as my_models:Nearest"), Field(description="module:name")
]


class _Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    _folder: Path = PrivateAttr(default=Path())

    @model_validator(mode="after")
    def _note_folder(self, info: ValidationInfo) -> Self:
        self._folder = Path((info.context or {}).get("folder", Path()))
        return self

    @property
    def folder(self) -> Path:
        """The folder of the configuration file; the working directory if there is none."""
        return self._folder


class _CodeConfig(_Config):
    """A backend that is built by code named "module:Class".

    Attributes:
        arguments: keyword arguments of the constructor. If an argument is the path of an existing file, relative to
            the folder of the configuration, the content of the file is part of the model's digest.
    """

    arguments: dict[str, Any] = {}


class NetworkConfig(_CodeConfig):
    """A torch network.

    Attributes:
        network: the ``nn.Module``, as "module:Class".
        arguments: keyword arguments of its constructor.
        weights: safetensors file, relative to the folder of the configuration.
        input: conversion of image rows to tensors, or ``slices`` of the rows by name, for a network whose input is a
            dictionary of tensors; ``None`` passes rows on unchanged.
        device: such as "cpu", "cuda", "cuda:1".
        precision: of the computation; "bfloat16" uses autocast.
        fold_norms: whether to fold batch norms into convolutions after loading.
        packed: whether to run convolutions row by row through oneDNN (extra ``onednn``; on a processor, in float32),
            with norms folded; small networks and small batches gain most. "auto": where that is possible; ``None``: so
            for dynamic networks only.
        threads: of the processor, for the whole process; ``None`` uses torch's default.
    """

    network: ObjectPath
    weights: ExistingFile
    input: RowInput | None = None
    device: str = "cpu"
    precision: Literal["float32", "bfloat16"] = "float32"
    fold_norms: bool = False
    packed: bool | Literal["auto"] | None = None
    threads: int | None = Field(default=None, ge=1)


class TorchConfig(NetworkConfig):
    """A torch network with the same computation for every row.

    Attributes:
        output_kind: what it returns; a single column is the logit or the probability of class 1.
    """

    type: Literal["torch"]
    output_kind: Literal["logits", "probabilities"] = "logits"


class DynamicConfig(NetworkConfig):
    """A ``cascade.backends.dynamic.dynamic_network.DynamicNetwork``: every row takes its own path, at its own cost.

    Attributes:
        price: of work, in units of the policy's logits: ``price`` times the relative work of an alternative is taken
            off its logit. A block that may be skipped runs if its probability is at least 1 / (1 + exp(-price)); 0 is
            the network as trained, above 0 is cheaper. Given paths have no price.
        graphs: whether to use CUDA graphs, for networks whose policy decides everything from the image. Off by
            default, since they have not been measured.
    """

    type: Literal["dynamic"]
    price: FiniteFloat = 0.0
    graphs: bool = False


class SklearnConfig(_Config):
    """A scikit-learn classifier with ``predict_proba``.

    Attributes:
        model: skops file, relative to the folder of the configuration.
        trusted: types in the file that may be loaded besides those that skops trusts.
    """

    type: Literal["sklearn"]
    model: ExistingFile
    trusted: list[str] = []


class OnnxConfig(_Config):
    """A network in ONNX format, run by ONNX Runtime (extra ``onnx``).

    Attributes:
        model: ONNX file, relative to the folder of the configuration; one input of rows, logits or probabilities as
            output.
        output: name of the output; the first one by default.
        output_kind: what it holds; a single column is the logit or the probability of class 1.
        input: conversion of image rows to tensors; ``None`` passes rows on unchanged.
        threads: of the processor; 0 uses ONNX Runtime's default.
    """

    type: Literal["onnx"]
    model: ExistingFile
    output: str | None = None
    output_kind: Literal["logits", "probabilities"] = "logits"
    input: ImageInput | None = None
    threads: int = Field(default=0, ge=0)


class HaarConfig(_Config):
    """A boosted cascade of Haar features for windows of images, trained by ``cascade train``.

    Attributes:
        model: safetensors file, relative to the folder of the configuration.
        cost: what a row costs: its "operations", from which ``cascade collect`` derives its time, as for other
            backends; or the number of "features" evaluated, for a cascade of Haar stages only.
    """

    type: Literal["haar"]
    model: ExistingFile
    cost: Literal["operations", "features"] = "operations"


class OpencvConfig(_Config):
    """One of OpenCV's cascades of Haar or LBP features (extra ``vision``); its rows are windows of images.

    Attributes:
        model: XML file, relative to the folder of the configuration; or the name of a file that OpenCV brings along,
            such as "haarcascade_frontalface_default".
    """

    type: Literal["opencv"]
    model: str

    @field_validator("model")
    @classmethod
    def _is_a_file_or_a_name(cls, value: str, info: ValidationInfo) -> str:
        if not PACKAGED_CASCADE.fullmatch(value):
            _existing_file(Path(value), info)
        return value

    @property
    def file(self) -> Path:
        """The XML file.

        Raises:
            WeightsError: OpenCV, which would bring it along, is not installed, or has no such file.
        """
        own = self.folder / self.model
        if own.is_file():
            return own
        package = find_spec("cv2")
        folders = [] if package is None else [Path(place) for place in package.submodule_search_locations or ()]
        for folder in folders:
            if (packaged := folder / "data" / f"{self.model.removesuffix('.xml')}.xml").is_file():
                return packaged
        missing = "OpenCV is not installed (pip install 'idk-cascade[vision]')" if not folders else "OpenCV has none"
        raise WeightsError(f"there is no cascade {self.model!r}: {own} does not exist, and {missing}")


class MtcnnConfig(_Config):
    """A network of MTCNN, for windows of faces; its weights are fetched once into the cache.

    Attributes:
        network: "p", "r" or "o", trained on windows of 12, 24 and 48 pixels; other windows are scaled to them.
        device: such as "cpu", "cuda", "cuda:1".
        threads: of the processor, for the whole process; ``None`` uses torch's default.
    """

    type: Literal["mtcnn"]
    network: Literal["p", "r", "o"]
    device: str = "cpu"
    threads: int | None = Field(default=None, ge=1)


class CustomConfig(_CodeConfig):
    """A user's class with one method ``predict(rows)``.

    It returns (n, C) probabilities, or a ``cascade.Prediction``.

    Attributes:
        object: the class, as "module:Class"; the module may be in the folder of the configuration.
        arguments: keyword arguments of its constructor.
        files: files that the class opens itself, relative to the folder of the configuration; their content is part of
            the model's digest.
    """

    type: Literal["custom"]
    object: ObjectPath
    files: tuple[ExistingFile, ...] = ()


MemberConfig = Annotated[
    TorchConfig | DynamicConfig | SklearnConfig | OnnxConfig | HaarConfig | OpencvConfig | MtcnnConfig | CustomConfig,
    Field(discriminator="type"),
]

CombinationRule = Literal["votes", "mean"]


class EnsembleConfig(_Config):
    """Several models as one stage.

    Attributes:
        members: their configurations; ensembles do not nest.
        rule: "votes" answers with the majority, and the confidence is its share; "mean" averages class probabilities.
    """

    type: Literal["ensemble"]
    members: list[MemberConfig] = Field(min_length=2)
    rule: CombinationRule = "votes"


BackendConfig = Annotated[
    TorchConfig
    | DynamicConfig
    | SklearnConfig
    | OnnxConfig
    | HaarConfig
    | OpencvConfig
    | MtcnnConfig
    | CustomConfig
    | EnsembleConfig,
    Field(discriminator="type"),
]
