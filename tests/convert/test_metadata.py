"""Other people's readers find labels and normalisation in our files, and the files compute what they did."""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pawlatch.card import ModelCard, read_card
from pawlatch.classify import Classifier
from pawlatch.engine import open_engine
from pawlatch.errors import EngineError
from pawlatch.files import sha256
from pawlatch.image import read_image
from pawlatch_convert.census import read_tflite, take_census
from pawlatch_convert.heavy import heavy
from pawlatch_convert.metadata import with_onnx_metadata, with_tflite_metadata

DESCRIPTION = "opens for one animal"


class Reader:
    """A table of a flatbuffer, read by slot: no more of the format than its documentation says."""

    def __init__(self, data: bytes, position: int | None = None) -> None:
        self._data = data
        self._position = struct.unpack_from("<I", data, 0)[0] if position is None else position

    def _field(self, slot: int) -> int | None:
        (to_vtable,) = struct.unpack_from("<i", self._data, self._position)
        vtable = self._position - to_vtable
        (size,) = struct.unpack_from("<H", self._data, vtable)
        if 4 + 2 * slot >= size:
            return None
        (offset,) = struct.unpack_from("<H", self._data, vtable + 4 + 2 * slot)
        return self._position + offset if offset else None

    def _followed(self, place: int) -> int:
        return place + struct.unpack_from("<I", self._data, place)[0]

    def number(self, slot: int, kind: str = "<B") -> Any:
        place = self._field(slot)
        return 0 if place is None else struct.unpack_from(kind, self._data, place)[0]

    def table(self, slot: int) -> Reader:
        place = self._field(slot)
        assert place is not None
        return Reader(self._data, self._followed(place))

    def _vector(self, slot: int) -> tuple[int, int]:
        place = self._field(slot)
        if place is None:
            return 0, 0
        start = self._followed(place)
        return start + 4, struct.unpack_from("<I", self._data, start)[0]

    def text(self, slot: int) -> str:
        start, length = self._vector(slot)
        return self._data[start : start + length].decode()

    def tables(self, slot: int) -> list[Reader]:
        start, length = self._vector(slot)
        return [Reader(self._data, self._followed(start + 4 * i)) for i in range(length)]

    def floats(self, slot: int) -> list[float]:
        start, length = self._vector(slot)
        return list(struct.unpack_from(f"<{length}f", self._data, start))

    def bytes_(self, slot: int) -> bytes:
        start, length = self._vector(slot)
        return self._data[start : start + length]


def metadata_of(data: bytes) -> Reader:
    """The metadata as a reader finds it: model.metadata by name, then the buffer that it points at."""
    model = Reader(data)
    (index,) = [entry.number(1, "<I") for entry in model.tables(6) if entry.text(0) == "TFLITE_METADATA"]
    content = model.tables(4)[index].bytes_(0)
    assert content[4:8] == b"M001"
    return Reader(content)


@pytest.fixture
def card(tiny_bundle: Path) -> ModelCard:
    return replace(
        read_card(tiny_bundle), labels=("초코", "other", "_empty"), unlock=("초코",),
        provenance={"seed": 7, "backbone": {"name": "mobilenet_v2"}, "splits": {"fit": ["a.jpg"] * 100}},
        strangers={"saved_model": {"basis": "A" * 200_000}},
    )


def file_of(bundle: Path, variant: str) -> Path:
    return bundle / read_card(bundle).files[variant].name


def run(path: Path) -> dict[str, Any]:
    engine = open_engine(path)
    pixels = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3))
    return {name: np.array(value) for name, value in engine(pixels.astype(engine.input_dtype)).items()}


