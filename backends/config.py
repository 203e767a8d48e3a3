"""How a backend is described in a configuration; nothing heavy is imported here."""

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
    model_validator,
)
from typing_extensions import Self

from cascade.backends.images import ImageInput
from cascade.files.yaml_files import text_of_form

__all__ = [
    "BackendConfig",
    "CombinationRule",
    "CustomConfig",
    "DynamicConfig",
    "EnsembleConfig",
    "NetworkConfig",
    "OnnxConfig",
    "SklearnConfig",
    "TorchConfig",
]


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
        """Of the configuration; the working directory where there is none."""
        return self._folder


class _CodeConfig(_Config):
    """Something that a "module:Class" is built from.

    Attributes:
        arguments: keyword arguments of the constructor. Those that name existing files, from the folder of the config,
            count for the model's digest with the content of the files.
    """

    arguments: dict[str, Any] = {}


class NetworkConfig(_CodeConfig):
    """A torch network, whatever it is for.

    Attributes:
        network: the ``nn.Module``, as "module:Class".
        arguments: keyword arguments of its constructor.
        weights: safetensors file, from the folder of the config.
        input: how rows of images become tensors; ``None`` passes rows on as they are.
        device: such as "cpu", "cuda", "cuda:1".
        precision: of the computation; "bfloat16" by autocast.
        fold_norms: fold batch norms into convolutions after loading.
        packed: run convolutions row by row through oneDNN (extra ``onednn``; on a processor, in float32), with norms
            folded: small networks and small batches gain most. ``None``: dynamic networks, where it can be done.
        threads: of the processor, for the whole process; ``None`` leaves torch's choice.
    """

    network: ObjectPath
    weights: ExistingFile
    input: ImageInput | None = None
    device: str = "cpu"
    precision: Literal["float32", "bfloat16"] = "float32"
    fold_norms: bool = False
    packed: bool | None = None
    threads: int | None = Field(default=None, ge=1)


class TorchConfig(NetworkConfig):
    """A torch network that does the same for every row.

    Attributes:
        output_kind: what it returns; one column is the logit or the probability of class 1.
    """

    type: Literal["torch"]
    output_kind: Literal["logits", "probabilities"] = "logits"


class DynamicConfig(NetworkConfig):
    """A ``cascade.backends.dynamic.dynamic_network.DynamicNetwork``: every row takes its own path, at its own cost.

    Attributes:
        price: what running a block must be worth to a row, in units of the policy's logits. A block runs where the
            probability of running it is at least 1 / (1 + exp(-price)); 0 is the network as it was trained, above 0
            is cheaper.
        graphs: run by CUDA graphs, for networks whose policy decides everything from the image. Off by default: no
            graphics processor was at hand to measure them on.
    """

    type: Literal["dynamic"]
    price: FiniteFloat = 0.0
    graphs: bool = False


class SklearnConfig(_Config):
    """A scikit-learn classifier with ``predict_proba``.

    Attributes:
        model: skops file, from the folder of the config.
        trusted: types in the file, besides scikit-learn's own, that may be loaded.
    """

    type: Literal["sklearn"]
    model: ExistingFile
    trusted: list[str] = []


class OnnxConfig(_Config):
    """A network in ONNX format, run by ONNX Runtime (extra ``onnx``).

    Attributes:
        model: ONNX file, from the folder of the config; one input of rows, logits or probabilities as output.
        output: name of the output; the first one by default.
        output_kind: what it holds; one column is the logit or the probability of class 1.
        input: how rows of images become tensors; ``None`` passes rows on as they are.
        threads: of the processor; 0 leaves ONNX Runtime's choice.
    """

    type: Literal["onnx"]
    model: ExistingFile
    output: str | None = None
    output_kind: Literal["logits", "probabilities"] = "logits"
    input: ImageInput | None = None
    threads: int = Field(default=0, ge=0)


class CustomConfig(_CodeConfig):
    """A class of the user's own, with one method ``predict(rows)``.

    It returns (n, C) probabilities, or a ``cascade.prediction.Prediction``.

    Attributes:
        object: the class, as "module:Class"; the module may lie beside the config.
        arguments: keyword arguments of its constructor.
        files: that the class opens by itself, from the folder of the config: they count for the model's digest.
    """

    type: Literal["custom"]
    object: ObjectPath
    files: tuple[ExistingFile, ...] = ()


MemberConfig = Annotated[
    TorchConfig | DynamicConfig | SklearnConfig | OnnxConfig | CustomConfig, Field(discriminator="type")
]

CombinationRule = Literal["votes", "mean"]


class EnsembleConfig(_Config):
    """Several models as one.

    Attributes:
        members: their descriptions; ensembles do not nest.
        rule: "votes" answers with the majority, sure by the share that agrees; "mean" averages class probabilities.
    """

    type: Literal["ensemble"]
    members: list[MemberConfig] = Field(min_length=2)
    rule: CombinationRule = "votes"


BackendConfig = Annotated[
    TorchConfig | DynamicConfig | SklearnConfig | OnnxConfig | CustomConfig | EnsembleConfig,
    Field(discriminator="type"),
]
