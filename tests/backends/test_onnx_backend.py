"""The ONNX backend against the torch network that the file was made from."""

import numpy as np
import pytest
import torch

from cascade.backends.config import OnnxConfig
from cascade.backends.errors import WeightsError
from cascade.backends.images import ImageInput
from cascade.errors import ConfigError

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


def test_large_logits_do_not_overflow(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(model_of([helper.make_node("Identity", ["x"], ["y"])], [("x", ["n", 2])], [("y", ["n", 2])]))
    said = build(path, input=None).predict(np.array([[1e4, 0.0], [0.0, 0.0]], dtype=np.float32))
    assert said.probabilities.tolist() == [[1.0, 0.0], [0.5, 0.5]]
