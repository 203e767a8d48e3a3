"""TLS of the listener, with clients' certificates if configured; invalid files are refused."""

import contextlib
import socket
import ssl
import time

import httpx
import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from listener_thread import listening

from cascade.config import ServingConfig
from cascade.errors import ConfigError
from cascade.serving.auth.tls import new_tls_context
from cascade.serving.http.reply import Reply


class Greeting:
    """Answers "hello"."""

    def admit(self, request):
        pass

    async def answer(self, request):
        return Reply(b"hello")


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def files(authority, tmp_path_factory):
    """The keys ``tls_*`` of a configuration."""
    folder = tmp_path_factory.mktemp("tls")
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    for number, blob in enumerate(certificate.cert_chain_pems):
        blob.write_to_path(folder / "certificate.pem", append=number > 0)
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    (folder / "key.pem").chmod(0o600)
    authority.cert_pem.write_to_path(folder / "authority.pem")
    return {"tls_certificate": folder / "certificate.pem", "tls_key": folder / "key.pem"}


@pytest.fixture(scope="module")
def port(files):
    with listening(Greeting(), ServingConfig(**files, header_timeout_s=0.4)) as port:
        yield port


def client_context(authority, certificate=None):
    context = ssl.create_default_context()
    authority.configure_trust(context)
    if certificate is not None:
        certificate.configure_cert(context)
    return context


def test_a_client_that_trusts_the_authority_is_answered(port, authority):
    response = httpx.get(f"https://localhost:{port}/", verify=client_context(authority))
    assert (response.status_code, response.text) == (200, "hello")


def test_a_client_that_does_not_trust_it_is_not(port):
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(f"https://localhost:{port}/", verify=ssl.create_default_context())


def test_plain_http_is_refused_on_a_tls_port(port):
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://localhost:{port}/")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of naming the old version
def test_old_tls_versions_are_refused(port, authority):
    context = client_context(authority)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"https://localhost:{port}/", verify=context)


@pytest.mark.parametrize("begun", [b"", b"\x16\x03\x01"])
def test_an_incomplete_handshake_ends_the_connection(port, begun):
    start = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=5) as client, contextlib.suppress(ConnectionResetError):
        client.sendall(begun)
        assert client.recv(100) == b""
    assert time.monotonic() - start < 2


def test_clients_need_a_certificate_if_configured(files, authority):
    asked = ServingConfig(**files, tls_client_ca=files["tls_key"].with_name("authority.pem"))
    certificate = authority.issue_cert("somebody@example.org")
    stranger = trustme.CA().issue_cert("somebody@example.org")
    with listening(Greeting(), asked) as port:
        url = f"https://localhost:{port}/"
        assert httpx.get(url, verify=client_context(authority, certificate)).text == "hello"
        for refused in (None, stranger):
            with pytest.raises(httpx.TransportError):
                httpx.get(url, verify=client_context(authority, refused))


def test_without_a_certificate_there_is_no_tls():
    assert new_tls_context(ServingConfig()) is None


def refusal(files, **changes):
    with pytest.raises(ConfigError) as caught:
        new_tls_context(ServingConfig(**files | changes))
    return str(caught.value)


def encrypted(pem):
    """The same private key, with a password."""
    how = serialization.BestAvailableEncryption(b"password")
    key = serialization.load_pem_private_key(pem, None)
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how)


def test_invalid_files_are_refused(files, tmp_path):
    other = tmp_path / "other.pem"
    assert "No such file" in refusal(files, tls_key=other)
    trustme.CA().issue_cert("other").private_key_pem.write_to_path(other)
    other.chmod(0o644)
    assert "chmod o=" in refusal(files, tls_key=other)
    other.chmod(0o600)
    assert "PEM files that match" in refusal(files, tls_key=other)
    other.write_bytes(encrypted(files["tls_key"].read_bytes()))
    assert "has a password" in refusal(files, tls_key=other)
    other.write_text("nothing")
    assert "PEM files that match" in refusal(files, tls_certificate=other)
    assert "authorities" in refusal(files, tls_client_ca=other)


def test_tls_settings_that_require_each_other():
    for half in ({"tls_certificate": "a"}, {"tls_key": "a"}):
        with pytest.raises(ValueError, match="go together"):
            ServingConfig(**half)
    with pytest.raises(ValueError, match="needs tls_certificate"):
        ServingConfig(tls_client_ca="a")
