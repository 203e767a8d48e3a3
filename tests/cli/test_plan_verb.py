"""``cascade plan``: its YAML fits the configuration, and matches its JSON."""

import numpy as np
import pytest
import yaml

from cascade.calibration import Policy
from cascade.config import CascadeConfig

CONFIG = """
name: planned
rows: {shape: [2]}
stages:
  - {name: stage0, backend: {type: custom, object: "a:B"}}
  - {name: stage1, backend: {type: custom, object: "a:B"}}
  - {name: stage2, backend: {type: custom, object: "a:B"}}
"""


@pytest.fixture
def files(tmp_path, make_table):
    make_table(400, 3, seed=1).save(tmp_path / "scores.npz")
    (tmp_path / "config.yaml").write_text(CONFIG)
    policy = Policy.from_thresholds(("stage0", "stage1", "stage2"), np.array([0.8, 0.7]))
    policy.save(tmp_path / "policy.json")
    return tmp_path / "config.yaml", "--scores", tmp_path / "scores.npz"


def test_the_printed_yaml_can_be_pasted(run, files):
    planned = run("plan", *files, "--rate", 100, "--json").json
    assert planned["segments"] == [["stage0"], ["stage1"], ["stage2"]]  # 1, 10 and 100 ms a row against a hop of 2
    assert planned["rows_per_s"] >= 100
    printed = run("plan", *files, "--rate", 100)
    assert printed.code == 0
    assert "reach share" in printed.out
    parts = printed.out[printed.out.index("serving:") :].split("# in the stage ")
    config = yaml.safe_load(CONFIG) | yaml.safe_load(parts[0])
    for part, stage in zip(parts[1:], config["stages"][1:], strict=True):
        name, _, text = part.partition(":\n")
        assert name == repr(stage["name"])
        stage |= yaml.safe_load(text)
    pasted = CascadeConfig.model_validate(config)
    assert [[stage.name for stage in segment] for segment in pasted.segments] == planned["segments"]
    counts = [pasted.serving.gateways, *(stage.deployment["num_replicas"] for stage in pasted.stages[1:])]
    assert counts == planned["replicas"]


def test_an_expensive_hop_keeps_stages_together_unless_one_requests_resources(run, files):
    assert run("plan", *files, "--hop-ms", 1e9, "--json").json["segments"] == [["stage0", "stage1", "stage2"]]
    text = CONFIG.replace("{name: stage2,", "{name: stage2, deployment: {ray_actor_options: {num_gpus: 1}},")
    files[0].write_text(text)
    assert run("plan", *files, "--hop-ms", 1e9, "--json").json["segments"] == [["stage0", "stage1"], ["stage2"]]


def test_autoscaling_begins_with_the_plan(run, files):
    planned = run("plan", *files, "--rate", 100, "--autoscale", "--json").json
    scaling = planned["deployments"]["stage2"]["autoscaling_config"]
    assert scaling["initial_replicas"] == planned["replicas"][2] > 1
    assert (scaling["min_replicas"], scaling["max_replicas"]) == (1, 2 * planned["replicas"][2])


def test_rate_and_replicas_exclude_each_other(run, files):
    assert run("plan", *files, "--rate", 100, "--replicas", 4).code == 2


def test_replicas_for_a_p99_are_compared_with_those_of_the_biggest_model_alone(run, files):
    asked = ["--rate", 30, "--p99-ms", 2000, "--hop-ms", 1e6]
    planned = run("plan", *files, *asked, "--json").json
    assert planned["replicas"] == planned["simulated"]["replicas"]
    assert planned["simulated"]["latency_ms"]["p99"] <= 2000
    assert planned["rate"] == pytest.approx(30)
    assert planned["times_fewer_replicas"] > 1
    assert planned["resources"]["simulated"] == {"cpus": sum(planned["replicas"]), "gpus": 0}
    printed = run("plan", *files, *asked).out
    assert f"the cascade: {sum(planned['replicas'])} replicas" in printed
    assert f"stage2 alone: {planned['biggest_alone']['replicas'][0]} replicas" in printed
    assert "times as many" in printed
    assert "gateways:" in printed


def test_a_trace_is_planned_for(run, files, tmp_path):
    trace = tmp_path / "trace.csv"
    trace.write_text("time_s,rows\n" + "".join(f"{i / 20},{1 + i % 2}\n" for i in range(2000)))
    assert run("plan", *files, "--trace", trace, "--p99-ms", 900, "--json").json["rate"] == pytest.approx(30, rel=0.01)
    trace.write_text("time_s\n3\n2\n")
    refused = run("plan", *files, "--trace", trace, "--p99-ms", 900)
    assert refused.code == 3
    assert "never fall" in refused.err
    trace.write_text("when\n3\n2\n")
    assert "'time_s'" in run("plan", *files, "--trace", trace, "--p99-ms", 900).err


def test_a_p99_that_cannot_be_had_is_refused_with_the_nearest(run, files):
    refused = run("plan", *files, "--rate", 50, "--p99-ms", 5)
    assert refused.code == 4
    assert "without any load it is" in refused.err


@pytest.mark.parametrize(
    "asked",
    [
        ["--p99-ms", 50],
        ["--trace", "trace.csv"],
        ["--rate", 5, "--trace", "trace.csv", "--p99-ms", 50],
        ["--rate", 0, "--p99-ms", 50],
        ["--rate", "inf", "--p99-ms", 50],
        ["--rate", 5, "--p99-ms", 0],
        ["--rate", 5, "--p99-ms", "nan"],
        ["--rate", 5, "--p99-ms", 50, "--cv", -1],
    ],
)
def test_options_that_make_no_plan_are_refused(run, files, asked):
    assert run("plan", *files, *asked).code == 2
