"""A cascade in one process."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from cascade.backends.config import BackendConfig
from cascade.backends.digest import model_digest
from cascade.backends.loading import load_backend
from cascade.calibration import Identity, Policy, PolicySet, ScoreTable
from cascade.config import CascadeConfig, RowsConfig, StageConfig
from cascade.engine import Answers, Segment
from cascade.errors import CascadeError, ConfigError, InputError, PolicyError, ScoreTableError
from cascade.routers import Router
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
        policy: of the same stages.
        rows: what a row is; without it rows are not checked.

    Raises:
        PolicyError: the policy is of other stages.

    Example:
        >>> from cascade.backends.fake_backend import FakeBackend
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

    @classmethod
    def load(cls, config_path: Path | str, policy_path: Path | str | None = None) -> "Cascade":
        """Loads a cascade from its configuration and policy.

        Args:
            config_path: YAML file.
            policy_path: JSON file; by default the one that the configuration names. Of a policy set, the best gear
                is taken.

        Raises:
            ConfigError, WeightsError, PolicyError: a file cannot be used.
        """
        config = CascadeConfig.load(config_path)
        policy = check_models(PolicySet.load(policy_path or config.policy).best, config.stages)
        stages = load_stages(config.stages, Path(config_path).resolve().parent, config.classes)
        return cls(stages, policy, config.rows)

    def predict(self, rows: np.ndarray) -> Answers:
        """Answers a batch.

        Args:
            rows: (n, ...).

        Raises:
            RowsError: the rows are not what the configuration says, or a model refuses them.
            StageError: a model failed, or broke the stage contract.
        """
        checked = rows if self.rows is None else check_rows(rows, self.rows)
        return self._segment.run(np.ascontiguousarray(checked), self.policy).with_abstentions(self.policy)


def last_stage_alone(cascade: Cascade) -> Cascade:
    """The last stage of a cascade as one of its own, which answers every row at its best batch size."""
    return Cascade(cascade.stages[-1:], last_stage_policy(cascade.policy), cascade.rows)


def last_stage_policy(policy: Policy) -> Policy:
    """The policy of the last stage alone."""
    answering = replace(policy, abstain_below=0.0)
    if policy.needs_evidence:
        answering = replace(answering, routers=(*policy.routers[:-1], Router(None, Identity())))
    return answering.select([len(policy.stages) - 1])


def check_policy(policy: Policy, stages: Sequence[str]) -> Policy:
    """Makes sure that a policy is of the stages of a cascade.

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
    """Makes sure that a policy is of the stages of a configuration, and was calibrated with their models.

    Args:
        policy: to be checked.
        configs: the stages.
        digest: of a backend; asked only for stages whose digest the policy knows.

    Raises:
        PolicyError: names or order differ, or the digest of a model does.
    """
    check_policy(policy, [config.name for config in configs])
    recorded = policy.certificate.get("model_sha256")
    models = recorded if isinstance(recorded, Mapping) else {}
    changed = [
        config.name for config in configs if config.name in models and models[config.name] != digest(config.backend)
    ]
    if changed:
        raise PolicyError(
            f"the policy was calibrated with other models of the stages {changed} (their SHA-256 differs), so it "
            "promises nothing here; collect and calibrate again"
        )
    return policy


def load_stages(
    configs: Sequence[StageConfig], folder: Path | None = None, classes: Sequence[str] | None = None
) -> list[Stage]:
    """Loads the models of stages.

    Args:
        configs: the stages.
        folder: put first on the Python path: a user's module beside the config goes before others of its name, such as
            those of another cascade of the same cluster.
        classes: names of the answers 0 to C - 1, the same for all stages; ``None`` where the config has none.

    Raises:
        CascadeError: a model cannot be loaded; the text names its stage. What the user's own code raises is a
            ``ConfigError``.
    """
    if folder is not None:
        sys.path[:] = [str(folder), *(path for path in sys.path if path != str(folder))]
    return [_load_stage(config, classes) for config in configs]


def _load_stage(config: StageConfig, classes: Sequence[str] | None) -> Stage:
    count = None if classes is None else len(classes)
    try:
        backend = load_backend(config.backend, classes)
        return Stage(config.name, backend, config.router.score, model_digest(config.backend), count)
    except InputError as error:
        raise type(error)(f"stage {config.name!r} cannot load: {error}") from error
    except CascadeError:
        raise
    except (Exception, SystemExit) as error:  # a model may raise anything
        raise ConfigError(f"stage {config.name!r} cannot load: {type(error).__name__}: {error}") from error


def check_table(table: ScoreTable, config: CascadeConfig) -> list[tuple[str, str]]:
    """Makes sure that a score table is of the stages of a configuration.

    Returns:
        (score or head, calibrator) of each stage: what ``calibrate`` takes as ``routers``. Without class
        probabilities in the table a temperature cannot be fitted, and Platt's curve stands in for it.

    Raises:
        ScoreTableError: names or order differ, of stages or of classes, or the digest of a model does.
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
    fallback = {"temperature": "platt"} if table.scores is None else {}
    choices = [stage.router.choice for stage in config.stages]
    return [(name, fallback.get(calibrator, calibrator)) for name, calibrator in choices]
