"""The digest of a model: the same for the same answers, another where an answer may differ."""

import pytest

from cascade.backends.config import CustomConfig, OnnxConfig, TorchConfig
from cascade.backends.digest import model_digest, remembered_digest


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"numbers")
    return path


def torch_config(weights, **changes):
    return TorchConfig(type="torch", network="nets:Net", weights=weights, **changes)


def test_the_place_of_a_file_and_of_the_computation_do_not_count(weights, tmp_path):
    moved = tmp_path / "moved.safetensors"
    moved.write_bytes(weights.read_bytes())
    assert model_digest(torch_config(weights)) == model_digest(
        torch_config(moved, device="cuda", threads=3, packed=True)
    )


@pytest.mark.parametrize(
    "changes", [{"arguments": {"width": 2}}, {"precision": "bfloat16"}, {"fold_norms": True}], ids=str
)
def test_what_changes_an_answer_counts(weights, changes):
    assert model_digest(torch_config(weights)) != model_digest(torch_config(weights, **changes))


def test_the_content_of_a_file_counts(weights):
    before = model_digest(torch_config(weights))
    weights.write_bytes(b"others!")
    assert model_digest(torch_config(weights)) != before


def test_every_kind_has_a_digest_of_its_own(weights):
    custom = [CustomConfig(type="custom", object="mine:Model", arguments={"k": k}) for k in (1, 2)]
    digests = {model_digest(config) for config in [*custom, OnnxConfig(type="onnx", model=weights)]}
    assert len(digests) == 3
    assert all(len(digest) == 64 for digest in digests)


def test_a_remembered_digest_reads_a_backend_once(weights):
    config, digest = torch_config(weights), remembered_digest()
    before = digest(config)
    weights.write_bytes(b"others")
    assert digest(config) == before != model_digest(config)
    assert digest(torch_config(weights)) == model_digest(config)
