"""A headless Chromium, driven over its DevTools protocol (https://chromedevtools.github.io/devtools-protocol/)."""

import asyncio
import base64
import contextlib
import shutil
import subprocess

import aiohttp
import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
needs_browser = pytest.mark.skipif(not any(map(shutil.which, NAMES)), reason="Chromium is not installed")


class Page:
    """A tab."""

    def __init__(self, socket):
        self._socket = socket
        self._ids = 0
        self.problems = []

    async def send(self, method, **parameters):
        self._ids += 1
        await self._socket.send_json({"id": self._ids, "method": method, "params": parameters})
        while True:
            message = await asyncio.wait_for(self._socket.receive_json(), 20)
            self._note(message)
            if message.get("id") == self._ids:
                assert "error" not in message, message
                return message["result"]

    def _note(self, message):
        """Exceptions, and loads that the browser blocks, for example by the Content-Security-Policy."""
        if message.get("method") == "Runtime.exceptionThrown":
            self.problems.append(message["params"]["exceptionDetails"])
        if message.get("method") == "Log.entryAdded" and message["params"]["entry"]["source"] == "security":
            self.problems.append(message["params"]["entry"])

    async def run(self, script):
        """The value of an expression."""
        found = await self.send("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    async def wait_for(self, script):
        """Until an expression is true."""
        for _ in range(200):
            if await self.run(script):
                return
            await asyncio.sleep(0.05)
        raise AssertionError(f"never true: {script}; the text of the page: {await self.text()}")

    async def text(self):
        return await self.run("document.body.innerText")

    async def show(self, width, height, dark=False):
        await self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.send("Emulation.setEmulatedMedia", features=[scheme])

    async def picture(self, path):
        found = await self.send("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(found["data"]))


@contextlib.asynccontextmanager
async def opened(url, folder):
    """Yields a page."""
    command = [next(filter(None, map(shutil.which, NAMES))), "--headless=new", "--no-sandbox", "--disable-gpu"]
    command += ["--hide-scrollbars", "--remote-debugging-port=0", f"--user-data-dir={folder}", "about:blank"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        port = await _port(folder / "DevToolsActivePort")
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json/list") as response:
                (tab,) = [each for each in await response.json() if each["type"] == "page"]
            async with session.ws_connect(tab["webSocketDebuggerUrl"], max_msg_size=1 << 26) as socket:
                page = Page(socket)
                for domain in ("Page", "Runtime", "Log"):
                    await page.send(f"{domain}.enable")
                await page.show(1280, 900)
                await page.send("Page.navigate", url=url)
                await page.wait_for("document.readyState === 'complete' && location.href !== 'about:blank'")
                yield page
    finally:
        process.terminate()
        process.wait(20)


async def _port(file):
    for _ in range(400):
        if file.exists() and file.read_text().strip():
            return int(file.read_text().split()[0])
        await asyncio.sleep(0.05)
    raise AssertionError("Chromium did not start")
