"""The torch backend: weights from safetensors, probabilities from logits."""

import copy
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from small_networks import Linear

from cascade.backends.config import TorchConfig
from cascade.backends.files.weights import load_weights, read_facts, read_tensors, save_weights
from cascade.backends.images import ImageInput
from cascade.backends.networks.folding import fold_norms
from cascade.backends.networks.packing import PackedConvolutions, can_pack
from cascade.backends.networks.resnet import CifarResNet
from cascade.backends.torch_backend import TorchBackend
from cascade.errors import ConfigError, RowsError, StageError, WeightsError
from cascade.stage import Stage

INPUT = ImageInput(mean=(128.0,) * 3, std=(64.0,) * 3)


@pytest.fixture
def weights(tmp_path, tiny_network):
    save_weights(tmp_path / "deep" / "tiny.safetensors", tiny_network, {"folded": "false"})
    return tmp_path / "deep" / "tiny.safetensors"


def build(weights, **changes):
    values = {
        "type": "torch",
        "network": "cascade.backends.networks.resnet:CifarResNet",
        "arguments": {"depth": 8, "width": 4, "classes": 3},
        "weights": weights,
        "input": INPUT,
    }
    return TorchBackend(TorchConfig(**(values | changes)))


def reference(network, pixels):
    """Softmax in float64, from NumPy."""
    images = torch.from_numpy(((pixels.astype(np.float32) - 128) / 64).transpose(0, 3, 1, 2))
    with torch.no_grad():
        logits = network(images).numpy().astype(np.float64)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("fold", [False, True])
def test_probabilities_are_the_softmax_of_the_saved_networks_logits(weights, tiny_network, pixels, fold):
    said = build(weights, fold_norms=fold).predict(pixels)
    expected = reference(tiny_network, pixels)
    assert said.probabilities == pytest.approx(expected, abs=1e-5)
    assert said.answer.tolist() == expected.argmax(axis=1).tolist()
    assert said.answer.dtype == np.int64
    assert np.ptp(expected, axis=0).max() > 0.01, "the network says the same of all rows"


@pytest.mark.skipif(not can_pack(), reason="no oneDNN library (extra onednn)")
def test_packed_convolutions_answer_and_cost_alike(weights, tiny_network, pixels):
    packed, plain = build(weights, packed=True), build(weights)
    assert isinstance(packed.network.stem, PackedConvolutions)
    assert packed.predict(pixels).probabilities == pytest.approx(reference(tiny_network, pixels), abs=1e-5)
    assert packed.flops_per_row(pixels) == plain.flops_per_row(pixels) > 0
    assert not isinstance(plain.network.stem, PackedConvolutions), "only where it is asked for"


@pytest.mark.skipif(not can_pack(), reason="no oneDNN library (extra onednn)")
def test_packed_convolutions_refuse_what_is_no_number(weights, pixels):
    planes = np.ascontiguousarray(((pixels.astype(np.float32) - 128) / 64).transpose(0, 3, 1, 2))
    planes[3, 0, 1, 1] = np.nan
    with pytest.raises(RowsError, match=r"row 3 .* NaN or infinite"):
        build(weights, input=None, packed=True).predict(planes)


def test_packing_is_refused_where_it_is_not_possible(weights, monkeypatch):
    with pytest.raises(ConfigError, match=r"packed: true needs .* precision bfloat16"):
        build(weights, packed=True, precision="bfloat16")
    monkeypatch.setattr("cascade.backends.torch_backend.can_pack", lambda: False)
    with pytest.raises(ConfigError, match=r"idk-cascade\[onednn\].* oneDNN not found"):
        build(weights, packed=True)


