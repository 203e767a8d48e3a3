"""The dashboard: its data, its restrictions, and its content in a real browser."""

import asyncio
import re

import httpx
import numpy as np
from browser import needs_browser, opened
from listener_thread import listening
from local_service import POLICY, LocalService, ask

from cascade.serving.auth.guard import Guard
from cascade.serving.auth.keys import KeyRing
from cascade.serving.errors import StageFailed
from cascade.serving.http.dashboard import dashboard_data, dashboard_page
from cascade.serving.http.http_app import HttpApp
from cascade.serving.policy.request_overrides import RequestOverrides
from cascade.serving.telemetry.observations import AuditEstimate

KEY = "a key that is long enough"
PAGE = {"method": "GET", "url": "/dashboard"}
DATA = {"method": "GET", "url": "/dashboard/data"}


def predict(*numbers):
    return {"method": "POST", "url": "/predict", "json": {"rows": [[number, 0] for number in numbers]}}


def test_the_data_count_the_requests(config):
    service = LocalService(config)
    ask(service, predict(0, 1, 2), predict(5), {"method": "GET", "url": "/nowhere"})
    (response,) = ask(service, DATA)
    data = response.json()
    assert response.headers["cache-control"] == "no-store"
    assert data["summary"]["answered_rows"] == [2, 2]
    assert data["summary"]["requests"] == 2
    assert data["summary"]["refused"] == [{"status": "404", "reason": "UnknownRoute", "requests": 1}]
    assert data["summary"]["p50_ms"] > 0
    assert sum(data["confidence"][0]) == 4
    assert sum(data["confidence"][1]) == 2
    assert data["policy"]["stages"][0] == {"name": "small", "threshold": 0.8, "cost": 0.0}


def test_the_data_before_the_first_request(config):
    (response,) = ask(LocalService(config), DATA)
    data = response.json()
    assert data["metrics"] is True
    assert data["summary"]["answered_rows"] == [0, 0]
    assert data["summary"]["mean_cost"] is None
    assert data["audit"] is None


def test_the_page_loads_nothing_from_other_hosts(config):
    (response,) = ask(LocalService(config), PAGE)
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    hosts = set(re.findall(r"https?://([^/\s\"'`]+)", response.text))
    assert hosts == {"www.w3.org"}  # the namespace of SVG, which is not loaded
    policy = response.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy


def test_the_page_is_open_and_its_data_need_a_key(config, tmp_path):
    file = tmp_path / "keys"
    file.write_text(KEY.replace(" ", "-"))
    file.chmod(0o600)
    app = HttpApp(LocalService(config), Guard(KeyRing(None, file)))
    with listening(app, config.serving) as port:
        url = f"http://127.0.0.1:{port}"
        page = httpx.get(f"{url}/dashboard")
        assert (page.status_code, page.content) == (200, dashboard_page().body)
        assert httpx.get(f"{url}/dashboard/data").status_code == 401
        for path in ("/dashboard/", "/dashboard/data", "//dashboard", "/dashboard%2fdata"):
            assert httpx.get(url + path).status_code == 401, path


def in_browser(config, tmp_path, look, guard=None, prepare=lambda service: None):
    """Runs ``look(page, service, folder)`` on the page of a service."""
    service = LocalService(config)
    prepare(service)

    async def main(url):
        async with opened(url, tmp_path / "profile") as page:
            await look(page, service)
            assert page.problems == []

    with listening(HttpApp(service, guard or Guard(), service.stats), config.serving) as port:
        asyncio.run(main(f"http://127.0.0.1:{port}/dashboard"))


async def no_wider_than_the_window(page):
    for width in (1280, 400):
        await page.show(width, 900)
        assert await page.run("document.documentElement.scrollWidth") <= width


@needs_browser
def test_a_page_opened_before_the_first_request_shows_it_later(config, tmp_path):
    async def look(page, service):
        await page.wait_for("document.body.innerText.includes('No rows have been answered')")
        text = await page.text()
        assert "NaN" not in text
        assert "live" in text
        assert "Alarm" not in text
        await no_wider_than_the_window(page)
        await service.answer_rows(np.array([[0, 0], [1, 0]]), RequestOverrides())
        await page.wait_for("document.body.innerText.includes('answers 1 row, 50.0 %')")
        assert "No rows have been answered" not in await page.text()

    in_browser(config, tmp_path, look)


@needs_browser
def test_the_page_shows_flow_policy_audit_alarms_and_errors(config, tmp_path):
    def prepare(service):
        service.stats.audit = AuditEstimate(0.97, 0.95, 0.985, 2000, 0.96, "calibration")
        service.stats.alarms = {"agreement": True, "forward_rate": False}
        service.stats.gear = 1
        service.history.tick()
        ask(service, predict(*range(8)), predict(0, 2))
        service.stats.refused(StageFailed("x"))

    async def look(page, service):
        await page.wait_for("document.body.innerText.includes('Alarm: agreement')")
        text = await page.text()
        for part in (
            "10 rows in",
            "answers 6 rows, 60.0 %",
            "4 deferred, 40.0 %",
            "calibration data: at least 96.0 %",
            "97.0 %",
        ):
            assert part in text
        for part in ("≥ 0.8", "StageFailed", "Gear 1", service.describe_policy()["version"]):
            assert part in text
        assert "forward rate" not in text
        await no_wider_than_the_window(page)
        light = await page.run("getComputedStyle(document.body).backgroundColor")
        await page.show(1280, 900, dark=True)
        assert await page.run("getComputedStyle(document.body).backgroundColor") != light

    in_browser(config, tmp_path, look, prepare=prepare)


@needs_browser
def test_the_page_asks_for_a_key_and_stores_it_nowhere(config, tmp_path):
    file = tmp_path / "keys"
    file.write_text(KEY.replace(" ", "-"))
    file.chmod(0o600)

    async def enter(page, key):
        await page.wait_for("!document.getElementById('key-form').hidden")
        await page.run(f"document.getElementById('key').value = {key!r}")
        await page.run("document.querySelector('#key-form button').click()")

    async def look(page, service):
        await enter(page, "some-other-key-of-somebody")
        await page.wait_for("document.body.innerText.includes('not valid here')")
        assert "small" not in await page.text()
        await enter(page, KEY.replace(" ", "-"))
        await page.wait_for("document.body.innerText.includes('live')")
        kept = "JSON.stringify([localStorage, sessionStorage, document.cookie, location.href])"
        assert KEY.replace(" ", "-") not in await page.run(kept)
        assert KEY.replace(" ", "-") not in await page.run("document.documentElement.outerHTML")

    in_browser(config, tmp_path, look, Guard(KeyRing(None, file)))


@needs_browser
def test_the_page_without_metrics(config, tmp_path):
    def prepare(service):
        service.describe_traffic = lambda: dashboard_data(config, POLICY, None, {"rank": 1, "of": 2, "replica": "abc"})

    async def look(page, service):
        await page.wait_for("document.body.innerText.includes('serving.metrics: false')")
        assert "gateway 2 of 2" in await page.text()
        assert "Rows per second" not in await page.text()

    in_browser(config, tmp_path, look, prepare=prepare)
