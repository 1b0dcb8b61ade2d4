"""The page's live picture, and connections that mean no good: the door's loop notices neither."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
import threading
import time
from contextlib import ExitStack, closing, suppress
from http.client import HTTPConnection, HTTPSConnection
from urllib.parse import urlencode

import cv2
import numpy as np
import pytest

pytest.importorskip("uvicorn", reason="the page needs the web extra")
pytest.importorskip("starlette", reason="the page needs the web extra")

from starlette.requests import Request

from pawlatch.stream import VIEWERS
from pawlatch.web import connections, guard
from pawlatch.web.options import WebOptions
from pawlatch.web.server import Page

from . import page_kit
from .page_kit import DEADLINE_S, FORM, Visitor, next_jpeg, stream_of

panel, loop, token = page_kit.panel, page_kit.loop, page_kit.token


@pytest.fixture
def page(panel, loop, tmp_path, token):
    with Page(WebOptions(port=0, fps=30.0), panel, tmp_path / "journal") as it:
        yield it


@pytest.fixture
def port(page) -> int:
    return int(page.url.rstrip("/").rpartition(":")[2])


@pytest.fixture
def owner(port, token) -> Visitor:
    return Visitor(port, token)


def until(is_so, what: str) -> None:
    until_s = time.monotonic() + DEADLINE_S
    while not is_so():
        assert time.monotonic() < until_s, what
        time.sleep(0.01)


def hung_up_on(connection: socket.socket) -> bool:
    connection.settimeout(DEADLINE_S)
    with suppress(ConnectionError):
        while connection.recv(1 << 16):
            pass
    return True


def still_open(page: Page) -> int:
    return sum(connection.fileno() != -1 for connection, _ in page._socket._open)


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S)


# ------------------------------------------------------------------------------------------------ the live picture

def test_the_stream_shows_ever_newer_pictures(owner):
    answer = stream_of(owner)
    assert answer.getheader("Content-Type") == "multipart/x-mixed-replace; boundary=frame"
    greys = [round(float(cv2.imdecode(np.frombuffer(next_jpeg(answer), np.uint8), 1).mean())) for _ in range(5)]
    assert len(set(greys)) == 5
    answer.close()


def test_a_snapshot_is_one_picture(page, owner):
    answer = owner.get("/live.jpg")
    assert (answer.status, answer.body[:2]) == (200, b"\xff\xd8")
    assert page.desk.stream.viewers == 0


def test_nothing_is_drawn_while_nobody_watches(page, panel, loop, owner):
    loop.close()
    drawn = []
    for _ in range(20):
        panel.picture = lambda: drawn.append(1) or np.zeros((48, 64, 3), np.uint8)
        owner.get("/now")
    assert drawn == []
    owner.get("/live.jpg")
    assert drawn == [1]


def test_viewers_are_bounded_and_make_room_when_they_go(page, owner):
    with ExitStack() as stack:
        for _ in range(VIEWERS):
            assert next_jpeg(stack.enter_context(closing(stream_of(owner))))
        assert owner.get("/live.jpg").status == 503
        assert owner.get("/").status == 200
    until(lambda: page.desk.stream.viewers == 0, "those who left are still counted")
    assert owner.get("/live.jpg").status == 200


def test_a_viewer_that_goes_before_the_first_picture_makes_room(page, owner):
    """Nobody then asks for pictures, so what would end with them never begins."""
    (route,) = [each for each in page._server.config.loaded_app._app.routes if each.path == "/live.mjpg"]
    scope = {"type": "http", "method": "GET", "path": "/live.mjpg", "query_string": b"", "asgi": {"spec_version": "2.4"},
             "headers": [(b"cookie", owner.cookie.encode())]}

    async def gone(message=None):
        raise OSError("the line is cut")

    async def come_and_go() -> None:
        response = await route.endpoint(Request(scope, gone))
        assert page.desk.stream.viewers == 1
        with suppress(Exception):
            await response(scope, gone, gone)

    asyncio.run(come_and_go())
    assert page.desk.stream.viewers == 0


def test_three_viewers_do_not_slow_the_loop(panel, page, owner):
    """Frames that come while the clock turns, with and without viewers: a ratio, of one run."""

    def frames_in_turn(turn_s: float = 1.0) -> int:
        before, until_s = panel.counts["frames"], time.monotonic() + turn_s
        while time.monotonic() < until_s:
            time.sleep(0.05)
        return panel.counts["frames"] - before

    alone = [frames_in_turn()]
    with ExitStack() as stack:
        answers = [stack.enter_context(closing(stream_of(owner))) for _ in range(3)]
        seen = [0, 0, 0]

        def watch(which: int) -> None:
            while next_jpeg(answers[which]):
                seen[which] += 1

        threads = [threading.Thread(target=watch, args=(which,), daemon=True) for which in range(3)]
        for thread in threads:
            thread.start()
        until(lambda: min(seen) > 2, "nobody sees anything")
        watched = [frames_in_turn() for _ in range(3)]
        assert page.desk.stream.viewers == 3
        page.close()
        for thread in threads:
            thread.join(DEADLINE_S)
    alone.append(frames_in_turn())
    assert max(watched) >= 0.8 * min(alone), (alone, watched)


def test_closing_sends_everybody_home_and_gives_the_port_back(page, port, owner, caplog):
    answer = stream_of(owner)
    assert next_jpeg(answer)
    with connect(port) as silent:
        page.close()
        page.close()
        assert hung_up_on(silent)
    while next_jpeg(answer):
        pass
    assert not page._thread.is_alive()
    assert not [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")], caplog.text
    with socket.create_server(("127.0.0.1", port)):
        pass


# ------------------------------------------------------------------------------------------------ those who mean no good

def test_a_viewer_that_does_not_read_holds_nobody_up_and_is_hung_up_on(page, port, owner, loop, panel, monkeypatch):
    monkeypatch.setattr(connections, "STALL_S", 0.2)
    loop.close()
    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    with connect(port) as lazy:
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lazy.sendall(f"GET /live.mjpg HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: {owner.cookie}\r\n\r\n".encode())
        until(lambda: page.desk.stream.viewers == 1, "nobody watches")
        with closing(stream_of(owner)) as answer:
            for index in range(30):
                panel.picture = lambda index=index: noise + np.uint8(index)
                assert next_jpeg(answer)
            until(lambda: page.desk.stream.viewers == 1, "the lazy one is still there")


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: "])
def test_a_head_that_does_not_come_is_not_waited_for(page, port, monkeypatch, sent):
    monkeypatch.setattr(connections, "HEAD_S", 0.2)
    with connect(port) as slow:
        slow.sendall(sent)
        assert hung_up_on(slow)


def test_a_head_that_drips_in_gets_no_more_time_by_it(page, port, monkeypatch):
    monkeypatch.setattr(connections, "HEAD_S", 0.3)
    with connect(port) as slow:
        slow.sendall(b"GET / HTTP/1.1\r\n")
        slow.settimeout(0.05)
        until_s = time.monotonic() + DEADLINE_S
        with suppress(ConnectionError):
            while True:
                slow.sendall(b"X")
                with suppress(TimeoutError):
                    if slow.recv(1) == b"":
                        break
                assert time.monotonic() < until_s


def test_who_has_asked_is_waited_for_no_more(page, port):
    """The timer of the head ends with the head, also of the next one on the same connection."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=DEADLINE_S)) as kept:
        for _ in range(3):
            kept.request("GET", "/healthz")
            assert kept.getresponse().read() == b"ok\n"
            (protocol,) = page._server.server_state.connections
            assert protocol._head is None


