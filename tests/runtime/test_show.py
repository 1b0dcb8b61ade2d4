"""The door's view in a browser: who may see it, and that it never gets in the door's way."""

from __future__ import annotations

import http.client
import logging
import socket
import threading
import time
from contextlib import ExitStack, closing

import cv2
import numpy as np
import pytest

from pawlatch import showserver, stream
from pawlatch.errors import ConfigError, OutputError
from pawlatch.show import Show, ShowOptions, show_address

from .page_kit import next_jpeg

TOKEN = "correct-token"
DEADLINE_S = 30


def picture(grey: int) -> np.ndarray:
    return np.full((48, 64, 3), grey, np.uint8)


@pytest.fixture
def show():
    with Show(ShowOptions(port=0, token=TOKEN, fps=30.0)) as it:
        yield it


def ask(show, path: str, *, token: str | None = TOKEN, **headers) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", show._server.server_address[1], timeout=DEADLINE_S)
    connection.request("GET", path if token is None else f"{path}?token={token}", headers=headers)
    return connection.getresponse()


def grey_of(jpeg: bytes) -> int:
    return round(float(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR).mean()))


def watched(show, count: int) -> None:
    """Wait until that many watch."""
    until_s = time.monotonic() + DEADLINE_S
    with show.stream._changed:
        while show.stream._viewers != count:
            assert time.monotonic() < until_s
            show.stream._changed.wait(0.01)


def test_the_page_shows_the_stream(show):
    page = ask(show, "/")
    body = page.read().decode()
    assert (page.status, page.getheader("Content-Type")) == (200, "text/html; charset=utf-8")
    assert f'src="stream.mjpg?token={TOKEN}"' in body
    assert page.getheader("Referrer-Policy") == "no-referrer"
    assert page.getheader("Cache-Control") == "no-store"


def test_the_stream_shows_what_was_published_last(show):
    show.publish(lambda: picture(10))
    answer = ask(show, "/stream.mjpg")
    assert answer.getheader("Content-Type") == "multipart/x-mixed-replace; boundary=frame"
    assert grey_of(next_jpeg(answer)) == 10
    for grey in (20, 30):
        show.publish(lambda grey=grey: picture(grey))
        assert grey_of(next_jpeg(answer)) == grey


def test_our_own_camera_can_watch_it(show):
    from pawlatch.camera import open_camera

    show.publish(lambda: picture(77))
    with open_camera(f"{show.address}stream.mjpg?token={TOKEN}") as camera:
        assert grey_of(cv2.imencode(".png", next(camera.frames()).image_bgr)[1].tobytes()) == 77


def test_a_snapshot_is_one_picture(show):
    show.publish(lambda: picture(40))
    answer = ask(show, "/snapshot.jpg")
    assert (answer.status, answer.getheader("Content-Type")) == (200, "image/jpeg")
    assert grey_of(answer.read()) == 40


@pytest.mark.parametrize("path", ["/", "/stream.mjpg", "/snapshot.jpg", "/absent"])
@pytest.mark.parametrize("token", [None, "", "wrong-token", TOKEN[:-1], f"{TOKEN}x", "%ff"])
def test_nothing_is_shown_without_the_token(show, path, token):
    answer = ask(show, path, token=token)
    assert answer.status == 401
    assert TOKEN not in answer.read().decode()
    assert show.stream._viewers == 0


def test_the_token_may_come_as_a_header(show):
    assert ask(show, "/", token=None, Authorization=f"Bearer {TOKEN}").status == 200
    assert ask(show, "/", token=None, Authorization="Bearer wrong-token").status == 401
    assert ask(show, "/absent", token=None, Authorization=f"bearer {TOKEN}").status == 404


def test_a_token_is_made_read_or_refused(monkeypatch):
    urls = []
    for _ in range(2):
        with Show(ShowOptions(port=0)) as it:
            urls.append(it.url.rpartition("=")[2])
    assert urls[0] != urls[1]
    assert min(map(len, urls)) >= 20
    monkeypatch.setenv("PAWLATCH_SHOW_TOKEN", "from-environment")
    with Show(ShowOptions(port=0)) as it:
        assert it.url.endswith("?token=from-environment")
    with Show(ShowOptions(port=0, token=TOKEN)) as it:
        assert it.url.endswith(f"?token={TOKEN}")
    monkeypatch.setenv("PAWLATCH_SHOW_TOKEN", "short")
    with pytest.raises(ConfigError, match="PAWLATCH_SHOW_TOKEN must be 8 to 128") as caught:
        Show(ShowOptions(port=0))
    assert "short" not in str(caught.value)


