"""The trial of the stages while Ray starts: it finds those that cannot load, and no others."""

import time

import pytest
from failing_stages import custom, write_failing_cascade

from cascade.config import StageConfig
from cascade.serving.deploy import trial_load
from cascade.serving.deploy.trial_load import TrialLoad, is_tried


def outcome(trial):
    """The result of a trial when its process has ended."""
    while trial._process.poll() is None:
        assert trial.problem() is None
        time.sleep(0.02)
    found = trial.problem()
    trial.end()
    assert trial.problem() is None
    return found


@pytest.fixture
def tried(tmp_path, monkeypatch):
    """A function that tries a cascade whose second stage is given."""
    monkeypatch.setattr(trial_load, "TRIAL_S", 60.0)
    return lambda backend: outcome(TrialLoad(write_failing_cascade(tmp_path, backend)))


@pytest.mark.parametrize(
    ("backend", "found"),
    [
        (custom("Raises"), "stage 'big' cannot load: MemoryError: no room for the weights"),
        (custom("Leaves"), "stage 'big' cannot load: SystemExit: 0"),
        (custom("Missing"), "stage 'big' cannot load: 'failing_models:Missing' cannot be imported"),
        ('{type: custom, object: "no_such_module:Model"}', "stage 'big' cannot load: 'no_such_module:Model'"),
    ],
)
def test_a_stage_that_cannot_load_is_found_by_name(tried, backend, found):
    assert tried(backend).startswith(found)


@pytest.mark.parametrize("name", ["Good", "Dies"])
def test_a_trial_that_loads_or_dies_finds_no_error(tried, name):
    assert tried(custom(name)) is None


def test_a_damaged_file_is_found(tried, tmp_path):
    pytest.importorskip("onnxruntime")
    (tmp_path / "damaged.onnx").write_bytes(b"no network")
    assert tried("{type: onnx, model: damaged.onnx}").startswith("stage 'big' cannot load: ")


@pytest.mark.parametrize("name", ["Sleeps", "Spins"])
def test_a_trial_that_takes_too_long_is_stopped(tmp_path, monkeypatch, name):
    monkeypatch.setattr(trial_load, "TRIAL_S", 0.5)
    began = time.monotonic()
    assert outcome(TrialLoad(write_failing_cascade(tmp_path, custom(name)))) is None
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("options", [{"num_gpus": 0.5}, {"resources": {"edge": 1}}, {"runtime_env": {"pip": ["x"]}}])
def test_a_stage_that_needs_another_machine_or_environment_is_not_tried(options):
    def stage(**deployment):
        backend = {"type": "custom", "object": "x:Y"}
        return StageConfig.model_validate({"name": "big", "backend": backend, "deployment": deployment})

    assert is_tried(stage())
    assert is_tried(stage(ray_actor_options={"num_cpus": 2}))
    assert not is_tried(stage(ray_actor_options=options))
