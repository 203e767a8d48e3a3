"""Every exception of the project.

CascadeError                 exit code 1
├── InputError               3: an input cannot be used
│   ├── ConfigError          the configuration
│   ├── PolicyError          a policy file, or one that does not fit the cascade
│   ├── ScoreTableError      a score table
│   ├── DataError            a data set
│   ├── WeightsError         a weights or model file
│   └── RowsError            rows sent to a cascade
├── InfeasibleTarget         4: no operating point reaches the target
├── CheckFailed              5: a check did not pass
├── ObjectiveMissed          6: a benchmark missed its objective
└── StageError               7: the model of a stage failed, or broke the stage contract

All of them must survive pickling, since they cross processes: constructors take positional arguments only.
"""

__all__ = [
    "CascadeError",
    "CheckFailed",
    "ConfigError",
    "DataError",
    "InfeasibleTarget",
    "InputError",
    "ObjectiveMissed",
    "PolicyError",
    "RowsError",
    "ScoreTableError",
    "StageError",
    "WeightsError",
]


class CascadeError(Exception):
    """Root of all errors raised on purpose.

    Attributes:
        exit_code: of the command line.
    """

    exit_code = 1


class InputError(CascadeError):
    """An input cannot be used; the message names the problem, its place and the remedy."""

    exit_code = 3


class ConfigError(InputError):
    """The configuration is wrong."""


class PolicyError(InputError):
    """A policy cannot be read, or does not fit the cascade."""


class ScoreTableError(InputError):
    """A score table cannot be read, or contradicts itself."""


class DataError(InputError):
    """A data set cannot be fetched, or is damaged."""


class WeightsError(InputError):
    """A weights or model file is missing, damaged, or does not fit."""


class RowsError(InputError):
    """Rows are not those that the cascade expects, or a model refuses them."""


class InfeasibleTarget(CascadeError):
    """No operating point reaches the target.

    Args:
        message: the target, and the nearest one that can be reached.
        nearest: the nearest value of the target that can be reached; ``None`` if there is none.
    """

    exit_code = 4

    def __init__(self, message: str, nearest: float | None = None) -> None:
        super().__init__(message, nearest)
        self.message = message
        self.nearest = nearest

    def __str__(self) -> str:
        return self.message


class CheckFailed(CascadeError):
    """A check did not pass."""

    exit_code = 5


class ObjectiveMissed(CascadeError):
    """A benchmark missed its objective."""

    exit_code = 6


class StageError(CascadeError):
    """The model of a stage failed, or broke the stage contract; never caused by the caller's rows.

    Args:
        stage: name of the stage.
        problem: what the model did, and the remedy.
    """

    exit_code = 7

    def __init__(self, stage: str, problem: str) -> None:
        super().__init__(stage, problem)
        self.stage = stage
        self.problem = problem

    def __str__(self) -> str:
        return f"stage {self.stage!r}: {self.problem}"
