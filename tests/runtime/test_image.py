"""The only preprocessing: what is read, what is refused, and that its arithmetic is exact."""

import cv2
import numpy as np
import pytest

from pawlatch.errors import ImageError
from pawlatch.image import FIT_POLICIES, decode_image, fit, read_image

RNG = np.random.default_rng(7)


def encoded(suffix, image, *flags):
    return cv2.imencode(suffix, image, list(flags))[1].tobytes()


def photo(height=120, width=160):
    return cv2.GaussianBlur(RNG.integers(0, 256, (height, width, 3), np.uint8), (9, 9), 0)


def with_orientation(jpeg: bytes, orientation: int) -> bytes:
    """Put an EXIF segment with an orientation, and an end-of-image marker like a thumbnail's, after the SOI."""
    tiff = b"II*\0\x08\0\0\0\x01\0" + b"\x12\x01\x03\0\x01\0\0\0" + orientation.to_bytes(4, "little") + b"\0\0\0\0" + b"\xff\xd9"
    body = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body + jpeg[2:]


def test_colour_order_is_rgb():
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 2] = 255  # OpenCV writes BGR
    assert decode_image(encoded(".png", red))[0, 0].tolist() == [255, 0, 0]


def test_exif_orientation_turns_the_picture():
    jpeg = encoded(".jpg", photo(40, 80))
    assert decode_image(jpeg).shape == (40, 80, 3)
    assert decode_image(with_orientation(jpeg, 6)).shape == (80, 40, 3)


def test_a_wrong_suffix_does_not_matter(tmp_path):
    path = tmp_path / "really_webp.jpg"
    path.write_bytes(encoded(".webp", photo()))
    assert read_image(path).shape == (120, 160, 3)


def test_sixteen_bit_and_grey_become_rgb8():
    deep = (photo().astype(np.uint16) << 8) + 7
    assert decode_image(encoded(".png", deep)).dtype == np.uint8
    assert decode_image(encoded(".png", photo()[..., 0])).shape == (120, 160, 3)


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_sixteen_bit_keeps_its_brightness(suffix):
    shallow = photo()
    decoded = decode_image(encoded(suffix, shallow.astype(np.uint16) * 257))
    assert np.array_equal(decoded, shallow[..., ::-1])


