"""All that needs a CUDA device runs on the processor too, in a rehearsal."""

import json

import pytest
import torch

from cascade.benchmarks.experiments.gpu import all_steps
from cascade.benchmarks.experiments.gpu.steps import RECIPES, steps_of
from cascade.benchmarks.experiments.networks.realised_saving import Race, figures
from cascade.benchmarks.harness.random_networks import base_network
from cascade.errors import CheckFailed, ConfigError


def rehearse(folder, only="", minutes=9.5, copy_to=None):
    all_steps.main(folder, None, copy_to, minutes, only, rehearse=True)


def states_in(folder):
    return {name: each["state"] for name, each in json.loads((folder / "steps.json").read_text()).items()}


def test_a_rehearsal_leaves_no_state_for_the_device(tmp_path):
    with pytest.raises(CheckFailed):
        rehearse(tmp_path, minutes=0)
    assert [path.name for path in tmp_path.iterdir()] == ["rehearsal"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_device_the_rehearsal_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"device 'cuda' cannot be used here.* --rehearse runs"):
        all_steps.main(tmp_path, None, None, 9.5, "", rehearse=False)
    assert not list(tmp_path.iterdir())


def test_a_training_is_rehearsed_and_not_repeated(tmp_path, capfd):
    folder, copies = tmp_path / "gpu", tmp_path / "copies"
    name = RECIPES[0]
    rehearse(folder, f"train {name}", copy_to=copies)
    assert states_in(copies) == {f"train {name}": "done"}
    assert json.loads((copies / "weights" / f"{name}.json").read_text())["history"]
    assert (copies / "weights" / f"{name}.safetensors").exists()
    rehearse(folder, f"train {name}")
    assert f"train {name}: done before" in capfd.readouterr().err


def test_steps_that_are_not_done_are_named(tmp_path):
    with pytest.raises(CheckFailed, match=f"not done: train {RECIPES[1]}"):
        rehearse(tmp_path, f"train {RECIPES[1]}")
    with pytest.raises(ConfigError, match="no step has a name with 'abacus'"):
        rehearse(tmp_path, "abacus")


@pytest.mark.slow
@pytest.mark.serve
def test_all_steps_are_rehearsed(tmp_path):
    rehearse(tmp_path, minutes=60)
    assert set(states_in(tmp_path / "rehearsal").values()) == {"done"}
    names = {"cascade_against_biggest_gpu", "predicted_time_gpu", "bench_gpu", "realised_saving_cpu_resnet110_float32"}
    assert names <= {file.stem for file in (tmp_path / "rehearsal" / "results").glob("*.json")}


def test_steps_are_named_once_and_fit_into_the_time_of_a_device(tmp_path):
    all_steps.random_data(tmp_path / "cache")
    steps = steps_of(tmp_path, tmp_path / "cache", rehearse=False)
    assert len({step.name for step in steps}) == len(steps) == 11
    assert max(step.limit_s for step in steps) < 10 * 60
    assert {need for step in steps for need in step.needs} <= {step.name for step in steps}


def test_a_cell_that_fails_is_recorded_and_no_figure(monkeypatch):
    race = Race("resnet110", "one-shot", base_network("resnet110", "cpu", torch.float32), lambda: 0.0)

    def fails(*_):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")

    monkeypatch.setattr(race, "run", fails)
    cell = race.cell(8, 0.0, few=False, others=True)
    assert cell["error"].startswith("OutOfMemoryError: CUDA out of memory")
    assert figures({"cells": [cell]}) == {}


def test_graphs_that_cannot_be_captured_are_left_out_and_named(monkeypatch):
    race = Race("resnet110", "one-shot", base_network("resnet110", "cpu", torch.float32), lambda: 0.0)
    race.use_graphs(True)

    def run(*_):
        if race.graphs:
            raise RuntimeError("operation not permitted when stream is capturing")
        return {"realised": {}}

    monkeypatch.setattr(race, "run", run)
    cell = race.cell(8, 0.0, few=False, others=True)
    assert "capturing" in cell["without_graphs"]
    assert "error" not in cell
