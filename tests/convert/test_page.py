"""`parity.html`: what a person sees of a verdict."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pawlatch.card import InputSpec, ModelCard
from pawlatch_convert.census import Census, OperatorCount
from pawlatch_convert.compare import Outputs, Scored, accuracy, agreement_matrix, compare
from pawlatch_convert.page import MAX_PHOTOS, shown_photos, write_page
from pawlatch_convert.parity import Gate, ParityResult, Reason, VariantResult, judge
from pawlatch_convert.points import operating_point
from pawlatch_convert.recipes import RECIPES
from pawlatch_convert.speed import Speed

LABELS = ("나비", "<dog>", "owl")
CARD = ModelCard(
    "우리집", LABELS, InputSpec((32, 32)), unlock=("나비",), operating_points={"saved_model": {"threshold": 0.7}},
)
CENSUS = Census(
    1_000_000, 1_000_000, (), "uint8", 1.0, 0, (OperatorCount("CONV_2D", "int8", 35, 900_000),), ("Softmax;island",), 1 / 256,
)
TRUTH = LABELS * 20


def sure(columns: Sequence[int]) -> NDArray[np.float32]:
    return (0.1 + 0.7 * np.eye(3)[list(columns)]).astype(np.float32)


def outputs(scores: NDArray[np.float32]) -> Outputs:
    return Outputs(scores, np.ones((len(scores), 4), np.float32))


class Checker(HTMLParser):
    """Raises where tags do not close, and keeps what is shown and loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [value or "" for name, value in attrs if name in {"src", "href"}]
        if tag not in {"meta", "img", "path", "rect"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """SVG's <path .../>."""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def written(tmp_path: Path, flipped: int = 30, *, card: ModelCard = CARD, photos: bool = True, **more: Any) -> tuple[str, Checker]:
    """The page of float32 as it should be, an int8 that takes `flipped` photos for the next label, and an ONNX that does not run."""
    right = sure([0, 1, 2] * 20)
    wrong = right.copy()
    wrong[:flipped] = np.roll(right, 1, axis=1)[:flipped]
    names = tuple(f"{label}/{i}.jpg" for i, label in enumerate(TRUTH))
    scored = Scored(names, TRUTH, np.ones(60, bool), outputs(right), {"float32": outputs(right), "int8": outputs(wrong)}, {})
    entries = [
        VariantResult(
            name, judge(RECIPES[name], CENSUS, said, compare(scored, said, card), gate=Gate()), census=CENSUS,
            speed=Speed({1: (2.0, 3.0), 2: (1.5, 2.0)}, 9.0, 80.0), comparison=compare(scored, said, card),
            operating_point=operating_point(scored, name, card, step=None),
        )
        for name, said in scored.variants.items()
    ]
    failed = VariantResult("onnx_int8", (Reason("run", "it does not run: no <engine>"),))
    top1, interval = accuracy(scored, card)
    result = ParityResult(
        card.name, 60, 60, top1, interval, Gate(), 2, (*entries, failed), "float32", deploy_reason="int8 is red",
        matrix=agreement_matrix(scored), **more,
    )
    rng = np.random.default_rng(0)
    pictures = {index: rng.integers(0, 256, (32, 32, 3), np.uint8) for index in shown_photos(result)} if photos else {}
    page = write_page(tmp_path, result, scored=scored, card=card, photos=pictures)
    assert page == tmp_path / "parity.html"
    text = page.read_text(encoding="utf-8")
    checker = Checker()
    checker.feed(text)
    assert checker.open == []
    return text, checker


def test_the_page_needs_nothing_but_itself_and_shows_hangul(tmp_path: Path) -> None:
    text, checker = written(tmp_path)
    assert checker.sources
    assert all(source.startswith("data:image/jpeg;base64,") for source in checker.sources)
    assert "나비" in text
    assert '<meta charset="utf-8">' in text
    assert "<dog>" not in text  # a label is text, not markup
    assert "<dog>/1.jpg" in checker.text


def test_the_reasons_come_before_everything_else_in_plain_words(tmp_path: Path) -> None:
    _, checker = written(tmp_path)
    said = checker.text
    assert "1 of 3 converted files decide as the SavedModel does" in said
    assert said.index("int8 is red") < said.index("top-1 fell by 50.0%") < said.index("onnx_int8 is red") < said.index("Decisions")
    assert "it does not run: no <engine>" in said
    assert "Deployed: float32: int8 is red" in said


def test_the_contact_sheet_shows_a_photo_once_and_at_most_24_those_that_open_the_door_first(tmp_path: Path) -> None:
    text, checker = written(tmp_path)
    tiles = re.findall(r"<article.*?</article>", text)
    assert len(tiles) == len(checker.sources) == MAX_PHOTOS
    assert all("opens here" in tile and "0.10 → 0.80" in tile for tile in tiles[:10])  # owls that are taken for the cat
    assert all("shut here" in tile for tile in tiles[10:20])
    assert all("opens" not in tile and "shut" not in tile and "quiet" in tile for tile in tiles[20:])
    assert "float margin 0.70" in tiles[0]
    assert "6 more photos in parity.json" in checker.text


def test_thumbnails_are_the_photos_in_their_colours(tmp_path: Path) -> None:
    right = sure([0, 1, 2])
    wrong = right.copy()
    wrong[0] = sure([1])
    scored = Scored(("a", "b", "c"), LABELS, np.ones(3, bool), outputs(right), {"int8": outputs(wrong)}, {})
    entry = VariantResult("int8", (), comparison=compare(scored, outputs(wrong), CARD))
    result = ParityResult("pets", 3, 3, 1.0, (0.4, 1.0), Gate(), 2, (entry,), None, matrix=agreement_matrix(scored))
    assert shown_photos(result) == (0,)
    red = np.zeros((640, 480, 3), np.uint8)
    red[..., 0] = 220
    page = write_page(tmp_path, result, scored=scored, card=CARD, photos={0: red}).read_text()
    (data,) = re.findall(r'src="data:image/jpeg;base64,([^"]*)"', page)
    picture = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR_RGB)
    assert picture.shape == (224, 168, 3)
    assert picture.mean((0, 1)) == pytest.approx([220, 0, 0], abs=4)
    assert "Nothing is deployed" in page


