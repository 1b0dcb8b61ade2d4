"""Live cameras that go away and come back: a real MJPEG server, a named pipe, a child process, and a camera by hand."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import queue
import socket
import stat
import sys
import threading
import time
from base64 import b64encode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np
import pytest

from pawlatch import live, mjpeg
from pawlatch.camera import CameraOptions, CameraState, LiveCamera, open_camera
from pawlatch.errors import CameraError
from pawlatch.live import live_source, picamera_command, without_secrets
from pawlatch.reader import back_off

DEADLINE_S = 60.0


def picture(grey: int, *, size_hw=(48, 64)) -> np.ndarray:
    return np.full((*size_hw, 3), grey, np.uint8)


def jpeg(grey: int, **kwargs) -> bytes:
    return cv2.imencode(".jpg", picture(grey, **kwargs))[1].tobytes()


def grey_of(frame) -> int:
    return round(float(frame.image_bgr.mean()))


def patience():
    """An `idle` that fails the test instead of waiting for ever."""
    until_s = time.monotonic() + DEADLINE_S

    def idle():
        assert time.monotonic() < until_s, "waited in vain"

    return idle


def until(camera, condition) -> list:
    """Take frames until the condition holds; return them."""

    class Holds(Exception):  # noqa: N818
        pass

    wait, frames = patience(), []

    def idle():
        if condition():
            raise Holds
        wait()

    with contextlib.suppress(Holds):
        for frame in camera.frames(idle):
            frames.append(frame)
            if condition():
                break
    return frames


class Hand:
    """A link whose pictures a test puts in; an exception breaks it, None ends it."""

    def __init__(self):
        self.pictures_in = queue.Queue()
        self.closed = threading.Event()

    def pictures(self, dropped):
        while (it := self.pictures_in.get()) is not None:
            if isinstance(it, Exception):
                raise it
            if isinstance(it, str):
                dropped(it)
            else:
                yield it

    def interrupt(self):
        self.pictures_in.put(None)

    def close(self):
        self.closed.set()


@pytest.fixture
def hands():
    """Links to be given out, one a connection; where there are none, connecting fails."""
    return queue.Queue()


@pytest.fixture
def attempts():
    """An entry for each attempt to connect."""
    return queue.Queue()


@pytest.fixture
def hand_camera(hands, attempts, clock):
    def connect():
        attempts.put(None)
        try:
            it = hands.get_nowait()
        except queue.Empty:
            raise CameraError("nobody is there") from None
        return it

    options = CameraOptions(stale_s=5.0, retry_s=0.01, longest_retry_s=0.02)
    with LiveCamera(connect, name="cam", options=options, clock=clock) as camera:
        yield camera


def test_states_follow_the_connection(hand_camera, hands, clock):
    assert hand_camera.state is CameraState.CONNECTING
    first, second = Hand(), Hand()
    hands.put(first)
    first.pictures_in.put(picture(10))
    assert [grey_of(f) for f in until(hand_camera, lambda: hand_camera.state is CameraState.OK)] == [10]
    clock.now_s += 5.0
    assert hand_camera.state is CameraState.OK
    clock.now_s += 0.1
    assert hand_camera.state is CameraState.STALLED
    first.pictures_in.put(picture(20))
    frame = next(hand_camera.frames(patience()))
    assert (grey_of(frame), frame.time_s, frame.index, hand_camera.state) == (20, 5.1, 1, CameraState.OK)
    first.pictures_in.put(OSError("cable pulled"))
    until(hand_camera, lambda: hand_camera.state is CameraState.CONNECTING)
    assert first.closed.wait(DEADLINE_S)
    hands.put(second)
    second.pictures_in.put(picture(30))
    frame = next(hand_camera.frames(patience()))
    assert (grey_of(frame), frame.index, hand_camera.state) == (30, 2, CameraState.OK)


def test_a_connection_without_a_frame_is_not_ok(hand_camera, hands, clock):
    hands.put(Hand())
    until(hand_camera, hands.empty)
    assert hand_camera.state is CameraState.CONNECTING
    clock.now_s += 6.0
    until(hand_camera, lambda: hand_camera.state is CameraState.STALLED)


def test_a_frame_that_nobody_took_in_time_is_not_given_as_new(hand_camera, hands, clock):
    hand = Hand()
    hands.put(hand)
    hand.pictures_in.put(picture(10))
    hand.pictures_in.put("broken")  # once it is counted, the picture before was kept
    wait = patience()
    while hand_camera.dropped == 0:
        wait()
    clock.now_s += 6.0
    hand.pictures_in.put(picture(20))
    assert grey_of(next(hand_camera.frames(patience()))) == 20


def test_what_is_no_picture_is_dropped_counted_and_told_once_a_minute(hand_camera, hands, clock, caplog):
    hand = Hand()
    hands.put(hand)
    bad = [picture(1)[..., :2], picture(1).astype(np.uint16), np.empty((0, 64, 3), np.uint8), picture(1)[:4], "cut off"]
    for it in (*bad, picture(10)):
        hand.pictures_in.put(it)
    assert grey_of(next(hand_camera.frames(patience()))) == 10
    clock.now_s += 60.0
    for it in (*bad, picture(20)):
        hand.pictures_in.put(it)
    assert grey_of(next(hand_camera.frames(patience()))) == 20
    assert hand_camera.dropped == 10
    told = [record.getMessage() for record in caplog.records if "dropped" in record.getMessage()]
    assert [message.split(";")[0] for message in told] == ["cam: frames dropped so far: 1", "cam: frames dropped so far: 6"]


def test_grey_transparent_and_resized_frames_are_normalised(hand_camera, hands):
    hand = Hand()
    hands.put(hand)
    frames = hand_camera.frames(patience())
    for it in (picture(7)[..., 0], cv2.cvtColor(picture(7), cv2.COLOR_BGR2BGRA), picture(7, size_hw=(96, 128))):
        hand.pictures_in.put(it)
        frame = next(frames)
        assert frame.image_bgr.shape == (*it.shape[:2], 3)
        assert frame.image_bgr.dtype == np.uint8
        assert (frame.image_bgr == 7).all()


def test_an_outage_is_told_once(hand_camera, hands, attempts, caplog):
    hand = Hand()
    hands.put(hand)
    hand.pictures_in.put(picture(10))
    next(hand_camera.frames(patience()))
    caplog.clear()
    hand.interrupt()
    for _ in range(attempts.qsize() + 5):
        attempts.get(timeout=DEADLINE_S)
    assert [record.getMessage() for record in caplog.records] == [
        "cam: it gives no more frames; trying again until it comes back",
        "cam: nobody is there; trying again until it comes back",
    ]


def test_pauses_double_and_stay():
    assert list(itertools.islice(back_off(0.5, 30.0), 9)) == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


def test_closing_interrupts_a_waiting_reader(hand_camera, hands):
    hand = Hand()
    hands.put(hand)
    until(hand_camera, hands.empty)
    hand_camera.close()
    assert hand.closed.is_set()
    assert list(hand_camera.frames()) == []


# --- HTTP ---


class MjpegServer:
    """A camera's web server: sends each viewer what a test puts in; may be killed and started again on its port."""

    def __init__(self, *, port=0, kind="multipart/x-mixed-replace; boundary=frame", status=200, headers=(), chunked=False):
        self.viewers: list[queue.Queue] = []
        self.asked: list = []
        self.came = threading.Semaphore(0)
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1" if chunked else "HTTP/1.0"

            def do_GET(self):
                outer.asked.append((self.path, self.headers.get("Authorization")))
                self.send_response(status)
                for name, value in (("Content-Type", kind), *headers):
                    self.send_header(name, value)
                if chunked:
                    self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                parts = queue.Queue()
                outer.viewers.append(parts)
                outer.came.release()
                with contextlib.suppress(OSError):
                    while (part := parts.get()) is not None:
                        self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part) if chunked else part)
                self.close_connection = True

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        self.uri = f"http://127.0.0.1:{self.port}/stream"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()

    def send(self, data: bytes):
        for parts in self.viewers:
            parts.put(data)

    def show(self, *jpegs: bytes):
        for it in jpegs:
            self.send(b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n" % (len(it), it))

    def kill(self):
        self.server.shutdown()
        self.server.server_close()
        for parts in self.viewers:
            parts.put(None)
        self.thread.join()


@pytest.fixture
def serve():
    with contextlib.ExitStack() as stack:

        def start(**kwargs):
            server = MjpegServer(**kwargs)
            stack.callback(server.kill)
            return server

        yield start


def options(uri, **kwargs):
    return CameraOptions(uri=uri, **{"retry_s": 0.02, "longest_retry_s": 0.1, **kwargs})


@pytest.mark.parametrize("chunked", [False, True])
def test_an_http_camera_that_is_killed_and_returns_on_its_port(serve, chunked):
    server = serve(chunked=chunked)
    with open_camera(options=options(server.uri)) as camera:
        assert server.came.acquire(timeout=DEADLINE_S)
        for grey in (10, 20, 30):
            server.show(jpeg(grey))
            assert grey_of(next(camera.frames(patience()))) == grey
        assert camera.state is CameraState.OK
        server.kill()
        assert until(camera, lambda: camera.state is CameraState.CONNECTING) == []
        again = serve(port=server.port, chunked=chunked)
        assert again.came.acquire(timeout=DEADLINE_S)
        again.show(jpeg(40))
        assert grey_of(next(camera.frames(patience()))) == 40
        assert camera.state is CameraState.OK


def test_only_the_newest_of_what_has_arrived_is_given(serve):
    server = serve()
    decoded = []
    with open_camera(options=options(server.uri)) as camera:
        assert server.came.acquire(timeout=DEADLINE_S)
        frames = camera.frames(patience())
        server.send(b"".join(b"--frame\r\n\r\n" + jpeg(grey) + b"\r\n" for grey in range(1, 100)) + b"--frame\r\n\r\n" + jpeg(200))
        for frame in frames:
            decoded.append(grey_of(frame))
            if decoded[-1] == 200:
                break
    assert len(decoded) < 20  # of 100 that came at once


def test_a_stream_may_be_cut_off_change_its_size_or_go_grey_and_goes_on(serve, caplog):
    server = serve()
    with open_camera(options=options(server.uri)) as camera:
        assert server.came.acquire(timeout=DEADLINE_S)
        frames = camera.frames(patience())
        server.show(jpeg(10))
        assert grey_of(next(frames)) == 10
        whole = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8))[1].tobytes()
        server.show(whole[: len(whole) // 2], b"", b"\xff\xd8\xff\xd9", jpeg(20, size_hw=(240, 320)))
        frame = next(frames)
        assert (grey_of(frame), frame.image_bgr.shape) == (20, (240, 320, 3))
        server.show(cv2.imencode(".jpg", picture(30)[..., 0])[1].tobytes())
        assert next(frames).image_bgr.shape == (48, 64, 3)
        assert camera.dropped == 2
    assert "cut off" in caplog.text


def test_a_password_is_sent_and_never_said(serve, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    server = serve(status=401)
    secret = server.uri.replace("//", "//paw:s%40cret@") + "?key=hidden"
    with pytest.raises(CameraError, match="status 401; check the user name and the password") as caught:
        open_camera(secret)
    with open_camera(options=options(secret), wait=True) as camera:
        until(camera, lambda: len(server.asked) > 1)
    assert server.asked[0] == ("/stream?key=hidden", f"Basic {b64encode(b'paw:s@cret').decode()}")
    said = str(caught.value) + caplog.text + "".join(capfd.readouterr())
    assert not [word for word in ("s@cret", "s%40cret", "paw:", "hidden") if word in said]


def test_an_rtsp_password_is_not_repeated():
    with pytest.raises(CameraError) as caught:
        open_camera("rtsp://paw:secret@127.0.0.1:1/stream")
    assert "secret" not in str(caught.value)
    assert "rtsp://127.0.0.1:1/stream" in str(caught.value)
    assert without_secrets("rtsp://a:b@cam/x?user=u&password=p") == "rtsp://cam/x?…"


@pytest.mark.parametrize(("answer", "why"), [
    ({"status": 404}, "status 404; check its address"),
    ({"kind": "image/jpeg"}, "single picture"),
    ({"status": 302, "headers": [("Location", "http://a:b@elsewhere/x")]}, r"moved; name its new address, http://elsewhere/x$"),
    ({"kind": "text/html"}, "does not open"),
])  # fmt: skip
def test_an_answer_that_is_no_stream_is_explained(serve, answer, why):
    server = serve(**answer)
    kill = threading.Timer(0, lambda: (server.came.acquire(), server.came.acquire(timeout=DEADLINE_S), server.kill()))
    kill.daemon = True
    if "text" in answer.get("kind", ""):  # FFmpeg asks a second time, and would wait for the end of the page
        kill.start()
    with pytest.raises(CameraError, match=why):
        open_camera(server.uri)


def test_a_silent_http_camera_is_asked_again(serve, monkeypatch):
    monkeypatch.setattr(live, "GIVE_UP_S", 0.1)
    server = serve()
    with open_camera(options=options(server.uri, stale_s=0.5)) as camera:
        assert server.came.acquire(timeout=DEADLINE_S)
        server.show(jpeg(10))
        assert grey_of(next(camera.frames(patience()))) == 10
        until(camera, lambda: camera.state is CameraState.STALLED)
        assert server.came.acquire(timeout=DEADLINE_S)  # it came once more
        assert grey_of(next(camera.frames(lambda: server.show(jpeg(20))))) == 20


def test_bytes_without_a_picture_are_not_waited_for_for_ever(monkeypatch):
    times = itertools.count(step=6.0)
    monkeypatch.setattr(mjpeg.time, "monotonic", lambda: next(times))

    class Noise(Hand):
        def read(self):
            return b"noise"

    with pytest.raises(CameraError, match="no picture for 10 s"):
        list(mjpeg.JpegLink(Noise(), timeout_s=10.0).pictures(print))


def test_closing_does_not_wait_for_a_silent_camera(serve, caplog):
    server = serve()
    camera = open_camera(options=options(server.uri))
    assert server.came.acquire(timeout=DEADLINE_S)
    camera.close()
    assert "left behind" not in caplog.text


def test_a_camera_that_is_not_there_yet_is_waited_for(serve):
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
    with open_camera(options=options(f"http://127.0.0.1:{port}/stream"), wait=True) as camera:
        until(camera, lambda: True)
        assert camera.state is CameraState.CONNECTING
        server = serve(port=port)
        assert server.came.acquire(timeout=DEADLINE_S)
        server.show(jpeg(10))
        assert grey_of(next(camera.frames(patience()))) == 10
    with open_camera("/dev/video99", wait=True) as camera:
        assert camera.state is CameraState.CONNECTING
    with pytest.raises(CameraError, match="like http"):
        open_camera("http://", wait=True)


# --- named pipes ---


@pytest.fixture
def fifo(tmp_path):
    path = tmp_path / "camera.fifo"
    os.mkfifo(path)
    return path


def test_a_named_pipe_that_stops_in_the_middle(fifo, clock):
    with open_camera(options=options(str(fifo)), clock=clock) as camera:
        with fifo.open("wb", buffering=0) as writer:
            for grey in (10, 20):
                writer.write(jpeg(grey))
                assert grey_of(next(camera.frames(patience()))) == grey
            writer.write(jpeg(30)[:-40])  # and here it stops
            clock.now_s += 6.0
            assert until(camera, lambda: camera.state is CameraState.STALLED) == []
            writer.write(jpeg(30)[-40:])  # it was only slow
            assert grey_of(next(camera.frames(patience()))) == 30
            assert camera.state is CameraState.OK
            writer.write(jpeg(40)[:-40])
        assert until(camera, lambda: camera.state is not CameraState.OK) == []
        with fifo.open("wb", buffering=0) as writer:  # another one begins anew
            writer.write(jpeg(50))
            assert grey_of(next(camera.frames(patience()))) == 50


def test_a_named_pipe_that_is_joined_in_the_middle_of_a_picture(fifo):
    with open_camera(options=options(str(fifo))) as camera, fifo.open("wb", buffering=0) as writer:
        writer.write(jpeg(10)[300:] + jpeg(20))
        assert grey_of(next(camera.frames(patience()))) == 20


def test_a_named_pipe_of_video(fifo, tmp_path):
    video = tmp_path / "clip.webm"
    out = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"VP80"), 10, (160, 120))
    for grey in range(0, 200, 4):
        out.write(picture(grey, size_hw=(120, 160)))
    out.release()
    with open_camera(options=options(str(fifo))) as camera:

        def write():
            with fifo.open("wb") as writer:
                writer.write(video.read_bytes())

        writer = threading.Thread(target=write, daemon=True)
        writer.start()
        frames = until(camera, lambda: camera.state is not CameraState.OK and camera._index > 0)
        writer.join()
        assert camera._index == 50
        assert frames[-1].image_bgr.shape == (120, 160, 3)


def test_a_named_pipe_of_video_that_stops_in_the_middle_can_be_closed(fifo, tmp_path, clock, caplog):
    video = tmp_path / "clip.ts"
    out = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"mp4v"), 10, (160, 120))
    for grey in range(200):
        out.write(np.random.default_rng(grey).integers(0, 256, (120, 160, 3), np.uint8))
    out.release()
    camera = open_camera(options=options(str(fifo)), clock=clock)
    with fifo.open("wb", buffering=0) as writer:
        writer.write(video.read_bytes()[: video.stat().st_size // 2])
        next(camera.frames(patience()))

        def is_stalled():
            clock.now_s += 1.0
            return camera.state is CameraState.STALLED

        until(camera, is_stalled)
        camera.close()
    assert "left behind" not in caplog.text


# --- rpicam-vid ---

STAND_IN = """#!{python}
import os, sys, time, cv2, numpy as np
folder = os.path.dirname(os.path.abspath(__file__))
with open(folder + "/calls", "a") as calls:
    calls.write(" ".join(sys.argv[1:]) + "\\n")
width, height = (int(sys.argv[sys.argv.index(name) + 1]) for name in ("--width", "--height"))
print("[0:01:02] INFO Camera registered", file=sys.stderr, flush=True)
grey = 10 * sum(1 for line in open(folder + "/calls"))
jpeg = cv2.imencode(".jpg", np.full((height, width, 3), grey, np.uint8))[1].tobytes()
while not os.path.exists(folder + "/crash"):
    sys.stdout.buffer.write(jpeg)
    sys.stdout.buffer.flush()
    time.sleep(0.02)
os.remove(folder + "/crash")
sys.stderr.write(1000 * ("x" * 200 + "\\n") + "x" * 200_000 + "\\nERROR: *** no cameras available ***\\n")
sys.exit(255)
"""


@pytest.fixture
def rpicam(tmp_path, monkeypatch):
    """A folder with a stand-in for rpicam-vid, first on the PATH."""
    program = tmp_path / "bin" / "rpicam-vid"
    program.parent.mkdir()
    program.write_text(STAND_IN.format(python=sys.executable))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    return program.parent


def test_picamera_is_rpicam_vid_which_may_crash(rpicam, caplog):
    with open_camera(options=options("picamera", size_wh=(128, 96), fps=20)) as camera:
        frame = next(camera.frames(patience()))
        assert (grey_of(frame), frame.image_bgr.shape) == (10, (96, 128, 3))
        (rpicam / "crash").touch()
        until(camera, lambda: camera.state is CameraState.CONNECTING)
        frames = until(camera, lambda: camera.state is CameraState.OK)
        assert grey_of(frames[-1]) == 20  # it was started again
        child = camera._link._source._child
    assert child.returncode is not None  # it is not left running
    calls = (rpicam / "calls").read_text().splitlines()
    assert calls == ["--nopreview --flush --timeout 0 --codec mjpeg --width 128 --height 96 --framerate 20 --output -"] * 2
    assert "rpicam-vid ended with status 255" in caplog.text
    assert "no cameras available" in caplog.text
    assert len(caplog.text) < 20_000  # of 400,000 characters that it complained of


def test_picamera_by_its_former_name_or_not_at_all(rpicam, monkeypatch):
    monkeypatch.setenv("PATH", str(rpicam))
    (rpicam / "rpicam-vid").rename(rpicam / "libcamera-vid")
    assert picamera_command(CameraOptions())[0] == str(rpicam / "libcamera-vid")
    (rpicam / "libcamera-vid").unlink()
    with pytest.raises(CameraError, match="sudo apt install rpicam-apps-lite"):
        open_camera("picamera", wait=True)


# --- V4L2 ---


def test_a_usb_camera_is_asked_for_size_and_rate(monkeypatch, caplog):
    asked = []

    class Capture:
        def __init__(self, *where):
            asked.append(where)

        def isOpened(self):  # noqa: N802
            return True

        def set(self, key, value):
            asked.append((key, value))

        def get(self, key):
            return 1280 if key == cv2.CAP_PROP_FRAME_WIDTH else 960

        def read(self):
            return True, picture(10)

        def release(self):
            asked.append("released")

    monkeypatch.setattr(live.cv2, "VideoCapture", Capture)
    monkeypatch.setattr(live.Path, "exists", lambda _: True)
    with open_camera(options=options("0", size_wh=(1280, 720), fps=15)) as camera:
        assert grey_of(next(camera.frames(patience()))) == 10
        assert camera.fps == 15
    assert asked == [
        (0, cv2.CAP_V4L2), (cv2.CAP_PROP_BUFFERSIZE, 1), (cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG")),
        (cv2.CAP_PROP_FRAME_WIDTH, 1280), (cv2.CAP_PROP_FRAME_HEIGHT, 720), (cv2.CAP_PROP_FPS, 15), "released", "released",
    ]  # fmt: skip
    assert "asked the camera 0 for 1280×720, its driver gives 1280×960" in caplog.text


def test_what_is_live():
    live_uris = ("0", "/dev/video2", "picamera", "rtsp://cam/x", "http://cam/x", "https://cam/x")
    assert all(map(live.is_live, live_uris))
    assert not any(map(live.is_live, ("clip.mp4", "scene:demo", "photos/", "0.mp4")))
    assert live_source(CameraOptions(uri="http://me:pw@cam/x")).name == "http://cam/x"