def test_the_token_is_never_logged(show, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    show.publish(lambda: picture(1))
    for path in ("/", "/snapshot.jpg", "/absent"):
        ask(show, path).read()
    assert TOKEN not in caplog.text + "".join(capfd.readouterr())


def test_nothing_is_drawn_while_nobody_watches(show):
    drawn = []
    for _ in range(100):
        show.publish(lambda: drawn.append(1) or picture(10))
    assert ask(show, "/").status == 200  # the page alone is no watching
    assert drawn == []
    ask(show, "/snapshot.jpg").read()
    watched(show, 0)
    assert drawn == [1]


def test_no_more_pictures_a_second_than_asked_for(show, monkeypatch):
    pauses = []
    monkeypatch.setattr(show.stream, "_stop", Paused(pauses))
    answer = ask(show, "/stream.mjpg")
    watched(show, 1)
    for grey in (10, 20):
        show.publish(lambda grey=grey: picture(grey))
        assert grey_of(next_jpeg(answer)) == grey
    assert pauses
    assert set(pauses) == {1 / 30}


class Paused(threading.Event):
    """Writes down how long it was waited for."""

    def __init__(self, pauses):
        super().__init__()
        self._pauses = pauses

    def wait(self, timeout=None):
        self._pauses.append(timeout)
        return super().wait(0)


def test_who_comes_later_sees_nothing_old(show):
    show.publish(lambda: picture(10))
    assert grey_of(ask(show, "/snapshot.jpg").read()) == 10
    watched(show, 0)
    show.publish(lambda: picture(20))
    assert grey_of(ask(show, "/snapshot.jpg").read()) == 20


def test_viewers_are_bounded_and_make_room(show):
    show.publish(lambda: picture(10))
    with ExitStack() as stack:
        for _ in range(stream.VIEWERS):
            assert next_jpeg(stack.enter_context(closing(ask(show, "/stream.mjpg"))))
        assert ask(show, "/stream.mjpg").status == 503
        assert ask(show, "/").status == 200
    until_s = time.monotonic() + DEADLINE_S
    while show.stream._viewers and time.monotonic() < until_s:  # they notice at the next picture
        show.publish(lambda: picture(20))
        show.stream._changed.acquire()
        show.stream._changed.wait(0.05)
        show.stream._changed.release()
    assert ask(show, "/snapshot.jpg").status == 200


def test_a_viewer_that_does_not_read_holds_nobody_up(show):
    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    show.publish(lambda: noise)
    with socket.create_connection(("127.0.0.1", show._server.server_address[1])) as lazy:
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lazy.sendall(f"GET /stream.mjpg?token={TOKEN} HTTP/1.0\r\n\r\n".encode())
        watched(show, 1)
        answer = ask(show, "/stream.mjpg")
        for index in range(30):
            show.publish(lambda index=index: noise + np.uint8(index))
            assert next_jpeg(answer)


def test_connections_are_bounded(show, monkeypatch):
    monkeypatch.setattr(showserver._Handler, "timeout", 10 * DEADLINE_S)
    address = ("127.0.0.1", show._server.server_address[1])
    with ExitStack() as stack:
        silent = [stack.enter_context(socket.create_connection(address)) for _ in range(showserver.CONNECTIONS)]
        until_s = time.monotonic() + DEADLINE_S
        while len(show._server._open) < showserver.CONNECTIONS:
            assert time.monotonic() < until_s
        one_more = stack.enter_context(socket.create_connection(address))
        one_more.settimeout(DEADLINE_S)
        assert one_more.recv(1) == b""  # hung up on
        silent[0].close()
        while len(show._server._open) == showserver.CONNECTIONS:
            assert time.monotonic() < until_s
        assert ask(show, "/").status == 200


def test_a_picture_that_cannot_be_drawn_is_left_out(show, caplog):
    def broken():
        raise ValueError("no pen")

    answer = ask(show, "/stream.mjpg")
    watched(show, 1)
    until_s = time.monotonic() + DEADLINE_S
    for _ in range(3):
        drawn = show.stream._drawn
        show.publish(lambda: broken())
        while show.stream._drawn is drawn:
            assert time.monotonic() < until_s
    assert [record.getMessage() for record in caplog.records] == ["a picture of the show cannot be drawn"]  # once
    show.publish(lambda: picture(10))
    assert grey_of(next_jpeg(answer)) == 10


def test_closing_sends_everybody_home_and_gives_the_port_back(monkeypatch):
    monkeypatch.setattr(showserver._Handler, "timeout", 10 * DEADLINE_S)
    first = Show(ShowOptions(port=0, token=TOKEN))
    port = first._server.server_address[1]
    first.publish(lambda: picture(10))
    answer = ask(first, "/stream.mjpg")
    next_jpeg(answer)
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S) as silent:
        while len(first._server._open) < 2:
            pass
        first.close()
        first.close()
        assert silent.recv(1) == b""
    assert next_jpeg(answer) == b""
    assert not first._thread.is_alive()
    assert not first.stream._thread.is_alive()
    with Show(ShowOptions(port=port)):  # noqa: SIM117
        with pytest.raises(OutputError, match="Address already in use"):
            Show(ShowOptions(port=port))


def test_only_this_machine_sees_it_unless_told_otherwise(show, caplog):
    assert show._server.server_address[0] == "127.0.0.1"
    with Show(ShowOptions(port=0, host="0.0.0.0")):
        assert "unencrypted" in caplog.text


def test_addresses():
    assert show_address("8080") == ("127.0.0.1", 8080)
    assert show_address("0.0.0.0:80") == ("0.0.0.0", 80)
    assert show_address("[::1]:8080") == ("::1", 8080)
    assert show_address("porch.local:8080") == ("porch.local", 8080)
    for wrong in ("", "porch", "porch:", ":8080", "1:2:3", "70000", "::1:80"):
        with pytest.raises(ConfigError, match="PORT or HOST:PORT"):
            show_address(wrong)


@pytest.mark.parametrize("options", [{"port": -1}, {"port": 70000}, {"host": ""}, {"token": "short"}, {"token": "with blanks"},
                                     {"fps": 0.0}, {"fps": float("nan")}])  # fmt: skip
def test_options_out_of_bounds_are_named(options):
    with pytest.raises(ConfigError, match=f"^{next(iter(options))} must"):
        ShowOptions(**options)


def test_no_port_no_show():
    with pytest.raises(ConfigError, match="--show PORT"):
        Show(ShowOptions())
