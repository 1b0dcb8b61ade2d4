"""A real RTSP conversation: a small server sends JPEG over RTP (RFC 2435) inside the RTSP connection (RFC 2326, 10.12)."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import struct
import threading
import time

import cv2
import numpy as np

from pawlatch.camera import CameraOptions, CameraState, open_camera

SIZE_HW = (48, 64)
PAYLOAD = 1200
SDP = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=porch\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\nm=video 0 RTP/AVP 26\r\na=control:track0\r\n"


def rtp_packets(grey: int, *, sequence: int, timestamp: int) -> tuple[list[bytes], int]:
    """A grey picture as RTP packets, each with its four bytes of interleaving header; and the next sequence number."""
    jpeg = cv2.imencode(".jpg", np.full((*SIZE_HW, 3), grey, np.uint8))[1].tobytes()
    tables, at = b"", 2
    while jpeg[at + 1] != 0xDA:
        length = int.from_bytes(jpeg[at + 2 : at + 4], "big")
        if jpeg[at + 1] == 0xDB:
            segment = jpeg[at + 4 : at + 2 + length]
            tables += b"".join(segment[i + 1 : i + 65] for i in range(0, len(segment), 65))
        at += 2 + length
    scan = jpeg[at + 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big") : -2]
    packets = []
    for offset in range(0, len(scan), PAYLOAD):
        piece = scan[offset : offset + PAYLOAD]
        is_last = offset + PAYLOAD >= len(scan)
        header = struct.pack(">BBHII", 0x80, 26 | (0x80 if is_last else 0), sequence & 0xFFFF, timestamp & 0xFFFFFFFF, 1)
        kind = struct.pack(">I4B", offset, 1, 255, SIZE_HW[1] // 8, SIZE_HW[0] // 8)  # type 1: 4:2:0; 255: tables follow
        quantization = struct.pack(">BBH", 0, 0, len(tables)) + tables if offset == 0 else b""
        packet = header + kind + quantization + piece
        packets.append(struct.pack(">cBH", b"$", 0, len(packet)) + packet)
        sequence += 1
    return packets, sequence


class RtspServer(socketserver.ThreadingTCPServer):
    """Gives the brightness that `grey` says, 20 pictures a second, until it is killed."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, port=0):
        self.grey, self.halt = 10, threading.Event()
        super().__init__(("127.0.0.1", port), Session)
        self.port = self.server_address[1]
        self.uri = f"rtsp://127.0.0.1:{self.port}/porch"
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()

    def kill(self):
        self.halt.set()
        self.shutdown()
        self.server_close()
        self.thread.join()

    def handle_error(self, request, client_address):
        pass


class Session(socketserver.StreamRequestHandler):
    def handle(self):
        while line := self.rfile.readline().decode().strip():
            headers = {}
            while header := self.rfile.readline().decode().strip():
                name, _, value = header.partition(":")
                headers[name.lower()] = value.strip()
            answers = {
                "OPTIONS": "Public: DESCRIBE, SETUP, PLAY, TEARDOWN\r\n",
                "DESCRIBE": f"Content-Type: application/sdp\r\nContent-Length: {len(SDP)}\r\n",
                "SETUP": f"Transport: {headers.get('transport', '')}\r\nSession: 1\r\n",
                "PLAY": "Session: 1\r\n",
            }
            verb = line.split()[0]
            answer = f"RTSP/1.0 200 OK\r\nCSeq: {headers['cseq']}\r\n{answers.get(verb, '')}\r\n"
            self.wfile.write((answer + (SDP if verb == "DESCRIBE" else "")).encode())
            if verb == "PLAY":
                self.play()
                return

    def play(self):
        sequence = index = 0
        while not self.server.halt.wait(0.05):
            packets, sequence = rtp_packets(self.server.grey, sequence=sequence, timestamp=index * 4500)
            self.wfile.write(b"".join(packets))
            index += 1
        self.connection.shutdown(socket.SHUT_RDWR)


def until(camera, condition):
    """Take frames until the condition holds of one of them, or of None while there are none; return what it holds of."""
    deadline_s = time.monotonic() + 30

    class Holds(Exception):  # noqa: N818
        pass

    def idle():
        assert time.monotonic() < deadline_s, "waited in vain"
        if condition(None):
            raise Holds

    with contextlib.suppress(Holds):
        for frame in camera.frames(idle):
            if condition(frame):
                return frame
    return None


def test_an_rtsp_camera_that_is_killed_and_returns():
    server = RtspServer()
    options = CameraOptions(uri=server.uri, retry_s=0.02, longest_retry_s=0.1)
    with open_camera(options=options) as camera:
        frame = until(camera, bool)
        assert frame.image_bgr.shape == (*SIZE_HW, 3)
        assert abs(float(frame.image_bgr.mean()) - 10) < 4
        server.kill()
        until(camera, lambda _: camera.state is CameraState.CONNECTING)
        server = RtspServer(server.port)
        server.grey = 200
        frame = until(camera, bool)
        assert abs(float(frame.image_bgr.mean()) - 200) < 4
        assert camera.state is CameraState.OK
        server.kill()
