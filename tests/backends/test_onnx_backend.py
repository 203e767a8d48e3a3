"""The ONNX backend against the exported torch network."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cascade.backends.config import OnnxConfig
from cascade.backends.digest import model_digest
from cascade.backends.files.onnx_file import data_files
from cascade.backends.images import ImageInput
from cascade.errors import ConfigError, StageError, WeightsError
from cascade.stage import Stage

pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
onnx = pytest.importorskip("onnx", reason="the package onnx, which writes the test's models, is not installed")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from cascade.backends.onnx_backend import OnnxBackend  # noqa: E402

INPUT = ImageInput(mean=(128.0,) * 3, std=(64.0,) * 3)


def model_of(nodes, inputs, outputs, weights=()):
    def value(name, shape):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    graph = helper.make_graph(
        nodes,
        "test",
        [value(*each) for each in inputs],
        [value(*each) for each in outputs],
        [numpy_helper.from_array(array, name) for name, array in weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model.SerializeToString()


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    layers = torch.nn.Conv2d(3, 4, 3, stride=2), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(4 * 7 * 7, 3)
    return torch.nn.Sequential(*layers).eval()


@pytest.fixture
def path(tmp_path, network):
    """The network as ONNX: images in; logits and probabilities out."""
    convolution, _, _, linear = network
    weights = {
        "kernel": convolution.weight,
        "shift": convolution.bias,
        "matrix": linear.weight,
        "offset": linear.bias,
    }
    nodes = [
        helper.make_node("Conv", ["image", "kernel", "shift"], ["a"], strides=[2, 2]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Flatten", ["b"], ["c"]),
        helper.make_node("Gemm", ["c", "matrix", "offset"], ["logits"], transB=1),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    content = model_of(
        nodes,
        [("image", ["n", 3, 16, 16])],
        [("logits", ["n", 3]), ("probabilities", ["n", 3])],
        [(name, value.detach().numpy()) for name, value in weights.items()],
    )
    (tmp_path / "model.onnx").write_bytes(content)
    return tmp_path / "model.onnx"


def build(path, **options):
    return OnnxBackend(OnnxConfig(**({"type": "onnx", "model": path, "input": INPUT, "threads": 1} | options)))


def reference(network, pixels):
    images = torch.from_numpy(((pixels.astype(np.float32) - 128) / 64).transpose(0, 3, 1, 2))
    with torch.no_grad():
        return torch.softmax(network(images), dim=1).numpy()


@pytest.mark.parametrize(
    "options",
    [{}, {"output": "logits"}, {"output": "probabilities", "output_kind": "probabilities"}],
    ids=["first", "logits", "probabilities"],
)
def test_probabilities_equal_those_of_torch(path, network, pixels, options):
    said = build(path, **options).predict(pixels)
    expected = reference(network, pixels)
    assert said.probabilities == pytest.approx(expected, abs=1e-5)
    assert said.answer.tolist() == expected.argmax(axis=1).tolist()
    assert said.answer.dtype == np.int64
    assert np.ptp(expected, axis=0).max() > 0.01


def test_rows_without_an_input_go_in_as_they_are(path, network, pixels):
    planes = np.ascontiguousarray(((pixels.astype(np.float32) - 128) / 64).transpose(0, 3, 1, 2))
    said = build(path, input=None).predict(planes)
    assert said.probabilities == pytest.approx(reference(network, pixels), abs=1e-5)


def test_an_output_that_is_not_there_is_refused(path):
    with pytest.raises(ConfigError, match=r"no output 'scores'; choose one of \['logits', 'probabilities'\]"):
        build(path, output="scores")


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_truncated_file_is_refused(path, share):
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(WeightsError, match="cannot be loaded by ONNX Runtime"):
        build(path)


def test_a_model_of_two_inputs_is_refused(path):
    add = helper.make_node("Add", ["one", "two"], ["sum"])
    path.write_bytes(model_of([add], [("one", ["n", 2]), ("two", ["n", 2])], [("sum", ["n", 2])]))
    with pytest.raises(WeightsError, match=r"must have one input; it has \['one', 'two'\]"):
        build(path)


def network_of(path, operation, columns, batch="n", kind="logits", external=False, **options):
    """x @ W, then an operation or none; an external W is in a file of its own."""
    weights = np.random.default_rng(0).normal(size=(4, columns)).astype(np.float32)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["z" if operation else "y"])]
    nodes += [helper.make_node(operation, ["z"], ["y"])] if operation else []
    content = model_of(nodes, [("x", [batch, 4])], [("y", [batch, columns])], [("w", weights)])
    place = {"save_as_external_data": True, "location": "w.bin", "size_threshold": 0} if external else {}
    onnx.save(onnx.load_from_string(content), path, **place)
    return lambda: build(path, input=None, output_kind=kind, **options), weights


FLAT = np.random.default_rng(1).normal(size=(7, 4)).astype(np.float32)


@pytest.mark.parametrize(("operation", "kind"), [("Sigmoid", "probabilities"), (None, "logits")])
def test_one_column_is_the_sigmoid_of_class_1(tmp_path, operation, kind):
    load, weights = network_of(tmp_path / "m.onnx", operation, 1, kind=kind)
    said = load().predict(FLAT)
    expected = 1 / (1 + np.exp(-FLAT @ weights))
    np.testing.assert_allclose(said.probabilities, np.concatenate([1 - expected, expected], axis=1), atol=1e-6)
    assert said.answer.tolist() == (expected[:, 0] > 0.5).astype(int).tolist()
    assert set(said.answer.tolist()) == {0, 1}


def test_a_large_logit_of_one_column_does_not_overflow(tmp_path):
    load, weights = network_of(tmp_path / "m.onnx", None, 1)
    rows = np.sign(weights).T * np.float32(1e4)
    np.testing.assert_allclose(load().predict(np.concatenate([rows, -rows])).probabilities, [[0, 1], [1, 0]])


@pytest.mark.parametrize(("operation", "columns"), [("Sigmoid", 1), ("Softmax", 3)])
def test_probabilities_used_as_logits_are_refused(tmp_path, operation, columns):
    load, _ = network_of(tmp_path / "m.onnx", operation, columns)
    with pytest.raises(ConfigError, match=f"comes from a {operation}; write output_kind: probabilities"):
        load()


def test_probabilities_behind_an_identity_are_refused_at_the_first_call(tmp_path):
    nodes = [helper.make_node("Softmax", ["x"], ["z"]), helper.make_node("Identity", ["z"], ["y"])]
    (tmp_path / "m.onnx").write_bytes(model_of(nodes, [("x", ["n", 4])], [("y", ["n", 4])]))
    with pytest.raises(ConfigError, match="rows that sum to 1"):
        build(tmp_path / "m.onnx", input=None).predict(FLAT)


def test_logits_used_as_probabilities_are_refused(tmp_path):
    load, _ = network_of(tmp_path / "m.onnx", None, 3, kind="probabilities")
    with pytest.raises(StageError, match="look like logits"):
        Stage("a", load()).predict(FLAT)


@pytest.mark.parametrize("batch", [1, 3, 16])
@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_a_network_of_a_fixed_number_of_rows_answers_any_number(tmp_path, batch, n):
    fixed, _ = network_of(tmp_path / "fixed.onnx", None, 3, batch=batch)
    free, _ = network_of(tmp_path / "free.onnx", None, 3)
    said = fixed().predict(FLAT[:n]).probabilities
    np.testing.assert_allclose(said, free().predict(FLAT[:n]).probabilities, rtol=1e-5)


def test_an_output_of_labels_is_refused_and_the_others_are_named(tmp_path):
    nodes = [helper.make_node("ArgMax", ["x"], ["label"], axis=1, keepdims=0), helper.make_node("Relu", ["x"], ["y"])]
    model = onnx.load_from_string(model_of(nodes, [("x", ["n", 4])], [("y", ["n", 4])]))
    model.graph.output.insert(0, helper.make_tensor_value_info("label", TensorProto.INT64, ["n"]))
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(ConfigError, match=r"'label' is a tensor\(int64\), not an array of logits.*'y'"):
        build(tmp_path / "m.onnx", input=None)
    assert build(tmp_path / "m.onnx", input=None, output="y").predict(FLAT).probabilities.shape == (7, 4)


def test_read_only_rows_are_accepted_and_unchanged(path, pixels):
    before = pixels.copy()
    pixels.setflags(write=False)
    build(path).predict(pixels)
    np.testing.assert_array_equal(pixels, before)


def test_weights_in_a_file_beside_it_count_for_the_digest(tmp_path):
    load, _ = network_of(tmp_path / "m.onnx", "Softmax", 3, kind="probabilities", external=True)
    config = load().config
    assert data_files(config.model) == [tmp_path / "w.bin"]
    before = model_digest(config)
    (tmp_path / "w.bin").write_bytes((tmp_path / "w.bin").read_bytes()[::-1])
    assert model_digest(config) != before
    (tmp_path / "w.bin").unlink()
    with pytest.raises(WeightsError, match=r"w.bin does not exist"):
        model_digest(config)


def test_weights_of_inner_graphs_count_too(tmp_path):
    """Of a branch of an If, as constant of a node."""
    constant = numpy_helper.from_array(np.ones((1, 4), np.float32))
    constant.ClearField("raw_data")
    constant.data_location = TensorProto.EXTERNAL
    constant.external_data.add(key="location", value="inner.bin")
    node = helper.make_node("Constant", [], ["c"], value=constant)
    branch = helper.make_graph([node], "branch", [], [helper.make_tensor_value_info("c", TensorProto.FLOAT, [1, 4])])
    choice = helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch)
    (tmp_path / "m.onnx").write_bytes(model_of([choice], [("x", [])], [("y", [1, 4])]))
    assert data_files(tmp_path / "m.onnx") == [tmp_path / "inner.bin"]


@given(st.binary(max_size=200))
def test_a_file_that_is_no_protocol_buffer_has_no_data_files(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("any") / "m.onnx"
    path.write_bytes(content)
    assert all(isinstance(found, Path) for found in data_files(path))


def test_large_logits_do_not_overflow(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(model_of([helper.make_node("Identity", ["x"], ["y"])], [("x", ["n", 2])], [("y", ["n", 2])]))
    said = build(path, input=None).predict(np.array([[1e4, 0.0], [0.0, 0.0]], dtype=np.float32))
    assert said.probabilities.tolist() == [[1.0, 0.0], [0.5, 0.5]]
