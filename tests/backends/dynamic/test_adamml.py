"""AdaMML: segments take their modalities with the numbers of the dense reference, and remember earlier decisions."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from cascade.backends.dynamic.path_costs import PathCosts
from cascade.backends.dynamic.systems.adamml import AdaMML
from cascade.backends.training.objectives import Batch, Gumbel, HybridReinforce, StraightThrough
from cascade.errors import ConfigError

NAMES = ("accelerometer", "gyroscope")
ARGUMENTS = {"shape": (3, 2, 16), "width": 4, "hidden": 5, "classes": 3}


def recordings(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(n, 3, 2, 16, generator=generator) for name in NAMES}


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = AdaMML(**ARGUMENTS).eval()
    with torch.no_grad():
        network.policy.output.bias.zero_()
        network.policy.output.weight.mul_(6)
        network.policy.cell.weight_ih.mul_(4)
    return network


def test_rows_take_their_modalities_with_the_numbers_of_the_dense_reference(network):
    rows = recordings(40)
    outcome = network.run(rows)
    assert outcome.paths.shape == (40, 6)
    assert len(outcome.paths.unique(dim=0)) > 5
    hot = functional.one_hot(outcome.paths, 2)
    with torch.inference_mode():
        torch.testing.assert_close(outcome.logits, network.sites.blend(rows, lambda d, _: hot))
        torch.testing.assert_close(outcome.logits, network.sites.follow(rows, lambda d, _: outcome.paths))
    for row in range(5):
        alone = network.run({name: values[row : row + 1] for name, values in rows.items()})
        assert torch.equal(alone.paths, outcome.paths[row : row + 1])
        torch.testing.assert_close(alone.logits, outcome.logits[row : row + 1])
    assert network.run(recordings(0)).logits.shape == (0, 3)


def test_earlier_decisions_are_remembered_as_they_were_run(network):
    rows = recordings(60)
    state = network.policy.begin(rows)
    for network.price in (0.0, 1.5):
        outcome = network.run(rows)
        paths = outcome.paths.view(60, 3, 2)
        given = iter(paths.unbind(dim=1))
        scores, _, _ = network.policy.decide(0, None, state, lambda _, own=given: next(own))
        margin = scores[..., 1] - scores[..., 0] - network.price
        assert torch.equal((margin >= 0).long(), outcome.paths)
    assert not torch.equal(scores.argmax(dim=-1), outcome.paths)
    network.price = 1e6
    assert network.run(rows).paths.sum() == 0


@pytest.mark.parametrize("taken", [["accelerometer"], ["gyroscope"], list(NAMES), []])
def test_modalities_may_be_fixed(network, taken):
    network.taken = taken
    assert network.taken == taken
    paths = network.run(recordings(4)).paths.view(4, 3, 2)
    assert (paths == torch.tensor([name in taken for name in NAMES])).all()


def test_a_missing_modality_is_not_looked_at_and_the_rest_answers(network):
    rows = recordings(20)
    rows["gyroscope"][:10] = 0.0
    network.taken = list(NAMES)
    outcome = network.run(rows)
    assert (outcome.paths.view(20, 3, 2)[:10] == torch.tensor([1, 0])).all()
    assert (outcome.paths[10:] == 1).all()
    network.taken = ["accelerometer"]
    torch.testing.assert_close(network.run(rows).logits[:10], outcome.logits[:10])


def test_a_row_without_anything_has_equal_probabilities(network):
    network.taken = list(NAMES)
    nothing = {name: torch.zeros(2, 3, 2, 16) for name in NAMES}
    assert (network.run(nothing).logits == 0).all()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            {"accelerometer": torch.zeros(2, 3, 2, 16)},
            "one slice for each modality, accelerometer, gyroscope; got accel",
        ),
        (torch.zeros(2, 3), "got none"),
        (recordings(2) | {"magnetometer": torch.zeros(2, 3)}, "magnetometer"),
        (
            recordings(2) | {"gyroscope": torch.zeros(2, 3, 2, 8)},
            r"gyroscope must have shape \[3, 2, 16\].*\[3, 2, 8\]",
        ),
    ],
    ids=["one slice", "no slices", "another", "shape"],
)
def test_other_slices_are_refused(network, rows, message):
    with pytest.raises(ConfigError, match=message):
        network.run(rows)


def test_an_unknown_modality_is_refused():
    with pytest.raises(ConfigError, match="'sound'"):
        AdaMML(**ARGUMENTS, taken=["sound"])


@pytest.mark.parametrize(
    "objective", [Gumbel(cost={"weight": 5.0, "target": 0.2}), StraightThrough(), HybridReinforce()]
)
def test_objectives_train_policy_and_modalities(network, objective):
    objective.prepare(network)
    torch.manual_seed(0)
    objective.loss(network, Batch(recordings(40), torch.arange(40) % 3), 0.5).backward()
    assert network.policy.cell.weight_hh.grad.abs().sum() > 0
    assert network.policy.glance.layer.weight.grad.abs().sum() > 0
    assert all(net.weight.grad.abs() > 0 for net in network.base)


def test_costs_are_those_of_the_path(network):
    rows = recordings(8)
    costs = PathCosts.count(network.sites, network.policy, {name: values[:1] for name, values in rows.items()})
    one = 2 * (2 * 9 * 4 * 4 + 4 * 5 * 8 * 2 + 8 * 5 * 8 * 1 + 8 * 3)
    np.testing.assert_allclose(costs.of(torch.tensor([[1, 0, 1, 1, 0, 0]])), costs.fixed + 3 * one)
    assert costs.policy == costs.fixed
