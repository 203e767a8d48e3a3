"""Big-Little Net with gates: what rows take equals the dense reference, at the cost of what is computed."""

import copy

import pytest
import torch
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from cascade.backends.dynamic.executor import Executor
from cascade.backends.dynamic.path_costs import PathCosts
from cascade.backends.dynamic.systems.big_little import GatedBigLittle
from cascade.backends.networks.folding import fold_norms
from cascade.backends.networks.packing import can_pack, pack_convolutions
from cascade.backends.training.objectives import Batch, Gumbel

IMAGES = torch.randn(24, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def network(settled):
    torch.manual_seed(0)
    network = GatedBigLittle(width=4)
    for stage in network.base.stages:
        torch.nn.init.uniform_(stage.narrow[1].weight, 0.5, 1)
    settled(network.base, 16)
    with torch.no_grad():
        means = []
        network.sites.follow(IMAGES, lambda d, x: means.append(x.mean(dim=(2, 3))) or torch.ones(24, dtype=torch.int64))
        for gate, mean in zip(network.policy.gates, means, strict=True):
            gate.weight.mul_(20)
            gate.bias.copy_(-(mean @ gate.weight.T).median(dim=0).values)
    return network


def test_rows_take_their_branches_with_the_numbers_of_the_dense_reference(network):
    outcome = network.run(IMAGES)
    assert len(outcome.paths.unique(dim=0)) > 2
    hot = functional.one_hot(outcome.paths, 2).float()
    with torch.inference_mode():
        reference = network.sites.blend(IMAGES, lambda d, _: hot[:, d])
    torch.testing.assert_close(outcome.logits, reference)
    network.price = -1e6
    torch.testing.assert_close(network.run(IMAGES).logits, network.base(IMAGES).detach())


def test_the_cost_of_a_row_is_what_is_computed_for_it(network):
    costs = PathCosts.count(network.sites, network.policy, IMAGES[:1])
    for row in range(4):
        with FlopCounterMode(display=False) as counter:
            paths = network.run(IMAGES[row : row + 1]).paths
        gates = 2 * (4 + 8)  # they run in NumPy, which is not counted
        assert counter.get_total_flops() + gates == costs.of(paths).item()


@pytest.mark.skipif(not can_pack(), reason="no oneDNN library (extra onednn)")
def test_packed_it_computes_the_same(network):
    fold_norms(network.requires_grad_(False))
    wanted = network.run(IMAGES)
    packed = pack_convolutions(copy.deepcopy(network))
    outcome = Executor(packed.sites, packed.policy).run(IMAGES)
    assert torch.equal(outcome.paths, wanted.paths)
    torch.testing.assert_close(outcome.logits, wanted.logits, rtol=1e-3, atol=1e-4)


def test_gates_and_branches_learn(network):
    objective = Gumbel(cost={"weight": 5.0, "target": 0.2})
    objective.prepare(network)
    torch.manual_seed(0)
    objective.loss(network, Batch(IMAGES, torch.arange(24) % 10), 0.5).backward()
    assert all(gate.weight.grad.abs().sum() > 0 for gate in network.policy.gates)
    assert all(stage.big[0].residual[0].weight.grad.abs().sum() > 0 for stage in network.base.stages)
