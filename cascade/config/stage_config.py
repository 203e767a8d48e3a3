"""The configuration of a stage: its backend and its router."""

from typing import Any, Literal

from pydantic import PrivateAttr, model_validator
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
        reject: name of a class. The stage then only rejects: it answers every row that it accepts as this class, and
            its confidence is the probability of this class. Not for the last stage.
    """

    score: Literal["maximum_probability", "margin", "negative_entropy"] = "maximum_probability"
    calibrator: Literal["identity", "temperature", "platt", "isotonic"] = "temperature"
    head: Literal["agreement", "cost_aware", "cost_oblivious", "deferral", "deferral_network"] | None = None
    reject: str | None = None
    _rejected: int | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _temperature_needs_probabilities(self) -> Self:
        if self.head and self.calibrator == "temperature" and "calibrator" in self.model_fields_set:
            raise ValueError(
                f"a temperature is applied to class probabilities, and the head {self.head!r} returns none; "
                "use identity, platt or isotonic"
            )
        return self

    @model_validator(mode="after")
    def _rejects_by_the_probability_of_a_class(self) -> Self:
        if self.reject is not None and (self.head or "score" in self.model_fields_set):
            raise ValueError(
                "a router that rejects has the probability of the rejected class as its confidence; leave out "
                f"{'head' if self.head else 'score'}, or reject"
            )
        return self

    @property
    def rejected_class(self) -> int | None:
        """Number of the class ``reject``; ``None`` for a stage that does not reject."""
        return self._rejected

    def find_rejected_class(self, classes: tuple[str, ...] | None) -> None:
        """Looks up the class ``reject`` among the names of all classes.

        Raises:
            ValueError: it is not one of them.
        """
        if self.reject is None:
            return
        if classes is None or self.reject not in classes:
            names = "the config has no 'classes'" if classes is None else f"the classes are {list(classes)}"
            raise ValueError(f"reject must be the name of a class; got {self.reject!r}, and {names}")
        self._rejected = classes.index(self.reject)

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
