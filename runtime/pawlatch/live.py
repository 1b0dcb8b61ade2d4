"""How to reach a live camera: V4L2, the Raspberry Pi's, RTSP, HTTP, or another program's named pipe.

The Raspberry Pi's camera is read through its own program `rpicam-vid` (before Debian 12's rename: `libcamera-vid`). picamera2
would save a JPEG round trip, but it is built on Debian's NumPy 1, cannot share a process with today's OpenCV, and a crash
of libcamera would be a crash of the door; as a child process it is only another camera that comes back.
"""

from __future__ import annotations

import logging
import re
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

import cv2
from numpy.typing import NDArray

from pawlatch.clip import captured
from pawlatch.errors import CameraError
from pawlatch.frame import CameraOptions
from pawlatch.mjpeg import JpegLink
from pawlatch.pipe import Child, NamedPipe, VideoLink
from pawlatch.reader import Link

logger = logging.getLogger(__name__)

PICAMERA = "picamera"
RTSP, HTTP = ("rtsp://", "rtsps://"), ("http://", "https://")
PICAMERA_PROGRAMS = ("rpicam-vid", "libcamera-vid")
PICAMERA_SIZE_WH, PICAMERA_FPS = (640, 480), 15.0
RAW_SIZE_WH = (640, 480)  # USB 2 carries no more than this uncompressed at a good rate
CONNECT_S = 5.0
GIVE_UP_S = 10.0  # a connection that is silent for so long is opened anew; rpicam-vid takes some seconds to start
# how WebM, MPEG-TS, AVI, FLV, Ogg, H.264 and MP4 begin
_VIDEO = re.compile(rb"\x1aE\xdf\xa3|G.{187}G|RIFF|FLV|OggS|\x00\x00\x00?\x01|.{4}ftyp", re.DOTALL)
_TELLING_BYTES = 189


@dataclass(frozen=True)
class LiveSource:
    """A live camera's address, checked: `name` for people, without password; `connect` opens it or raises CameraError."""

    name: str
    connect: Callable[[], Link]


def is_live(uri: str) -> bool:
    """Whether an address is a live camera's and not a clip's."""
    return uri.isdigit() or uri == PICAMERA or uri.startswith(("/dev/", *RTSP, *HTTP)) or _is_named_pipe(uri)


def live_source(options: CameraOptions) -> LiveSource:
    """The camera of `options.uri`, for which `is_live` holds.

    Raises:
        CameraError: the address is malformed, or the program that reads the camera is not installed: waiting will not help.
    """
    uri, timeout_s = options.uri, max(GIVE_UP_S, 2 * options.stale_s)
    if uri == PICAMERA:
        command = picamera_command(options)
        return LiveSource(uri, lambda: JpegLink(Child(command, timeout_s=timeout_s), timeout_s=timeout_s))
    if uri.startswith((*RTSP, *HTTP)):
        address, name = _address(uri), without_secrets(uri)
        if uri.startswith(HTTP):
            return LiveSource(name, lambda: _http(address, name, timeout_s))
        return LiveSource(name, lambda: _ffmpeg(uri, name, timeout_s))
    if _is_named_pipe(uri):
        return LiveSource(uri, lambda: _PipeLink(NamedPipe(Path(uri)), timeout_s))
    device = Path(f"/dev/video{uri}") if uri.isdigit() else Path(uri)
    return LiveSource(uri if not uri.isdigit() else f"camera {uri}", lambda: _v4l2(uri, device, options))


def picamera_command(options: CameraOptions) -> list[str]:
    """What starts the Raspberry Pi's camera, MJPEG on its standard output.

    Raises:
        CameraError: rpicam-apps are not installed.
    """
    from shutil import which  # 3 ms that no other camera needs

    program = next(filter(None, map(which, PICAMERA_PROGRAMS)), None)
    if program is None:
        raise CameraError("picamera is read through rpicam-vid, which is not here; sudo apt install rpicam-apps-lite")
    width, height = options.size_wh or PICAMERA_SIZE_WH
    asked = {"--timeout": 0, "--codec": "mjpeg", "--width": width, "--height": height,
             "--framerate": f"{options.fps or PICAMERA_FPS:g}", "--output": "-"}
    return [program, "--nopreview", "--flush", *(str(part) for option in asked.items() for part in option)]


def without_secrets(uri: str) -> str:
    """The address without user name, password and query, where some cameras want them, for messages and logs."""
    if not uri.startswith((*RTSP, *HTTP)):
        return uri
    parts = urlsplit(uri)
    query = "?…" if parts.query else ""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}{query}"


