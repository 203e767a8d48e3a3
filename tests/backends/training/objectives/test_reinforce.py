"""The expected gradient of the surrogate, over all paths, is the gradient of the objective."""

import pytest
import torch
from torch.nn import functional

from cascade.backends.dynamic.executor import even_works
from cascade.backends.training.objectives import Batch, HybridReinforce, SelfCritical
from cascade.backends.training.objectives.hybrid_reinforce import returns
from cascade.backends.training.objectives.path_objective import work_shares
from cascade.backends.training.objectives.self_critical import bounded, path_rewards


def policy_gradient(network, loss):
    network.zero_grad()
    loss.backward()
    return torch.cat([p.grad.flatten() for p in network.policy.parameters() if p.grad is not None])


def along(network, image, path, exploration=None):
    """Logits of a path, and its differentiable probability."""
    state, probability = network.policy.begin(image), torch.ones(())

    def decide(d, x):
        nonlocal state, probability
        logits, state = network.policy.step(d, x.detach(), state)
        p = logits.softmax(dim=1)
        if exploration is not None:
            p = bounded(p, exploration)
        probability = probability * p[0, path[d]]
        return functional.one_hot(path[d : d + 1], 2)

    return network.sites.blend(image, decide), probability


def one_row(batch):
    return Batch(batch.images[1:2], batch.labels[1:2])


@pytest.mark.parametrize(("answer_weight", "baseline"), [(1.0, "none"), (0.3, "none"), (1.0, "best")])
def test_hybrid_reinforce_descends_the_expected_loss_less_the_savings(
    network, batch, all_paths, force, answer_weight, baseline
):
    row, alpha = one_row(batch), 0.7
    objective = HybridReinforce(cost_weight=alpha, answer_weight=answer_weight, policy_weight=0.5, baseline=baseline)
    objective.prepare(network)
    network.policy.eval()  # a batch of one row has no statistics
    found, wanted = 0, 0
    for path in all_paths:
        logits, probability = along(network, row.images, path)
        saved = 1 - path.sum() / len(path)
        value = answer_weight * functional.cross_entropy(logits, row.labels) - alpha * saved
        wanted = wanted + probability * value.detach()
        force(path)
        found = found + probability.item() * policy_gradient(network, objective.loss(network, row, 0.0))
    torch.testing.assert_close(found, 0.5 * policy_gradient(network, wanted), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("exploration", [0.8, 0.95])
def test_self_critical_ascends_the_expected_reward_whatever_the_baseline(network, batch, all_paths, force, exploration):
    row = one_row(batch)
    objective = SelfCritical(penalty=2.0, exploration=exploration, freeze_base=True)
    objective.prepare(network)
    network.policy.eval()
    found, wanted = 0, 0
    for path in all_paths:
        logits, probability = along(network, row.images, path, exploration)
        right = int(logits.argmax()) == int(row.labels)
        wanted = wanted + probability * (1 - (float(path.sum()) / len(path)) ** 2 if right else -2.0)
        force(path)
        found = found + probability.item() * policy_gradient(network, objective.loss(network, row, 0.0))
    torch.testing.assert_close(found, -policy_gradient(network, wanted), rtol=1e-3, atol=1e-6)


def test_the_best_path_as_the_baseline_makes_the_gradient_less_noisy(network, batch):
    spread = {}
    for baseline in ("none", "best"):
        objective = HybridReinforce(policy_weight=1.0, baseline=baseline)
        objective.prepare(network)
        network.base.requires_grad_(False)
        torch.manual_seed(0)
        gradients = [policy_gradient(network, objective.loss(network, batch, 0.0)) for _ in range(100)]
        spread[baseline] = torch.stack(gradients).var(dim=0).sum()
    assert spread["best"] < 0.5 * spread["none"]


def test_a_return_counts_later_rewards_and_not_earlier_ones():
    found = returns(torch.tensor([1.0, 2.0]), torch.tensor([[0.0, 0.5, 0.25], [1.0, 0.0, 0.0]]))
    torch.testing.assert_close(found, torch.tensor([[-0.25, -0.25, -0.75], [-1.0, -2.0, -2.0]]))


def test_rewards_are_the_papers():
    answers = torch.tensor([[9.0, 0.0], [0.0, 9.0], [9.0, 0.0]])
    paths = torch.tensor([[1, 0, 1, 1], [1, 1, 1, 1], [0, 0, 0, 0]])
    found = path_rewards(answers, paths, torch.tensor([0, 0, 0]), penalty=5.0, shares=work_shares(even_works([2] * 4)))
    torch.testing.assert_close(found, torch.tensor([1 - 0.75**2, -5.0, 1.0]))


@pytest.mark.parametrize("alternatives", [2, 3, 5])
def test_bounded_probabilities_stay_probabilities_and_away_from_certainty(alternatives):
    p = torch.randn(20, alternatives).mul(20).softmax(dim=1)
    found = bounded(p, 0.8)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(20))
    assert found.min() >= 0.2 / (alternatives - 1) * (1 - p.max()) - 1e-6
    assert found.max() <= 0.8 + 1e-6


def test_the_curriculum_decides_only_the_last_choices(network, batch):
    objective = SelfCritical(controlled={"start": 0.0, "end": 1.0}, exploration=0.5001, freeze_base=True)
    objective.prepare(network)
    depth, seen = len(network.sites.sites), []
    follow = type(network.sites).follow

    def spy(self, images, decide):
        def recorded(d, x):
            path = decide(d, x)
            seen[-1][d] |= bool((path == 0).any())
            return path

        return follow(self, images, recorded)

    many = Batch(batch.images.repeat(16, 1, 1, 1), batch.labels.repeat(16))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(network.sites), "follow", spy)
        for done in (0.0, 1 / depth, 1.0):
            seen.append([False] * depth)
            torch.manual_seed(1)
            objective.loss(network, many, done)
    assert seen[0] == [False] * (depth - 1) + [True]
    assert seen[1] == seen[0]
    assert seen[2] == [True] * depth


def test_a_batch_baseline_leaves_the_mean_return_at_zero(network, batch, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "cascade.backends.training.objectives.hybrid_reinforce.taken_log_probabilities",
        lambda scores, paths: seen.append(scores) or torch.ones(paths.shape, requires_grad=True),
    )
    objective = HybridReinforce(baseline="batch", policy_weight=1.0)
    objective.prepare(network)
    torch.manual_seed(0)
    with_policy = objective.loss(network, batch, 0.0)
    torch.manual_seed(0)
    plain = objective.model_copy(update={"policy_weight": 1e-9}).loss(network, batch, 0.0)
    torch.testing.assert_close(with_policy, plain)
    assert seen