def test_a_body_that_does_not_come_is_not_waited_for(page, port, owner, monkeypatch):
    monkeypatch.setattr(guard, "BODY_S", 0.2)
    head = f"POST /ask HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: {owner.cookie}\r\nContent-Type: {FORM['Content-Type']}\r\n"
    with connect(port) as slow:
        slow.sendall(f"{head}Content-Length: 100\r\n\r\nform=".encode())
        assert b" 408 " in slow.recv(1 << 16)
        assert hung_up_on(slow)


@pytest.mark.parametrize("more", ["Content-Length: 10000000000", "Transfer-Encoding: chunked"])
def test_a_big_body_is_refused_before_it_is_there(page, port, owner, more):
    head = f"POST /ask HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: {owner.cookie}\r\nContent-Type: {FORM['Content-Type']}\r\n"
    with connect(port) as big:
        big.sendall(f"{head}{more}\r\n\r\n".encode())
        chunk = b"2000\r\n" + b"x" * 8192 + b"\r\n" if "chunked" in more else b"x" * 8192
        big.sendall(chunk)
        assert b" 413 " in big.recv(1 << 16)
        assert hung_up_on(big)


def test_a_head_without_end_is_refused(page, port):
    with connect(port) as big:
        with suppress(ConnectionError):
            for _ in range(100):
                big.sendall(b"GET / HTTP/1.1\r\n" + b"X: " + b"x" * 4096)
        assert hung_up_on(big)


