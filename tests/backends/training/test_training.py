"""Training: resumed and uninterrupted trainings end in the same bits."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from cascade.backends.dynamic.dynamic_network import BlockDrop
from cascade.backends.files.weights import save_weights
from cascade.backends.images import ImageInput
from cascade.backends.networks.resnet import CifarResNet
from cascade.backends.training.augmentation import crop_and_flip
from cascade.backends.training.recipe import Recipe, Start
from cascade.backends.training.trainer import Trainer
from cascade.errors import ConfigError

RANDOM = np.random.default_rng(0)
ROWS = RANDOM.integers(0, 256, (64, 8, 8, 3), dtype=np.uint8)
LABELS = RANDOM.integers(0, 2, 64)
ROWS[LABELS == 1, :, :, 0] //= 4  # something to learn


class Dropping(nn.Module):
    """Convolution, batch norm, dropout; records its settings and the rates of its dropout."""

    def __init__(self, width=6, strength=1.0):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, width, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(width, 2)
        self.strength = strength
        self.strengths = []

    def forward(self, x):
        if self.training:
            self.strengths.append(self.strength)
        return self.head(self.dropout(self.layers(x).mean(dim=(2, 3))))


RECIPES = {
    "sgd": {"network": "cascade.backends.networks.resnet:CifarResNet", "arguments": {"depth": 8, "width": 4}},
    "adamw": {"optimizer": "adamw", "weight_decay": 0.1},
    "bfloat16": {"precision": "bfloat16", "label_smoothing": 0.1},
    "folded": {"fold_norms": True},
    "phases": {"phases": [{"epochs": 1, "set": {"strength": 2.0}}, {"epochs": 1, "set": {"strength": 3.0}}]},
    "dynamic": {
        "network": "cascade.backends.dynamic.dynamic_network:BlockDrop",
        "arguments": {"depth": 8, "width": 4, "policy_width": 4},
        "phases": [
            {"epochs": 1, "objective": {"kind": "gumbel", "cost": {"weight": 1.0, "target": 0.5}}},
            {"epochs": 1, "objective": {"kind": "self_critical", "exploration": {"start": 0.8, "end": 0.9}}},
        ],
        "learning_rate_factors": {"policy": 0.1},
    },
    "stochastic depth": {
        "network": "cascade.backends.networks.resnet:CifarResNet",
        "arguments": {"depth": 14, "width": 4},
        "phases": [{"epochs": 1, "objective": {"kind": "stochastic_depth", "drop": 0.9}}, {"epochs": 1}],
    },
    "gates": {
        "network": "cascade.backends.dynamic.dynamic_network:SkipNet",
        "arguments": {"depth": 8, "width": 4, "gate": "II"},
        "phases": [{"epochs": 1, "objective": {"kind": k}} for k in ("straight_through", "hybrid_reinforce")],
    },
}


def recipe(**changes):
    values = {
        "network": f"{__name__}:Dropping",
        "input": ImageInput(mean=(128.0,) * 3, std=(64.0,) * 3),
        "held_out_rows": 16,
        "phases": [{"epochs": 2}],
        "batch_rows": 16,
        "learning_rate": 0.05,
        "crop_padding": 2,
        "precision": "float32",
    }
    return Recipe(**(values | changes))


class Interrupted(Exception):
    pass


def trainer(tmp_path, wanted, on_progress=lambda progress: None):
    return Trainer(wanted, ROWS, LABELS, tmp_path / "training.safetensors", tmp_path, on_progress)


def interrupt_at(epoch, step):
    def on_progress(progress):
        if (progress.epoch, progress.step) == (epoch, step):
            raise Interrupted

    return on_progress


def state(network):
    return {key: value.clone() for key, value in network.state_dict().items()}


def assert_same(one, other):
    assert one.keys() == other.keys()
    for key, value in one.items():
        assert torch.equal(value, other[key]), key


@pytest.mark.parametrize("name", RECIPES)
def test_a_training_continued_gives_the_same_weights_bit_for_bit(tmp_path, name):
    wanted = recipe(**RECIPES[name])
    (tmp_path / "whole").mkdir()
    whole = trainer(tmp_path / "whole", wanted).fit()
    with pytest.raises(Interrupted):
        trainer(tmp_path, wanted, interrupt_at(1, 2)).fit()
    torch.manual_seed(12345)  # another process has another state
    calls = []
    resumed = trainer(tmp_path, wanted, lambda progress: calls.append(progress.epoch)).fit()
    assert set(calls) == {1}, "the first epoch was not done again"
    assert_same(state(resumed.network), state(whole.network))
    for one, other in zip(resumed.history, whole.history, strict=True):
        assert {k: v for k, v in one.items() if k != "seconds"} == {k: v for k, v in other.items() if k != "seconds"}


def test_training_changes_the_weights_and_lowers_the_loss(tmp_path):
    wanted = recipe(**RECIPES["sgd"], phases=[{"epochs": 5}], crop_padding=0)
    torch.manual_seed(wanted.seed)
    fresh = CifarResNet(depth=8, width=4)
    trained = trainer(tmp_path, wanted).fit()
    assert not torch.equal(fresh.head.weight, trained.network.head.weight)
    assert trained.history[-1]["loss"] < trained.history[0]["loss"] * 0.8
    assert trained.history[-1]["held_out_accuracy"] == trained.accuracy(ROWS[-16:], LABELS[-16:])
    assert [record["epoch"] for record in trained.history] == [0, 1, 2, 3, 4]
    assert not trained.network.training


def test_a_factor_of_0_freezes_a_part(tmp_path):
    wanted = recipe(learning_rate_factors={"layers": 0}, fold_norms=True, optimizer="adamw", weight_decay=0.5)
    trained = trainer(tmp_path, wanted)
    started = trainer(tmp_path, wanted)
    torch.manual_seed(wanted.seed)
    before = state(started._new_network())
    after = state(trained.fit().network)
    assert {key for key in before if not torch.equal(before[key], after[key])} == {"head.weight", "head.bias"}
    assert all(p.grad is None for p in trained.network.layers.parameters())


def test_a_finished_training_is_not_done_again(tmp_path):
    first = trainer(tmp_path, recipe()).fit()
    calls = []
    second = trainer(tmp_path, recipe(), calls.append).fit()
    assert calls == []
    assert_same(state(second.network), state(first.network))


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "no metadata", "another file"])
def test_a_damaged_checkpoint_starts_over(tmp_path, damage):
    from safetensors.torch import save_file

    path = tmp_path / "training.safetensors"
    (tmp_path / "whole").mkdir()
    whole = trainer(tmp_path / "whole", recipe()).fit()
    with pytest.raises(Interrupted):
        trainer(tmp_path, recipe(), interrupt_at(1, 1)).fit()
    content = path.read_bytes()
    if damage == "no metadata":
        save_file({"x": torch.zeros(1)}, path)
    elif damage == "another file":
        save_file({"x": torch.zeros(1)}, path, metadata={"training": "[]"})
    else:
        path.write_bytes({"truncated": content[:-10], "empty": b"", "text": b"not at all"}[damage])
    calls = []
    again = trainer(tmp_path, recipe(), lambda progress: calls.append(progress.epoch)).fit()
    assert set(calls) == {0, 1}
    assert_same(state(again.network), state(whole.network))


@pytest.mark.parametrize("change", [{"learning_rate": 0.01}, {"arguments": {"width": 9}}, {"seed": 3}], ids=str)
def test_another_recipe_starts_over_as_if_there_were_no_checkpoint(tmp_path, change):
    (tmp_path / "whole").mkdir()
    whole = trainer(tmp_path / "whole", recipe(**change)).fit()
    with pytest.raises(Interrupted):
        trainer(tmp_path, recipe(), interrupt_at(1, 1)).fit()
    again = trainer(tmp_path, recipe(**change)).fit()
    assert_same(state(again.network), state(whole.network))


def test_fitting_again_without_the_checkpoint_trains_again(tmp_path):
    fitted = trainer(tmp_path, recipe()).fit()
    weights = state(fitted.network)
    fitted.checkpoint.unlink()
    assert_same(state(fitted.fit().network), weights)
    assert len(fitted.history) == 2


def test_phases_set_attributes_and_the_final_ones_stay(tmp_path):
    wanted = recipe(**RECIPES["phases"], final={"strength": 9.0})
    network = trainer(tmp_path, wanted).fit().network
    assert network.strengths == [2.0] * 3 + [3.0] * 3
    assert network.strength == 9.0
    (tmp_path / "two").mkdir()
    with pytest.raises(Interrupted):
        trainer(tmp_path / "two", wanted, interrupt_at(1, 1)).fit()
    assert trainer(tmp_path / "two", wanted).fit().network.strengths == [3.0] * 3


def test_the_learning_rate_rises_to_its_peak_and_falls_to_zero(tmp_path, monkeypatch):
    seen = []
    step = torch.optim.SGD.step
    monkeypatch.setattr(
        torch.optim.SGD, "step", lambda self, *a: (seen.append(self.param_groups[0]["lr"]), step(self, *a))[1]
    )
    wanted = recipe(phases=[{"epochs": 10}], warmup_share=0.2, learning_rate=0.3)
    with pytest.raises(Interrupted):
        trainer(tmp_path, wanted, interrupt_at(4, 3)).fit()
    trainer(tmp_path, wanted).fit()
    del seen[12:15]  # the interrupted epoch was done twice
    expected = [0.3 * (i / 6 if i < 6 else (30 - i) / 24) for i in range(30)]
    assert seen == pytest.approx(expected)


def test_decay_is_for_weights_of_two_and_more_axes_only(tmp_path, monkeypatch):
    groups = []
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self, *a: groups.append(self.param_groups))
    trainer(tmp_path, recipe(optimizer="adamw", weight_decay=0.3, phases=[{"epochs": 1}])).fit()
    decays = {(p.ndim > 1, group["weight_decay"]) for group in groups[0] for p in group["params"]}
    assert decays == {(True, 0.3), (False, 0.0)}


def test_held_out_rows_are_never_trained_on(tmp_path, monkeypatch):
    seen = []
    original = ImageInput.tensor
    monkeypatch.setattr(ImageInput, "tensor", lambda self, rows, *a: (seen.append(rows), original(self, rows, *a))[1])
    trainer(tmp_path, recipe(phases=[{"epochs": 1}])).fit()
    trained = np.concatenate(seen[:3])  # three steps, then the held-out rows
    unique = {row.tobytes() for row in trained}
    assert len(trained) == 48
    assert unique == {row.tobytes() for row in ROWS[:48]}
    np.testing.assert_array_equal(np.concatenate(seen[3:]), ROWS[48:])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arguments": {"nothing": 1}}, "cannot be built"),
        ({"network": "nowhere:Net"}, "cannot be imported"),
        ({"final": {"no_such_attribute": 1}}, "no attribute 'no_such_attribute'"),
        ({"batch_rows": 49}, "batch_rows 49"),
        ({"held_out_rows": 65}, "held_out_rows 65"),
    ],
)
def test_recipes_that_do_not_fit_are_config_errors(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        trainer(tmp_path, recipe(**changes)).fit()


def test_crops_and_flips_are_windows_of_the_reflected_image():
    images = torch.arange(3 * 2 * 5 * 5, dtype=torch.float32).reshape(3, 2, 5, 5)
    found = crop_and_flip(images.repeat(20, 1, 1, 1), 2, torch.Generator().manual_seed(0))
    assert found.shape == (60, 2, 5, 5)
    kinds = set()
    for image, crop in zip(images.repeat(20, 1, 1, 1).numpy(), found.numpy(), strict=True):
        padded = np.pad(image, ((0, 0), (2, 2), (2, 2)), mode="reflect")
        windows = {
            (y, x, flip): padded[:, y : y + 5, x : x + 5][:, :, :: -1 if flip else 1]
            for y in range(5)
            for x in range(5)
            for flip in (False, True)
        }
        matches = [key for key, window in windows.items() if np.array_equal(window, crop)]
        assert matches, "not a window of the image"
        kinds.add(matches[0])
    assert len(kinds) > 20
    assert {flip for _, _, flip in kinds} == {False, True}


def test_without_a_border_images_are_only_flipped():
    images = torch.rand(40, 1, 3, 4)
    found = crop_and_flip(images, 0, torch.Generator().manual_seed(0))
    flipped = [torch.equal(a, b.flip(2)) for a, b in zip(found, images, strict=True)]
    kept = [torch.equal(a, b) for a, b in zip(found, images, strict=True)]
    assert all(a != b for a, b in zip(flipped, kept, strict=True))
    assert 5 < sum(flipped) < 35


def test_a_recipes_epochs_belong_to_its_phases():
    wanted = recipe(phases=[{"epochs": 2, "set": {"strength": 1}}, {"epochs": 1, "set": {"strength": 2}}])
    assert wanted.epochs == 3
    assert [wanted.phase_at(epoch)[0].set["strength"] for epoch in range(3)] == [1, 1, 2]
    assert [wanted.phase_at(epoch)[1] for epoch in range(3)] == [0, 1, 0]


def test_a_training_may_start_from_a_file_and_be_averaged_with_it(tmp_path):
    first = trainer(tmp_path, recipe()).fit().network
    weights = tmp_path / "first.safetensors"
    save_weights(weights, first, {"folded": "false"})
    end = trainer(tmp_path, recipe(start_from=weights)).fit().network
    mean = trainer(tmp_path, recipe(start_from=weights, start_share=0.25)).fit().network
    parameters = dict(first.named_parameters()), dict(end.named_parameters())
    for name, value in mean.named_parameters():
        torch.testing.assert_close(value, 0.25 * parameters[0][name] + 0.75 * parameters[1][name])


def test_parts_start_from_files_of_their_own(tmp_path):
    for name, classes in (("base", 2), ("policy", 5)):
        torch.manual_seed(classes)
        save_weights(tmp_path / f"{name}.safetensors", CifarResNet(8, 4, classes=classes), {"folded": "false"})
    wanted = recipe(
        **RECIPES["dynamic"] | {"arguments": {"depth": 8, "width": 4, "policy_width": 4, "classes": 2}},
        start_from=[
            {"into": "base", "weights": tmp_path / "base.safetensors"},
            {"into": "policy.network", "weights": tmp_path / "policy.safetensors", "without": ["head"]},
        ],
        learning_rate=1e-12,
    )
    network = trainer(tmp_path, wanted).fit().network
    for part, classes in ((network.base, 2), (network.policy.network, 5)):
        torch.manual_seed(classes)
        torch.testing.assert_close(part.stem[0].weight, CifarResNet(8, 4, classes=classes).stem[0].weight)
    assert network.policy.network.head.out_features == 3
    with pytest.raises(ConfigError, match="no part 'nowhere'"):
        trainer(tmp_path, wanted.model_copy(update={"start_from": (Start(weights=tmp_path, into="nowhere"),)})).fit()


def test_a_part_may_start_from_a_part_of_another_network(tmp_path):
    arguments = {"depth": 8, "width": 4}
    torch.manual_seed(7)
    whole = BlockDrop(**arguments, policy_width=4)
    save_weights(tmp_path / "whole.safetensors", whole, {})
    start = {"weights": tmp_path / "whole.safetensors", "part": "base", "into": "base"}
    wanted = recipe(**RECIPES["gates"] | {"arguments": arguments}, start_from=[start], learning_rate=1e-12)
    network = trainer(tmp_path, wanted).fit().network
    torch.testing.assert_close(network.base.stem[0].weight, whole.base.stem[0].weight)


def test_a_training_may_start_from_a_shallower_network(tmp_path):
    save_weights(tmp_path / "shallow.safetensors", CifarResNet(8, 4), {"folded": "false"})
    wanted = recipe(
        **RECIPES["stochastic depth"],
        start_from=[{"weights": tmp_path / "shallow.safetensors", "grow": True}],
        learning_rate=1e-12,
    )
    network = trainer(tmp_path, wanted).fit().network
    shallow = load_file(tmp_path / "shallow.safetensors")
    torch.testing.assert_close(network.blocks[2].residual[0].weight, shallow["blocks.1.residual.0.weight"])
    assert network.blocks[1].residual[4].weight.abs().max() < 1e-6


def test_parts_learn_at_rates_of_their_own(tmp_path, monkeypatch):
    rates = {}

    def step(self, *arguments):
        rates.update({p: group["lr"] for group in self.param_groups for p in group["params"]})

    monkeypatch.setattr(torch.optim.SGD, "step", step)
    network = trainer(tmp_path, recipe(**RECIPES["dynamic"])).fit().network
    base, policy = rates[network.base.head.weight], rates[network.policy.network.head.weight]
    assert policy == pytest.approx(0.1 * base)


def test_a_dynamic_networks_history_has_the_kept_blocks_and_paths(tmp_path):
    trained = trainer(tmp_path, recipe(**RECIPES["dynamic"])).fit()
    images = recipe().input.tensor(ROWS[-16:])
    paths = trained.network.run(images).paths
    assert trained.history[-1]["held_out_kept"] == pytest.approx(paths.sum(dim=1).double().mean().item(), abs=1e-4)
    assert trained.history[-1]["held_out_paths"] == len({tuple(path.tolist()) for path in paths})
