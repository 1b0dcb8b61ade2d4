"""A visit as bytes: what the model saw and said, lossless, in one ZIP; and its pictures for people, as JPEG.

The ZIP holds `frames.json` (each frame's numbers; a float there is written so that it reads back to the bit),
`embeddings.npy` (float32, a row for each classified frame), `inputs/<n>.png` (what the model saw) and `crops/<n>.jpg` (where it
looked, for people and for training), n counting the classified frames from 0.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, is_dataclass
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pawlatch.classify import Prediction
from pawlatch.decide import Observation
from pawlatch.errors import JournalError
from pawlatch.image import Image
from pawlatch.visit import Visit, VisitFrame

ROWS, COLUMNS, TILE_PX, GREY = 2, 3, 224, 128  # of a strip
CROP_QUALITY, PICTURE_QUALITY = 95, 85
_DEFLATE_LEVEL = 1


def to_json(value: Any) -> str:
    """JSON text; NumPy's numbers, paths, times, enums and dataclasses become plain values."""
    return json.dumps(value, default=_plain, ensure_ascii=False, separators=(",", ":"))


def frames_json(labels: Sequence[str], frames: Sequence[VisitFrame]) -> str:
    """Every number of the frames but their embeddings."""
    return to_json({"labels": list(labels), "frames": [_frame_row(frame) for frame in frames]})


def read_frames(text: str | bytes, embeddings: NDArray[np.float32] | None = None) -> tuple[VisitFrame, ...]:
    """What `frames_json` wrote; without `embeddings`, those of the predictions have size 0."""
    content = json.loads(text)
    labels = tuple(content["labels"])
    rows = iter(np.zeros((0, 0), np.float32) if embeddings is None else embeddings)
    return tuple(_frame(row, labels, rows) for row in content["frames"])


def pack(visit: Visit) -> bytes:
    """The visit's ZIP."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=_DEFLATE_LEVEL) as archive:
        archive.writestr("frames.json", frames_json(visit.labels, visit.kept))
        observations = visit.observations
        embeddings = np.stack([seen.prediction.embedding for seen in observations])
        array = io.BytesIO()
        np.lib.format.write_array(array, embeddings, allow_pickle=False)
        archive.writestr("embeddings.npy", array.getvalue())
        positions = {seen.time_s: position for position, seen in enumerate(observations)}
        for shot in visit.shots:
            if (position := positions.get(shot.time_s)) is None:  # its frame was thinned out
                continue
            png = _encoded(".png", np.ascontiguousarray(shot.fitted_rgb[..., ::-1]), cv2.IMWRITE_PNG_COMPRESSION, 1)
            archive.writestr(f"inputs/{position:04d}.png", png, zipfile.ZIP_STORED)
            if shot.crop_bgr is not None:
                archive.writestr(f"crops/{position:04d}.jpg", jpeg(shot.crop_bgr, CROP_QUALITY), zipfile.ZIP_STORED)
    return buffer.getvalue()


class Keepsake:
    """Reads a visit's ZIP, part by part.

    Raises:
        JournalError: a part is missing or damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def frames(self) -> tuple[VisitFrame, ...]:
        """The frames, with their embeddings."""
        parts = self._parts("frames.json", "embeddings.npy")
        embeddings = np.load(io.BytesIO(parts["embeddings.npy"]), allow_pickle=False)
        return read_frames(parts["frames.json"], embeddings)

    def inputs(self) -> list[tuple[int, Image]]:
        """Which observation, and the pixels the model saw of it, uint8 (h, w, 3), RGB."""
        pictures = self._parts("inputs/").items()
        return [(_position(name), np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB), np.uint8))
                for name, data in pictures]

    def crops(self) -> list[tuple[int, bytes]]:
        """Which observation, and the JPEG of where the model looked."""
        return [(_position(name), data) for name, data in self._parts("crops/").items()]

    def _parts(self, *names: str) -> dict[str, bytes]:
        """The parts whose names begin so, in order."""
        try:
            with zipfile.ZipFile(self._path) as archive:
                return {name: archive.read(name) for name in sorted(archive.namelist()) if name.startswith(names)}
        except (OSError, zipfile.BadZipFile) as error:
            raise JournalError(f"cannot read {self._path}: {error}; the event is listed, but its pictures are lost") from error


def strip(visit: Visit) -> Image | None:
    """A contact sheet, BGR: at most six crops in order of time, in rows of three, each TILE_PX square; None without any."""
    crops = [shot.crop_bgr for shot in visit.shots if shot.crop_bgr is not None]
    if not crops:
        return None
    count = min(ROWS * COLUMNS, len(crops))
    tiles = [_tile(crops[at * len(crops) // count]) for at in range(count)]
    if count <= COLUMNS:
        return np.hstack(tiles)
    tiles += [np.full_like(tiles[0], GREY)] * (ROWS * COLUMNS - count)
    return np.vstack([np.hstack(tiles[:COLUMNS]), np.hstack(tiles[COLUMNS:])])


def jpeg(image_bgr: Image, quality: int = PICTURE_QUALITY) -> bytes:
    """The picture as JPEG."""
    return _encoded(".jpg", image_bgr, cv2.IMWRITE_JPEG_QUALITY, quality)


def _frame_row(frame: VisitFrame) -> dict[str, Any]:
    row: dict[str, Any] = {"number": frame.number, "time_s": frame.time_s, "box": frame.box_yxyx, "reason": frame.reason}
    if frame.seen is None:
        return row | {"refusal": frame.refusal}
    said = frame.seen.prediction
    return row | {"scores": said.scores.tolist(), "stranger": said.stranger, "is_stranger": said.is_stranger,
                  "infrared": frame.seen.infrared, "unlock": frame.unlock}


def _frame(row: dict[str, Any], labels: tuple[str, ...], embeddings: Any) -> VisitFrame:
    box_yxyx = None if row["box"] is None else tuple(row["box"])
    if "refusal" in row:
        return VisitFrame(row["number"], row["time_s"], None, box_yxyx, row["refusal"], row["reason"], False)
    embedding = next(embeddings, np.zeros(0, np.float32))
    said = Prediction(labels, np.array(row["scores"], np.float32), embedding, row["stranger"], row["is_stranger"])
    seen = Observation(row["time_s"], said, row["infrared"])
    return VisitFrame(row["number"], row["time_s"], seen, box_yxyx, "", row["reason"], row["unlock"])


def _tile(crop_bgr: Image) -> Image:
    """The crop inside a square, on grey."""
    height, width = crop_bgr.shape[:2]
    scale = TILE_PX / max(height, width)
    inner_wh = (max(1, round(width * scale)), max(1, round(height * scale)))
    tile = np.full((TILE_PX, TILE_PX, 3), GREY, np.uint8)
    top, left = (TILE_PX - inner_wh[1]) // 2, (TILE_PX - inner_wh[0]) // 2
    tile[top : top + inner_wh[1], left : left + inner_wh[0]] = cv2.resize(crop_bgr, inner_wh, interpolation=cv2.INTER_AREA)
    return tile


def _encoded(kind: str, image: Image, parameter: int, value: int) -> bytes:
    return cv2.imencode(kind, image, [parameter, value])[1].tobytes()


def _position(name: str) -> int:
    return int(Path(name).stem)


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(f"no JSON for {type(value).__name__}")
