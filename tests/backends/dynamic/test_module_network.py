import itertools

import numpy as np
import pytest
import torch
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from cascade.backends.config import DynamicConfig
from cascade.backends.dynamic.path_costs import PathCosts
from cascade.backends.dynamic.systems.module_network import ModuleNetwork
from cascade.backends.dynamic_backend import DynamicBackend
from cascade.backends.files.weights import save_weights
from cascade.backends.images import RowSlices
from cascade.datasets.shapes import draw_shapes, shapes_questions, shapes_rows
from cascade.errors import ConfigError, RowsError

SCALE = {"mean": [127.5] * 3, "std": [127.5] * 3}
INPUT = {
    "slices": {
        "image": {"columns": [0, 2700], "shape": [30, 30, 3], "image": SCALE},
        "question": {"columns": [2700, 2764], "dtype": "int64"},
    }
}
EMPTY = np.zeros((1, 30, 30, 3), np.uint8)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return ModuleNetwork(width=4).eval()


@pytest.fixture(scope="module")
def rows():
    images, _, asked = draw_shapes(shapes_questions("test"), 3, seed=7)
    return shapes_rows(images, asked)


@pytest.fixture
def backend(network, tmp_path):
    save_weights(tmp_path / "w.safetensors", network, {})
    config = {
        "type": "dynamic",
        "network": f"{ModuleNetwork.__module__}:ModuleNetwork",
        "arguments": {"width": 4},
        "weights": str(tmp_path / "w.safetensors"),
        "input": INPUT,
    }
    return DynamicBackend(DynamicConfig.model_validate(config))


def inputs(rows):
    return RowSlices.model_validate(INPUT).tensor(rows)


def test_the_path_is_the_parse(network):
    row = shapes_rows(EMPTY, ["is a circle left of above a red shape"])
    paths = network.policy.paths(inputs(row), lambda logits: logits)
    # reference red (0); from it first above (1), then left of (3); subject circle (3)
    assert paths.tolist() == [[0, 1, 3, 3]]
    row = shapes_rows(EMPTY, ["is a green shape a square"])
    assert network.policy.paths(inputs(row), lambda logits: logits).tolist() == [[4, 0, 0, 1]]


def test_grouped_equals_every_alternative(network, rows):
    sites = network.sites
    outcome = network.run(inputs(rows))
    weights = [functional.one_hot(outcome.paths[:, d], site.alternatives).float() for d, site in enumerate(sites.sites)]
    with torch.inference_mode():
        torch.testing.assert_close(outcome.logits, sites.blend(inputs(rows), lambda d, _: weights[d]))
        alone = torch.cat([network.run(inputs(rows[i : i + 1])).logits for i in range(len(rows))])
    torch.testing.assert_close(outcome.logits, alone)


def test_costs_are_those_of_the_modules_that_run(network):
    costs = PathCosts.count(network.sites, network.policy, inputs(shapes_rows(EMPTY, ["is a circle red"])))
    for moves in itertools.product(("", "above ", "left of "), repeat=2):
        row = inputs(shapes_rows(EMPTY, [f"is a circle {''.join(moves)}a square"]))
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            paths = network.run(row).paths
        assert float(costs.of(paths)[0]) == counter.get_total_flops()


def test_gradients_reach_the_modules_of_the_questions_only():
    network = ModuleNetwork(width=4).train()
    rows = shapes_rows(
        np.random.default_rng(0).integers(0, 255, (4, 30, 30, 3), dtype=np.uint8), ["is a circle red"] * 4
    )
    network(inputs(rows)).sum().backward()
    touched = [find[0].weight.grad is not None for find in network.base.finds]
    assert touched == [True, False, False, True, False, False]
    assert all(move[0].weight.grad is None for move in network.base.moves)


def test_the_backend_answers_with_a_cost_for_each_row(backend, rows):
    prediction = backend.predict(rows)
    assert prediction.probabilities.shape == (len(rows), 2)
    assert len(set(prediction.mflop.tolist())) > 1  # questions of different lengths


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        ("is a purple shape red", "row 1: .*unknown words.*purple"),
        ("", "row 1: .*cannot be parsed"),
        ("what is this", "row 1: .*cannot be parsed"),
        ("is a circle above above above a square", "row 1: the question has 3 relations; .*at most 2"),
    ],
)
def test_a_question_that_cannot_be_answered_is_refused(backend, question, reason):
    rows = shapes_rows(np.concatenate([EMPTY, EMPTY]), ["is a circle red", question])
    with pytest.raises(RowsError, match=reason):
        backend.predict(rows)


def test_a_question_that_is_no_text_is_refused(backend):
    rows = shapes_rows(EMPTY, ["is a circle red"])
    rows[0, 2700:2764] = 255
    with pytest.raises(RowsError, match="row 0"):
        backend.predict(rows)


def test_slices_that_are_missing_are_named(network):
    row = inputs(shapes_rows(EMPTY, ["is a circle red"]))
    with pytest.raises(ConfigError, match="'question'"):
        network.run({"image": row["image"]})
    with pytest.raises(ConfigError, match="'image'"):
        network.run({"question": row["question"]})
    with pytest.raises(ConfigError, match=r"\[30, 30, 3\]"):
        network.run(row | {"image": row["image"][:, :, :20]})


def test_a_deeper_network_answers_deeper_questions():
    network = ModuleNetwork(width=4, moves=3).eval()
    row = shapes_rows(EMPTY, ["is a circle above above above a square"])
    assert network.run(inputs(row)).paths.tolist() == [[4, 1, 1, 1, 3]]
