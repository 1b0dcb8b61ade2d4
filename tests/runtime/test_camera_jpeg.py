"""JPEGs out of a stream of bytes, however it is cut, and whatever else stands in it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from pawlatch import mjpeg
from pawlatch.mjpeg import JpegSplitter

RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (40, 48, 3), np.uint8)
JPEGS = [
    cv2.imencode(".jpg", NOISE, options)[1].tobytes()
    for options in ([], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1], [cv2.IMWRITE_JPEG_RST_INTERVAL, 2], [cv2.IMWRITE_JPEG_QUALITY, 5])
] + [cv2.imencode(".jpg", NOISE[..., 0])[1].tobytes()]


def split(data: bytes, size: int) -> tuple[list[bytes], int]:
    splitter, jpegs, broken = JpegSplitter(), [], 0
    for at in range(0, len(data), size):
        more, bad = splitter.feed(data[at : at + size])
        jpegs, broken = jpegs + more, broken + bad
    return jpegs, broken


@pytest.mark.parametrize("size", [1, 2, 7, 1000, 10**9])
@pytest.mark.parametrize("between", [b"", b"--frame\r\nContent-Type: image/jpeg\r\n\r\n", b"\xff", b"\xff\xd8 ", b"\0" * 300])
def test_whole_pictures_come_out_byte_for_byte(size, between):
    data = between + between.join(JPEGS) + between
    assert split(data, size) == (JPEGS, 0)


def test_a_thumbnail_inside_is_not_taken_for_the_picture():
    thumbnail = JPEGS[3]
    assert len(thumbnail) < 60_000
    exif = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    picture = JPEGS[0][:2] + exif + JPEGS[0][2:]
    assert split(picture * 2, 999) == ([picture] * 2, 0)


@pytest.mark.parametrize("size", [1, 500, 10**9])
@pytest.mark.parametrize("keep", [3, 15, 300, 0.5, 0.999])
def test_a_picture_that_is_cut_off_takes_none_with_it(size, keep):
    cut = JPEGS[0][: keep if isinstance(keep, int) else round(keep * len(JPEGS[0]))]
    jpegs, broken = split(JPEGS[1] + cut + JPEGS[2] + JPEGS[3], size)
    assert jpegs[0] == JPEGS[1]
    assert jpegs[-1] == JPEGS[3]
    assert broken >= 1
    assert set(jpegs) <= set(JPEGS)  # none is made of two


def test_what_never_ends_is_dropped_and_the_next_one_found(monkeypatch):
    monkeypatch.setattr(mjpeg, "LARGEST_BYTES", 1 << 16)
    splitter = JpegSplitter()
    head = JPEGS[0][:-2]
    jpegs, broken = splitter.feed(head)
    for _ in range(20):
        more, bad = splitter.feed(b"\0" * 8192)
        jpegs, broken = jpegs + more, broken + bad
        assert len(splitter._bytes) <= (1 << 16) + 8192
    assert (jpegs, broken) == ([], 1)
    assert splitter.feed(JPEGS[1]) == ([JPEGS[1]], 0)


def test_noise_makes_no_picture_and_holds_no_memory():
    splitter = JpegSplitter()
    for _ in range(50):
        splitter.feed(RNG.bytes(10_000))
    assert len(splitter._bytes) < mjpeg.LARGEST_BYTES
    splitter.feed(b"\0" * 100)
    jpegs = [jpeg for _ in range(3) for jpeg in splitter.feed(JPEGS[0])[0]]
    assert jpegs[-1] == JPEGS[0]
