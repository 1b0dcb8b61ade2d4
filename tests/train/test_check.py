"""The check of a folder of photos: each kind of finding is seen where it is, and not raised where all is well."""

from __future__ import annotations

import os
import shutil
import unicodedata
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

import pawlatch_train.check as checking
from pawlatch import scene
from pawlatch.errors import PhotosError
from pawlatch.image import read_image
from pawlatch_train.check import check_photos, render_check
from pawlatch_train.check_page import MOST_THUMBNAILS, main, render_page
from pawlatch_train.duplicates import near_duplicate_groups, perceptual_hash
from pawlatch_train.findings import FEW

LABELS = {"초코": scene.OWN, "_other": scene.OTHER, "_empty": scene.EMPTY}
RNG = np.random.default_rng(11)


def jpeg(image_rgb, quality=92) -> bytes:
    return cv2.imencode(".jpg", image_rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def drawn(who=scene.OWN, light="day"):
    """A porch through a random window, (120, 160, 3); whole drawn porches are too much alike."""
    whole = scene.draw(RNG, who, light=light, size_hw=(150, 200))
    if RNG.random() < 0.5:
        whole = whole[:, ::-1]
    top, left = RNG.integers(0, 31), RNG.integers(0, 41)
    return np.ascontiguousarray(whole[top : top + 120, left : left + 160])


def grey(image_rgb):
    return cv2.cvtColor(cv2.cvtColor(image_rgb, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


def distinct(who, count):
    """Drawn photos of which no two are nearly the same."""
    pictures, hashes = [], []
    while len(pictures) < count:
        picture = drawn(who, ("day", "dusk")[len(pictures) % 2])
        hashes.append(perceptual_hash(picture))
        if len(np.unique(near_duplicate_groups(hashes))) == len(hashes):
            pictures.append(picture)
        else:
            hashes.pop()
    return pictures


def dated(data: bytes, date: str) -> bytes:
    """A JPEG with EXIF DateTimeOriginal, in a big-endian directory behind the first."""
    first = b"\0\1" + b"\x87\x69\0\4\0\0\0\1" + (26).to_bytes(4, "big") + b"\0\0\0\0"
    exif = b"\0\1" + b"\x90\x03\0\2\0\0\0\x14" + (44).to_bytes(4, "big") + b"\0\0\0\0"
    body = b"Exif\0\0" + b"MM\0*\0\0\0\x08" + first + exif + date.encode() + b"\0"
    return data[:2] + b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body + data[2:]


@pytest.fixture(scope="module")
def clean(tmp_path_factory) -> Path:
    """Enough photos of each label, sharp, by day and at dusk, in places drawn anew for each."""
    folder = tmp_path_factory.mktemp("clean") / "photos"
    for label, who in LABELS.items():
        (folder / label).mkdir(parents=True)
        for i, picture in enumerate(distinct(who, FEW + 2)):
            (folder / label / f"{i:02d}.jpg").write_bytes(jpeg(picture))
    return folder


@pytest.fixture
def photos(clean, tmp_path) -> Path:
    return Path(shutil.copytree(clean, tmp_path / "photos"))


def found(folder: Path) -> dict[str, object]:
    return {finding.kind: finding for finding in check_photos(folder).findings}


def named(folder: Path, kind: str) -> list[str]:
    """Names of the photos of a finding."""
    check = check_photos(folder)
    (finding,) = [finding for finding in check.findings if finding.kind == kind]
    return [check.relative(check.facts[i].photo.path) for i in finding.photos]


def test_clean_photos_raise_nothing(clean):
    check = check_photos(clean)
    assert check.findings == []
    assert check.set_aside == []
    assert check.counts == {("", label): FEW + 2 for label in LABELS}
    assert len(set(check.groups.tolist())) == len(check.facts)
    assert "nothing to complain of" in render_check(check)


@pytest.mark.parametrize(("kind", "picture"), [
    ("tiny", drawn()[:80]),
    ("dark", drawn() // 6),
    ("blurred", cv2.GaussianBlur(drawn(), (0, 0), 3.5)),
    ("blurred", cv2.blur(drawn(), (25, 1))),
    ("grey", drawn(light="night")),
])  # fmt: skip
def test_a_photo_of_little_use_is_named(photos, kind, picture):
    (photos / "초코" / "odd.jpg").write_bytes(jpeg(picture))
    assert named(photos, kind) == ["초코/odd.jpg"]


def test_grey_photos_of_one_label_alone_are_a_warning(photos):
    for path in (photos / "초코").iterdir():
        path.write_bytes(jpeg(grey(read_image(path))))
    assert found(photos)["grey"].severity == "warning"
    for path in photos.rglob("*.jpg"):
        path.write_bytes(jpeg(grey(read_image(path))))
    assert found(photos)["grey"].severity == "note"


def test_files_that_cannot_be_read_are_set_aside_by_name(photos):
    whole = (photos / "_other" / "00.jpg").read_bytes()
    (photos / "_other" / "broken.jpg").write_bytes(whole[:900])
    (photos / "_other" / "words.jpg").write_bytes(b"this is no picture")
    check = check_photos(photos)
    assert [check.relative(item.path) for item in check.set_aside] == ["_other/broken.jpg", "_other/words.jpg"]
    assert check.set_aside[0].reason == "expected a whole picture, but _other/broken.jpg ends early; copy the file again"
    assert [finding.kind for finding in check.findings] == ["unreadable"]
    assert "_other/broken.jpg ends early" in " ".join(render_check(check).split())
    assert "_other/words.jpg" in render_page(check)


def test_copies_are_told_and_those_under_two_labels_are_an_error(photos):
    shutil.copy(photos / "초코" / "03.jpg", photos / "초코" / "again.jpg")
    shutil.copy(photos / "초코" / "05.jpg", photos / "_other" / "wrong.jpg")
    assert set(found(photos)) == {"copies", "copies across labels"}
    assert named(photos, "copies") == ["초코/03.jpg", "초코/again.jpg"]
    assert set(named(photos, "copies across labels")) == {"초코/05.jpg", "_other/wrong.jpg"}
    assert found(photos)["copies across labels"].severity == "error"


def test_near_duplicates_are_told(photos):
    smaller = cv2.resize(read_image(photos / "초코" / "03.jpg"), (140, 105), interpolation=cv2.INTER_AREA)
    (photos / "초코" / "sent.jpg").write_bytes(jpeg(smaller, 40))
    (photos / "_other" / "sent.jpg").write_bytes(jpeg(read_image(photos / "초코" / "05.jpg"), 60))
    assert set(found(photos)) == {"near duplicates", "near duplicates across labels"}
    assert named(photos, "near duplicates") == ["초코/03.jpg", "초코/sent.jpg"]
    assert set(named(photos, "near duplicates across labels")) == {"초코/05.jpg", "_other/sent.jpg"}


def in_splits(photos: Path) -> Path:
    """Move photos into train/ and valid/."""
    for label in LABELS:
        for path in sorted((photos / label).iterdir()):
            made = photos / ("valid" if path.stem in ("20", "21") else "train") / label
            made.mkdir(parents=True, exist_ok=True)
            path.rename(made / path.name)
        (photos / label).rmdir()
    return photos


def test_what_stands_in_two_splits_is_told(photos):
    in_splits(photos)
    assert not found(photos)
    shutil.copy(photos / "train" / "초코" / "03.jpg", photos / "valid" / "초코" / "copy.jpg")
    (photos / "valid" / "_other" / "near.jpg").write_bytes(jpeg(read_image(photos / "train" / "_other" / "04.jpg"), 50))
    assert set(found(photos)) == {"copies across splits", "near duplicates across splits"}
    assert set(named(photos, "copies across splits")) == {"train/초코/03.jpg", "valid/초코/copy.jpg"}
    assert set(named(photos, "near duplicates across splits")) == {"train/_other/04.jpg", "valid/_other/near.jpg"}


def test_labels_that_splits_do_not_share_are_errors(photos):
    in_splits(photos)
    (photos / "valid" / "초코").rename(photos / "valid" / "choco")
    findings = found(photos)
    assert {findings["strange label"].severity, findings["missing label"].severity} == {"error"}
    assert "choco" in findings["strange label"].sentence
    assert "초코" in findings["missing label"].sentence


def test_too_few_and_too_uneven_photos_are_told(photos):
    for i in range(8, 22):
        (photos / "_empty" / f"{i:02d}.jpg").unlink()
    assert set(found(photos)) == {"few"}
    for i in range(7, 8):
        (photos / "_empty" / f"{i:02d}.jpg").unlink()
    assert set(found(photos)) == {"few", "imbalance"}
    assert "초코 22" not in found(photos)["few"].sentence


def on_one_background(folder: Path, label: str) -> None:
    for i, path in enumerate(sorted((folder / label).iterdir())):
        picture = np.full((120, 160, 3), (40 + i % 3, 90, 160), np.uint8)
        picture[28:92, 36:124] = read_image(path)[28:92, 36:124]
        path.write_bytes(jpeg(picture))


def test_one_label_on_one_background_is_suspected(photos):
    on_one_background(photos, "초코")
    finding = found(photos)["one background"]
    assert "초코" in finding.sentence
    assert finding.severity == "warning"


def test_the_empty_place_is_one_background_by_nature(photos):
    on_one_background(photos, "_empty")
    assert "one background" not in found(photos)


def test_one_label_on_one_day_is_suspected_only_where_there_are_dates(photos):
    on_day = {label: (lambda i: "2024:05:01") if label == "초코" else (lambda i: f"2024:06:{i + 1:02d}") for label in LABELS}
    for label in LABELS:
        for i, path in enumerate(sorted((photos / label).iterdir())):
            path.write_bytes(dated(path.read_bytes(), f"{on_day[label](i)} 12:{i:02d}:00"))
    assert set(found(photos)) == {"one day"}
    assert "초코 are of 2024-05-01" in found(photos)["one day"].sentence
    for path in (photos / "초코").iterdir():  # on as many days as the others
        path.write_bytes(dated(jpeg(read_image(path)), f"2024:07:{int(path.stem) + 1:02d} 10:00:00"))
    assert "one day" not in found(photos)


def test_a_date_is_read_and_nonsense_is_none(photos):
    first = photos / "_empty" / "00.jpg"
    plain = first.read_bytes()
    for date, year in (("2024:05:01 12:00:07", 2024), ("0000:00:00 00:00:00", None), ("                   ", None)):
        first.write_bytes(dated(plain, date))
        taken = check_photos(photos).facts[0].taken
        assert (taken.year if taken else None) == year


def test_each_photo_is_decoded_once_and_handed_over_in_order_and_not_far_ahead(photos, monkeypatch):
    (photos / "_empty" / "05.jpg").write_bytes(b"broken")
    decoded = []
    real = checking.decode_image

    def counting(data, *, name):
        decoded.append(name)
        return real(data, name=name)

    handed = []

    def on_photo(index, photo, image):
        assert len(decoded) <= len(handed) + 1 + (os.cpu_count() or 1) + 3
        assert np.array_equal(image, read_image(photo.path))
        handed.append((index, photo))

    monkeypatch.setattr(checking, "decode_image", counting)
    check = check_photos(photos, on_photo=on_photo)
    assert handed == [(i, fact.photo) for i, fact in enumerate(check.facts)]
    assert set(Counter(decoded).values()) == {1}
    assert len(decoded) == 3 * (FEW + 2)


def test_an_error_of_the_consumer_comes_out_and_stops_the_reading(photos):
    def full(index, photo, image):
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        check_photos(photos, on_photo=full)


def test_nothing_of_the_users_is_changed(photos, tmp_path):
    def state():
        return {path: (path.stat().st_mtime_ns, path.is_file() and path.read_bytes()) for path in photos.rglob("*")}

    before = state()
    assert main(photos, tmp_path / "report.html", tell=lambda line: None) == 0
    assert state() == before


@pytest.mark.parametrize(("labels", "words"), [((), "no photos"), (("bo",), "at least two labels, but .* has bo")])
def test_a_folder_from_which_nothing_can_be_learned_is_an_error(tmp_path, labels, words):
    (tmp_path / "photos").mkdir()
    for label in labels:
        (tmp_path / "photos" / label).mkdir()
        (tmp_path / "photos" / label / "1.jpg").write_bytes(jpeg(drawn()))
    with pytest.raises(PhotosError, match=words):
        check_photos(tmp_path / "photos")


def test_a_folder_without_one_readable_photo_is_an_error(tmp_path):
    for label in ("bo", "_other"):
        (tmp_path / label).mkdir()
        (tmp_path / label / "1.jpg").write_bytes(b"nothing")
    with pytest.raises(PhotosError, match=r"no readable photo .* _other/1\.jpg"):
        check_photos(tmp_path)


def test_the_table_fits_a_hundred_columns(photos):
    (photos / "초코").rename(photos / ("아주 긴 이름의 " * 6).strip())
    for i in range(12):
        (photos / "_other" / f"a-file-with-a-rather-long-name-as-phones-give-them-{i}.jpg").write_bytes(b"no picture")
    table = render_check(check_photos(photos))
    widths = [sum(1 + (unicodedata.east_asian_width(letter) in "WF") for letter in line) for line in table.splitlines()[1:]]
    assert max(widths) <= 100
    assert "and 2 more" in table


def test_the_page_is_self_contained_escaped_and_shows_a_dozen_of_each(photos, tmp_path):
    (photos / "초코").rename(photos / "<b>&")
    for i in range(MOST_THUMBNAILS + 3):
        (photos / "<b>&" / f"dark{i}.jpg").write_bytes(jpeg(drawn() // 6))
    told = []
    assert main(photos, tmp_path / "report.html", tell=told.append) == 0
    page = (tmp_path / "report.html").read_text()
    assert "<b>&<" not in page
    assert "&lt;b&gt;&amp;/dark0.jpg" in page
    assert page.count("<img ") == page.count("data:image/jpeg;base64,")
    assert "and 3 more" in page
    assert "://" not in page
    assert str(tmp_path) not in page
    assert str(tmp_path / "report.html") in told[-1]


def test_hashes_survive_what_phones_and_messengers_do_and_differ_otherwise():
    pictures = distinct(scene.CAT, 16)
    sent = [cv2.resize(cv2.imdecode(np.frombuffer(jpeg(picture, 35), np.uint8), cv2.IMREAD_COLOR_RGB), (120, 90))
            for picture in pictures]  # fmt: skip
    brighter = [np.clip(picture * 1.1 + 4, 0, 255).astype(np.uint8) for picture in pictures]
    for changed in (sent, brighter):
        groups = near_duplicate_groups([perceptual_hash(picture) for picture in [*pictures, *changed]])
        assert np.array_equal(groups[:16], groups[16:])
    assert len(np.unique(near_duplicate_groups([perceptual_hash(picture) for picture in pictures]))) == 16


def steps(count: int, each: int) -> list[bytes]:
    """Hashes of which each differs from the one before in `each` bits, and the last from the first in all these."""
    bits = np.zeros(512, np.uint8)
    hashes = []
    for i in range(count):
        bits[i * each % 128 : i * each % 128 + each] ^= 1
        hashes.append(np.packbits(bits).tobytes())
    return hashes


def test_a_chain_of_alike_photos_does_not_become_one_group():
    sizes = np.bincount(near_duplicate_groups(steps(120, 12)))
    assert sizes.max() <= 25
    assert np.bincount(near_duplicate_groups(steps(5, 12))).tolist() == [5]  # a burst does


def test_what_one_camera_sees_under_two_labels_is_not_one_moment():
    hashes = steps(4, 12)
    assert near_duplicate_groups(hashes, labels=["bo", "_empty"] * 2).tolist() == [0, 1, 0, 1]
    assert near_duplicate_groups(hashes, labels=["bo"] * 4).tolist() == [0] * 4
    assert near_duplicate_groups([hashes[0]] * 2, labels=["bo", "_other"]).tolist() == [0, 0]


def test_groups_of_many_photos_are_found_whatever_they_are_like():
    rng = np.random.default_rng(0)
    assert len(np.unique(near_duplicate_groups([rng.bytes(64) for _ in range(1000)]))) == 1000
    assert np.unique(near_duplicate_groups([bytes(64)] * 1000)).tolist() == [0]
