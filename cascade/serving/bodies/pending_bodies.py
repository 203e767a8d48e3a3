"""The bytes of all bodies that a gateway holds at a time."""

from cascade.serving.errors import Overloaded

__all__ = ["PendingBodies"]


class PendingBodies:
    """Bounds the memory of the bodies under way: those that arrive, wait, or are being answered.

    Args:
        most_bytes: of all of them together.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self.held_bytes = 0

    def hold(self, count: int) -> None:
        """Takes bytes in.

        Raises:
            Overloaded: there is no room for them; none are taken.
        """
        if self.held_bytes + count > self._most_bytes:
            raise Overloaded(
                f"the bodies of all requests together may have {self._most_bytes} bytes, and are at it; try again later"
            )
        self.held_bytes += count

    def release(self, count: int) -> None:
        """Lets bytes go that were taken in."""
        self.held_bytes -= count
