"""Following paths equals the weighted sum of all alternatives, in value and gradient."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from cascade.backends.dynamic.site_network import SiteNetwork, skippable
from cascade.backends.dynamic.sites import PickOne
from cascade.backends.networks.resnet import CifarResNet

SIZE = 8
ROWS = 5


class Widths(PickOne):
    """Nothing, a small convolution, or a larger one."""

    alternatives = 3
    channels = 3

    def __init__(self):
        self.layers = [nn.Identity(), nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 3, padding=1)]

    def run(self, alternative, x):
        return self.layers[alternative](x)

    def is_identity(self, alternative):
        return alternative == 0


@pytest.fixture(scope="module")
def networks(settled):
    torch.manual_seed(0)
    residual = skippable(settled(CifarResNet(depth=14, width=4, classes=3), SIZE))
    widths = SiteNetwork(nn.Identity(), (Widths(), Widths()), lambda x: x.mean(dim=(2, 3)))
    return {"residual": residual, "three alternatives": widths}


@settings(deadline=None, max_examples=40)
@given(data=st.data(), name=st.sampled_from(["residual", "three alternatives"]))
def test_following_paths_is_blending_with_one_hot_weights(networks, data, name):
    network = networks[name]
    alternatives = network.sites[0].alternatives
    path = st.lists(st.integers(0, alternatives - 1), min_size=ROWS, max_size=ROWS)
    paths = torch.tensor(data.draw(st.lists(path, min_size=len(network.sites), max_size=len(network.sites)))).T
    images = torch.randn(ROWS, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    one, other = images.clone().requires_grad_(), images.clone().requires_grad_()
    followed = network.follow(one, lambda d, x: paths[:, d])
    blended = network.blend(other, lambda d, x: functional.one_hot(paths[:, d], alternatives))
    torch.testing.assert_close(followed, blended, rtol=1e-4, atol=1e-5)
    followed.square().sum().backward()
    blended.square().sum().backward()
    torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-5)


def test_a_weighted_sum_counts_every_alternative():
    site = Widths()
    x = torch.randn(2, 3, SIZE, SIZE)
    weights = torch.tensor([[0.2, 0.3, 0.5], [0.0, 1.0, 2.0]])
    expected = sum(weights[:, a, None, None, None] * site.run(a, x) for a in range(3))
    torch.testing.assert_close(site.blend(x, weights), expected)
