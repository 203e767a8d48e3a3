"""Dynamic networks as a backend, and through a whole cascade: each row's cost is that of its path."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from cascade.backends.config import DynamicConfig
from cascade.backends.dynamic.dynamic_network import BlockDrop, SkipNet
from cascade.backends.dynamic.path_costs import PathCosts
from cascade.backends.dynamic_backend import DynamicBackend
from cascade.backends.ensemble_backend import EnsembleBackend
from cascade.backends.files.weights import save_weights
from cascade.backends.images import ImageInput
from cascade.calibration import Policy, ScoreTable, evaluate
from cascade.cascade import Cascade
from cascade.errors import ConfigError, RowsError, WeightsError

INPUT = ImageInput(mean=(128.0,) * 3, std=(64.0,) * 3)
ARGUMENTS = {
    "BlockDrop": {"depth": 14, "width": 4, "policy_width": 4, "policy_stem_stride": 2, "classes": 3},
    "SkipNet": {"depth": 14, "width": 4, "gate": "recurrent", "classes": 3},
}


def build_network(name, settled):
    """With a policy that keeps some blocks of some rows."""
    torch.manual_seed(5)
    network = {"BlockDrop": BlockDrop, "SkipNet": SkipNet}[name](**ARGUMENTS[name])
    settled(network.base, 16)
    if name == "BlockDrop":
        settled(network.policy.network, 16)
        with torch.no_grad():
            head = network.policy.network.head
            head.weight *= 10
            head.bias -= network.policy.network(INPUT.tensor(pictures(100, 0))).mean(dim=0)
    else:
        nn.init.normal_(network.policy.output.weight, std=30.0)
        nn.init.zeros_(network.policy.output.bias)
    return network.eval()


def pictures(n, seed):
    """(n, 16, 16, 3) uint8, of different colours and contrasts."""
    generator = np.random.default_rng(seed)
    colour, contrast = generator.uniform(0, 255, (n, 1, 1, 3)), generator.uniform(0, 100, (n, 1, 1, 1))
    return np.clip(colour + contrast * generator.normal(size=(n, 16, 16, 3)), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module", params=sorted(ARGUMENTS))
def saved(request, tmp_path_factory, settled):
    """(name, network, weights file)."""
    path = tmp_path_factory.mktemp("dynamic") / "weights.safetensors"
    network = build_network(request.param, settled)
    save_weights(path, network, {})
    return request.param, network, path


@pytest.fixture(scope="module")
def rows():
    """(40, 16, 16, 3) uint8."""
    return pictures(40, seed=1)


def build(saved, **changes):
    name, _, path = saved
    values = {
        "type": "dynamic",
        "network": f"cascade.backends.dynamic.dynamic_network:{name}",
        "arguments": ARGUMENTS[name],
        "weights": path,
        "input": INPUT,
    }
    return DynamicBackend(DynamicConfig(**(values | changes)))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_row_is_answered_along_its_path_at_the_cost_of_the_path(saved, rows, precision):
    _, network, _ = saved
    said = build(saved, precision=precision).predict(rows)
    outcome = network.run(INPUT.tensor(rows))
    expected = torch.softmax(outcome.logits, dim=1).numpy()
    assert len(outcome.paths.unique(dim=0)) >= 2
    if precision == "bfloat16":
        assert (said.answer == expected.argmax(axis=1)).mean() > 0.7
        return
    costs = PathCosts.count(network.sites, network.policy, INPUT.tensor(rows[:1]))
    assert said.probabilities == pytest.approx(expected, abs=1e-4)
    assert said.mflop == pytest.approx(costs.of(outcome.paths).numpy() / 1e6)


def test_rows_cost_the_same_alone_and_in_a_batch(saved, rows):
    backend = build(saved)
    together = backend.predict(rows[:8])
    alone = [backend.predict(rows[i : i + 1]) for i in range(8)]
    assert np.concatenate([each.mflop for each in alone]) == pytest.approx(together.mflop)
    assert np.concatenate([each.probabilities for each in alone]) == pytest.approx(together.probabilities, abs=1e-4)
    assert backend.flops_per_row(rows[:8]) == pytest.approx(together.mflop.mean() * 1e6)


def test_prices_are_operating_points_of_the_same_weights(saved, rows):
    work = [build(saved, price=price).predict(rows).mflop.mean() for price in (-1e6, 0.0, 1e6)]
    assert work == sorted(work, reverse=True)
    assert len(set(work)) == 3
    assert build(saved, price=-1e6).predict(rows).mflop.max() == build(saved).highest_row_cost(rows), "the longest path"


def test_images_of_another_size_are_right_and_cost_what_they_cost(saved, rows):
    backend, (_, network, _) = build(saved), saved
    wide = np.tile(rows[:4], (1, 1, 2, 1))
    expected = torch.softmax(network.run(INPUT.tensor(wide)).logits, dim=1).numpy()
    assert backend.predict(wide).probabilities == pytest.approx(expected, abs=1e-4)
    everything = build(saved, price=-1e6)
    assert everything.predict(wide).mflop == pytest.approx(2 * everything.predict(rows[:4]).mflop, rel=0.01)
    assert everything.predict(rows[:4]).mflop == pytest.approx(everything.predict(rows[4:8]).mflop)


def test_images_that_do_not_fit_are_refused(tmp_path, settled):
    arguments = ARGUMENTS["SkipNet"] | {"gate": "I"}
    save_weights(tmp_path / "w.safetensors", SkipNet(**arguments), {})
    backend = build(("SkipNet", None, tmp_path / "w.safetensors"), arguments=arguments)
    with pytest.raises(RowsError, match=r"images of 3 x 2 x 2 .* do not fit the network"):
        backend.predict(np.zeros((2, 2, 2, 3), dtype=np.uint8))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_pixels_that_are_no_numbers_are_refused(saved, rows, value):
    backend = build(saved, input=None)
    images = INPUT.tensor(rows[:6]).numpy()
    assert len(backend.predict(images)) == 6
    images[4, 1, 2, 3] = value
    with pytest.raises(RowsError, match=r"row 4 .* NaN or infinite"):
        backend.predict(images)


def test_what_does_not_fit_is_refused(saved, monkeypatch):
    name = saved[0]
    with pytest.raises(WeightsError, match=f"does not fit {name}"):
        build(saved, arguments=ARGUMENTS[name] | {"depth": 20})
    with pytest.raises(ConfigError, match="depth must be 6n"):
        build(saved, arguments=ARGUMENTS[name] | {"depth": 15})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    if not torch.backends.cuda.is_built():
        with pytest.raises(ConfigError, match="device 'cuda' cannot be used here"):
            build(saved, device="cuda")


def test_graphs_need_a_cuda_device(saved):
    with pytest.raises(ConfigError, match=r"graphs: true needs a CUDA device; the device is 'cpu'"):
        build(saved, graphs=True)


def test_without_a_library_for_packed_convolutions_the_answers_are_the_same(saved, rows, monkeypatch):
    packed = build(saved).predict(rows)
    monkeypatch.setattr("cascade.backends.torch_backend.can_pack", lambda: False)
    plain = build(saved).predict(rows)
    assert plain.probabilities == pytest.approx(packed.probabilities, abs=1e-4)
    assert plain.mflop == pytest.approx(packed.mflop)


def test_other_networks_are_of_type_torch(tmp_path, tiny_network):
    save_weights(tmp_path / "w.safetensors", tiny_network, {})
    network = "cascade.backends.networks.resnet:CifarResNet"
    values = {"network": network, "arguments": {"depth": 8, "width": 4, "classes": 3}}
    with pytest.raises(ConfigError, match="CifarResNet, whose backend type is 'torch'"):
        build(("BlockDrop", None, tmp_path / "w.safetensors"), **values)


def test_an_ensemble_of_dynamic_networks_adds_their_operations_up(saved, rows):
    members = [build(saved), build(saved, price=-1e6)]
    together = EnsembleBackend(members, "mean").predict(rows[:4])
    assert together.mflop == pytest.approx(sum(member.predict(rows[:4]).mflop for member in members))
    assert EnsembleBackend(members).highest_row_cost(rows) == 2 * members[0].highest_row_cost(rows)


CONFIG = """
name: dynamic
rows: {{shape: [16, 16, 3], dtype: uint8}}
stages:
{stages}
"""
STAGE = """
  - name: {name}
    backend:
      type: dynamic
      network: "cascade.backends.dynamic.dynamic_network:{network}"
      arguments: {arguments}
      weights: {weights}
      input: {{mean: [128, 128, 128], std: [64, 64, 64]}}
      price: {price}
    router: {{calibrator: platt}}