def test_connections_are_bounded_from_one_address_and_in_all(page, port, monkeypatch):
    monkeypatch.setattr(connections, "HEAD_S", 10 * DEADLINE_S)
    with ExitStack() as stack:
        silent = [stack.enter_context(connect(port)) for _ in range(connections.MOST_OF_ONE)]
        until(lambda: still_open(page) == connections.MOST_OF_ONE, "they are not all there")
        assert hung_up_on(stack.enter_context(connect(port)))
        elsewhere = stack.enter_context(socket.create_connection(("127.0.0.1", port), DEADLINE_S, ("127.0.0.2", 0)))
        elsewhere.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert b"200 OK" in elsewhere.recv(1 << 16)
        monkeypatch.setattr(connections, "MOST", connections.MOST_OF_ONE + 1)
        assert hung_up_on(stack.enter_context(socket.create_connection(("127.0.0.1", port), DEADLINE_S, ("127.0.0.3", 0))))
        for each in silent:
            each.close()
        elsewhere.close()
        until(lambda: still_open(page) == 0, "nobody makes room")
        assert Visitor(port).get("/healthz").status == 200


def test_without_the_bound_all_of_them_would_be_let_in(page, port, monkeypatch):
    """Sabotage."""
    monkeypatch.setattr(connections, "HEAD_S", 10 * DEADLINE_S)
    monkeypatch.setattr(connections, "MOST", 10_000)
    monkeypatch.setattr(connections, "MOST_OF_ONE", 10_000)
    with ExitStack() as stack:
        for _ in range(50):
            stack.enter_context(connect(port))
        until(lambda: still_open(page) == 50, "some were hung up on")


def test_nonsense_is_answered_and_forgotten(page, port, owner):
    for nonsense in (b"\x00\x01\x02\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00"):
        with connect(port) as odd:
            odd.sendall(nonsense)
            odd.shutdown(socket.SHUT_WR)
            assert hung_up_on(odd)
    assert owner.get("/").status == 200


# ------------------------------------------------------------------------------------------------ encrypted

def test_with_a_certificate_it_is_https_and_the_cookie_stays_there(panel, loop, tmp_path, token):
    certificate, key = tmp_path / "page.pem", tmp_path / "page.key"
    try:
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate,
                        "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
                       check=True, capture_output=True, timeout=60)
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    with Page(WebOptions(port=0, certificate=certificate, key=key), panel, tmp_path / "journal") as page:
        assert page.url.startswith("https://")
        port = int(page.url.rstrip("/").rpartition(":")[2])
        context = ssl.create_default_context(cafile=certificate)
        with closing(HTTPSConnection("localhost", port, timeout=DEADLINE_S, context=context)) as connection:
            connection.request("POST", "/login", urlencode({"token": token}),
                               {**FORM, "Origin": f"https://localhost:{port}", "Sec-Fetch-Site": "same-origin"})
            cookie = connection.getresponse().getheader("Set-Cookie")
        assert cookie.startswith("__Host-pawlatch=")
        assert {"Secure", "HttpOnly", "SameSite=strict"} <= set(cookie.split("; "))
        until(lambda: still_open(page) == 0, "the one who asked is still there")
        with ExitStack() as stack:  # those who never begin to speak TLS count too
            for _ in range(connections.MOST_OF_ONE):
                stack.enter_context(connect(port))
            assert hung_up_on(stack.enter_context(connect(port)))
