"""The configuration: all problems at once, each with its place."""

import pickle
import re
import urllib.parse
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import yaml

import cascade.serving
from cascade.calibration import HEADS
from cascade.config import CascadeConfig, RouterConfig, RowsConfig, ServingConfig
from cascade.config.serving_config import OWN_LISTENER
from cascade.errors import ConfigError

WHOLE = """
name: demo
rows: {shape: [4], dtype: float32}
stages:
  - name: small
    backend: {type: sklearn, model: models/small.skops}
    router: {score: margin, calibrator: platt}
  - name: middle
    backend: {type: custom, object: "mine:Model", arguments: {depth: 2}}
  - name: big
    backend: {type: torch, network: "mine:Net", weights: big.safetensors}
    deployment: {num_replicas: 2}
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "small.skops").touch()
    (tmp_path / "big.safetensors").touch()
    return tmp_path


def load(folder, text=WHOLE):
    path = folder / "config.yaml"
    path.write_text(text)
    return CascadeConfig.load(path)


def refusal(folder, text):
    with pytest.raises(ConfigError) as caught:
        load(folder, text)
    return str(caught.value)


def test_paths_are_relative_to_the_folder_of_the_config(folder, monkeypatch, tmp_path_factory):
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    config = load(folder)
    assert config.stages[0].backend.model == folder / "models" / "small.skops"
    assert config.stages[2].backend.weights == folder / "big.safetensors"
    assert config.policy == folder / "policy.json"
    assert load(folder, WHOLE + "policy: points/low.json\n").policy == folder / "points" / "low.json"
    assert load(folder, WHOLE + "policy: /elsewhere/p.json\n").policy == Path("/elsewhere/p.json")


def test_paths_of_keys_and_certificates_are_relative_too_and_need_not_exist(folder):
    serving = load(folder, WHOLE + "serving: {keys_file: k, tls_certificate: c.pem, tls_key: /p/key.pem}\n").serving
    assert (serving.keys_file, serving.tls_certificate) == (folder / "k", folder / "c.pem")
    assert serving.tls_key == Path("/p/key.pem")


def test_problems_of_serving_are_reported_with_their_place(folder):
    text = refusal(folder, WHOLE + 'serving: {keys_env: "A KEY", max_connections: 0}\n')
    assert "serving.keys_env" in text
    assert "serving.max_connections" in text
    assert "tls_certificate and tls_key go together" in refusal(folder, WHOLE + "serving: {tls_key: key.pem}\n")


def test_a_relative_path_to_the_config_works_too(folder, monkeypatch):
    load(folder)
    monkeypatch.chdir(folder)
    assert CascadeConfig.load("config.yaml").policy == folder / "policy.json"
    monkeypatch.chdir(folder / "models")
    assert CascadeConfig.load("../config.yaml").policy == folder / "policy.json"


def test_a_configuration_is_read_back_as_written(folder):
    config = load(folder)
    assert [stage.name for stage in config.stages] == ["small", "middle", "big"]
    assert (config.stages[0].router.score, config.stages[0].router.calibrator) == ("margin", "platt")
    assert config.stages[1].backend.arguments == {"depth": 2}
    assert config.stages[2].deployment == {"num_replicas": 2}
    assert config.rows.numpy_dtype == np.float32
    assert config.rows.row_bytes == 16


def test_a_config_survives_pickling(folder):
    config = load(folder)
    assert pickle.loads(pickle.dumps(config)) == config


def test_all_problems_are_reported_together_with_their_places(folder):
    text = refusal(
        folder,
        """
name: no spaces please
rows: {shape: [0], dtype: colour}
sages: []
stages:
  - name: small
    backend: {type: sklearn, model: nowhere.skops}
    router: {score: loudness}
  - backend: {type: abacus}
    replicas: 3
