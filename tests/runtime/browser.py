"""Debian's Chromium, headless, driven by its DevTools protocol: https://chromedevtools.github.io/devtools-protocol/."""

from __future__ import annotations

import base64
import itertools
import json
import shutil
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

DEADLINE_S = 60
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--remote-debugging-port=0",
         "--host-resolver-rules=MAP evil.example 127.0.0.1")

ARRIVED = ("window.old === undefined && document.readyState !== 'loading' && document.body !== null && "
           "[...document.querySelectorAll('link[rel=stylesheet]')].every(it => it.sheet)")


class Browser:
    """One tab. A context manager; `profile` is an empty folder."""

    def __init__(self, profile: Path) -> None:
        websockets = pytest.importorskip("websockets.sync.client", reason="websockets, of the dev extra, drives the browser")
        chromium = shutil.which("chromium")
        if chromium is None:
            pytest.skip("chromium is not installed")
        self._process = subprocess.Popen([chromium, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
                                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        told = profile / "DevToolsActivePort"
        until_s = time.monotonic() + DEADLINE_S
        while not (told.exists() and told.read_text().count("\n")):
            assert time.monotonic() < until_s, "chromium does not start"
            assert self._process.poll() is None, "chromium ended"
            time.sleep(0.05)
        port = told.read_text().split("\n")[0]
        with urlopen(f"http://127.0.0.1:{port}/json/list", timeout=DEADLINE_S) as answer:
            (tab,) = [each for each in json.load(answer) if each["type"] == "page"]
        self._held = ExitStack()
        self._socket = self._held.enter_context(
            websockets.connect(tab["webSocketDebuggerUrl"], max_size=1 << 26, compression=None))
        self._ids = itertools.count(1)
        self.messages: list[str] = []  # what the console complained of
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **arguments: Any) -> dict[str, Any]:
        """Call the protocol, and wait for the answer."""
        number = next(self._ids)
        self._socket.send(json.dumps({"id": number, "method": method, "params": arguments}))
        while True:
            message = json.loads(self._socket.recv(timeout=DEADLINE_S))
            if message.get("method") == "Log.entryAdded":
                self.messages.append(message["params"]["entry"]["text"])
            if message.get("id") == number:
                assert "error" not in message, message
                return message["result"]

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def until(self, script: str) -> None:
        """Wait until the expression is true; the page may change meanwhile."""
        until_s = time.monotonic() + DEADLINE_S
        while not self.run(script):
            assert time.monotonic() < until_s, f"{script} does not come true on {self.run('document.body?.innerText')}"
            time.sleep(0.05)

    def open(self, url: str) -> None:
        """Go there, and wait until the page is there (a stream in it may go on)."""
        self.run("window.old = true")
        self.call("Page.navigate", url=url)
        self.until(ARRIVED)

    def click(self, selector: str) -> None:
        """Click on what a person would, which leads to another page. By the protocol, so it needs no JavaScript of the page."""
        self.run("window.old = true")
        x, y = self.run(f"(() => {{ const it = document.querySelector({json.dumps(selector)}); it.scrollIntoView({{block: 'center'}});"
                        " const box = it.getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2]; })()")
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
        self.until(ARRIVED)

    def type(self, selector: str, text: str) -> None:
        """Type into a field."""
        self.run(f"document.querySelector({json.dumps(selector)}).focus()")
        self.call("Input.insertText", text=text)

    def look(self, *, width: int = 390, height: int = 844, dark: bool = False, scale: float = 1) -> None:
        """Be a screen of that size, in light or dark."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=width < 600)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        """Write what is seen, as PNG or JPEG by the name's ending."""
        kind = {"format": "jpeg", "quality": 82} if path.suffix == ".jpg" else {"format": "png"}
        shot = self.call("Page.captureScreenshot", **kind, captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))

    def close(self) -> None:
        """End it."""
        self._held.close()
        self._process.terminate()
        self._process.wait(DEADLINE_S)

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()
