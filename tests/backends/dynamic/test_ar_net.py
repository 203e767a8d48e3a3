"""AR-Net: frames are looked at with the numbers of the dense reference, and skipped frames stay skipped."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from cascade import Cascade
from cascade.backends.dynamic.path_costs import PathCosts
from cascade.backends.dynamic.systems.ar_net import ARNet
from cascade.backends.dynamic.systems.frames import SKIPS
from cascade.backends.training.objectives import Batch, CrossEntropy, Gumbel, HybridReinforce
from cascade.backends.training.recipe import Recipe
from cascade.backends.training.trainer import Trainer
from cascade.errors import ConfigError, RowsError
from cascade.files.yaml_files import load_yaml_model

EXAMPLE = Path(__file__).parents[3] / "examples" / "clips"
T, SIDE = 6, 16
ARGUMENTS = {"frames": T, "side": SIDE, "sizes": (8, 12, 16), "widths": (2, 3, 4), "hidden": 5, "classes": 3}
ALTERNATIVES = len(SKIPS) + 3


def clips(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    light = torch.randn(n, 3, T, generator=generator).repeat_interleave(SIDE, dim=2)[..., None]
    film = torch.randn(n, 3, T * SIDE, SIDE, generator=generator) + 3 * light
    return film.contiguous(memory_format=torch.channels_last)


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = ARNet(**ARGUMENTS).eval()
    with torch.no_grad():
        network.policy.output.bias.zero_()
        network.policy.output.weight.mul_(12)
        network.policy.cell.weight_ih.mul_(4)
        network.policy.glance.layers[-2].weight.mul_(8)
    return network


def dense(network, rows, paths):
    """Every network on every frame, one row after the other."""
    answers = []
    for row, path in zip(rows, paths, strict=True):
        frames = row.unflatten(1, (T, SIDE)).transpose(0, 1)
        looked = [(t, a - len(SKIPS)) for t, a in enumerate(path.tolist()) if a >= len(SKIPS)]
        seen = [network.base[k](frames[t][None])[0, :-1] for t, k in looked]
        answers.append(torch.stack(seen).mean(dim=0) if seen else torch.zeros(3))
    return torch.stack(answers)


@pytest.mark.parametrize("n", [1, 2, 7, 64])
def test_frames_are_looked_at_with_the_numbers_of_the_dense_reference(network, n):
    rows = clips(n)
    outcome = network.run(rows)
    assert outcome.paths.shape == (n, T)
    hot = functional.one_hot(outcome.paths, ALTERNATIVES)
    with torch.inference_mode():
        torch.testing.assert_close(outcome.logits, dense(network, rows, outcome.paths))
        torch.testing.assert_close(outcome.logits, network.sites.blend(rows, lambda d, _: hot))
        torch.testing.assert_close(outcome.logits, network.sites.follow(rows, lambda d, _: outcome.paths))
    for row in range(min(n, 5)):
        alone = network.run(rows[row : row + 1])
        assert torch.equal(alone.paths, outcome.paths[row : row + 1])
        torch.testing.assert_close(alone.logits, outcome.logits[row : row + 1])


def test_rows_differ_in_their_paths_and_no_row_is_fine(network):
    assert len(network.run(clips(64)).paths.unique(dim=0)) > 10
    assert network.run(clips(0)).logits.shape == (0, 3)


@pytest.mark.parametrize("alternative", range(ALTERNATIVES))
def test_every_alternative_has_the_numbers_of_its_network(network, alternative):
    rows = clips(5)
    paths = torch.zeros(5, T, dtype=torch.int64)
    paths[:, 2], paths[:3, 4] = alternative, len(SKIPS)
    with torch.inference_mode():
        found = network.sites.follow(rows, lambda d, _: paths)
        torch.testing.assert_close(found, dense(network, rows, paths))


def passed(paths):
    """(n, T) bool, by the definition: an earlier skip of k frames reaches over the frame."""
    over = torch.zeros_like(paths, dtype=torch.bool)
    for row, path in enumerate(paths.tolist()):
        t = 0
        while t < len(path):
            skip = SKIPS[path[t]] if path[t] < len(SKIPS) else 1
            over[row, t + 1 : t + skip] = True
            t += skip
    return over


def test_skipped_frames_are_not_looked_at_and_not_seen_by_the_memory(network):
    rows = clips(80)
    for network.price in (0.0, 0.3):
        paths = network.run(rows).paths
        over = passed(paths)
        assert over.any()
        assert (paths[over] == 0).all()
    row, t = over.nonzero()[0].tolist()
    changed = rows.clone()
    changed[row, :, t * SIDE : (t + 1) * SIDE] = 3.0
    assert torch.equal(network.run(changed).paths, paths)


def test_decisions_of_training_and_of_inference_are_the_same(network):
    rows = clips(60)
    paths = network.run(rows).paths
    state = network.policy.begin(rows)
    given = iter(paths[:, :, None].unbind(dim=1))
    scores, _, _ = network.policy.decide(0, None, state, lambda _: next(given))
    assert torch.equal(scores.argmax(dim=-1), paths)
    weights = network.policy.decide(0, None, state, lambda own: functional.one_hot(own.argmax(dim=-1), own.shape[-1]))
    assert torch.equal(weights[1].argmax(dim=-1), paths)


@pytest.mark.parametrize("size", ARGUMENTS["sizes"])
def test_all_frames_may_be_looked_at_at_one_size(network, size):
    network.taken = size
    assert network.taken == size
    assert (network.run(clips(4)).paths == len(SKIPS) + ARGUMENTS["sizes"].index(size)).all()
    network.taken = None
    assert len(network.run(clips(4)).paths.unique()) > 1


def test_random_sizes_train_all_networks_and_leave_the_policy(network):
    network.taken = "random"
    objective = CrossEntropy()
    objective.prepare(network)
    objective.loss(network, Batch(clips(40), torch.arange(40) % 3), 0.0).backward()
    assert all(net.network.head.weight.grad.abs().sum() > 0 for net in network.base)
    assert all(parameter.grad is None for parameter in network.policy.parameters())
    taken = network.eval().run(clips(200)).paths
    assert set(taken.unique().tolist()) == {0, *range(len(SKIPS), ALTERNATIVES)}
    assert 0.4 < (taken == 0).float().mean() < 0.6


@pytest.mark.parametrize(
    "objective", [Gumbel(cost={"weight": 5.0, "target": 0.2}, balance=0.5, freeze_base=True), HybridReinforce()]
)
def test_objectives_train_the_policy(network, objective):
    objective.prepare(network)
    torch.manual_seed(0)
    objective.loss(network, Batch(clips(40), torch.arange(40) % 3), 0.5).backward()
    assert network.policy.cell.weight_hh.grad.abs().sum() > 0
    assert network.policy.glance.layers[0].weight.grad.abs().sum() > 0
    assert (network.base[0].network.head.weight.grad is None) == objective.freeze_base


def test_balance_is_the_squared_distance_from_even_use(network):
    network.taken = 16
    batch = Batch(clips(8), torch.arange(8) % 3)
    losses = []
    for balance in (0.0, 2.0):
        objective = Gumbel(balance=balance, cost={"weight": 0.0})
        objective.prepare(network)
        network.eval()
        losses.append(objective.loss(network, batch, 0.0).item())
    even = 1 / ALTERNATIVES
    expected = 2.0 * ((1 - even) ** 2 + (ALTERNATIVES - 1) * even**2)
    assert losses[1] - losses[0] == pytest.approx(expected, rel=1e-4)


def test_costs_are_those_of_each_row(network):
    rows = clips(6)
    costs = PathCosts.count(network.sites, network.policy, rows[:1])
    paths = network.run(rows).paths
    for row in range(6):
        with FlopCounterMode(display=False) as counter:
            network.run(rows[row : row + 1])
        assert float(costs.of(paths[row : row + 1])) == counter.get_total_flops()
    assert (costs.alternatives.diff(dim=1)[:, len(SKIPS) - 1 :] > 0).all()
    assert (costs.alternatives[:, : len(SKIPS)] == 0).all()


def test_a_clip_that_is_not_looked_at_has_equal_probabilities(network):
    network.price = 1e6
    outcome = network.run(clips(5))
    assert (outcome.paths < len(SKIPS)).all()
    assert (outcome.logits == 0).all()


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        (torch.zeros(2, 3, 0, SIDE), r"\[3, 0, 16\]"),
        (torch.zeros(2, 3, (T - 1) * SIDE, SIDE), r"\[3, 80, 16\]"),
        (torch.zeros(2, 3, T * SIDE, SIDE + 1), r"\[3, 96, 17\]"),
        (torch.zeros(2, 1, T * SIDE, SIDE), r"\[1, 96, 16\]"),
        (torch.zeros(2, T, 3, SIDE, SIDE), r"\[6, 3, 16, 16\]"),
        ({"film": torch.zeros(2, 3, T * SIDE, SIDE)}, "slices"),
    ],
    ids=["no frame", "a frame less", "wider", "grey", "an axis of frames", "slices"],
)
def test_other_clips_are_refused(network, rows, found):
    with pytest.raises(ConfigError, match=f"needs 6 frames of 16 x 16 pixels, one below the other.*got .*{found}"):
        network.run(rows)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"taken": 20}, "20 is no size; choose from"),
        ({"sizes": (16, 8), "widths": (2, 2)}, "sizes must rise"),
        ({"sizes": (8, 32), "widths": (2, 2)}, "at most the side of a frame, 16"),
        ({"sizes": (8, 16), "widths": (2,)}, "a width for each"),
        ({"sizes": (), "widths": ()}, "sizes must rise"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        ARNet(**ARGUMENTS | arguments)


@pytest.fixture(scope="module")
def example():
    return Cascade.load(EXAMPLE / "config.yaml")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.zeros((2, 0, 32, 3), np.uint8), "512"),
        (np.zeros((2, 480, 32, 3), np.uint8), "512"),
        (np.zeros((2, 512, 24, 3), np.uint8), "512"),
        (np.zeros((2, 16, 32, 32, 3), np.uint8), "512"),
        (np.zeros((2, 512, 32, 3), np.complex64), "complex64"),
        (np.full((2, 512, 32, 3), np.nan, np.float32), "nan|NaN|float32"),
        ([[[[0]] * 3], [[[0]]]], "."),
    ],
    ids=["no frame", "other number", "other size", "an axis of frames", "dtype", "nan", "ragged"],
)
def test_the_example_refuses_rows_that_are_no_clips(example, rows, message):
    with pytest.raises(RowsError, match=message):
        example.predict(rows)


def test_a_training_of_the_recipe_can_be_begun(tmp_path):
    recipe = load_yaml_model(EXAMPLE / "recipes" / "ar_net.yaml", Recipe, ConfigError)
    phases = [phase.model_copy(update={"epochs": 1}) for phase in recipe.phases]
    short = {"phases": phases, "batch_rows": 2, "held_out_rows": 2}
    random = np.random.default_rng(0)
    rows, labels = random.integers(0, 256, (4, 512, 32, 3), dtype=np.uint8), random.integers(0, 10, 4)
    starts = []
    trainer = Trainer(recipe.model_copy(update=short), rows, labels, tmp_path / "checkpoint.safetensors", tmp_path)
    trainer.on_progress = lambda _: starts.append(trainer.network.base[-1].network.head.weight.detach().clone())
    trainer.fit()
    assert all(np.isfinite(record["loss"]) for record in trainer.history)
    assert torch.equal(starts[0], starts[1])  # the second phase freezes the networks
    assert not torch.equal(starts[1], starts[2])  # and the third does not
