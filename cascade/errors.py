"""Every exception of the project.

CascadeError                 exit code 1
├── InputError               3: what came in cannot be used
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

All of them cross process borders, so their constructors take positional arguments only.
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
    """What came in cannot be used; the message says what, where and what to do."""

    exit_code = 3


class ConfigError(InputError):
    """The configuration is wrong."""


class PolicyError(InputError):
    """A policy cannot be read, or does not fit the cascade."""


class ScoreTableError(InputError):
    """A score table cannot be read or contradicts itself."""


class DataError(InputError):
    """A data set cannot be had or is damaged."""


class WeightsError(InputError):
    """A weights or model file is missing, damaged, or does not fit."""


class RowsError(InputError):
    """Rows that a cascade cannot take."""


class InfeasibleTarget(CascadeError):
    """No operating point reaches the target.

    Args:
        message: what was asked, and what can be had.
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
    """The model of a stage failed, or broke the stage contract: never the fault of who sent the rows.

    Args:
        stage: name of the stage.
        problem: what came, and what to do.
    """

    exit_code = 7

    def __init__(self, stage: str, problem: str) -> None:
        super().__init__(stage, problem)
        self.stage = stage
        self.problem = problem

    def __str__(self) -> str:
        return f"stage {self.stage!r}: {self.problem}"
