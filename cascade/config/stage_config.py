"""The configuration of a stage: its backend and its router."""

from typing import Any, Literal

from pydantic import model_validator
from typing_extensions import Self

from cascade.backends.config import BackendConfig
from cascade.config.fields import ConfigModel, ConfigName

__all__ = ["RouterConfig", "StageConfig"]


class RouterConfig(ConfigModel):
    """The router of a stage, before it is fitted.

    Attributes:
        score: computes a confidence from the class probabilities.
        calibrator: calibrates the confidence; fitted by ``cascade calibrate``.
        head: a learned rule that replaces the score, fitted by ``cascade calibrate``. Its confidence is used as is,
            unless the calibrator is "platt" or "isotonic".
    """

    score: Literal["maximum_probability", "margin", "negative_entropy"] = "maximum_probability"
    calibrator: Literal["identity", "temperature", "platt", "isotonic"] = "temperature"
    head: Literal["agreement", "cost_aware", "cost_oblivious", "deferral", "deferral_network"] | None = None

    @model_validator(mode="after")
    def _temperature_needs_probabilities(self) -> Self:
        if self.head and self.calibrator == "temperature" and "calibrator" in self.model_fields_set:
            raise ValueError(
                f"a temperature is applied to class probabilities, and the head {self.head!r} returns none; "
                "use identity, platt or isotonic"
            )
        return self

    @property
    def choice(self) -> tuple[str, str]:
        """Name of the score or head, and name of the calibrator."""
        if self.head is None:
            return self.score, self.calibrator
        return self.head, "identity" if self.calibrator == "temperature" else self.calibrator


class StageConfig(ConfigModel):
    """A model and its router.

    Attributes:
        name: 1 to 40 letters, digits, "_" and "-".
        backend: the model.
        router: its IDK rule.
        deployment: Ray Serve's own keys for a deployment, passed on unchanged for the segment that starts here.
    """

    name: ConfigName
    backend: BackendConfig
    router: RouterConfig = RouterConfig()
    deployment: dict[str, Any] = {}
