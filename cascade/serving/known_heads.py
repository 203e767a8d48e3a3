"""Headers that came before: a client says the same with every request, so it is parsed once."""

from cascade.serving.request import Request

__all__ = ["KnownHeads"]

MAX_HEADS = 256
MAX_HEAD_BYTES = 1024
END = b"\r\n\r\n"


class KnownHeads:
    """Requests by the bytes of their header.

    Equal bytes at the beginning of a message are parsed alike, whatever connection they come from, so a request whose
    header is known needs no parser. Only what is plain is kept: one whole request of a ``content-length`` in one piece,
    on a connection that is kept. Where too many different headers come, all are forgotten, and parsed again.
    """

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[Request, int]] = {}

    def recall(self, data: bytes) -> Request | None:
        """The request that some bytes are, with its body; ``None`` if the header is not known, or more or less came."""
        end = data.find(END)
        known = self._known.get(data[:end])
        if known is None:
            return None
        request, body_bytes = known
        if len(data) != end + len(END) + body_bytes:
            return None
        return Request(request.method, request.path, request.headers, data[end + len(END) :])

    def learn(self, data: bytes, request: Request) -> None:
        """Remembers the header of a request that was parsed.

        Args:
            data: what came at once, from the first byte of the header.
            request: what was found in it first, on a connection that goes on.
        """
        end = data.find(END)
        is_plain = request.headers.get("content-length") == str(len(request.body)) and "expect" not in request.headers
        if is_plain and end <= MAX_HEAD_BYTES and len(data) == end + len(END) + len(request.body):
            if len(self._known) == MAX_HEADS:
                self._known.clear()
            self._known[data[:end]] = Request(request.method, request.path, request.headers), len(request.body)
