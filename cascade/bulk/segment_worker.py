"""A process of a segment, and the reading of parts: what a bulk job runs on Ray."""

from collections.abc import Iterator
from pathlib import Path

from cascade.answers import Answers
from cascade.bulk.part import Damage, Part, PartKey, PartSource, Unit, read_unit
from cascade.bulk.segments import Deferred, run_segment
from cascade.calibration import Policy
from cascade.cascade import load_stages
from cascade.config import CascadeConfig
from cascade.engine import Segment
from cascade.errors import CascadeError

__all__ = ["SegmentWorker", "read_parts"]


class SegmentWorker:
    """Runs the stages of one segment.

    Args:
        config: with the segments.
        folder: of the configuration file.
        policy_json: the policy.
        index: of the segment.
    """

    def __init__(self, config: CascadeConfig, folder: Path, policy_json: str, index: int) -> None:
        stages = config.segments[index]
        self._config, self._policy = config, Policy.from_json(policy_json)
        self._failed: CascadeError | None = None
        try:
            loaded = load_stages(stages, folder, config.classes)
        except CascadeError as error:  # raised by ready(): Ray would only keep the text of an error of a constructor
            self._failed = error
        else:
            self._segment = Segment(loaded, sum(map(len, config.segments[:index])))

    def ready(self) -> None:
        """Returns once the models are loaded.

        Raises:
            CascadeError: a model cannot be loaded.
        """
        if self._failed is not None:
            raise self._failed

    def run(self, *batches: Deferred) -> tuple[Answers, Deferred | None]:
        """Runs the stages on the rows of some batches together; see :func:`run_segment`."""
        return run_segment(self._segment, self._policy, self._config.rows, Deferred.join(batches))


def read_parts(
    source: PartSource, unit: Unit, part_rows: int, done: frozenset[PartKey]
) -> Iterator[Part | Damage | Deferred]:
    """Reads a unit: each part is followed by its rows, which it does not hold itself.

    The part is small and goes to the job's own process, the rows go to a worker.
    """
    for item in read_unit(source, unit, part_rows, done):
        if isinstance(item, Part):
            yield item.without_rows()
            yield Deferred(item.rows, place=item.place)
        else:
            yield item