@pytest.mark.parametrize("variant", ["float32", "int8"])
def test_a_reader_that_is_not_ours_finds_everything(tiny_bundle: Path, card: ModelCard, variant: str) -> None:
    data = with_tflite_metadata(file_of(tiny_bundle, variant).read_bytes(), card, description=DESCRIPTION)
    metadata = metadata_of(data)
    assert [metadata.text(slot) for slot in (0, 1, 4, 7)] == ["tiny", DESCRIPTION, "pawlatch", "1.0.0"]
    assert metadata.text(2)  # the version
    (graph,) = metadata.tables(3)
    (image,) = graph.tables(2)
    content = image.table(3)
    assert content.number(0) == 2  # ImageProperties
    assert content.table(1).number(0) == 1  # RGB
    assert [content.table(1).table(1).number(slot, "<I") for slot in (0, 1)] == [32, 32]
    (unit,) = image.tables(4)
    assert unit.number(0) == 1  # NormalizationOptions
    assert (unit.table(1).floats(0), unit.table(1).floats(1)) == ([0.0], [1.0])
    assert (image.table(5).floats(0), image.table(5).floats(1)) == ([255.0], [0.0])
    scores, embedding = graph.tables(3)
    assert (scores.text(0), embedding.text(0)) == ("class_scores", "embedding")
    (labels,) = scores.tables(6)
    assert (labels.text(0), labels.number(2)) == ("labels.txt", 2)  # TENSOR_AXIS_LABELS
    assert embedding.tables(6) == []
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        (entry,) = archive.infolist()
        assert archive.testzip() is None
        assert archive.read("labels.txt").decode().splitlines() == list(card.labels)
        assert entry.compress_type == zipfile.ZIP_STORED


def test_the_outputs_are_described_in_the_order_in_which_the_file_has_them(tiny_bundle: Path, card: ModelCard) -> None:
    data = with_tflite_metadata(file_of(tiny_bundle, "int8").read_bytes(), card, description=DESCRIPTION)
    interpreter = heavy("ai_edge_litert.interpreter").Interpreter(model_content=data)
    sizes = {"class_scores": 3, "embedding": 4}
    (graph,) = metadata_of(data).tables(3)
    assert [sizes[entry.text(0)] for entry in graph.tables(3)] == [
        details["shape"][-1] for details in interpreter.get_output_details()
    ]


@pytest.mark.parametrize("variant", ["float32", "int8", "onnx_float32"])
def test_it_computes_what_it_did_and_a_second_time_changes_nothing(
    tiny_bundle: Path, card: ModelCard, variant: str,
) -> None:
    path = file_of(tiny_bundle, variant)
    before, census, data = run(path), take_census(path), path.read_bytes()
    add = with_onnx_metadata if path.suffix == ".onnx" else with_tflite_metadata
    once = add(data, card, description=DESCRIPTION)
    assert add(data, card, description=DESCRIPTION) == once
    assert add(once, card, description=DESCRIPTION) == once
    other = add(data, replace(card, name="another"), description=DESCRIPTION)
    assert other != once
    assert add(other, card, description=DESCRIPTION) == once  # in place of what was there
    path.write_bytes(once)
    after = run(path)
    assert {name: value.tolist() for name, value in after.items()} == {name: value.tolist() for name, value in before.items()}
    assert take_census(path) == census


def test_what_the_converter_noted_stays(tiny_bundle: Path, card: ModelCard) -> None:
    data = file_of(tiny_bundle, "int8").read_bytes()

    def noted(data: bytes) -> dict[str, bytes]:
        model = read_tflite(data)
        return {entry.name.decode(): bytes(model.buffers[entry.buffer].data) for entry in model.metadata}

    before, after = noted(data), noted(with_tflite_metadata(data, card, description=DESCRIPTION))
    assert {"min_runtime_version", "CONVERSION_METADATA"} <= set(before)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {"TFLITE_METADATA"}


