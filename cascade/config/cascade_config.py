"""The configuration of a whole cascade: a YAML file, checked as a whole."""

from pathlib import Path
from typing import Literal

from pydantic import field_validator, model_validator
from typing_extensions import Self

from cascade.backends.config import CustomConfig, EnsembleConfig, SklearnConfig
from cascade.config.detection_config import DetectionConfig
from cascade.config.fields import ConfigModel, ConfigName
from cascade.config.rows_config import RowsConfig
from cascade.config.serving_config import ServingConfig
from cascade.config.stage_config import StageConfig
from cascade.errors import ConfigError
from cascade.files.yaml_files import load_yaml_model

__all__ = ["CascadeConfig"]


class CascadeConfig(ConfigModel):
    """A whole cascade.

    Attributes:
        schema_version: of this format.
        name: of the application.
        rows: shape and type of a row.
        classes: names of the classes 0 to C - 1, the same for every stage; ``None`` if numbers suffice.
        stages: cheapest first.
        policy: the policy file, relative to the folder of the configuration.
        serving: how the cascade is served.
        detection: how objects are found in images, if the rows are windows of images; ``None`` if they are not.
    """

    schema_version: Literal[1] = 1
    name: ConfigName
    rows: RowsConfig
    classes: tuple[str, ...] | None = None
    stages: tuple[StageConfig, ...]
    policy: Path = Path("policy.json")
    serving: ServingConfig = ServingConfig()
    detection: DetectionConfig | None = None

    def __repr__(self) -> str:
        return f"CascadeConfig({self.name!r}: {' -> '.join(stage.name for stage in self.stages)})"

    @classmethod
    def load(cls, path: Path | str) -> "CascadeConfig":
        """Reads a configuration; relative paths in it are relative to its folder.

        Raises:
            ConfigError: the file cannot be read, or is invalid; the message lists every problem.
        """
        config = load_yaml_model(Path(path), cls, ConfigError)
        return config.model_copy(update={"policy": Path(path).resolve().parent / config.policy})

    @field_validator("stages")
    @classmethod
    def _not_empty(cls, value: tuple[StageConfig, ...]) -> tuple[StageConfig, ...]:
        # Not a min_length, with which pydantic would report an empty tuple for every invalid stage.
        if not value:
            raise ValueError("there must be at least one stage")
        return value

    @field_validator("classes")
    @classmethod
    def _are_different_names(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is not None and (len(value) < 2 or len(set(value)) < len(value)):
            raise ValueError("classes must be two or more different names")
        return value

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [stage.name for stage in self.stages]
        if len(set(names)) < len(names):
            raise ValueError(f"stages must have different names; got {names}")
        for stage in self.stages:
            try:
                stage.router.find_rejected_class(self.classes)
            except ValueError as error:
                raise ValueError(f"stages.{stage.name}.router: {error}") from error
        if self.stages[-1].router.reject is not None:
            raise ValueError(
                f"the last stage, {names[-1]!r}, must not reject: rows that reach it would all be answered as "
                f"{self.stages[-1].router.reject!r}; leave its router's 'reject' out, or add a stage after it"
            )
        segments = self.serving.segments
        if segments is not None and [name for segment in segments for name in segment] != names:
            raise ValueError(f"serving.segments must hold every stage once, in order {names}; got {segments}")
        if segments is not None and not all(segments):
            raise ValueError("serving.segments must not hold an empty segment")
        least = self.serving.least_max_stage
        if least is not None and least not in names:
            raise ValueError(f"serving.least_max_stage must be a stage, one of {names}; got {least!r}")
        return self

    @model_validator(mode="after")
    def _models_take_named_columns(self) -> Self:
        if self.rows.columns is None:
            return self
        for stage in self.stages:
            members = stage.backend.members if isinstance(stage.backend, EnsembleConfig) else (stage.backend,)
            other = [member.type for member in members if not isinstance(member, SklearnConfig | CustomConfig)]
            if other:
                raise ValueError(
                    f"rows with columns are for backends of the types 'sklearn' and 'custom'; stage {stage.name!r} has "
                    f"{other[0]!r}, which takes one array of numbers (rows.shape and rows.dtype)"
                )
        return self

    @model_validator(mode="after")
    def _windows_are_rows(self) -> Self:
        detection, shape = self.detection, self.rows.shape
        if detection is None:
            return self
        if self.rows.dtype != "uint8" or not (len(shape) == 2 or (len(shape) == 3 and shape[2] == 3)):
            raise ValueError(
                "detection needs rows that are windows of images: dtype uint8, shape [height, width] (grey) or "
                f"[height, width, 3] (RGB); got {self.rows.dtype} of shape {list(shape)}"
            )
        if detection.positive is None and self.classes is not None and len(self.classes) > 2:
            raise ValueError(f"detection.positive must name one of the classes {list(self.classes)}")
        if detection.positive is not None and detection.positive not in (self.classes or ()):
            known = "none are named" if self.classes is None else f"one of {list(self.classes)}"
            raise ValueError(f"detection.positive must be a class, {known}; got {detection.positive!r}")
        return self

    @property
    def positive(self) -> int:
        """Class of the objects that are sought."""
        if self.detection is None or self.detection.positive is None or self.classes is None:
            return 1
        return self.classes.index(self.detection.positive)

    @property
    def segments(self) -> tuple[tuple[StageConfig, ...], ...]:
        """The stages, grouped by process."""
        by_name = {stage.name: stage for stage in self.stages}
        names = self.serving.segments
        if names is None:
            ordered = tuple(by_name)
            names = tuple(filter(None, (ordered[:-1], ordered[-1:])))
        return tuple(tuple(by_name[name] for name in segment) for segment in names)