@pytest.mark.parametrize("possible", [pytest.param(True, marks=pytest.mark.skipif(not can_pack(), reason="")), False])
def test_packing_where_it_is_possible(weights, tiny_network, pixels, monkeypatch, possible):
    if not possible:
        monkeypatch.setattr("cascade.backends.torch_backend.can_pack", lambda: False)
    backend = build(weights, packed="auto")
    assert isinstance(backend.network.stem, PackedConvolutions) is possible
    assert backend.predict(pixels).probabilities == pytest.approx(reference(tiny_network, pixels), abs=1e-5)
    assert not isinstance(build(weights, packed="auto", precision="bfloat16").network.stem, PackedConvolutions)


def test_rows_reach_a_network_without_an_input_as_they_are(weights, tiny_network, pixels):
    planes = ((pixels.astype(np.float32) - 128) / 64).transpose(0, 3, 1, 2)
    said = build(weights, input=None).predict(np.ascontiguousarray(planes))
    assert said.probabilities == pytest.approx(reference(tiny_network, pixels), abs=1e-5)


def test_a_batch_equals_its_rows(weights, pixels):
    backend = build(weights)
    alone = np.concatenate([backend.predict(pixels[i : i + 1]).probabilities for i in range(len(pixels))])
    assert backend.predict(pixels).probabilities == pytest.approx(alone, abs=1e-5)


@pytest.mark.parametrize(
    ("stored", "precision"), [("float16", "float32"), ("int8", "float32"), ("float32", "bfloat16")]
)
def test_less_precision_is_close(tmp_path, tiny_network, pixels, stored, precision):
    save_weights(tmp_path / "w.safetensors", tiny_network, {}, stored)
    said = build(tmp_path / "w.safetensors", precision=precision).predict(pixels)
    assert said.probabilities.dtype == np.float32
    assert said.probabilities == pytest.approx(reference(tiny_network, pixels), abs=0.05)


def test_int8_is_within_half_a_step_and_a_quarter_of_the_size(tmp_path):
    network = torch.nn.Sequential(torch.nn.Conv2d(64, 64, 3), torch.nn.Linear(64, 3), torch.nn.Linear(3, 2))
    with torch.no_grad():
        network[1].weight[1] = 0  # a channel without a scale of its own
        network[2].weight *= 1e6
    sizes = {}
    for precision in ("float32", "int8"):
        save_weights(tmp_path / precision, network, {}, precision)
        sizes[precision] = (tmp_path / precision).stat().st_size
    assert sizes["int8"] < 0.27 * sizes["float32"]
    before = read_tensors(tmp_path / "float32")
    for name, value in read_tensors(tmp_path / "int8").items():
        steps = before[name].abs().amax(dim=tuple(range(1, value.ndim)), keepdim=True) / 127 if value.ndim > 1 else 0
        assert value.dtype == torch.float32
        assert ((value - before[name]).abs() <= 0.5001 * steps).all()
    again = torch.nn.Sequential(torch.nn.Conv2d(64, 64, 3), torch.nn.Linear(64, 3), torch.nn.Linear(3, 2))
    load_weights(tmp_path / "int8", again)
    save_weights(tmp_path / "twice", again, {}, "int8")
    for name, value in read_tensors(tmp_path / "twice").items():
        torch.testing.assert_close(value, again.state_dict()[name])


@pytest.mark.parametrize("shape", [(5,), (3,), (1,), (3, 2), (3, 1, 1)])
def test_scales_of_another_shape_are_refused(tmp_path, shape):
    tensors = {"weight": torch.ones(3, 2, dtype=torch.int8), "weight.scale": torch.ones(shape), "bias": torch.ones(3)}
    save_file(tensors, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=r"weight\.scale has the shape"):
        load_weights(tmp_path / "w.safetensors", torch.nn.Linear(2, 3))


