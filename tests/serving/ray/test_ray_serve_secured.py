"""Keys and TLS on a real Ray Serve: from the configuration to the answer."""

import ssl

import httpx
import pytest
import trustme
import yaml
from serving_process import free_port, serving_process

KEY, ADMIN_KEY = "the-key-0123456789", "the-admin-key-0123456789"

pytestmark = [
    pytest.mark.serve,
    # Warnings of Ray itself, when it is imported.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture(scope="module")
def secured(config_path, tmp_path_factory):
    """The address of a cascade with keys and TLS, and the client's context."""
    folder = tmp_path_factory.mktemp("secured")
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(folder / "certificate.pem")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    (folder / "key.pem").chmod(0o600)
    (folder / "keys").write_text(f"# of the test\nanna:{KEY}\n")
    (folder / "keys").chmod(0o600)
    content = yaml.safe_load(config_path.read_text())
    content["serving"] |= {
        "keys_file": "keys",
        "admin_keys_env": "CASCADE_TEST_ADMIN_KEYS",
        "tls_certificate": "certificate.pem",
        "tls_key": "key.pem",
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(content))
    (folder / "policy.json").write_bytes(config_path.with_name("policy.json").read_bytes())
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CASCADE_TEST_ADMIN_KEYS", ADMIN_KEY)
        with serving_process(folder / "config.yaml", folder / "log") as url:
            yield url, context, folder
    assert KEY not in (folder / "log").read_text()


def test_the_cascade_answers_clients_with_a_key_over_tls(secured):
    url, context, _ = secured
    assert url.startswith("https://")
    body = {"json": {"rows": [[1, 0]]}}
    with httpx.Client(base_url=url, verify=context, timeout=20) as client:
        assert client.get("/health").status_code == 200
        assert client.post("/predict", **body).status_code == 401
        answered = client.post("/predict", headers={"authorization": f"Bearer {KEY}"}, **body)
        assert answered.json()["stage"] == ["big"]
        bearers = [{"authorization": f"Bearer {key}"} for key in ("unknown", KEY, ADMIN_KEY)]
        statuses = [client.put("/policy", headers=headers).status_code for headers in bearers]
    assert statuses[:2] == [401, 403]
    assert statuses[2] not in (401, 403)


def test_an_unsafe_configuration_is_refused_before_anything_starts(secured, config_path, run):
    refused = run("serve", config_path, "--host", "0.0.0.0")  # noqa: S104 (it is what must be refused)
    assert (refused.code, "open_to_network: true" in refused.err) == (3, True)
    folder = secured[2]
    (folder / "open_keys").write_text(KEY)
    (folder / "open_keys").chmod(0o644)
    text = (folder / "config.yaml").read_text().replace("keys_file: keys", "keys_file: open_keys")
    (folder / "open.yaml").write_text(text)
    refused = run("serve", folder / "open.yaml", "--port", str(free_port()))
    assert (refused.code, "chmod o=" in refused.err, KEY in refused.err) == (3, True, False)
