"""The digest of a model: equal for equal predictions, different if predictions may differ."""

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import TypeAdapter

import cascade
from cascade.backends.code.module_source import module_source
from cascade.backends.config import BackendConfig, CustomConfig, OnnxConfig, TorchConfig
from cascade.backends.digest import model_digest, remembered_digest
from cascade.calibration import Policy
from cascade.cascade import check_models
from cascade.config import CascadeConfig


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"numbers")
    return path


def torch_config(weights, **changes):
    return TorchConfig(type="torch", network="nets:Net", weights=weights, **changes)


def test_the_place_of_a_file_and_of_the_computation_do_not_count(weights, tmp_path):
    moved = tmp_path / "moved.safetensors"
    moved.write_bytes(weights.read_bytes())
    assert model_digest(torch_config(weights)) == model_digest(
        torch_config(moved, device="cuda", threads=3, packed=True)
    )


@pytest.mark.parametrize(
    "changes", [{"arguments": {"width": 2}}, {"precision": "bfloat16"}, {"fold_norms": True}], ids=str
)
def test_what_changes_an_answer_counts(weights, changes):
    assert model_digest(torch_config(weights)) != model_digest(torch_config(weights, **changes))


def test_the_content_of_a_file_counts(weights):
    before = model_digest(torch_config(weights))
    weights.write_bytes(b"others!")
    assert model_digest(torch_config(weights)) != before


def test_every_kind_has_a_digest_of_its_own(weights):
    custom = [CustomConfig(type="custom", object="mine:Model", arguments={"k": k}) for k in (1, 2)]
    digests = {model_digest(config) for config in [*custom, OnnxConfig(type="onnx", model=weights)]}
    assert len(digests) == 3
    assert all(len(digest) == 64 for digest in digests)


def test_a_remembered_digest_reads_a_backend_once(weights):
    config, digest = torch_config(weights), remembered_digest()
    before = digest(config)
    weights.write_bytes(b"others")
    assert digest(config) == before != model_digest(config)
    assert digest(torch_config(weights)) == model_digest(config)


def described(folder, **keys):
    return TypeAdapter(BackendConfig).validate_python(keys, context={"folder": folder})


def custom(folder, **keys):
    return described(folder, type="custom", object="digest_models:Model", **keys)


@pytest.fixture
def folder(tmp_path):
    """A module beside the config, and files that its class opens."""
    (tmp_path / "digest_models.py").write_text("class Model:\n    pass\n")
    for name in ("one.npy", "two.npy", "three.npy"):
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


KINDS = {
    "source": ("digest_models.py", {}),
    "argument": ("one.npy", {"arguments": {"path": "one.npy"}}),
    "inner argument": ("two.npy", {"arguments": {"paths": [{"here": "two.npy"}]}}),
    "file": ("three.npy", {"files": ["three.npy"]}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_file_that_decides_counts(folder, kind):
    name, keys = KINDS[kind]
    config = custom(folder, **keys)
    before = model_digest(config)
    (folder / name).write_text("other\n")
    assert model_digest(config) != before
    assert model_digest(custom(folder, **keys)) != before


def test_an_argument_may_name_a_file_anywhere(folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("elsewhere") / "w.npy"
    path.write_bytes(b"1")
    config = custom(folder, arguments={"path": str(path)})
    before = model_digest(config)
    path.write_bytes(b"2")
    assert model_digest(config) != before


@pytest.mark.parametrize("text", ["none.npy", "", ".", "x" * 5000, "a\0b", "/"])
def test_arguments_that_name_no_file_count_as_texts(folder, text):
    plain = [model_digest(custom(folder, arguments={"text": each})) for each in (text, text, "other")]
    assert plain[0] == plain[1] != plain[2]


def test_the_source_of_trusted_types_beside_the_config_counts(folder, weights):
    def digest(*trusted):
        return model_digest(described(folder, type="sklearn", model=weights, trusted=list(trusted)))

    before, installed = digest("digest_models.Model"), digest("sklearn.tree._tree.Tree")
    (folder / "digest_models.py").write_text("other\n")
    assert digest("digest_models.Model") != before
    assert digest("sklearn.tree._tree.Tree") == installed


def test_the_source_of_a_network_counts(folder, weights):
    config = described(folder, type="torch", network="digest_models:Net", weights=weights)
    before = model_digest(config)
    (folder / "digest_models.py").write_text("other\n")
    assert model_digest(config) != before


def test_this_packages_own_modules_do_not_count():
    """Otherwise every release would invalidate every policy."""
    assert module_source("cascade.backends.networks.resnet:CifarResNet", Path()) is None


EXAMPLES = Path(cascade.__file__).resolve().parents[1] / "examples"
WITHOUT_A_POLICY = {"candidates", "screening", "trousers"}
"""Examples in which calibrating is what is shown."""


@pytest.mark.parametrize(
    "path",
    [path for path in sorted(EXAMPLES.glob("*/*.yaml")) if path.parent.name not in WITHOUT_A_POLICY],
    ids=lambda path: path.parent.name,
)
def test_the_shipped_policies_are_of_the_shipped_models(path):
    config = CascadeConfig.load(path)
    policy = Policy.load(config.policy)
    assert policy.certificate["model_sha256"]
    check_models(policy, config.stages)


@pytest.mark.parametrize("module", ["digest_models", "digest_package.inner.models"])
def test_a_digest_is_the_same_in_every_process(folder, module):
    """Whether the module has been imported, and whether its folder is on the path."""
    inner = folder / "digest_package" / "inner"
    inner.mkdir(parents=True)
    (folder / "digest_package" / "__init__.py").write_text("raise RuntimeError('nothing is run')\n")
    (inner / "__init__.py").touch()
    (inner / "models.py").write_text("x = 1\n")
    config = described(folder, type="custom", object=f"{module}:Model", files=["one.npy"])
    code = f"""
import sys
from pathlib import Path
from pydantic import TypeAdapter
from cascade.backends.config import BackendConfig
from cascade.backends.digest import model_digest
folder = Path({str(folder)!r})
keys = {{"type": "custom", "object": "{module}:Model", "files": ["one.npy"]}}
config = TypeAdapter(BackendConfig).validate_python(keys, context={{"folder": folder}})
before = model_digest(config)
sys.path.append(str(folder))
import digest_models
print(before, model_digest(config))
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=folder.parent)
    assert found.stdout.split() == [model_digest(config)] * 2
    (inner / "models.py").write_text("x = 2\n")
    assert (model_digest(config) != found.stdout.split()[0]) == module.startswith("digest_package")
