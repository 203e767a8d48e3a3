"""Conditional computation: subsets of unit blocks equal the dense reference, and the dense network is all of them."""

import pytest
import torch
from torch.nn import functional

from cascade.backends.dynamic.path_costs import PathCosts
from cascade.backends.dynamic.systems.conditional import Conditional
from cascade.backends.training.objectives import Batch, Gumbel, HybridReinforce, SelfCritical

SHAPE = {"channels": 1, "width": 8, "layers": 2, "blocks": 3, "units": 5, "classes": 4}
ROWS = torch.randn(40, 1, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = Conditional(**SHAPE).eval()
    with torch.no_grad():
        for gate in network.policy.gates:
            gate.bias.zero_()
            gate.weight.mul_(30)
    return network


def test_rows_take_their_subsets_with_the_numbers_of_the_dense_reference(network):
    outcome = network.run(ROWS)
    assert outcome.paths.shape == (40, 6)
    assert len(outcome.paths.unique(dim=0)) > 5
    hot = network.sites.at_sites(functional.one_hot(outcome.paths, 2))
    with torch.inference_mode():
        torch.testing.assert_close(outcome.logits, network.sites.blend(ROWS, lambda d, _: hot[d]))
    for row in range(5):
        alone = network.run(ROWS[row : row + 1])
        assert torch.equal(alone.paths, outcome.paths[row : row + 1])
        torch.testing.assert_close(alone.logits, outcome.logits[row : row + 1])


def test_a_price_takes_fewer_blocks_and_its_opposite_is_the_dense_network(network):
    taken = []
    for network.price in (-1e6, 0.0, 1e6):
        outcome = network.run(ROWS)
        taken.append(int(outcome.paths.sum()))
        if network.price < 0:
            torch.testing.assert_close(outcome.logits, network.base(ROWS))
    assert taken[0] == 240 > taken[1] > taken[2] == 0
    costs = PathCosts.count(network.sites, network.policy, ROWS[:1])
    stem = 9 * 1 * 4 * 16 + 9 * 4 * 8 * 4
    assert costs.dense == 2 * (stem + 2 * 3 * (9 + 1) * 8 * 5 * 4 + 8 * 4)
    assert costs.policy == 2 * 2 * 8 * 3


@pytest.mark.parametrize("objective", [Gumbel(cost={"weight": 5.0, "target": 0.2}), HybridReinforce(), SelfCritical()])
def test_every_objective_trains_gates_and_blocks(network, objective):
    batch = Batch(ROWS, torch.arange(40) % 4)
    objective.prepare(network)
    torch.manual_seed(0)
    objective.loss(network, batch, 0.5).backward()
    assert all(gate.weight.grad.abs().sum() > 0 for gate in network.policy.gates)
    assert network.base.stem[0].weight.grad.abs().sum() > 0


def test_in_training_mode_the_answers_are_differentiable(network):
    network.train()
    functional.cross_entropy(network(ROWS), torch.arange(40) % 4).backward()
    assert network.base.head.weight.grad.abs().sum() > 0
