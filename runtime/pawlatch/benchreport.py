"""A measurement of a board that its owner can send: what is in it, and whether a file is one.

It names no host, user, address, path or serial number; labels and photos stay where they are.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pawlatch.board import Board
from pawlatch.card import ModelCard
from pawlatch.errors import ReportError

SCHEMA = 1
HEADER = (
    "| board | processor | how | model | threads | inference ms (p50, p95) "
    "| 640×480 frame | 1920×1080 frame | start s | peak MB |",
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
)
FRAMES = ("640×480", "1920×1080")
_REMEDY = "measure again with pawlatch bench model/edge --report FILE"
_KEYS = {"schema", "versions", "machine", "emulation", "is_emulated", "bundle", "board", "throttled_bits", "runs", "threads",
         "cold_start_s", "peak_mb"}


def bundle_facts(card: ModelCard, variant: str) -> dict[str, Any]:
    """Which model was measured, so that two reports can be held against each other."""
    entry = card.files[variant]
    return {"name": card.name, "variant": variant, "sha256": entry.sha256, "bytes": entry.bytes,
            "size_hw": list(card.input.size_hw), "labels": len(card.labels),
            "backbone": backbone(card)}


def backbone(card: ModelCard) -> str | None:
    """Its name and width, as "mobilenet_v2 0.35"; None for a model from elsewhere."""
    found = card.provenance.get("backbone")
    if not isinstance(found, dict) or "name" not in found:
        return None
    return " ".join(str(found[key]) for key in ("name", "width") if found.get(key) is not None)


def board_facts(before: Board, after: Board) -> dict[str, Any]:
    """Temperature and power before the measurement and after it."""
    return {"before": asdict(before), "after": asdict(after)}


def read_report(path: str | Path) -> dict[str, Any]:
    """A report as `pawlatch bench --report` wrote it.

    Raises:
        ReportError: it cannot be read, is of a newer version, lacks something, or its numbers cannot be.
    """
    try:
        report = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ReportError(f"{path} is no report ({error}); pawlatch bench model/edge --report FILE writes one") from error
    if not isinstance(report, dict) or not isinstance(report.get("schema"), int):
        raise ReportError(f"{path} is no report: it has no schema; pawlatch bench model/edge --report FILE writes one")
    if report["schema"] > SCHEMA:
        raise ReportError(f"{path} is of schema {report['schema']}, and this pawlatch knows {SCHEMA}; upgrade it")
    if missing := _KEYS - report.keys():
        raise ReportError(f"{path} lacks {', '.join(sorted(missing))}; {_REMEDY}")
    if doubt := _doubt(report):
        raise ReportError(f"{path} cannot be: {doubt}; {_REMEDY}")
    return report


def _doubt(report: Mapping[str, Any]) -> str | None:
    try:
        if report["is_emulated"] is not bool(report["emulation"]):
            return "it has signs of an emulation and denies it, or the other way round"
        for name in ("cold_start_s", "peak_mb"):
            if not _is_positive(report[name]):
                return f"{name} is {report[name]!r}"
        if "1" not in report["threads"]:
            return "it has no times for one thread"
        for threads, tables in report["threads"].items():
            for name, row in (*tables["rows"].items(), *tables["frames"].items()):
                p50, p95 = row["p50_ms"], row["p95_ms"]
                if not (threads.isdecimal() and _is_positive(p50) and _is_positive(p95) and p50 <= p95):
                    return f"{name} in {threads} threads takes {p50!r} ms, and one of twenty {p95!r} ms"
            variant = report["bundle"]["variant"]
            if variant not in tables["rows"]:
                return f"it has no times for {variant}, which its bundle deploys"
            if absent := [size for size in FRAMES if size not in tables["frames"]]:
                return f"it has no times for frames of {' and '.join(absent)}"
        for table, names in (("machine", ("cpu", "board")), ("versions", ("pawlatch",)), ("bundle", ("name", "backbone"))):
            for name in names:
                report[table][name]  # a table that cannot be filled from it is told here, not while it is drawn
        int(report["bundle"]["size_hw"][1])
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        return f"{type(error).__name__} at {error}"
    return None


def _is_positive(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value > 0


def markdown_rows(report: Mapping[str, Any]) -> list[str]:
    """A row for each number of threads, for the table in docs/boards.md; emulated times are told apart, not shown as speed."""
    machine, bundle = report["machine"], report["bundle"]
    how = "emulated: no speed" if report["is_emulated"] else f"measured, pawlatch {report['versions']['pawlatch']}"
    model = f"{bundle['backbone'] or bundle['name']} {bundle['variant']}, {bundle['size_hw'][1]} px"
    rows = []
    for threads, tables in sorted(report["threads"].items(), key=lambda pair: int(pair[0])):
        inference = tables["rows"][bundle["variant"]]
        frames = [f"{tables['frames'][size]['p50_ms']:.1f}" for size in FRAMES]
        start = [f"{report['cold_start_s']:.2f}", f"{report['peak_mb']:.0f}"] if threads == "1" else ["", ""]
        cells = [machine["board"] or "no single-board computer", machine["cpu"] or "?", how, model, threads,
                 f"{inference['p50_ms']:.1f}, {inference['p95_ms']:.1f}", *frames, *start]
        rows.append("| " + " | ".join(str(cell).replace("|", "/") for cell in cells) + " |")
    return rows
