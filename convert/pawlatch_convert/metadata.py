"""What a converted file tells other people's programs: its labels, and that it takes pixels 0..255 as they are.

TFLite's standard metadata is a flatbuffer of its own (identifier "M001") in one of the model's buffers; the labels follow
the model as a ZIP archive. Android Studio, MediaPipe and Netron read both. Python's packages no longer bring the schema,
so the tables that are written here stand in `_SLOTS`.

Source: `metadata_schema.fbs`, https://github.com/tensorflow/tflite-support/tree/master/tensorflow_lite_support/metadata
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pawlatch import __version__
from pawlatch.card import CARD_NAME, ModelCard
from pawlatch.errors import EngineError
from pawlatch_convert.census import read_tflite
from pawlatch_convert.heavy import heavy
from pawlatch_convert.onnx_graph import read_onnx

AUTHOR = "pawlatch"
LABELS_NAME = "labels.txt"
_BUFFER_NAME = b"TFLITE_METADATA"
_KEPT_PROVENANCE = ("seed", "backbone", "versions")


def with_tflite_metadata(data: bytes, card: ModelCard, *, description: str) -> bytes:
    """The .tflite file `data` with TFLite's standard metadata, in place of what it had of it; it computes what it did.

    The graph lists the scores first from now on: apps take the first output for the one that counts.
    Equal arguments give equal bytes, and a second time changes nothing.

    Raises:
        EngineError: `data` is no whole .tflite file, or it has no signature to tell its outputs apart by.
    """
    schema, flatbuffers = heavy("ai_edge_litert.schema_py_generated"), heavy("flatbuffers")
    model = read_tflite(data)  # without the archive: it lies behind the flatbuffer
    names = _put_first(model, card.outputs.class_scores)
    content = np.frombuffer(_packed(_model_metadata(card, names, description)), np.uint8)
    model.metadata = model.metadata or []
    index = next((entry.buffer for entry in model.metadata if entry.name == _BUFFER_NAME), len(model.buffers))
    if index == len(model.buffers):
        model.metadata.append(schema.MetadataT(_BUFFER_NAME, index))
        model.buffers.append(schema.BufferT())
    model.buffers[index].data = content
    builder = flatbuffers.Builder(len(data) + len(content))
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return _with_labels(bytes(builder.Output()), card.labels)


def with_onnx_metadata(data: bytes, card: ModelCard, *, description: str = "") -> bytes:
    """The .onnx file `data` with what matters of the card as JSON in `metadata_props["pawlatch.json"]`.

    Equal arguments give equal bytes, and a second time changes nothing.

    Raises:
        EngineError: `data` is no whole .onnx file.
    """
    model = read_onnx(data)
    properties = {entry.key: entry.value for entry in model.metadata_props}
    heavy("onnx").helper.set_model_props(model, {**properties, CARD_NAME: json.dumps(_essence(card), ensure_ascii=False)})
    model.producer_name, model.producer_version = AUTHOR, __version__
    model.doc_string = description
    return bytes(model.SerializeToString(deterministic=True))


def _essence(card: ModelCard) -> dict[str, Any]:
    """The card without its statistics, which are large, and without what is measured only after the file is made."""
    fields = asdict(card)
    essence = {key: fields[key] for key in ("schema", "name", "labels", "unlock", "input", "outputs", "provenance")}
    return {**essence, "provenance": {key: card.provenance[key] for key in _KEPT_PROVENANCE if key in card.provenance}}


def _put_first(model: Any, output: str) -> list[str]:
    """Have the graph list its outputs with this one first, and return all their names in the signature in that order."""
    names = {entry.tensorIndex: entry.name.decode() for signature in model.signatureDefs or () for entry in signature.outputs}
    graph = model.subgraphs[0]
    if output not in names.values() or not set(graph.outputs) <= set(names):
        raise EngineError(f"expected a .tflite file whose signature names {output}; convert it again from its SavedModel")
    graph.outputs = sorted(map(int, graph.outputs), key=lambda index: names[index] != output)
    return [names[index] for index in graph.outputs]


def _with_labels(model: bytes, labels: tuple[str, ...]) -> bytes:
    """Behind the model an archive of the labels, a line each. Stored, as readers map it into memory, and without a date."""
    file = io.BytesIO(model)
    with zipfile.ZipFile(file, "a", zipfile.ZIP_STORED) as archive:
        entry = zipfile.ZipInfo(LABELS_NAME)  # 1980: the format has no time that is none
        entry.create_system, entry.external_attr = 3, 0o644 << 16  # else they tell of the machine
        archive.writestr(entry, "".join(f"{label}\n" for label in labels).encode())
    return file.getvalue()


# ------------------------------------------------------------------------------- TFLite's metadata as a flatbuffer


_SLOTS: Mapping[str, tuple[str, ...]] = {  # the tables that are used, with their fields in the schema's order
    "ModelMetadata": ("name", "description", "version", "subgraph_metadata", "author", "license", "associated_files",
                      "min_parser_version"),
    "SubGraphMetadata": ("name", "description", "input_tensor_metadata", "output_tensor_metadata"),
    "TensorMetadata": ("name", "description", "dimension_names", "content", "process_units", "stats", "associated_files"),
    "Content": ("content_properties_type", "content_properties"),
    "FeatureProperties": (),
    "ImageProperties": ("color_space", "default_size"),
    "ImageSize": ("width", "height"),
    "ProcessUnit": ("options_type", "options"),
    "NormalizationOptions": ("mean", "std"),
    "Stats": ("max", "min"),
    "AssociatedFile": ("name", "description", "type"),
}  # fmt: skip
_UINTS = {"width", "height"}  # all other numbers of these tables are single bytes
_FEATURE, _IMAGE = 1, 2  # of the union ContentProperties
_NORMALIZATION = 1  # of the union ProcessUnitOptions
_RGB = 1  # of ColorSpaceType
_TENSOR_AXIS_LABELS = 2  # of AssociatedFileType
_MIN_PARSER_VERSION = "1.0.0"  # of the schema: nothing newer is used


@dataclass(frozen=True)
class _Table:
    """A table of `_SLOTS` with those of its fields that are set: texts, numbers, tables, or lists of one of these."""

    name: str
    fields: Mapping[str, Any]


def _model_metadata(card: ModelCard, outputs: list[str], description: str) -> _Table:
    graph = _table(
        "SubGraphMetadata",
        input_tensor_metadata=[_pixels(card)],
        output_tensor_metadata=[_scores(name) if name == card.outputs.class_scores else _feature(name) for name in outputs],
    )
    return _table(
        "ModelMetadata", name=card.name, description=description, version=__version__, subgraph_metadata=[graph],
        author=AUTHOR, min_parser_version=_MIN_PARSER_VERSION,
    )  # fmt: skip


def _pixels(card: ModelCard) -> _Table:
    height, width = card.input.size_hw
    image = _table("ImageProperties", color_space=_RGB, default_size=_table("ImageSize", width=width, height=height))
    as_they_are = _table("NormalizationOptions", mean=[0.0], std=[1.0])
    return _table(
        "TensorMetadata", name="image", description="RGB pixels, 0..255",
        content=_table("Content", content_properties_type=_IMAGE, content_properties=image),
        process_units=[_table("ProcessUnit", options_type=_NORMALIZATION, options=as_they_are)],
        stats=_table("Stats", max=[255.0], min=[0.0]),
    )  # fmt: skip


def _scores(name: str) -> _Table:
    labels = _table("AssociatedFile", name=LABELS_NAME, description="what the scores are of", type=_TENSOR_AXIS_LABELS)
    return _feature(
        name, description="probability of each label", stats=_table("Stats", max=[1.0], min=[0.0]), associated_files=[labels]
    )


def _feature(name: str, *, description: str = "pooled features", **fields: Any) -> _Table:
    content = _table("Content", content_properties_type=_FEATURE, content_properties=_table("FeatureProperties"))
    return _table("TensorMetadata", name=name, description=description, content=content, **fields)


def _table(table: str, /, **fields: Any) -> _Table:
    return _Table(table, fields)


def _packed(root: _Table) -> bytes:
    builder = heavy("flatbuffers").Builder(1024)
    builder.Finish(_written(builder, root), file_identifier=b"M001")
    return bytes(builder.Output())


def _written(builder: Any, value: Any) -> int:
    """Where in the flatbuffer the text, list or table now stands. What a table refers to must be written before it."""
    if isinstance(value, str):
        return int(builder.CreateString(value))
    if isinstance(value, list) and isinstance(value[0], float):
        return int(builder.CreateNumpyVector(np.array(value, np.float32)))
    if isinstance(value, list):
        places = [_written(builder, item) for item in value]
        builder.StartVector(4, len(places), 4)
        for place in reversed(places):  # flatbuffers are written from their end
            builder.PrependUOffsetTRelative(place)
        return int(builder.EndVector())
    slots = _SLOTS[value.name]
    fields = {name: field if isinstance(field, int) else _written(builder, field) for name, field in value.fields.items()}
    builder.StartObject(len(slots))
    for name, field in fields.items():
        is_number = isinstance(value.fields[name], int)
        prepend = builder.PrependUOffsetTRelativeSlot if not is_number else (
            builder.PrependUint32Slot if name in _UINTS else builder.PrependUint8Slot
        )  # fmt: skip
        prepend(slots.index(name), field, 0)
    return int(builder.EndObject())
