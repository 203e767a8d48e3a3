"""Keys: their sources, what is refused, and that no message quotes them."""

import logging
import pickle
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.errors import ConfigError
from cascade.serving.auth import keys as module
from cascade.serving.auth.keys import MIN_KEY_LENGTH, KeyRing

FIRST, SECOND, THIRD = "first-key-0123456789", "second.key/0123456789==", "third_key~0123456789"


def key_file(folder, text, mode=0o600):
    file = folder / "keys"
    file.write_text(text)
    file.chmod(mode)
    return file


@pytest.fixture
def impatient(monkeypatch):
    """Makes every check read the file."""
    monkeypatch.setattr(module, "CHECK_EVERY_S", 0)


def test_a_file_may_have_names_comments_and_empty_lines(tmp_path):
    ring = KeyRing(file=key_file(tmp_path, f"# ours\n\n{FIRST}\nanna: {SECOND}\n  bob:{THIRD}  \n"))
    assert all(ring.holds(key.encode()) for key in (FIRST, SECOND, THIRD))
    assert not any(
        ring.holds(key) for key in (b"", b"anna", b"# ours", FIRST[:-1].encode(), f"anna: {SECOND}".encode())
    )


def test_a_variable_may_have_several_keys_besides_the_files(tmp_path, monkeypatch):
    monkeypatch.setenv("SOME_KEYS", f"{FIRST}, bob:{SECOND}")
    ring = KeyRing("SOME_KEYS", key_file(tmp_path, THIRD))
    assert all(ring.holds(key.encode()) for key in (FIRST, SECOND, THIRD))
    assert not ring.holds(b"bob")


GOOD_KEYS = st.text(string.ascii_letters + string.digits + "-._~+/", min_size=MIN_KEY_LENGTH, max_size=40)


@settings(max_examples=50, deadline=None)
@given(st.lists(GOOD_KEYS, min_size=1, max_size=5), st.binary())
def test_exactly_the_keys_of_a_file_are_held(tmp_path_factory, keys, other):
    folder = tmp_path_factory.mktemp("keys", numbered=True)
    ring = KeyRing(file=key_file(folder, "\n".join(keys)))
    assert all(ring.holds(key.encode()) for key in keys)
    assert ring.holds(other) == (other in {key.encode() for key in keys})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has no key"),
        ("# only this\n", "has no key"),
        ("short", "line 1 must have at least 16"),
        (f"{FIRST}\nwith a space in the key", "line 2"),
        (f"{FIRST}\nsecret-with-umlaut-ä", "line 2"),
    ],
)
def test_a_file_without_valid_keys_is_refused_without_quoting_it(tmp_path, text, words):
    with pytest.raises(ConfigError, match=words) as caught:
        KeyRing(file=key_file(tmp_path, text))
    assert not any(part in str(caught.value) for part in ("short", "space in", "umlaut", FIRST))


def test_a_binary_file_is_refused_without_quoting_it(tmp_path):
    file = key_file(tmp_path, "")
    file.write_bytes(b"secret\xff\xfe")
    with pytest.raises(ConfigError, match="is not text") as caught:
        KeyRing(file=file)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o602, 0o666])
def test_a_file_that_everybody_can_access_is_refused(tmp_path, mode):
    with pytest.raises(ConfigError, match=rf"mode {mode:o}.*chmod o="):
        KeyRing(file=key_file(tmp_path, FIRST, mode))


def test_a_missing_file_or_variable_is_refused(tmp_path, monkeypatch):
    monkeypatch.delenv("SOME_KEYS", raising=False)
    with pytest.raises(ConfigError, match="SOME_KEYS is not set"):
        KeyRing("SOME_KEYS")
    with pytest.raises(ConfigError, match="No such file"):
        KeyRing(file=tmp_path / "none")
    monkeypatch.setenv("SOME_KEYS", " ")
    with pytest.raises(ConfigError, match="SOME_KEYS has no key"):
        KeyRing("SOME_KEYS")


def test_a_changed_file_is_read_again(tmp_path, impatient):
    ring = KeyRing(file=key_file(tmp_path, FIRST))
    key_file(tmp_path, SECOND)
    assert ring.holds(SECOND.encode())
    assert not ring.holds(FIRST.encode())


def test_the_file_is_checked_once_per_second(tmp_path, monkeypatch):
    now = 100.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    ring = KeyRing(file=key_file(tmp_path, FIRST))
    assert ring.holds(FIRST.encode())
    key_file(tmp_path, SECOND)
    now += 0.9
    assert ring.holds(FIRST.encode())
    now += 0.2
    assert ring.holds(SECOND.encode())
    assert not ring.holds(FIRST.encode())


@pytest.mark.parametrize("change", ["empty", "removed", "for everybody"])
def test_a_file_that_became_invalid_is_logged_once_and_its_keys_stay(tmp_path, impatient, caplog, change):
    file = key_file(tmp_path, FIRST)
    ring = KeyRing(file=file)
    if change == "removed":
        file.unlink()
    else:
        key_file(tmp_path, "" if change == "empty" else SECOND, 0o644 if change == "for everybody" else 0o600)
    with caplog.at_level(logging.INFO):
        assert all(ring.holds(FIRST.encode()) for _ in range(5))
    assert not ring.holds(SECOND.encode())
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "stay valid" in caplog.text
    key_file(tmp_path, THIRD)
    assert ring.holds(THIRD.encode())
    assert not any(key in caplog.text for key in (FIRST, SECOND, THIRD))


def test_the_object_does_not_hold_the_keys(tmp_path):
    ring = KeyRing(file=key_file(tmp_path, f"{FIRST}\n{SECOND}"))
    assert repr(ring) == "KeyRing(2 keys)"
    assert FIRST.encode() not in pickle.dumps(vars(ring))