@pytest.mark.parametrize(("precision", "value"), [("float32", np.nan), ("float16", 70000.0), ("int8", np.inf)])
def test_values_that_cannot_be_stored_are_refused(tmp_path, tiny_network, precision, value):
    path = tmp_path / "w.safetensors"
    save_weights(path, tiny_network, {})
    before = path.read_bytes()
    network = copy.deepcopy(tiny_network)
    with torch.no_grad():
        network.head.weight[0, 0] = value
    with pytest.raises(WeightsError, match=f"head.weight.* holds values that are not finite in {precision}"):
        save_weights(path, network, {}, precision)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_infinite_values_of_a_buffer_are_kept(tmp_path, precision):
    network = torch.nn.Linear(3, 3)
    network.register_buffer("mask", torch.full((3, 3), -torch.inf).triu(1))
    save_weights(tmp_path / "w.safetensors", network, {}, precision)
    assert torch.equal(read_tensors(tmp_path / "w.safetensors")["mask"].float(), network.mask)


def test_finite_values_of_a_buffer_that_overflow_are_refused(tmp_path):
    network = torch.nn.Linear(3, 3)
    network.register_buffer("mask", torch.tensor([70000.0, -torch.inf]))
    with pytest.raises(WeightsError, match="mask holds values"):
        save_weights(tmp_path / "w.safetensors", network, {}, "float16")


def test_weights_that_were_folded_before_they_were_saved(tmp_path, tiny_network, pixels):
    folded = CifarResNet(depth=8, width=4, classes=3)
    folded.load_state_dict(tiny_network.state_dict())
    save_weights(tmp_path / "w.safetensors", fold_norms(folded), {"folded": "true"})
    for fold in (False, True):
        said = build(tmp_path / "w.safetensors", fold_norms=fold).predict(pixels)
        assert said.probabilities == pytest.approx(reference(tiny_network, pixels), abs=1e-4)


def test_weights_and_facts_come_back(weights, tiny_network):
    assert read_facts(weights)["folded"] == "false"
    again = CifarResNet(depth=8, width=4, classes=3)
    load_weights(weights, again)
    for key, value in tiny_network.state_dict().items():
        assert torch.equal(again.state_dict()[key], value)
    assert [path.name for path in weights.parent.iterdir()] == ["tiny.safetensors"]


@pytest.mark.parametrize("size", [0, 4, 100, 2000, -1])
def test_a_truncated_file_is_refused(weights, size):
    weights.write_bytes(weights.read_bytes()[:size])
    with pytest.raises(WeightsError, match="not a whole safetensors file"):
        build(weights)


def test_other_files_are_refused(weights, tmp_path):
    torch.save({"stem": torch.zeros(1)}, weights)
    with pytest.raises(WeightsError, match="not a whole safetensors file"):
        build(weights)
    weights.write_bytes(pickle.dumps(print))
    with pytest.raises(WeightsError, match="not a whole safetensors file"):
        build(weights)
    weights.unlink()
    with pytest.raises(WeightsError, match="does not exist"):
        read_facts(weights)
    with pytest.raises(WeightsError, match="does not exist"):
        load_weights(weights, CifarResNet(depth=8))
    with pytest.raises(WeightsError):
        read_facts(tmp_path)


@pytest.mark.parametrize("arguments", [{"depth": 14, "width": 4, "classes": 3}, {"depth": 8, "width": 8, "classes": 3}])
def test_weights_of_another_architecture_are_refused(weights, arguments):
    with pytest.raises(WeightsError, match="does not fit CifarResNet"):
        build(weights, arguments=arguments)


def test_a_strange_fact_in_the_header_is_survived(tmp_path, tiny_network, pixels):
    save_weights(tmp_path / "w.safetensors", tiny_network, {"folded": "{perhaps"})
    assert len(build(tmp_path / "w.safetensors").predict(pixels)) == 6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": "cascade.backends.networks.resnet:NoSuch"}, "cannot be imported"),
        ({"network": "no_such_module:Net"}, "cannot be imported"),
        ({"network": "builtins:dict"}, r"must be a torch.nn.Module"),
        ({"arguments": {"breadth": 3}}, "cannot be built"),
        ({"arguments": {"depth": 9}}, "6n \\+ 2"),
        ({"device": "abacus"}, "device 'abacus' cannot be used here"),
        ({"device": "cuda:63"}, "device 'cuda:63' cannot be used here"),
        ({"device": "meta:x"}, "device 'meta:x' cannot be used here"),
    ],
)
def test_a_network_that_cannot_be_built_is_a_config_error(weights, changes, message):
    with pytest.raises(ConfigError, match=message):
        build(weights, **changes)


