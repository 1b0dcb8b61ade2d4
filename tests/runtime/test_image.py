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


@pytest.mark.parametrize("wrong", [np.zeros((9, 9), np.uint8), np.zeros((9, 9, 4), np.uint8), np.zeros((9, 9, 3), np.float32)])
def test_fit_refuses_what_is_no_picture(wrong):
    with pytest.raises(ImageError, match="uint8 picture of shape"):
        fit(wrong, (8, 8))
