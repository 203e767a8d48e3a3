"""Every kind of site: what rows take equals the dense reference, on every small path and random larger ones."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from cascade.backends.dynamic.executor import Executor
from cascade.backends.dynamic.gates import GivenPath, OneShotPolicy, PathPolicy, TaskPath, columns_of
from cascade.backends.dynamic.path_costs import PathCosts
from cascade.backends.dynamic.site_network import SiteNetwork
from cascade.backends.dynamic.sites import Branch, Keyed, Parts, Subset
from cascade.errors import ConfigError, RowsError

WIDTH = 6


def layer(i, o):
    return nn.Sequential(nn.Linear(i, o), nn.ReLU())


def key_layer(key):
    weight = torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(key % 1000))
    return lambda x: x @ weight


def some_sites():
    """Sites of all kinds, of 2 to 4 columns, over (n, WIDTH) or, for parts, (n, 3, WIDTH) features."""
    torch.manual_seed(0)
    branch = Branch([nn.Identity(), nn.Linear(WIDTH, WIDTH), layer(WIDTH, WIDTH)])
    subset = Subset([layer(WIDTH, WIDTH) for _ in range(4)], lambda x: x, torch.tanh)
    resize = Subset([nn.Linear(WIDTH, 3), nn.Linear(WIDTH, 3)], nn.Linear(WIDTH, 3))
    sizes = Branch([nn.Linear(WIDTH, 2), layer(WIDTH, 2), nn.Sequential(layer(WIDTH, 9), nn.Linear(9, 2))])
    chosen_mean = Parts(sizes, 3, lambda y, path: (y * (path > 0)).sum(dim=1) / (path > 0).sum(dim=1).clamp(min=1))
    return {
        "branch": branch,
        "branch of another size": sizes,
        "subset": subset,
        "subset of another size": resize,
        "parts": Parts(branch, 3),
        "parts, mean of those that took something": chosen_mean,
        "parts with subsets": Parts(resize, 3, lambda y, _: y.flatten(1)),
    }


SITES = some_sites()


def features(name, n, seed=1):
    shape = (n, 3, WIDTH) if name.startswith("parts") else (n, WIDTH)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def network_of(site):
    return SiteNetwork(lambda inputs: inputs["x"].clone(), (site,), lambda x: x.flatten(1))


def run(site, x, paths):
    network = network_of(site)
    executor = Executor(network, GivenPath("path", network.alternatives))
    outcome = executor.run({"x": x, "path": paths})
    assert torch.equal(outcome.paths, paths)
    return outcome.logits


def dense(site, x, paths):
    """Every alternative of every row, weighted by 0 and 1."""
    network = network_of(site)
    weights = network.at_sites(functional.one_hot(paths, site.alternatives))
    with torch.inference_mode():
        return network.blend({"x": x}, lambda d, _: weights[d])


def check(name, paths):
    site, x = SITES[name], features(name, len(paths))
    reference = dense(site, x, paths)
    torch.testing.assert_close(run(site, x, paths), reference, rtol=1e-5, atol=1e-5)
    followed = network_of(site).follow({"x": x}, lambda d, _: network_of(site).at_sites(paths)[d])
    torch.testing.assert_close(followed, reference, rtol=1e-5, atol=1e-5)
    return x, reference


@pytest.mark.parametrize("name", SITES)
def test_every_path_gives_the_numbers_of_the_dense_reference_together_and_alone(name):
    site = SITES[name]
    paths = torch.tensor(list(itertools.product(range(site.alternatives), repeat=site.columns)))
    x, reference = check(name, paths)
    for row in range(0, len(paths), max(1, len(paths) // 40)):
        one = slice(row, row + 1)
        torch.testing.assert_close(run(site, x[one], paths[one]), reference[one], rtol=1e-5, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(data=st.data(), name=st.sampled_from(sorted(SITES)))
def test_batches_of_any_paths(data, name):
    site = SITES[name]
    path = st.lists(st.integers(0, site.alternatives - 1), min_size=site.columns, max_size=site.columns)
    check(name, torch.tensor(data.draw(st.lists(path, min_size=1, max_size=25))))


@pytest.mark.parametrize("name", SITES)
def test_the_cost_of_a_row_is_what_is_computed_for_it(name):
    site = SITES[name]
    network = network_of(site)
    policy = GivenPath("path", network.alternatives)
    x = features(name, 20)
    costs = PathCosts.count(network, policy, {"x": x[:1], "path": torch.zeros(1, site.columns)})
    paths = torch.randint(0, site.alternatives, (20, site.columns), generator=torch.Generator().manual_seed(3))
    for row in range(20):
        with FlopCounterMode(display=False) as counter:
            run(site, x[row : row + 1], paths[row : row + 1])
        assert counter.get_total_flops() == costs.of(paths[row : row + 1]).item()
    with FlopCounterMode(display=False) as counter:
        run(site, x, paths)
    assert counter.get_total_flops() == costs.of(paths).sum().item()
    assert costs.relative.max(axis=1).mean() == pytest.approx(1)


@pytest.mark.parametrize("name", SITES)
def test_no_rows(name):
    site = SITES[name]
    x = features(name, 0)
    found = run(site, x, torch.zeros(0, site.columns, dtype=torch.int64))
    assert found.shape == (0, dense(site, features(name, 1), torch.zeros(1, site.columns, dtype=torch.int64)).shape[1])


@pytest.mark.parametrize("keys", [[[5], [-7], [5], [2**40]], [[3]], [[3], [3]]])
def test_layers_of_keys_are_generated_once(keys):
    made = []
    site = Keyed(lambda key: made.append(key) or key_layer(key))
    x, paths = features("keyed", len(keys)), torch.tensor(keys)
    wanted = torch.cat([key_layer(key)(x[row : row + 1]) for row, (key,) in enumerate(keys)])
    network = network_of(site)
    executor = Executor(network, GivenPath("path", network.alternatives))
    for _ in range(2):
        torch.testing.assert_close(executor.run({"x": x, "path": paths}).logits, wanted)
    assert sorted(made) == sorted({key for (key,) in keys})
    torch.testing.assert_close(site.follow(x, paths[:, 0]), wanted)
    costs = PathCosts.count(network, executor.policy, {"x": x[:1], "path": paths[:1]})
    assert costs.of(paths).tolist() == [2 * WIDTH * WIDTH] * len(keys)
    with pytest.raises(NotImplementedError, match="no list of alternatives"):
        site.blend(x, torch.zeros(1))


def test_the_cache_of_keys_is_bounded():
    site = Keyed(key_layer, cached=2)
    network = network_of(site)
    executor = Executor(network, GivenPath("path", network.alternatives))
    executor.run({"x": features("keyed", 5), "path": torch.arange(5)[:, None]})
    assert len(site._layers) == 2


def mixed():
    """Sites of 1, 4 and 3 columns with 3, 2 and 3 alternatives, and one whose rows are given by a key."""
    parts = Branch([nn.Identity(), nn.Linear(2, 2), layer(2, 2)])

    class Split(Parts):
        def take(self, x, route):
            return super().take(x.unflatten(1, (3, 2)), route)

        def blend(self, x, weights):
            return super().blend(x.unflatten(1, (3, 2)), weights)

        def works(self, x):
            return super().works(x.unflatten(1, (3, 2)))

    sites = (SITES["branch"], SITES["subset"], Split(parts, 3, lambda y, _: y.flatten(1)))
    return SiteNetwork(lambda inputs: inputs["x"].clone(), sites, lambda x: x)


def test_sites_with_their_own_numbers_of_alternatives_in_one_network():
    network = mixed()
    assert network.alternatives == [3, 2, 2, 2, 2, 3, 3, 3]
    generator = torch.Generator().manual_seed(2)
    paths = torch.stack([torch.randint(0, a, (30,), generator=generator) for a in network.alternatives], dim=1)
    x = features("mixed", 30)
    outcome = Executor(network, GivenPath("path", network.alternatives)).run({"x": x, "path": paths})
    hot = [
        functional.one_hot(own, site.alternatives)
        for site, own in zip(network.sites, network.at_sites(paths), strict=True)
    ]
    with torch.inference_mode():
        torch.testing.assert_close(outcome.logits, network.blend({"x": x}, lambda d, _: hot[d]))


def test_a_static_path_is_that_of_the_rows_task_and_a_price_is_on_work():
    network = mixed()
    policy = TaskPath(network.sizes, tasks=2).eval()
    nn.init.normal_(policy.logits, generator=torch.Generator().manual_seed(5))
    task = torch.tensor([[0], [1], [0], [1]])
    x = features("mixed", 4)
    executor = Executor(network, policy)
    paths = executor.run({"x": x, "task": task}).paths
    assert torch.equal(paths[0], paths[2])
    assert torch.equal(paths[1], paths[3])
    assert not torch.equal(paths[0], paths[1])
    assert all((paths[:, k] < a).all() for k, a in enumerate(network.alternatives))
    assert torch.equal(executor.run({"x": x}).paths[0], paths[0])
    steps = columns_of([policy.step(d, x, policy.begin({"x": x, "task": task}))[0] for d in range(3)])
    assert torch.equal(steps, policy.whole({"x": x, "task": task}))
    with pytest.raises(RowsError, match="row 1 is of task 2; trained are 0 to 1"):
        executor.run({"x": x, "task": torch.tensor([[0], [2], [0], [1]])})


def test_equal_works_have_no_price():
    site = Branch([nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)])
    network = SiteNetwork(lambda x: x, (site, SITES["branch"]), lambda x: x)

    class Undecided(PathPolicy):
        looks_at_features = False

        def begin(self, images):
            return None

        def step(self, d, features, state):
            return torch.zeros(len(features), 3), None

        def whole(self, images):
            return torch.tensor([[[0.0, 1, 0], [0, 0, 1]]]).expand(len(images), 2, 3)

    x = features("branch", 4)
    works = PathCosts.count(network, Undecided(), x[:1]).relative
    assert works[0].tolist() == [0, 0, 0]
    for price, expected in ((0.0, [1, 2]), (1e6, [1, 0]), (-1e6, [1, 2])):
        assert Executor(network, Undecided(), price).run(x, works).paths[0].tolist() == expected


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ([[0, 0, 0, 2]], "row 0: 'path' has 2 in column 3; an alternative is an integer from 0 to 1"),
        ([[0, 0, 0, 0], [0, -1, 0, 0]], "row 1: 'path' has -1 in column 1"),
        ([[0.0, 0.5, 0.0, 0.0]], r"row 0: 'path' has 0.5 in column 1"),
        ([[0.0, float("nan"), 0.0, 0.0]], r"row 0: 'path' has nan"),
        ([[0, 0, 0]], "must have 4 columns"),
    ],
)
def test_a_path_that_does_not_exist_is_refused(path, message):
    with pytest.raises(RowsError, match=message):
        run(SITES["subset"], features("subset", len(path)), torch.tensor(path))


def test_a_network_of_given_paths_needs_their_slice():
    policy = GivenPath("program", [2])
    for inputs in (torch.zeros(1, 2), {"x": torch.zeros(1, 2)}):
        with pytest.raises(ConfigError, match="'program', which is no slice of the input"):
            policy.paths(inputs, np.argmax)


def test_one_shot_policies_score_sites_of_one_column():
    policy = OneShotPolicy(nn.Linear(WIDTH, 2))
    assert policy.whole(torch.zeros(5, WIDTH)).shape == (5, 2, 2)