FLAT = np.random.default_rng(1).normal(size=(9, 4)).astype(np.float32)


def small(tmp_path, kind="logits", **arguments):
    torch.manual_seed(0)
    network = Linear(**arguments)
    save_weights(tmp_path / "w.safetensors", network, {})
    backend = build(
        tmp_path / "w.safetensors",
        network="small_networks:Linear",
        arguments=arguments,
        input=None,
        output_kind=kind,
    )
    with torch.no_grad():
        return backend, network.layer(torch.from_numpy(FLAT * 2)).numpy()


@pytest.mark.parametrize(
    ("end", "kind"),
    [
        ("nothing", "logits"),
        ("squeezed", "logits"),
        ("sigmoid", "probabilities"),
        ("squeezed sigmoid", "probabilities"),
    ],
)
def test_one_column_is_the_sigmoid_of_class_1(tmp_path, end, kind):
    backend, logits = small(tmp_path, kind, end=end)
    for _ in range(2):  # the first call is watched
        said = backend.predict(FLAT)
        expected = 1 / (1 + np.exp(-logits[:, 0]))
        np.testing.assert_allclose(said.probabilities, np.stack([1 - expected, expected], axis=1), atol=1e-6)
        assert said.answer.tolist() == (expected > 0.5).astype(int).tolist()
    assert set(said.answer.tolist()) == {0, 1}


@pytest.mark.parametrize(
    ("end", "columns"),
    [("sigmoid", 1), ("sigmoid in place", 1), ("squeezed sigmoid", 1), ("softmax", 3), ("half of a softmax", 3)],
)
def test_probabilities_used_as_logits_are_refused(tmp_path, end, columns):
    backend, _ = small(tmp_path, end=end, columns=columns)
    for _ in range(2):
        with pytest.raises(ConfigError, match="write output_kind: probabilities"):
            backend.predict(FLAT)
    backend, _ = small(tmp_path, "probabilities", end=end, columns=columns)
    assert backend.predict(FLAT).probabilities.sum(axis=1) == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize("end", ["nothing", "attention"])
def test_a_softmax_elsewhere_in_a_network_changes_nothing(tmp_path, end):
    backend, _ = small(tmp_path, end=end, columns=3)
    assert backend.predict(FLAT).probabilities.shape == (9, 3)


def test_logits_used_as_probabilities_are_refused(tmp_path):
    backend, _ = small(tmp_path, "probabilities", columns=3)
    with pytest.raises(StageError, match="look like logits"):
        Stage("a", backend).predict(FLAT)


@pytest.mark.parametrize(
    ("end", "message"), [("tuple", "one tensor .* got tuple"), ("images", r"got shape \(9, 1, 1, 1\)")]
)
def test_an_output_of_another_form_is_refused(tmp_path, end, message):
    with pytest.raises(ConfigError, match=message):
        small(tmp_path, end=end)[0].predict(FLAT)


@pytest.mark.parametrize("writeable", [False, True])
def test_a_network_that_writes_to_its_input_leaves_the_rows_alone(tmp_path, writeable):
    (backend, logits), rows = small(tmp_path, columns=3, in_place=True), FLAT.copy()
    rows.setflags(write=writeable)
    for _ in range(2):
        powers = np.exp(logits)
        np.testing.assert_allclose(
            backend.predict(rows).probabilities, powers / powers.sum(axis=1, keepdims=True), 1e-4
        )
    np.testing.assert_array_equal(rows, FLAT)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_images_stay_as_they_are(weights, pixels, dtype):
    rows = pixels.astype(dtype)
    rows.setflags(write=False)
    said = build(weights).predict(rows)
    np.testing.assert_array_equal(rows, pixels)
    np.testing.assert_array_equal(said.probabilities, build(weights).predict(pixels).probabilities)