class _CaptureLink:
    """What OpenCV reads: V4L2, and streams through FFmpeg. A read cannot be interrupted, only times out."""

    def __init__(self, capture: cv2.VideoCapture) -> None:
        self._capture = capture

    def pictures(self, dropped: Callable[[str], object]) -> Iterator[NDArray[Any]]:
        yield from captured(self._capture)

    def interrupt(self) -> None:
        pass

    def close(self) -> None:
        self._capture.release()


class _PipeLink:
    """A named pipe of JPEGs or of a video: which one is known once somebody writes."""

    def __init__(self, pipe: NamedPipe, timeout_s: float) -> None:
        self._pipe, self._timeout_s = pipe, timeout_s

    def pictures(self, dropped: Callable[[str], object]) -> Iterator[NDArray[Any]]:
        first = b""
        while len(first) < _TELLING_BYTES and (some := self._pipe.read()):
            first += some
        is_video = _VIDEO.match(first)
        link = VideoLink(self._pipe, first=first) if is_video else JpegLink(self._pipe, timeout_s=self._timeout_s, first=first)
        yield from link.pictures(dropped)

    def interrupt(self) -> None:
        self._pipe.interrupt()

    def close(self) -> None:
        self._pipe.close()


def _v4l2(uri: str, device: Path, options: CameraOptions) -> Link:
    if sys.platform == "linux" and not device.exists():  # OpenCV would say so too, in ten lines
        raise CameraError(f"the camera {uri} does not open: there is no {device}; `ls /dev/video*` lists cameras")
    backend = cv2.CAP_V4L2 if sys.platform == "linux" else cv2.CAP_ANY
    capture = cv2.VideoCapture(int(uri) if uri.isdigit() else uri, backend)
    if not capture.isOpened():
        raise CameraError(f"the camera {uri} does not open; another program may be using it (`fuser {device}`), or this user "
                          "may not (`sudo usermod -aG video $USER`)")
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # the driver's queue is a backlog too
    if options.size_wh is not None:
        width, height = options.size_wh
        if width * height > RAW_SIZE_WH[0] * RAW_SIZE_WH[1]:
            capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, width)
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, height)
        got_wh = (round(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), round(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)))
        if got_wh != options.size_wh:
            logger.warning("asked the camera %s for %d×%d, its driver gives %d×%d", uri, *options.size_wh, *got_wh)
    if options.fps is not None:
        capture.set(cv2.CAP_PROP_FPS, options.fps)
    return _CaptureLink(capture)


def _http(address: SplitResult, name: str, timeout_s: float) -> Link:
    from pawlatch.httpstream import MULTIPART, HttpStream  # http.client and ssl: 30 ms that only such cameras need

    stream = HttpStream(address, connect_s=CONNECT_S, timeout_s=timeout_s)
    if stream.status == 200 and stream.type.startswith(MULTIPART):
        return JpegLink(stream, timeout_s=timeout_s)
    stream.close()
    if stream.elsewhere:
        raise CameraError(f"{name} has moved; name its new address, {without_secrets(stream.elsewhere)}")
    if stream.status == 200 and stream.type.startswith("image/"):
        raise CameraError(f"{name} is a single picture; name the address of the camera's stream")
    if stream.status == 200 or stream.wants_digest:  # a video, or a kind of password that FFmpeg knows
        return _ffmpeg(address.geturl(), name, timeout_s)
    remedy = "check the user name and the password in its address" if stream.status in (401, 403) else "check its address"
    raise CameraError(f"{name} answers with status {stream.status}; {remedy}")


def _ffmpeg(uri: str, name: str, timeout_s: float) -> Link:
    capture = cv2.VideoCapture(uri, cv2.CAP_FFMPEG, [
        cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, round(1000 * CONNECT_S), cv2.CAP_PROP_READ_TIMEOUT_MSEC, round(1000 * timeout_s),
        cv2.CAP_PROP_N_THREADS, 1,  # each further thread is a frame of delay
    ])
    if not capture.isOpened():
        raise CameraError(f"the camera {name} does not open; a stream needs its whole address, and the camera must be on")
    return _CaptureLink(capture)


def _address(uri: str) -> SplitResult:
    try:
        parts = urlsplit(uri)
        if parts.hostname and parts.port != 0:
            return parts
    except ValueError:  # a port that is no number
        pass
    raise CameraError(f"a stream's address is like http://host:port/path, got {without_secrets(uri)}")


def _is_named_pipe(uri: str) -> bool:
    try:
        return stat.S_ISFIFO(Path(uri).stat().st_mode)
    except OSError:
        return False
