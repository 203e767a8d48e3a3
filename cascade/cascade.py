"""A cascade in one process."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cascade.answers import Answers
from cascade.backends.config import BackendConfig
from cascade.backends.digest import model_digest
from cascade.backends.loading import load_backend
from cascade.calibration import Identity, Policy, PolicySet, ScoreTable
from cascade.config import CascadeConfig, RowsConfig, StageConfig
from cascade.engine import Segment
from cascade.errors import CascadeError, ConfigError, InputError, PolicyError, ScoreTableError
from cascade.routers import Router, class_score, rejected_class
from cascade.rows.checks import check_rows
from cascade.stage import Stage

__all__ = [
    "Cascade",
    "check_models",
    "check_policy",
    "check_table",
    "last_stage_alone",
    "last_stage_policy",
    "load_stages",
]


class Cascade:
    """Ordered stages and the policy that routes rows through them.

    Args:
        stages: cheapest first.
        policy: for the same stages.
        rows: shape and type of a row; ``None`` skips the check of rows.

    Raises:
        PolicyError: the policy is for other stages.

    Example:
        >>> import numpy as np
        >>> from cascade import Cascade, FakeBackend, Policy, Stage
        >>> small = Stage("small", FakeBackend([[0.9, 0.1], [0.5, 0.5]]))
        >>> big = Stage("big", FakeBackend([[0.8, 0.2], [0.1, 0.9]]))
        >>> cascade = Cascade([small, big], Policy.from_thresholds(("small", "big"), np.array([0.8])))
        >>> cascade.predict(np.array([[0], [1]])).stage
        array([0, 1])
    """

    def __init__(self, stages: Sequence[Stage], policy: Policy, rows: RowsConfig | None = None) -> None:
        self.stages = tuple(stages)
        self.policy = check_policy(policy, [stage.name for stage in self.stages])
        self.rows = rows
        self._segment = Segment(self.stages)

    def __repr__(self) -> str:
        return f"Cascade({' -> '.join(stage.name for stage in self.stages)}; policy {self.policy.version})"

    @classmethod
    def load(cls, config_path: Path | str, policy_path: Path | str | None = None) -> "Cascade":
        """Loads a cascade from its configuration and policy.

        Args:
            config_path: YAML file.
            policy_path: JSON file; by default the configuration's. Of a policy set, the best gear is used.

        Raises:
            ConfigError, WeightsError, PolicyError: a file cannot be used.
        """
        config = CascadeConfig.load(config_path)
        policy = check_models(PolicySet.load(policy_path or config.policy).best, config.stages)
        stages = load_stages(config.stages, Path(config_path).resolve().parent, config.classes)
        return cls(stages, policy, config.rows)

    def predict(self, rows: Any) -> Answers:
        """Answers a batch.

        Args:
            rows: (n, ...); for named columns a data frame, an Arrow table or n mappings.

        Raises:
            RowsError: the rows do not have the configured shape or type, or a model refuses them.
            StageError: a model failed, or broke the stage contract.
        """
        checked = rows if self.rows is None else check_rows(rows, self.rows)
        return self._segment.run(np.ascontiguousarray(checked), self.policy).with_abstentions(self.policy)


def last_stage_alone(cascade: Cascade) -> Cascade:
    """A cascade of the last stage only; it answers every row, in calls of the size that its cost curve favours."""
    return Cascade(cascade.stages[-1:], last_stage_policy(cascade.policy), cascade.rows)


def last_stage_policy(policy: Policy) -> Policy:
    """The policy of the last stage alone."""
    answering = replace(policy, abstain_below=0.0)
    if policy.needs_evidence:
        answering = replace(answering, routers=(*policy.routers[:-1], Router(None, Identity())))
    return answering.select([len(policy.stages) - 1])


def check_policy(policy: Policy, stages: Sequence[str]) -> Policy:
    """Checks that a policy is for the stages of a cascade, and returns it.

    Raises:
        PolicyError: names or order differ.
    """
    if list(policy.stages) != list(stages):
        raise PolicyError(
            f"the policy is for the stages {list(policy.stages)}, the config has {list(stages)}; calibrate again"
        )
    return policy


def check_models(
    policy: Policy, configs: Sequence[StageConfig], digest: Callable[[BackendConfig], str] = model_digest
) -> Policy:
    """Checks that a policy is for the stages of a configuration and was calibrated with their models; returns it.

    Args:
        policy: the policy.
        configs: the stages.
        digest: computes the digest of a backend; called only for stages whose digest is in the policy.

    Raises:
        PolicyError: names, order, the class that a stage rejects as, or the digest of a model differ.
    """
    check_policy(policy, [config.name for config in configs])
    for config, router in zip(configs, policy.routers, strict=True):
        if router.score is not None and rejected_class(router.score) != config.router.rejected_class:
            raise PolicyError(
                f"the policy has the score {router.score!r} for stage {config.name!r}, and the config "
                f"{'rejects nothing' if config.router.reject is None else f'rejects as {config.router.reject!r}'} "
                "there; collect and calibrate again"
            )
    recorded = policy.certificate.get("model_sha256")
    models = recorded if isinstance(recorded, Mapping) else {}
    changed = [
        config.name for config in configs if config.name in models and models[config.name] != digest(config.backend)
    ]
    if changed:
        raise PolicyError(
            f"the policy was calibrated with other models of the stages {changed} (their SHA-256 differs), so its "
            "guarantee does not hold for them; collect and calibrate again"
        )
    return policy


def load_stages(
    configs: Sequence[StageConfig], folder: Path | None = None, classes: Sequence[str] | None = None
) -> list[Stage]:
    """Loads the models of stages.

    Args:
        configs: the stages.
        folder: put first on the Python path, so that a user's module beside the configuration is found before others
            of its name, such as those of another cascade on the same cluster.
        classes: names of the classes 0 to C - 1, the same for all stages; ``None`` if the configuration has none.

    Raises:
        CascadeError: a model cannot be loaded; the message names its stage. Exceptions of the user's own code become
            a ``ConfigError``.
    """
    if folder is not None:
        sys.path[:] = [str(folder), *(path for path in sys.path if path != str(folder))]
    return [_load_stage(config, classes) for config in configs]


def _load_stage(config: StageConfig, classes: Sequence[str] | None) -> Stage:
    count = None if classes is None else len(classes)
    try:
        backend = load_backend(config.backend, classes)
        router, model = config.router, model_digest(config.backend)
        return Stage(config.name, backend, router.score, model, count, router.rejected_class)
    except InputError as error:
        raise type(error)(f"stage {config.name!r} cannot load: {error}") from error
    except CascadeError:
        raise
    except (Exception, SystemExit) as error:  # a model may raise anything
        raise ConfigError(f"stage {config.name!r} cannot load: {type(error).__name__}: {error}") from error


def check_table(table: ScoreTable, config: CascadeConfig) -> list[tuple[str, str]]:
    """Checks that a score table is of the stages of a configuration.

    Returns:
        (score or head, calibrator) of each stage, for the argument ``routers`` of ``calibrate``. A temperature needs
        class probabilities; if the table has none, Platt scaling replaces it.

    Raises:
        ScoreTableError: names or order of stages or classes, or the digest of a model, differ.
    """
    names = [stage.name for stage in config.stages]
    if table.stage.tolist() != names:
        raise ScoreTableError(f"the score table is of the stages {table.stage.tolist()}, the config has {names}")
    classes = None if table.classes is None else tuple(table.classes.tolist())
    if None not in (classes, config.classes) and classes != config.classes:
        raise ScoreTableError(f"the score table is of the classes {classes}, the config has {config.classes}")
    models = [] if table.model is None else table.model.tolist()
    changed = [s.name for s, model in zip(config.stages, models, strict=False) if model != model_digest(s.backend)]
    if changed:
        raise ScoreTableError(f"the score table was collected from other models of the stages {changed}; collect again")
    for k, stage in enumerate(config.stages):
        if stage.router.rejected_class is not None and (table.prediction[:, k] != stage.router.rejected_class).any():
            raise ScoreTableError(
                f"stage {stage.name!r} rejects as {stage.router.reject!r} in the config, but not in the score table, "
                "where it also has other answers; collect again"
            )
    fallback = {"temperature": "platt"} if table.scores is None else {}
    choices = []
    for stage in config.stages:
        (name, calibrator), rejected = stage.router.choice, stage.router.rejected_class
        name = name if rejected is None else class_score(rejected)
        choices.append((name, fallback.get(calibrator, calibrator)))
    return choices
