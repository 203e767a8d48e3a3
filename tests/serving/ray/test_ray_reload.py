"""Reload on a real Ray Serve: two gateways, one of which is killed and restarts."""

import os
import signal
import time

import httpx
import numpy as np
import psutil
import pytest
from replica_load import replica_pids, wait_for_replicas
from serving_process import NO_CERTIFICATES, serving_process

from cascade.calibration import Policy

pytestmark = pytest.mark.serve

ADMIN_KEY = "an-admin-key-of-16-letters"
ADMIN = {"authorization": f"Bearer {ADMIN_KEY}"}
OTHER = Policy.from_thresholds(("small", "big"), np.array([0.5]))


@pytest.fixture(scope="module")
def url(config_path, tmp_path_factory):
    folder = tmp_path_factory.mktemp("reload")
    text = config_path.read_text().replace("name: fake", "name: reloaded")
    text = text.replace("max_request_rows", "gateways: 2, admin_keys_file: admins, gears: {}, max_request_rows")
    (folder / "config.yaml").write_text(text)
    (folder / "admins").write_text(ADMIN_KEY)
    (folder / "admins").chmod(0o600)
    Policy.load(config_path.parent / "policy.json").save(folder / "policy.json")
    with serving_process(folder / "config.yaml", folder / "log") as url:
        for _ in range(200):
            if len(replica_pids("reloaded", "gateway")) == 2:
                break
            time.sleep(0.1)
        yield url


def versions(url, asked=30):
    """The policy versions of answers over new connections."""
    return {
        httpx.post(f"{url}/predict", json={"rows": [[1, 0]]}, timeout=20, verify=NO_CERTIFICATES).json()[
            "policy_version"
        ]
        for _ in range(asked)
    }


def wait_until_they_listen(pids, port):
    """Both gateways listen on one port, so many new connections reach both."""
    for _ in range(300):
        if all(port in listening_ports(pid) for pid in pids):
            return
        time.sleep(0.1)
    raise AssertionError(f"not all of {pids} listen on port {port}")


def listening_ports(pid):
    return {each.laddr.port for each in psutil.Process(pid).net_connections() if each.status == psutil.CONN_LISTEN}


def test_a_reload_reaches_both_gateways_and_a_killed_one_restarts_with_it(url):
    refused = httpx.put(f"{url}/policy", content=OTHER.to_json()[:-9], headers=ADMIN, timeout=20)
    assert refused.status_code == 400
    done = httpx.put(f"{url}/policy", content=OTHER.to_json(), headers=ADMIN, timeout=20)
    assert (done.status_code, done.json()["gateways"]) == (200, 2), done.text
    assert versions(url) == {OTHER.version}

    victim = replica_pids("reloaded", "gateway")[0]
    os.kill(victim, signal.SIGKILL)
    wait_until_they_listen(wait_for_replicas("reloaded", "gateway", 2, {victim}), int(url.rpartition(":")[2]))
    assert versions(url) == {OTHER.version}
    again = httpx.put(f"{url}/policy", content=OTHER.to_json(), headers=ADMIN, timeout=20).json()
    assert (again["gateways"], again["behind"]) == (2, [])


def test_rollback_and_history_are_the_same_at_all_gateways(url):
    before = httpx.get(f"{url}/policy", timeout=20).json()
    back = httpx.post(f"{url}/policy/rollback", headers=ADMIN, timeout=20).json()
    assert back["version"] != before["version"]
    assert versions(url) == {back["version"]}
    histories = {httpx.get(f"{url}/policy/history", timeout=20).text for _ in range(10)}
    assert len(histories) == 1
    kinds = [entry["kind"] for entry in httpx.get(f"{url}/policy/history", timeout=20).json()["history"]]
    assert (kinds[0], kinds[-1]) == ("start", "rollback")


def test_a_request_overrides_the_last_stage(url):
    headers = {"x-max-stage": "small"}
    answer = httpx.post(f"{url}/predict", json={"rows": [[1, 0]]}, headers=headers, timeout=20).json()
    policy = httpx.get(f"{url}/policy", timeout=20).json()
    sure = policy["stages"][0]["threshold"] <= 0.6
    assert (answer["stage"], answer["degraded"]) == (["small"], [not sure])
    assert policy["gear"]["usable"] == 1
