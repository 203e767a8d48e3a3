"""What runs inside a ``with`` block: started at its beginning, and undone however the start or the block ends."""

from abc import ABC, abstractmethod
from contextlib import ExitStack
from types import TracebackType

from typing_extensions import Self

__all__ = ["Running"]


class Running(ABC):
    """Something that is started and stopped, such as a server or a thread."""

    @abstractmethod
    def _start(self, undo: ExitStack) -> None:
        """Starts it.

        Args:
            undo: to which each step adds what undoes it; also used where a later step fails.
        """

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            self._start(undo)
            self._undo = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._undo.close()
