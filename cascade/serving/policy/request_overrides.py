"""What a request may override of the configuration: less time, and fewer stages."""

from dataclasses import dataclass

from cascade.config import CascadeConfig
from cascade.errors import RowsError

__all__ = ["RequestOverrides"]


@dataclass(frozen=True)
class RequestOverrides:
    """As the caller gives them; the methods apply the operator's limits.

    Attributes:
        timeout_s: seconds that the caller waits; ``None`` for ``serving.request_timeout_s``.
        max_stage: name of the last stage that may run; ``None`` for all stages.
    """

    timeout_s: float | None = None
    max_stage: str | None = None

    def limited_timeout_s(self, config: CascadeConfig) -> float:
        """Seconds until the deadline, at most ``serving.request_timeout_s``."""
        longest_s = config.serving.request_timeout_s
        return longest_s if self.timeout_s is None else min(self.timeout_s, longest_s)

    def last_stage(self, config: CascadeConfig) -> int | None:
        """Index of the last stage that may run, at least that of ``serving.least_max_stage``; ``None`` where all may.

        Raises:
            RowsError: there is no such stage.
        """
        if self.max_stage is None:
            return None
        names = [stage.name for stage in config.stages]
        if self.max_stage not in names:
            raise RowsError(f"max_stage must be one of {', '.join(names)}; got {self.max_stage[:40]!r}")
        least = config.serving.least_max_stage
        last = max(names.index(self.max_stage), 0 if least is None else names.index(least))
        return last if last + 1 < len(names) else None
