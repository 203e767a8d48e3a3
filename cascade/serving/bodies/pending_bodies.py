"""The bound of the bytes of all bodies that a gateway holds at a time."""

from cascade.serving.errors import Overloaded

__all__ = ["PendingBodies"]


class PendingBodies:
    """Bounds the memory of the bodies that arrive, wait, or are being answered.

    Args:
        max_bytes: bound of all of them together.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.held_bytes = 0

    def hold(self, count: int) -> None:
        """Adds bytes.

        Raises:
            Overloaded: the bound would be exceeded; nothing is added.
        """
        if self.held_bytes + count > self._max_bytes:
            raise Overloaded(f"all {self._max_bytes} bytes for the bodies of requests are in use; try again later")
        self.held_bytes += count

    def release(self, count: int) -> None:
        """Removes bytes that were added."""
        self.held_bytes -= count
