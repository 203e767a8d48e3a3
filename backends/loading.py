"""From a backend's description to the backend."""

from cascade.backends.backend import Backend
from cascade.backends.config import (
    BackendConfig,
    CustomConfig,
    DynamicConfig,
    EnsembleConfig,
    OnnxConfig,
    SklearnConfig,
)

__all__ = ["load_backend"]


def load_backend(config: BackendConfig) -> Backend:
    """Loads a model; what a kind needs is imported only when it is asked for.

    Raises:
        ConfigError: the description does not fit the code it names, or an extra is not installed.
        WeightsError: a file is missing, damaged or does not fit.
    """
    if isinstance(config, SklearnConfig):
        from cascade.backends.sklearn_backend import SklearnBackend

        return SklearnBackend(config)
    if isinstance(config, OnnxConfig):
        from cascade.backends.onnx_backend import OnnxBackend

        return OnnxBackend(config)
    if isinstance(config, CustomConfig):
        from cascade.backends.custom_backend import CustomBackend

        return CustomBackend(config)
    if isinstance(config, EnsembleConfig):
        from cascade.backends.ensemble_backend import EnsembleBackend

        return EnsembleBackend([load_backend(member) for member in config.members], config.rule)
    if isinstance(config, DynamicConfig):
        from cascade.backends.dynamic_backend import DynamicBackend

        return DynamicBackend(config)
    from cascade.backends.torch_backend import TorchBackend

    return TorchBackend(config)
