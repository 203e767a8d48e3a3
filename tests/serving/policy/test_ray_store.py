"""The store, on a dictionary in place of Ray's."""

import pytest

from cascade.serving.policy import ray_store
from cascade.serving.policy.ray_store import RayStore

pytestmark = [
    # Warnings of Ray itself, when it is imported.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture
def kept(monkeypatch):
    kept = {}

    def put(key, value, overwrite, namespace):
        known = key in kept
        if overwrite or not known:
            kept[key] = value
        return known

    monkeypatch.setattr(ray_store, "_internal_kv_put", put)
    monkeypatch.setattr(
        ray_store,
        "_internal_kv_list",
        lambda prefix, namespace: [key.encode() for key in kept if key.startswith(prefix)],
    )
    monkeypatch.setattr(ray_store, "_internal_kv_del", lambda key, namespace: kept.pop(key.decode()))
    return kept


def test_a_number_is_returned_once_over_all_starts_of_an_application(kept):
    numbers = []
    for run in ("first", "second", "third"):
        store = RayStore("digits", run)
        store.drop_other_runs()
        store.put("entry", run)
        numbers += [store.next_number("gateway") for _ in range(4)]
        assert [key for key in kept if "entry" in key] == [f"digits/{run}/entry"]
    assert numbers == list(range(1, 13))
    assert RayStore("letters", "first").next_number("gateway") == 1
    assert RayStore("digits", "first").next_number("other") == 1


def test_concurrent_callers_get_different_numbers(kept, monkeypatch):
    RayStore("digits", "run").next_number("gateway")
    monkeypatch.setattr(ray_store, "_internal_kv_list", lambda prefix, namespace: [])  # as before the other wrote
    assert RayStore("digits", "run").next_number("gateway") == 2
