import pytest
import torch
from torch.nn import functional

from cascade.backends.dynamic.executor import even_works
from cascade.backends.networks.resnet import CifarResNet
from cascade.backends.training.objectives import (
    Batch,
    CrossEntropy,
    Gumbel,
    HybridReinforce,
    SelfCritical,
    StraightThrough,
)
from cascade.backends.training.objectives.path_objective import CostTerm, costs_taken, path_costs, work_shares
from cascade.backends.training.objectives.straight_through import hard_weights
from cascade.errors import ConfigError


def test_hard_weights_are_hard_forward_and_soft_backward():
    logits = torch.tensor([[0.0, 2.0], [0.5, -1.0]], requires_grad=True)
    scales = torch.tensor([[1.0, 3.0], [2.0, -1.0]])
    weights = hard_weights(logits, 0.5)
    torch.testing.assert_close(weights, torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    (weights * scales).sum().backward()
    soft = logits.detach().requires_grad_()
    ((soft / 0.5).softmax(dim=1) * scales).sum().backward()
    torch.testing.assert_close(logits.grad, soft.grad)


def test_the_loss_is_that_of_the_paths_that_are_taken_and_their_cost(network, batch):
    objective = StraightThrough(cost={"weight": 2.0, "target": 0.3}, freeze_norms=True)
    objective.prepare(network)
    network.policy.eval()
    loss = objective.loss(network, batch, 0.0)
    outcome = network.eval().run(batch.images)
    kept = outcome.paths.double().mean()
    expected = functional.cross_entropy(outcome.logits, batch.labels) + 2 * (kept - 0.3) ** 2
    torch.testing.assert_close(loss.double(), expected.double(), rtol=1e-4, atol=1e-5)
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in (list(network.policy.parameters())[-1],))


def test_without_a_target_the_cost_is_a_price():
    costs = torch.tensor([0.2, 0.6])
    assert CostTerm(weight=3.0).of(costs, 0.0).item() == pytest.approx(1.2)
    falling = CostTerm(weight=1.0, target={"start": 1.0, "end": 0.4})
    assert falling.of(costs, 1.0).item() == pytest.approx(0.0)
    assert falling.of(costs, 0.0).item() == pytest.approx(0.36)


@pytest.mark.parametrize("alternatives", [2, 3])
def test_costs_of_weights_and_of_paths_agree(alternatives):
    paths = torch.randint(0, alternatives, (9, 4), generator=torch.Generator().manual_seed(0))
    weights = functional.one_hot(paths, alternatives).float()
    shares = work_shares(even_works([alternatives] * 4))
    torch.testing.assert_close(path_costs(weights, shares), costs_taken(paths, shares))
    whole = torch.full((1, 4), alternatives - 1)
    assert costs_taken(whole, shares).sum().item() == pytest.approx(1.0)


def test_gumbel_noise_draws_alternatives_with_their_softmax_probability(network, batch):
    many = Batch(batch.images[:1].repeat(2000, 1, 1, 1), batch.labels[:1].repeat(2000))
    objective = Gumbel(cost={"weight": 1.0})
    objective.prepare(network)
    network.eval()
    torch.manual_seed(3)
    with torch.no_grad():
        logits, _ = network.policy.step(0, network.sites.stem(many.images), network.policy.begin(many.images))
        seen = []
        with pytest.MonkeyPatch.context() as patch:
            blend = type(network.sites).blend
            patch.setattr(
                type(network.sites),
                "blend",
                lambda self, images, decide: blend(self, images, lambda d, x: seen.append(decide(d, x)) or seen[-1]),
            )
            objective.loss(network, many, 0.0)
    wanted = logits[0].softmax(dim=0)[1].item()
    assert 0.02 < wanted < 0.98
    assert seen[0][:, 1].mean().item() == pytest.approx(wanted, abs=0.05)


OBJECTIVES = [StraightThrough(), Gumbel(), HybridReinforce(), SelfCritical(), SelfCritical(learn_on="best")]


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda o: f"{o.kind}")
def test_statistics_are_frozen_exactly_where_features_depend_on_paths(network, batch, objective):
    objective.prepare(network)
    buffers = {name: value.clone() for name, value in network.named_buffers()}
    objective.loss(network, batch, 0.5).backward()
    changed = {name for name, value in network.named_buffers() if not torch.equal(value, buffers[name])}
    assert any(name.startswith("base.") for name in changed) == (not objective.freeze_norms)
    assert any(name.startswith("policy.") for name in changed) == any(n.startswith("policy.") for n in buffers)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("learn_on", ["drawn", "best"])
def test_self_critical_trains_base_and_policy_or_the_policy_only(network, batch, learn_on, precision):
    for freeze in (True, False):
        objective = SelfCritical(learn_on=learn_on, freeze_base=freeze, penalty=50.0, entropy_weight=0.1)
        torch.manual_seed(2)
        network.zero_grad(set_to_none=True)
        objective.prepare(network)
        with torch.autocast("cpu", precision, enabled=precision == torch.bfloat16, cache_enabled=False):
            loss = objective.loss(network, batch, 0.0)
        loss.backward()
        assert (network.base.stem[0].weight.grad is None) == freeze
        assert all(p.grad is not None for p in network.policy.parameters())


@pytest.mark.parametrize("objective", OBJECTIVES[:4], ids=lambda o: o.kind)
def test_a_network_without_paths_is_refused(objective):
    with pytest.raises(ConfigError, match="CifarResNet is none"):
        objective.prepare(CifarResNet(depth=8, width=4))


def test_cross_entropy_is_torchs(batch):
    network = CifarResNet(depth=8, width=4, classes=3)
    smooth = Batch(batch.images, batch.labels, label_smoothing=0.1)
    objective = CrossEntropy()
    objective.prepare(network)
    network.eval()
    expected = functional.cross_entropy(network(batch.images), batch.labels, label_smoothing=0.1)
    torch.testing.assert_close(objective.loss(network, smooth, 0.0), expected)
