"""A page over a panel that a thread answers for, and a visitor who knows how to talk to it."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import pytest

from pawlatch.frame import CameraState
from pawlatch.panel import Answer, Panel, Request, View
from pawlatch.states import DoorState
from pawlatch.web.tokens import Tokens

DEADLINE_S = 30
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
LOCKED = View(DoorState.LOCKED, False, False, "armed", ("off", "observe", "armed"), camera=CameraState.OK, model="garden",
              variant="int8", sha256="0" * 64, labels=("own", "other", "_empty"), unlock=("own",))


class Loop:
    """Does for a panel what a door's loop does: gives frames, and carries out what is asked."""

    def __init__(self, panel: Panel) -> None:
        self.panel, self.view = panel, LOCKED
        self.asked: list[Request] = []
        self.answer: Callable[[Request], Answer] = lambda request: Answer(True, "done")
        self._stop = threading.Event()
        self.turn()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def show(self, **changes: object) -> None:
        """Let the door be otherwise from now on."""
        self.view = replace(self.view, **changes)
        self.turn()

    def turn(self) -> None:
        grey = self.panel.counts["frames"] % 200
        self.panel.saw(0.01 if grey % 2 else None)
        self.panel.picture = lambda: np.full((48, 64, 3), grey, np.uint8)
        self.panel.publish(self.view)

    def close(self) -> None:
        self._stop.set()
        self._thread.join(DEADLINE_S)

    def _run(self) -> None:
        while not self._stop.wait(0.01):
            self.panel.carry_out(self._act)
            self.turn()

    def _act(self, request: Request) -> Answer:
        self.asked.append(request)
        return self.answer(request)


class Visitor:
    """Somebody with a browser without JavaScript: one cookie, and the word of the form that was seen last."""

    def __init__(self, port: int, token: str | None = None) -> None:
        self.port, self.cookie, self.form = port, "", ""
        if token is not None:
            assert self.post("/login", {"token": token}, follow=False).status == 303
            self.get("/")

    def get(self, path: str, **headers: str) -> Answered:
        return self._call("GET", path, None, headers)

    def post(self, path: str, fields: dict[str, str] | None = None, *, follow: bool = True, **headers: str) -> Answered:
        """Send a form as a browser sends one of this page; headers by name, with _ for -."""
        here = {"Origin": f"http://127.0.0.1:{self.port}", "Sec-Fetch-Site": "same-origin", **FORM}
        answer = self._call("POST", path, urlencode({"form": self.form, **(fields or {})}), here | headers)
        while follow and answer.status == 303:
            answer = self.get(answer.location.partition("#")[0])
        return answer

    def _call(self, method: str, path: str, body: str | None, headers: dict[str, str]) -> Answered:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_S)
        sent = {name.replace("_", "-"): value for name, value in headers.items() if value}
        connection.request(method, path, body, ({"Cookie": self.cookie} if self.cookie else {}) | sent)
        answer = Answered(connection.getresponse())
        connection.close()
        if answer.cookie is not None:
            self.cookie = answer.cookie.partition(";")[0]
        if found := re.search(r'name="form" value="([^"]+)"', answer.text):
            self.form = found[1]
        return answer


class Answered:
    """A response that was read."""

    def __init__(self, response: HTTPResponse) -> None:
        self.status, self.headers = response.status, response.headers
        self.location, self.cookie = response.getheader("Location", ""), response.getheader("Set-Cookie")
        self.body = b""
        with suppress(ConnectionError):
            self.body = response.read()
        self.text = self.body.decode("utf-8", "replace")


@pytest.fixture
def panel() -> Panel:
    return Panel()


@pytest.fixture
def loop(panel: Panel) -> Iterator[Loop]:
    it = Loop(panel)
    yield it
    it.close()


@pytest.fixture
def token(tmp_path: Path) -> str:
    """That of the page of a door whose journal is in tmp_path / "journal"."""
    return folder_with_token(tmp_path / "journal")


def stream_of(visitor: Visitor) -> HTTPResponse:
    """The live stream, open. Its connection ends with the response."""
    connection = HTTPConnection("127.0.0.1", visitor.port, timeout=DEADLINE_S)
    connection.request("GET", "/live.mjpg", headers={"Cookie": visitor.cookie})
    return connection.getresponse()


def next_jpeg(answer: HTTPResponse) -> bytes:
    """The next part of a stream; nothing at its end."""
    length = 0
    while line := answer.readline():
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
        if line == b"\r\n" and length:
            return answer.read(length)
    return b""


def folder_with_token(folder: Path) -> str:
    """A journal's folder, and the token of its page."""
    return Tokens(folder).new("page")