"""


@pytest.fixture
def folder(saved, tmp_path, rows):
    """A cascade of two operating points of one network, and rows labelled by the more expensive one."""
    name, _, weights = saved
    values = {"network": name, "arguments": json.dumps(ARGUMENTS[name]), "weights": weights}
    stages = [STAGE.format(name=stage, price=price, **values) for stage, price in (("cheap", 0.0), ("whole", -1e6))]
    (tmp_path / "config.yaml").write_text(CONFIG.format(stages="".join(stages)))
    many = pictures(600, seed=2)
    label = build(saved, price=-1e6).predict(many).answer
    np.savez(tmp_path / "rows.npz", rows=many[:400], label=label[:400])
    np.savez(tmp_path / "held_out.npz", rows=many[400:], label=label[400:])
    return tmp_path


@pytest.mark.parametrize("cost", ["flops", "time"])
def test_costs_of_rows_reach_the_table_the_certificate_and_the_answers(saved, folder, run, cost):
    config, table, policy = (str(folder / name) for name in ("config.yaml", "scores.npz", "policy.json"))
    rows, held_out = folder / "rows.npz", folder / "held_out.npz"
    options = ("--rows", str(rows), "--out", table, "--cost", cost, "--curve-seconds", 0.3, "--json")
    assert run("collect", config, *options).code == 0
    scores = ScoreTable.load(table)
    assert scores.cost.shape == (400, 2)
    assert np.ptp(scores.cost[:, 0]) > 0
    assert np.ptp(scores.cost[:, 1]) == pytest.approx(0), "every row takes the whole network"
    middle = float(scores.cost[:, 0].mean() + scores.cost[:, 1].mean())
    target = ["--max-accuracy-drop", "0.5", "--max-cost", str(1.02 * middle)]
    assert run("calibrate", config, "--scores", table, *target, "--out", policy, "--json").code == 0
    found = Policy.load(policy)
    assert (found.cost_per_mflop > 0).all()
    assert found.certificate["guarantee"] == "certified"
    assert found.certificate["tests"][1]["target"] == "max_cost"
    seen = run("evaluate", "--scores", table, "--policy", policy, "--json")
    assert seen.code == 0, seen.err
    answers = Cascade.load(config, policy).predict(np.load(rows)["rows"])
    if cost == "flops":  # the time of a row depends on the rows beside it as well
        # BlockDrop's cheap one takes two thirds of the whole network, which no share of rows answered makes up for.
        assert found.runs.tolist() == ["SkipNet" in saved[0], True]
        expected = np.where(answers.stage == 0, scores.cost[:, 0], (scores.cost * found.runs).sum(axis=1))
        assert answers.cost == pytest.approx(expected, rel=1e-6)
    assert answers.cost.mean() == pytest.approx(evaluate(scores, found).mean_cost, rel=1e-3)
    cheap = Cascade.load(config, policy).predict(np.load(held_out)["rows"])
    assert len(np.unique(cheap.cost)) > 2 or not found.runs[0]
