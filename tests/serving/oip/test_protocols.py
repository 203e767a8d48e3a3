"""Third-party clients of the Open Inference Protocol on a real Ray Serve, and the examples of the documentation."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from serving_process import free_port, serving_process
from tritonclient.utils import InferenceServerException

from cascade.calibration import Policy

pytestmark = pytest.mark.serve

PAGE = Path(__file__).parents[3] / "docs" / "protocols.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CLIENTS = {"http": tritonclient.http, "grpc": tritonclient.grpc}


@pytest.fixture(scope="module")
def served(config_path, tmp_path_factory):
    """Addresses of a cascade like the documentation's, by protocol, and the version of its policy."""
    folder = tmp_path_factory.mktemp("protocols")
    grpc_port = free_port()
    text = config_path.read_text().replace("name: fake", "name: cifar10")
    text = text.replace("{shape: [2], dtype: int64}", "{shape: [32, 32, 3], dtype: uint8}")
    text = text.replace("max_body_bytes: 4096", f"max_body_bytes: 1000000, grpc_port: {grpc_port}")
    (folder / "config.yaml").write_text(text)
    policy = Policy.load(config_path.parent / "policy.json")
    policy.save(folder / "policy.json")
    with serving_process(folder / "config.yaml", folder / "log") as url:
        yield {"http": url.removeprefix("http://"), "grpc": f"127.0.0.1:{grpc_port}", "version": policy.version}


@pytest.fixture(params=CLIENTS)
def protocol(request):
    return request.param


@pytest.fixture
def client(served, protocol):
    with CLIENTS[protocol].InferenceServerClient(served[protocol]) as client:
        yield client


def images(first):
    """(n, 32, 32, 3); the fake stages use the first number only."""
    rows = np.zeros((len(first), 32, 32, 3), dtype=np.uint8)
    rows[:, 0, 0, 0] = first
    return rows


def tensor(protocol, rows, datatype="UINT8"):
    found = CLIENTS[protocol].InferInput("rows", rows.shape, datatype)
    found.set_data_from_numpy(rows)
    return found


def test_the_server_describes_itself(client, protocol, served):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("cifar10")
    assert client.is_model_ready("cifar10", served["version"])
    options = {"as_json": True} if protocol == "grpc" else {}
    assert client.get_server_metadata(**options)["name"] == "idk-cascade"
    model = client.get_model_metadata("cifar10", **options)
    assert model["versions"] == [served["version"]]
    assert [each["name"] for each in model["inputs"]] == ["rows"]


def test_rows_are_answered_as_by_predict(client, protocol, served):
    rows = images(range(20))
    answer = client.infer("cifar10", [tensor(protocol, rows)], request_id="17", model_version=served["version"])
    plain = httpx.post(f"http://{served['http']}/predict", content=rows.tobytes(),
                       headers={"content-type": "application/octet-stream"}, timeout=20).json()  # fmt: skip
    assert answer.as_numpy("answer").tolist() == plain["answer"] == [row % 4 for row in range(20)]
    assert answer.as_numpy("confidence").tolist() == plain["confidence"]
    assert answer.as_numpy("cost").tolist() == plain["cost"]
    assert [name.decode() for name in answer.as_numpy("stage")] == plain["stage"]
    assert [name.decode() for name in answer.as_numpy("label")] == plain["label"]
    response = answer.get_response()
    assert (response["id"] if protocol == "http" else response.id) == "17"


@pytest.mark.parametrize("binary", [True, False])
def test_http_tensors_may_be_raw_or_json(served, binary):
    rows = images([3])
    given = tritonclient.http.InferInput("rows", rows.shape, "UINT8")
    given.set_data_from_numpy(rows, binary_data=binary)
    wanted = [tritonclient.http.InferRequestedOutput("label", binary_data=binary)]
    with tritonclient.http.InferenceServerClient(served["http"]) as client:
        answer = client.infer("cifar10", [given], outputs=wanted)
    assert answer.as_numpy("label").tolist() in (["three"], [b"three"])
    assert answer.as_numpy("answer") is None
    assert answer.get_response()["parameters"]["stage"] == "big"


def test_an_error_is_one_sentence(client, protocol):
    rows = images([0])
    for model, given, words in (
        ("other", tensor(protocol, rows), "no model 'other'"),
        ("cifar10", tensor(protocol, rows[:, :5]), "shape"),
        ("cifar10", tensor(protocol, rows.astype(np.float32), "FP32"), "UINT8"),
        ("cifar10", tensor(protocol, images([0] * 33)), "32 rows"),
    ):
        with pytest.raises(InferenceServerException, match=words):
            client.infer(model, [given])
    assert client.infer("cifar10", [tensor(protocol, rows)]).as_numpy("answer").tolist() == [0]


def test_the_timeout_is_respected(client, protocol, served):
    with pytest.raises(InferenceServerException, match="no answer within"):
        client.infer("cifar10", [tensor(protocol, images([1]))], timeout=1)
    late = httpx.post(f"http://{served['http']}/predict", content=images([1]).tobytes(),
                      headers={"content-type": "application/octet-stream", "x-timeout-ms": "0.001"})  # fmt: skip
    assert late.status_code == 504


def examples():
    text = PAGE.read_text(encoding="utf-8")
    return [pytest.param(kind, code, id=f"{kind} {place}") for place, (kind, code) in enumerate(BLOCK.findall(text))]


@pytest.mark.parametrize(("kind", "code"), examples())
def test_the_examples_of_the_documentation_run(served, kind, code):
    if kind == "bash" and not shutil.which("curl"):
        pytest.skip("curl is not installed")
    code = code.replace("localhost:8000", served["http"]).replace("localhost:8001", served["grpc"])
    code = code.replace("python -c", f"{sys.executable} -c")
    command = ["bash", "-euo", "pipefail", "-c"] if kind == "bash" else [sys.executable, "-c"]
    done = subprocess.run([*command, code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    expected = '"stage":"small"' if kind == "bash" else served["version"] if "grpc" in code else "b'small'"
    assert expected in done.stdout
