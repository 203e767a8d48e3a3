"""Published weights: read from a package in the cache, and only if they are the published ones."""

import dataclasses
import hashlib
import io
import zipfile

import pytest
import torch

from cascade.backends.files import pretrained
from cascade.backends.files.pretrained import load_pretrained
from cascade.backends.networks.mobilenet import MobileNetV2
from cascade.errors import WeightsError

NAME = "mobilenet-v2"


class Small(MobileNetV2):
    groups = ((1, 8, 1, 1, 3),)


@pytest.fixture
def published():
    torch.manual_seed(1)
    return Small(classes=7)


@pytest.fixture
def cache(tmp_path, monkeypatch, published):
    """A folder with a package of the weights of a smaller network, whose layers have other names."""
    source = pretrained._SOURCES[NAME]
    tensors = {
        f"{source.last if key.startswith('head.') else 'features.'}{key}": v
        for key, v in published.state_dict().items()
    }
    content = io.BytesIO()
    torch.save(tensors, content)
    with zipfile.ZipFile(tmp_path / f"{source.package.replace('-', '_')}-{source.version}-py3-none-any.whl", "w") as z:
        z.writestr(source.member, content.getvalue())
    own = dataclasses.replace(source, sha256=hashlib.sha256(content.getvalue()).hexdigest())
    monkeypatch.setitem(pretrained._SOURCES, NAME, own)
    return tmp_path


def test_all_layers_but_the_last_are_loaded(cache, published):
    network = Small(classes=3)
    load_pretrained(NAME, network, cache)
    for (key, own), value in zip(network.state_dict().items(), published.state_dict().values(), strict=True):
        assert key.startswith("head.") or torch.equal(own, value)


def test_what_is_not_the_published_file_is_refused(cache, monkeypatch):
    monkeypatch.setitem(pretrained._SOURCES, NAME, dataclasses.replace(pretrained._SOURCES[NAME], sha256="0" * 64))
    with pytest.raises(WeightsError, match="it is not used"):
        load_pretrained(NAME, Small(), cache)


def test_another_network_and_an_unknown_name_are_refused(cache):
    with pytest.raises(WeightsError, match="do not fit MobileNetV2"):
        load_pretrained(NAME, MobileNetV2(), cache)
    with pytest.raises(WeightsError, match="choose one of"):
        load_pretrained("mobilenet-v9", Small(), cache)