def test_a_photo_that_is_missing_has_no_picture(tmp_path: Path) -> None:
    text, checker = written(tmp_path, photos=False)
    assert checker.sources == []
    assert len(re.findall("<article", text)) == MAX_PHOTOS


def test_the_figures_mark_what_is_decided_otherwise(tmp_path: Path) -> None:
    text, _ = written(tmp_path, 1)
    plots = re.findall(r"<svg.*?</svg>", text)
    assert len(plots) == 4  # two of each variant that ran
    dots = {re.search('aria-label="(.*?)"', plot)[1]: [path.count("M") for path in re.findall('class="dots.*?" d="(.*?)"', plot)]  # type: ignore[index]
            for plot in plots[:2]}
    assert dots == {"float32": [60, 0], "int8": [59, 1]}
    assert 'class="threshold"' in plots[0]


def test_all_numbers_stand_somewhere(tmp_path: Path) -> None:
    _, checker = written(tmp_path, set_aside=(("x.jpg", "x.jpg ends early"),))
    for word in ("McNemar p", "KL, nats", "calibration error", "cosine, lowest", "CONV_2D", "Softmax;island", "saved_model",
                 "strangers let in", "x.jpg ends early", "in steps of 1/256", "memory, MB"):
        assert word in checker.text, word


def test_without_an_operating_point_the_page_still_stands(tmp_path: Path) -> None:
    text, checker = written(tmp_path, card=replace(CARD, operating_points={}, unlock=()))
    assert "At the door" not in checker.text
    assert "opens here" not in re.sub("<th>.*?</th>", "", text)
    assert "the score of the SavedModel's label" in checker.text


def test_where_nothing_flips_the_page_says_so(tmp_path: Path) -> None:
    _, checker = written(tmp_path, 0)
    assert "every file decides as the SavedModel does on all of them" in checker.text
