"""From a backend's configuration to the backend."""

from collections.abc import Sequence

from cascade.backends.backend import Backend
from cascade.backends.config import (
    BackendConfig,
    CustomConfig,
    DynamicConfig,
    EnsembleConfig,
    HaarConfig,
    MtcnnConfig,
    OnnxConfig,
    OpencvConfig,
    SklearnConfig,
)

__all__ = ["load_backend"]


def load_backend(config: BackendConfig, classes: Sequence[str] | None = None) -> Backend:
    """Loads a model; libraries are imported only for the kinds of backends that need them.

    Args:
        config: of the backend.
        classes: names of the cascade's classes, to which a model's own classes are mapped; ``None`` if there are none.

    Raises:
        ConfigError: the configuration does not fit the code that it names, or an extra is not installed.
        WeightsError: a file is missing or damaged, or does not fit.
    """
    if isinstance(config, SklearnConfig):
        from cascade.backends.sklearn_backend import SklearnBackend

        return SklearnBackend.load(config, classes)
    if isinstance(config, OnnxConfig):
        from cascade.backends.onnx_backend import OnnxBackend

        return OnnxBackend(config)
    if isinstance(config, HaarConfig):
        from cascade.backends.detection.haar.backend import HaarBackend

        return HaarBackend(config, classes)
    if isinstance(config, OpencvConfig):
        from cascade.backends.detection.opencv_cascade import OpencvCascade

        return OpencvCascade(config)
    if isinstance(config, MtcnnConfig):
        from cascade.backends.detection.mtcnn import MtcnnBackend
        from cascade.backends.detection.proposal_backend import ProposalBackend

        return ProposalBackend(config) if config.network == "p" else MtcnnBackend(config)
    if isinstance(config, CustomConfig):
        from cascade.backends.custom_backend import CustomBackend

        return CustomBackend(config)
    if isinstance(config, EnsembleConfig):
        from cascade.backends.ensemble_backend import EnsembleBackend

        members = [load_backend(member, classes) for member in config.members]
        return EnsembleBackend(members, config.rule, None if classes is None else len(classes))
    if isinstance(config, DynamicConfig):
        from cascade.backends.dynamic_backend import DynamicBackend

        return DynamicBackend(config)
    from cascade.backends.torch_backend import TorchBackend

    return TorchBackend(config)
