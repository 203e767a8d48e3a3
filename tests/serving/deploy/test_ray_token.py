"""Ray's token, readable by its owner only."""

import stat

import pytest

from cascade.serving.deploy import ray_token
from cascade.serving.deploy.ray_token import ensure_private_token


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home folder; every user may enter the folders above it."""
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(ray_token, "_folders", lambda path: [path.parent, tmp_path])
    tmp_path.chmod(0o755)
    return tmp_path


def written(home, mode, folder_mode=0o755):
    path = home / ".ray" / "auth_token"
    path.parent.mkdir()
    path.write_text("a" * 64)
    path.chmod(mode)
    path.parent.chmod(folder_mode)
    return path


def test_a_created_token_is_readable_by_its_owner_only(home):
    ensure_private_token()
    path = home / ".ray" / "auth_token"
    assert [stat.S_IMODE(each.stat().st_mode) for each in (path, path.parent)] == [0o600, 0o700]
    first = path.read_text()
    assert (len(first), int(first, 16) > 0) == (64, True)
    ensure_private_token()
    assert path.read_text() == first


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o602])
def test_a_token_that_others_can_read_causes_a_warning(home, caplog, mode):
    path = written(home, mode)
    ensure_private_token()
    assert f"chmod 600 {path}" in caplog.text
    assert stat.S_IMODE(path.stat().st_mode) == mode


@pytest.mark.parametrize(("mode", "folder_mode"), [(0o600, 0o755), (0o640, 0o755), (0o644, 0o700)])
def test_a_token_that_others_cannot_reach_causes_no_warning(home, caplog, mode, folder_mode):
    written(home, mode, folder_mode)
    ensure_private_token()
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("name", "value"), [("RAY_AUTH_MODE", "disabled"), ("RAY_AUTH_TOKEN", "a"), ("RAY_AUTH_TOKEN_PATH", "/none")]
)
def test_no_token_is_created_where_ray_uses_none_or_another(home, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    ensure_private_token()
    assert list(home.iterdir()) == []
