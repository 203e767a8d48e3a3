"""The page on a new kind of site runs as it is printed, in under 60 lines, and gives a stage."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from cascade.backends.config import DynamicConfig
from cascade.backends.dynamic.path_costs import PathCosts
from cascade.backends.dynamic_backend import DynamicBackend
from cascade.backends.files.weights import save_weights
from cascade.backends.images import ImageInput

PAGE = Path(__file__).parents[3] / "docs" / "new-site.md"
CODE = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.fixture(scope="module")
def names():
    """What the page defines; the exits are made uncertain, so that some rows leave and others go on."""
    torch.manual_seed(0)
    found = {"__name__": "early_exits"}
    exec(CODE[0], found)  # noqa: S102 (our own page)
    return found


@pytest.fixture(scope="module")
def network(names):
    torch.manual_seed(0)
    network = names["EarlyExits"](threshold=0.5).eval()
    with torch.no_grad():
        for segment in network.base.segments:
            segment.exit.weight *= 12
        network.base.first[1].weight[:10] *= 3
    return network


def test_it_has_fewer_than_60_lines(names, capsys):
    assert len(CODE[0].splitlines()) < 60
    exec(CODE[1], names)  # noqa: S102 (our own page)
    assert "[64, 10]" in capsys.readouterr().out


def test_rows_that_have_left_stay_and_cost_no_more(network):
    images = torch.randn(200, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    outcome = network.run(images)
    went_on = outcome.paths
    assert set(went_on.sum(dim=1).tolist()) >= {0, 1, 3}
    assert (went_on[:, 1:] <= went_on[:, :-1]).all()
    with torch.inference_mode():
        hot = functional.one_hot(went_on, 2)
        dense = network.sites.blend(images, lambda d, _: hot[:, d])
    torch.testing.assert_close(outcome.logits, dense)
    costs = PathCosts.count(network.sites, network.policy, images[:1])
    assert costs.of(went_on).tolist() == [costs.fixed + k * 2 * 64 * 74 for k in went_on.sum(dim=1).tolist()]


def test_a_price_lets_more_rows_leave_and_the_page_is_a_stage(network, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)  # as the folder of a configuration is
    (tmp_path / "early_exits.py").write_text(CODE[0])
    save_weights(tmp_path / "w.safetensors", network, {})
    rows = np.random.default_rng(0).integers(0, 256, (60, 28, 28), dtype=np.uint8)
    work = []
    for price in (-2.0, 0.0, 2.0):
        config = {
            "type": "dynamic",
            "network": "early_exits:EarlyExits",
            "arguments": {"threshold": 0.5},
            "weights": "w.safetensors",
            "input": ImageInput(mean=(72.9,), std=(90.0,)),
            "price": price,
        }
        backend = DynamicBackend(DynamicConfig.model_validate(config, context={"folder": tmp_path}))
        work.append(backend.predict(rows).mflop.mean())
    assert work == sorted(work, reverse=True)
    assert len(set(work)) == 3