def test_onnx_carries_the_essence_of_the_card(tiny_bundle: Path, card: ModelCard) -> None:
    onnx = heavy("onnx")
    data = with_onnx_metadata(file_of(tiny_bundle, "onnx_float32").read_bytes(), card, description=DESCRIPTION)
    model = onnx.ModelProto.FromString(data)
    onnx.checker.check_model(model, full_check=True)
    ((key, text),) = [(entry.key, entry.value) for entry in model.metadata_props]
    assert (key, model.producer_name, model.doc_string) == ("pawlatch.json", "pawlatch", DESCRIPTION)
    carried = json.loads(text)
    assert (carried["labels"], carried["unlock"]) == (["초코", "other", "_empty"], ["초코"])
    assert carried["input"] == {"size_hw": [32, 32], "fit": "stretch"}
    assert carried["provenance"] == {"seed": 7, "backbone": {"name": "mobilenet_v2"}}
    assert len(text) < 1000  # no statistics


@pytest.mark.parametrize(("variant", "add"), [("int8", with_tflite_metadata), ("onnx_float32", with_onnx_metadata)])
def test_half_a_file_is_refused(tiny_bundle: Path, card: ModelCard, variant: str, add: Any) -> None:
    data = file_of(tiny_bundle, variant).read_bytes()
    with pytest.raises(EngineError, match="cut short or something else"):
        add(data[: len(data) // 2], card, description=DESCRIPTION)


def test_a_file_whose_signature_lacks_the_scores_is_refused(tiny_bundle: Path, card: ModelCard) -> None:
    stranger = replace(card, outputs=replace(card.outputs, class_scores="probabilities"))
    with pytest.raises(EngineError, match="whose signature names probabilities"):
        with_tflite_metadata(file_of(tiny_bundle, "int8").read_bytes(), stranger, description=DESCRIPTION)


MEDIAPIPE_PROGRAM = """
import json, sys
import mediapipe as mp
import numpy as np
from mediapipe.tasks.python import BaseOptions, vision

options = vision.ImageClassifierOptions(base_options=BaseOptions(model_asset_path=sys.argv[1]))
with vision.ImageClassifier.create_from_options(options) as classifier:
    found = []
    for pixels in np.load(sys.argv[2]):
        head = classifier.classify(mp.Image(image_format=mp.ImageFormat.SRGB, data=pixels)).classifications[0]
        found.append([head.head_name, {category.category_name: category.score for category in head.categories}])
print(json.dumps(found))
"""


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["float32", "int8"])
def test_mediapipe_says_what_the_runtime_says(tiny_bundle: Path, shared: Path, tmp_path: Path, variant: str) -> None:
    python = os.environ.get("PAWLATCH_MEDIAPIPE")
    if python is None:
        pytest.skip("set PAWLATCH_MEDIAPIPE to the python of a virtual environment with mediapipe 1.2")
    card = read_card(tiny_bundle)
    path = file_of(tiny_bundle, variant)
    path.write_bytes(with_tflite_metadata(path.read_bytes(), card, description=DESCRIPTION))
    files = {**card.files, variant: replace(card.files[variant], sha256=sha256(path), bytes=path.stat().st_size)}
    replace(card, files=files).write(tiny_bundle)
    classify = Classifier(tiny_bundle, variant=variant)
    photos = sorted((shared / "data" / "flowers").rglob("*.jpg"))[::300][:12]
    fitted = [classify.fit(read_image(photo)) for photo in photos]
    fitted += [np.full((32, 32, 3), colour, np.uint8) for colour in ((220, 30, 30), (30, 30, 220), (120, 120, 120))]
    np.save(tmp_path / "fitted.npy", np.stack(fitted))
    done = subprocess.run(
        [python, "-c", MEDIAPIPE_PROGRAM, str(path), str(tmp_path / "fitted.npy")], capture_output=True, text=True, timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    expected = [classify.predict(pixels) for pixels in fitted]
    assert {prediction.label for prediction in expected} == set(card.labels)  # else it would show little
    for (head, scores), prediction in zip(found, expected, strict=True):
        assert head == "class_scores"
        assert set(scores) == set(card.labels)
        assert [scores[label] for label in card.labels] == pytest.approx(prediction.scores.tolist(), abs=1e-5)