def cmyk_jpeg(blocks, *, adobe: bool) -> bytes:
    """A baseline JPEG of four components, one flat 8×8 block for each (C, M, Y, K) as stored; 8 blocks a row.

    One Huffman table codes the twelve sizes of a DC step in four bits each, the other only the end of a block, in one bit.
    """
    def segment(marker, body):
        return bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2, "big") + bytes(body)

    height, width = 8 * (len(blocks) // 8), 64
    frame = [8, *height.to_bytes(2, "big"), *width.to_bytes(2, "big"), 4]
    bits, last = "", [0] * 4
    for block in blocks:
        for channel, level in enumerate(block):
            step = (8 * (level - 128)) - last[channel]  # a flat block's only coefficient, with a quantizer of 1
            last[channel] += step
            size = abs(step).bit_length()
            low = step if step >= 0 else step + (1 << size) - 1
            bits += f"{size:04b}" + (f"{low:0{size}b}" if size else "") + "0"
    bits += "1" * (-len(bits) % 8)
    scan = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
    return b"".join([
        b"\xff\xd8", segment(0xEE, b"Adobe\0\x64\0\0\0\0\0") if adobe else b"",
        segment(0xDB, [0] + [1] * 64),
        segment(0xC0, frame + [value for component in range(1, 5) for value in (component, 0x11, 0)]),
        segment(0xC4, [0x00, 0, 0, 0, 12] + [0] * 12 + [*range(12)]), segment(0xC4, [0x10, 1] + [0] * 15 + [0]),
        segment(0xDA, [4] + [value for component in range(1, 5) for value in (component, 0)] + [0, 63, 0]), scan, b"\xff\xd9",
    ])  # fmt: skip


@pytest.mark.parametrize("adobe", [True, False])
def test_cmyk_is_read_as_photoshop_writes_it_inverted(adobe):
    """Every program writes 255 for no ink, with Adobe's marker or without it."""
    inks = {(0, 0, 0, 0): (255, 255, 255), (255, 0, 0, 0): (0, 255, 255), (0, 255, 255, 0): (255, 0, 0),
            (0, 0, 0, 255): (0, 0, 0), (51, 102, 0, 0): (204, 153, 255), (0, 0, 0, 128): (127, 127, 127)}
    stored = [tuple(255 - ink for ink in color) for color in inks]
    decoded = decode_image(cmyk_jpeg([stored[i % len(stored)] for i in range(16)], adobe=adobe))
    for i, rgb in enumerate(inks.values()):
        assert np.abs(decoded[4, 8 * i + 4].astype(int) - rgb).max() <= 2, (i, rgb)


def test_of_a_phones_several_pictures_the_first_is_read():
    """MPO: a JPEG with an index of others, which follow it."""
    first, second = photo(), photo(60, 80)
    index = b"MPF\0II*\0\x08\0\0\0\0\0\0\0\0\0"
    jpeg = encoded(".jpg", first)
    data = jpeg[:2] + b"\xff\xe2" + (len(index) + 2).to_bytes(2, "big") + index + jpeg[2:] + encoded(".jpg", second)
    assert np.array_equal(decode_image(data), decode_image(jpeg))


@pytest.mark.skipif(not hasattr(cv2, "imencodeanimation"), reason="this OpenCV cannot write animations")
@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png", ".avif"])
def test_an_animation_is_refused_and_a_still_is_not(suffix):
    animation = cv2.Animation()
    animation.frames, animation.durations = [photo(), photo(), photo()], [100, 100, 100]
    with pytest.raises(ImageError, match=r"expected a still, but cat\.x is an animation; save the frames"):
        decode_image(cv2.imencodeanimation(suffix, animation)[1].tobytes(), name="cat.x")
    assert decode_image(encoded(suffix, photo())).shape == (120, 160, 3)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp", ".tiff"])
@pytest.mark.parametrize("share", [0.05, 0.6, 0.95])
def test_a_truncated_file_is_refused(suffix, share):
    data = encoded(suffix, photo())
    with pytest.raises(ImageError, match=r"name\.x"):
        decode_image(data[: int(len(data) * share)], name="name.x")


def test_a_truncated_jpeg_is_refused_although_its_thumbnail_has_an_end():
    data = with_orientation(encoded(".jpg", photo()), 1)
    decode_image(data)
    with pytest.raises(ImageError, match="ends early"):
        decode_image(data[:-200])


def test_a_progressive_jpeg_is_whole():
    assert decode_image(encoded(".jpg", photo(), cv2.IMWRITE_JPEG_PROGRESSIVE, 1)).shape == (120, 160, 3)


def test_transparency_is_refused_and_an_opaque_alpha_is_not():
    image = np.dstack([photo(), np.full((120, 160), 255, np.uint8)])
    assert decode_image(encoded(".png", image)).shape == (120, 160, 3)
    image[5, 5, 3] = 0
    with pytest.raises(ImageError, match=r"expected 3 colour channels, got 4 in garden\.png; save it without transparency"):
        decode_image(encoded(".png", image), name="garden.png")


@pytest.mark.parametrize(("data", "words"), [
    (b"", "empty"),
    (b"hello, this is text and no picture at all", "none"),
    (b"\0\0\0\x18ftypheic" + b"\0" * 64, "HEIC"),
    (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heim" + b"\0" * 64, "HEIC"),
    (b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif" + b"\0" * 64, "none"),
    (encoded(".png", np.zeros((1, 1, 3), np.uint8)), "at least 16 pixels"),
])
def test_what_is_no_photo_is_refused_with_a_remedy(data, words):
    with pytest.raises(ImageError, match=words):
        decode_image(data, name="x")


def test_a_missing_file_is_an_image_error(tmp_path):
    with pytest.raises(ImageError, match="cannot read"):
        read_image(tmp_path / "nowhere.jpg")


@pytest.mark.parametrize("policy", FIT_POLICIES)
@pytest.mark.parametrize("shape_hw", [(120, 160), (1080, 1920), (33, 900), (16, 16), (224, 224)])
def test_fit_gives_the_size_asked_for(policy, shape_hw):
    fitted = fit(RNG.integers(0, 256, (*shape_hw, 3), np.uint8), (96, 128), policy=policy)
    assert fitted.shape == (96, 128, 3)
    assert fitted.dtype == np.uint8


@pytest.mark.parametrize("policy", FIT_POLICIES)
def test_fit_of_fitted_pixels_changes_nothing(policy):
    fitted = fit(photo(), (96, 96), policy=policy)
    assert np.array_equal(fit(fitted, (96, 96), policy=policy), fitted)


def test_halving_is_the_integer_mean_of_two_by_two_pixels():
    image = RNG.integers(0, 256, (64, 64, 3), np.uint8)
    wide = image.astype(int)
    mean = (wide[::2, ::2] + wide[1::2, ::2] + wide[::2, 1::2] + wide[1::2, 1::2] + 2) >> 2
    assert np.array_equal(fit(image, (32, 32), policy="stretch"), mean)


def test_a_large_reduction_is_anti_aliased():
    checks = (np.indices((640, 640)).sum(0) % 2 * 255).astype(np.uint8)
    fitted = fit(np.dstack([checks] * 3), (80, 80), policy="stretch")
    assert np.abs(fitted.astype(int) - 128).max() <= 1


def test_center_crop_keeps_the_middle_and_letterbox_keeps_all():
    image = np.zeros((100, 300, 3), np.uint8)
    image[:, 100:200] = 200
    assert (fit(image, (50, 50), policy="center_crop") == 200).all()
    boxed = fit(image, (60, 60), policy="letterbox")
    assert (boxed[:20] == 128).all()
    assert (boxed[20:40, 22:38] == 200).all()
    assert (boxed[20:40, :18] == 0).all()


def test_a_box_is_cropped_before_it_shrinks():
    image = np.zeros((400, 400, 3), np.uint8)
    image[100:200, 250:350] = 255
    assert (fit(image, (48, 48), policy="stretch", box_yxyx=(100, 250, 200, 350)) == 255).all()
    assert fit(image, (48, 48), box_yxyx=(-50, -50, 100, 500)).shape == (48, 48, 3)
    with pytest.raises(ImageError, match="no area"):
        fit(image, (48, 48), box_yxyx=(10, 10, 10, 90))


@pytest.mark.parametrize(("wrong", "words"), [
    (np.zeros((9, 9), np.uint8), r"got uint8 \(9, 9\): it is grey; convert it with cv2\.COLOR_GRAY2BGR"),
    (np.zeros((9, 9, 1), np.uint8), r"got uint8 \(9, 9, 1\): it is grey"),
    (np.zeros((9, 9, 4), np.uint8), r"got uint8 \(9, 9, 4\): it has transparency; convert it with cv2\.COLOR_BGRA2BGR"),
    (np.zeros((9, 9, 2), np.uint8), r"got uint8 \(9, 9, 2\)$"),
    (np.zeros((9, 9, 3), np.float32), r"got float32 \(9, 9, 3\)$"),
    (np.zeros((0, 9, 3), np.uint8), r"got uint8 \(0, 9, 3\)$"),
    (np.zeros(9, np.uint8), r"got uint8 \(9,\)$"),
])  # fmt: skip
def test_fit_refuses_what_is_no_picture(wrong, words):
    with pytest.raises(ImageError, match=rf"expected a uint8 picture of shape \(H, W, 3\), {words}"):
        fit(wrong, (8, 8))


# ------------------------------------------------------------------------------ the same bits on every machine, for ever


def halved(image, *, tall, wide):
    """Means of whole pixels in integers: ties upward where 2×2 are joined, to even where 2×1 or 1×2 are."""
    sums = image[: image.shape[0] >> tall << tall, : image.shape[1] >> wide << wide].astype(int)
    sums = sums[0::2] + sums[1::2] if tall else sums
    sums = sums[:, 0::2] + sums[:, 1::2] if wide else sums
    return ((sums + 2) >> 2 if tall and wide else (sums + (sums >> 1 & 1)) >> 1).astype(np.uint8)


def taps(given, wanted):
    """Which two pixels each wanted one lies between, and the second's weight in 1/256."""
    at = (np.arange(wanted) + 0.5) * (given / wanted) - 0.5
    low = np.floor(at).astype(int)
    return np.clip(low, 0, given - 1), np.clip(low + 1, 0, given - 1), np.rint((at - low) * 256).astype(int)


def stretched(image, size_hw):
    """What `fit` promises, in NumPy's integers alone."""
    while (tall := image.shape[0] >= 2 * size_hw[0]) | (wide := image.shape[1] >= 2 * size_hw[1]):
        image = halved(image, tall=tall, wide=wide)
    top, bottom, down = taps(image.shape[0], size_hw[0])
    left, right, across = taps(image.shape[1], size_hw[1])
    wide_rows = image.astype(int)
    rows = wide_rows[:, left] * (256 - across)[:, None] + wide_rows[:, right] * across[:, None]
    sums = rows[top] * (256 - down)[:, None, None] + rows[bottom] * down[:, None, None]
    return ((sums + (1 << 15)) >> 16).astype(np.uint8)


def random_sizes(count):
    rng = np.random.default_rng(count)
    sides = np.exp(rng.uniform(0, np.log((700, 700, 260, 260)), (count, 4))).round().astype(int)
    return [((height, width), (224, 224) if i % 3 == 0 else (tall, wide)) for i, (height, width, tall, wide) in enumerate(sides.tolist())]


@pytest.mark.parametrize(("shape_hw", "size_hw"), [
    ((480, 640), (224, 224)), ((720, 1280), (224, 224)), ((1081, 1919), (96, 96)), ((1, 1), (5, 3)), ((7, 500), (3, 3)), *random_sizes(40),
])  # fmt: skip
def test_fit_is_integer_arithmetic_to_the_last_bit(shape_hw, size_hw):
    image = RNG.integers(0, 256, (*shape_hw, 3), np.uint8)
    expected = stretched(image, size_hw)
    assert np.array_equal(fit(image, size_hw, policy="stretch"), expected)
    swapped = fit(image[..., ::-1], size_hw, policy="stretch")  # the colour order does not matter, nor do strides
    assert np.array_equal(swapped[..., ::-1], expected)


def test_crops_and_borders_are_integers_too():
    image = RNG.integers(0, 256, (301, 533, 3), np.uint8)
    box = (17, 101, 290, 374)
    assert np.array_equal(fit(image, (96, 96), policy="stretch", box_yxyx=box), stretched(image[17:290, 101:374], (96, 96)))
    assert np.array_equal(fit(image, (96, 64)), stretched(image[:, 166:367], (96, 64)))
    boxed = fit(image, (96, 96), policy="letterbox")
    assert np.array_equal(boxed[21:75], stretched(image, (54, 96)))
    assert (boxed[:21] == 128).all()
    assert (boxed[75:] == 128).all()


@pytest.mark.parametrize("policy", FIT_POLICIES)
def test_a_cameras_bgr_becomes_rgb_on_the_way_and_nothing_else_changes(policy):
    image = RNG.integers(0, 256, (133, 301, 3), np.uint8)
    assert np.array_equal(fit(image, (64, 96), policy=policy, bgr_to_rgb=True), fit(image, (64, 96), policy=policy)[..., ::-1])


def test_the_reference_would_notice_another_interpolation(monkeypatch):
    monkeypatch.setattr(cv2, "INTER_LINEAR_EXACT", cv2.INTER_CUBIC)
    image = photo()
    assert not np.array_equal(fit(image, (96, 96), policy="stretch"), stretched(image, (96, 96)))