serving: {port: 70000, max_queue_rows: 0}
""",
    )
    expected = {
        "name": "must be 1 to 40 letters",
        "rows.shape.0": "greater than or equal to 1",
        "rows.dtype": "dtype must be a NumPy number type",
        "sages": "this key is not known",
        "stages.0.backend.sklearn.model": "nowhere.skops does not exist",
        "stages.0.router.score": "'maximum_probability', 'margin' or 'negative_entropy'",
        "stages.1.name": "required",
        "stages.1.backend": "abacus",
        "stages.1.replicas": "this key is not known",
        "serving.port": "less than or equal to 65535",
        "serving.max_queue_rows": "greater than or equal to 1",
    }
    lines = dict(line.strip().split(": ", 1) for line in text.splitlines()[1:])
    assert lines.keys() == expected.keys()
    for place, message in expected.items():
        assert message in lines[place]
    assert text.startswith(f"{folder / 'config.yaml'} has {len(expected)} problems:")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("stages:", "stages: []\nserving: {}\nclasses:"), "stages: there must be at least one stage"),
        (("- name: middle", "- name: small"), "stages must have different names"),
        (("stages:", "classes: [a, b, a]\nstages:"), "classes must be two or more different names"),
        (("name: demo", "name: demo\nschema_version: 2"), "schema_version"),
        (("mine:Model", "mine.Model"), "stages.1.backend.custom.object"),
        (("dtype: float32", "dtype: text"), "rows of dtype 'text' have no shape"),
        (("stages:", "serving: {segments: [[small], [big]]}\nstages:"), "every stage once, in order"),
        (("stages:", "serving: {segments: [[small, big], [middle]]}\nstages:"), "every stage once, in order"),
        (("stages:", "serving: {segments: [[small, middle], [], [big]]}\nstages:"), "empty segment"),
        (("stages:", "serving: {segments: []}\nstages:"), "every stage once, in order"),
        (("stages:", "classes: 3\nstages:"), "classes"),
        (("stages:", "classes: [only]\nstages:"), "classes must be two or more different names"),
        (("stages:", "serving: {least_max_stage: huge}\nstages:"), "least_max_stage must be a stage"),
        (("stages:", "serving: {gears: {step_up_wait_ms: 200}}\nstages:"), "step_up_wait_ms must be less than"),
        (("stages:", "serving: {gears: {floor_accuracy: 94}}\nstages:"), "serving.gears.floor_accuracy"),
        (("{num_replicas: 2}", "2"), "stages.2.deployment"),
        (("calibrator: platt}", "head: oracle}"), "stages.0.router.head"),
        (("calibrator: platt}", "head: deferral, calibrator: temperature}"), "the head 'deferral' returns none"),
    ],
)
def test_a_single_mistake_is_named(folder, change, message):
    assert message in refusal(folder, WHOLE.replace(*change))


def test_a_head_decides_instead_of_the_score(folder):
    (folder / "config.yaml").write_text(WHOLE)
    plain = CascadeConfig.load(folder / "config.yaml").stages
    assert [stage.router.choice for stage in plain][:2] == [("margin", "platt"), ("maximum_probability", "temperature")]
    choices = []
    for text in ("head: deferral}", "head: deferral, calibrator: isotonic}"):
        (folder / "config.yaml").write_text(WHOLE.replace("calibrator: platt}", text))
        choices.append(CascadeConfig.load(folder / "config.yaml").stages[0].router.choice)
    assert choices == [("deferral", "identity"), ("deferral", "isotonic")]


def test_the_configuration_lists_every_head():
    (allowed, _) = get_args(RouterConfig.model_fields["head"].annotation)
    assert get_args(allowed) == HEADS


def test_a_missing_weights_file_is_reported_before_any_model_is_loaded(folder):
    (folder / "big.safetensors").unlink()
    assert f"{folder / 'big.safetensors'} does not exist" in refusal(folder, WHOLE)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "just words",
        "- a\n- list",
        "name: [unclosed",
        "a: *nothing",
        "when: 2001-99-99",
        "{? [a, b] : c}",
        "name: demo\n1: 2",
        "\tname: demo",
        "!!python/object/apply:os.getcwd []",
    ],
)
def test_other_documents_are_refused_as_a_configuration(folder, text):
    assert str(folder / "config.yaml") in refusal(folder, text)


def test_files_that_cannot_be_read_are_refused(folder):
    with pytest.raises(ConfigError, match="does not exist"):
        CascadeConfig.load(folder / "none.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        CascadeConfig.load(folder)
    (folder / "binary.yaml").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(ConfigError, match="not UTF-8 text"):
        CascadeConfig.load(folder / "binary.yaml")


def names(config):
    return [[stage.name for stage in segment] for segment in config.segments]


def test_segments_default_to_the_last_stage_alone(folder):
    assert names(load(folder)) == [["small", "middle"], ["big"]]
    given = WHOLE + "serving: {segments: [[small], [middle, big]]}\n"
    assert names(load(folder, given)) == [["small"], ["middle", "big"]]
    single = WHOLE.split("  - name: middle")[0]
    assert names(load(folder, single)) == [["small"]]


def test_text_rows_are_objects_without_a_known_size():
    rows = RowsConfig(dtype="text")
    assert (rows.numpy_dtype, rows.row_bytes) == (np.dtype(object), 0)


@pytest.mark.parametrize("dtype", ["", "f4,f4", "object", "U5", "datetime64[s]", "complex64", "S", "(", "void"])
def test_types_other_than_numbers_are_refused(dtype):
    with pytest.raises(ValueError, match="dtype must be"):
        RowsConfig(dtype=dtype)


def unread_by_proxy():
    """Settings that only the code of our own listener reads."""
    serving = Path(cascade.serving.__file__).parent
    own = [serving / name for name in ("http/connection.py", "http/listener.py", "auth/tls.py")]
    read = {name for file in own for name in re.findall(r"serving\.(\w+)", file.read_text(encoding="utf-8"))}
    fields = read & ServingConfig.model_fields.keys()
    return sorted(fields - {"host", "port", "max_body_bytes", "max_pending_body_bytes", "request_timeout_s"})


VALUES = {"tls_certificate": "c.pem", "tls_key": "k.pem", "tls_client_ca": "a.pem", "max_header_bytes": 2048}


def test_the_settings_of_the_listener_exist():
    assert unread_by_proxy() == sorted(OWN_LISTENER)


@pytest.mark.parametrize("name", unread_by_proxy())
def test_settings_that_ray_serves_proxy_would_ignore_are_refused_with_it(folder, name):
    setting = f"{name}: {VALUES.get(name, 7)}"
    if name.startswith("tls_"):
        setting = ", ".join(f"{key}: {value}" for key, value in VALUES.items() if key.startswith("tls_"))
    assert load(folder, WHOLE + f"serving: {{{setting}}}\n").serving.listener == "own"
    message = refusal(folder, WHOLE + f"serving: {{listener: serve, {setting}}}\n")
    assert name in message
    assert "use listener: own" in message


def test_other_settings_are_accepted_with_ray_serves_proxy(folder):
    text = "serving: {listener: serve, max_body_bytes: 1000, keys_env: K, tls_key: null}\n"
    assert load(folder, WHOLE + text).serving.max_body_bytes == 1000


def test_one_body_must_fit_into_the_limit_for_all_bodies(folder):
    message = refusal(folder, WHOLE + "serving: {max_body_bytes: 2000, max_pending_body_bytes: 1999}\n")
    assert "max_pending_body_bytes must be at least max_body_bytes, 2000" in message


@pytest.mark.parametrize(
    ("host", "url"),
    [("::1", "http://[::1]:80"), ("::", "http://[::]:80"), ("127.0.0.1", "http://127.0.0.1:80"), ("a", "http://a:80")],
)
def test_an_address_has_brackets_around_ipv6_only(host, url):
    serving = ServingConfig(host=host, port=80)
    assert serving.url == url
    assert serving.model_copy(update={"tls_certificate": Path("c")}).url == url.replace("http", "https")
    assert urllib.parse.urlsplit(url).hostname == host


def test_a_host_with_brackets_is_refused(folder):
    assert "without brackets" in refusal(folder, WHOLE + "serving: {host: '[::1]'}\n")


@pytest.mark.parametrize("place", ["name", "stages.0.name", "stages.0.backend.object", "serving.keys_env"])
@pytest.mark.parametrize("value", ["städte", "a b", "", "a\n", "^[A-Z]$"])
def test_a_text_of_another_form_is_refused_in_words_without_the_regular_expression(tmp_path, place, value):
    document = {
        "name": "digits",
        "rows": {"shape": [4]},
        "stages": [{"name": "only", "backend": {"type": "custom", "object": "my_models:Mine"}}],
        "serving": {"keys_env": "KEYS"},
    }
    *outer, last = place.split(".")
    inner = document
    for part in outer:
        inner = inner[int(part)] if part.isdigit() else inner[part]
    inner[last] = value
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(document, allow_unicode=True), encoding="utf-8")
    with pytest.raises(ConfigError) as refusal:
        CascadeConfig.load(path)
    line = next(line for line in str(refusal.value).splitlines() if place.split(".")[-1] in line)
    assert "must be" in line
    assert "pattern" not in line
