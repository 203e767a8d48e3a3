"""Known headers: nothing is found that was not learned, and only plain requests are."""

from hypothesis import given
from hypothesis import strategies as st

from cascade.serving.known_heads import MAX_HEADS, KnownHeads
from cascade.serving.request import Request


def message(path, body, name="content-length"):
    return f"POST {path} HTTP/1.1\r\n{name}: {len(body)}\r\n\r\n".encode() + body


def learned(*messages):
    known = KnownHeads()
    for path, body in messages:
        known.learn(message(path, body), Request("POST", path, {"content-length": str(len(body))}, body))
    return known


@given(st.binary(max_size=20), st.binary(max_size=20), st.integers(0, 60))
def test_only_a_whole_request_with_the_same_header_is_recalled(body, other, cut):
    known = learned(("/a", body))
    found = known.recall(message("/a", other))
    if len(other) == len(body):
        assert (found.path, found.body) == ("/a", other)
    else:
        assert found is None
    whole = message("/a", body)
    assert known.recall(whole[: min(cut, len(whole) - 1)]) is None
    assert known.recall(whole + b"x") is None
    assert known.recall(message("/b", body)) is None


def test_what_is_not_plain_is_not_learned():
    known = KnownHeads()
    body = b"abc"
    known.learn(message("/a", body), Request("POST", "/a", {"transfer-encoding": "chunked"}, body))
    known.learn(message("/a", body), Request("POST", "/a", {"content-length": "3", "expect": "100-continue"}, body))
    known.learn(message("/a", body) + b"GET", Request("POST", "/a", {"content-length": "3"}, body))
    known.learn(message("/a", body)[:-1], Request("POST", "/a", {"content-length": "3"}, body))
    known.learn(message("/" + "a" * 2000, body), Request("POST", "/a", {"content-length": "3"}, body))
    assert known.recall(message("/a", body)) is None
    assert known.recall(message("/" + "a" * 2000, body)) is None


def test_what_is_kept_is_bounded():
    known = learned(*((f"/{number}", b"abc") for number in range(3 * MAX_HEADS + 1)))
    assert known.recall(message("/0", b"abc")) is None
    assert known.recall(message(f"/{3 * MAX_HEADS}", b"abc")).path == f"/{3 * MAX_HEADS}"
    assert len(known._known) <= MAX_HEADS
