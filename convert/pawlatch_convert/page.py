"""`parity.html`: the verdict, the photos that are decided otherwise, and all the numbers, in one file that needs no other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pawlatch.calibration import BINS, reliability
from pawlatch.card import SAVED_MODEL, ModelCard
from pawlatch.files import write_atomic
from pawlatch.image import Image
from pawlatch.report import STYLE, data_url
from pawlatch_convert import page_tables as tables
from pawlatch_convert import svg
from pawlatch_convert.compare import SURE_MARGIN, Flip, Scored, Scores, decides, unlock_scores
from pawlatch_convert.parity import ParityResult, VariantResult
from pawlatch_convert.table import heaviest_flips

PAGE_NAME = "parity.html"
MAX_PHOTOS = 24
THUMBNAIL_PX = 224  # the longer side at most


def shown_photos(result: ParityResult) -> tuple[int, ...]:
    """Which photos the contact sheet shows, as positions among those scored: those whose flips weigh most, each once."""
    return tuple(dict.fromkeys(flip.index for _, flip in heaviest_flips(result)))[:MAX_PHOTOS]


def write_page(folder: Path, result: ParityResult, *, scored: Scored, card: ModelCard, photos: Mapping[int, Image]) -> Path:
    """Write `folder/parity.html`, whole or not at all.

    Args:
        photos: fitted pixels, uint8 (H, W, 3), RGB, of those that `shown_photos` names; one that is missing has no picture.

    Raises:
        OSError: the disk refuses.
    """
    path = folder / PAGE_NAME
    write_atomic(path, _page(result, scored, card, photos))
    return path


def _page(result: ParityResult, scored: Scored, card: ModelCard, photos: Mapping[int, Image]) -> str:
    title = f"{result.model}: does the small model decide as the large one did?"
    sections = [
        ("", _verdict(result)),
        ("Decisions", _decisions(result)),
        ("Decided otherwise", _contact_sheet(result, photos)),
        ("At the door", _door(result)),
        ("Score by score", _figures(result, scored, card)),
        ("Who agrees with whom", tables.matrix(result)),
        ("Numbers", tables.numbers(result)),
        ("The ladder", tables.ladder(result)),
        ("What the files compute", tables.censuses(result)),
        ("Photos set aside", tables.set_aside(result)),
    ]
    body = "".join((f"<h2>{heading}</h2>" if heading else "") + text for heading, text in sections if text)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}{_STYLE}</style></head><body>\n<h1>{escape(title)}</h1>{body}</body></html>\n"
    )


# ---------------------------------------------------------------------------------------------------- the verdict


def _verdict(result: ParityResult) -> str:
    low, high = result.top1_interval
    green = [entry.variant for entry in result.variants if entry.is_green]
    summary = (
        f"{len(green)} of {len(result.variants)} converted files decide as the SavedModel does, which is right on "
        f"{result.top1:.1%} of {result.n_heldout} held-out photos (95 % interval {low:.1%} to {high:.1%}). They were "
        f"compared on {result.n_photos} photos."
    )
    deployed = "Nothing is deployed: the bundle, if there was one, stays as it was."
    if result.deploy:
        because = f": {escape(result.deploy_reason)}" if result.deploy_reason else ""
        deployed = f"Deployed: <b>{escape(result.deploy)}</b>{because}."
    reds = "".join(
        f"<h3 class=red>{escape(entry.variant)} is red</h3><ul>{tables.items(map(str, entry.reasons))}</ul>"
        for entry in result.variants if not entry.is_green
    )
    return f'<p class="summary">{summary}</p><p>{deployed}</p>{reds}'


def _decisions(result: ParityResult) -> str:
    """What an owner decides by."""
    threads = next((tuple(entry.speed.latency_ms) for entry in result.variants if entry.speed), ())
    heads = (
        "variant", "verdict", "rung", "size, MB", "integer", *(f"ms, {tables.counted(n, 'thread')}" for n in threads),
        "memory, MB", "top-1, %", "difference, points", "agree", "sure agree", "door: opens / shut here",
    )
    return tables.table(heads, (_decision(entry, threads) for entry in result.variants)) + (
        "<p class=note>ms: median (95th percentile) of one inference on this machine. Difference: of top-1, with its paired "
        f"95 % interval. Sure: photos whose float margin is over {SURE_MARGIN}. Door: photos that open it here and did not "
        "with the SavedModel / the other way round.</p>"
    )


def _decision(entry: VariantResult, threads: Sequence[int]) -> tuple[str, ...]:
    comparison, speed = entry.comparison, entry.speed
    about = (
        f"<b>{escape(entry.variant)}</b>", '<b class="green">green</b>' if entry.is_green else '<b class="red">RED</b>',
        escape(entry.rung), f"{entry.file.bytes / 1e6:.2f}" if entry.file else "",
        f"{entry.census.integer_share:.0%}" if entry.census else "",
        *("{:.1f} <small>({:.1f})</small>".format(*speed.latency_ms[n]) if speed else "" for n in threads),
        f"{speed.peak_mb:.0f}" if speed else "",
    )
    if comparison is None:
        return (*about, *("",) * 5)
    low, high = comparison.difference_interval
    return (
        *about, tables.with_range(comparison.top1, *comparison.top1_interval),
        f"{100 * comparison.difference:+.1f} <small>[{100 * low:+.1f}, {100 * high:+.1f}]</small>",
        f"{comparison.agreement:.1%}",
        "–" if comparison.sure_agreement is None else f"{comparison.sure_agreement:.1%} <small>of {comparison.n_sure}</small>",
        "–" if comparison.door is None else f"{comparison.door.opens_here} / {comparison.door.shut_here}",
    )


# ------------------------------------------------------------------------------------------------ the contact sheet


def _contact_sheet(result: ParityResult, photos: Mapping[int, Image]) -> str:
    flips = heaviest_flips(result)
    if not flips:
        return "<p>No photo: every file decides as the SavedModel does on all of them.</p>"
    shown = shown_photos(result)
    tiles = "".join(
        _tile([(variant, flip) for variant, flip in flips if flip.index == index], photos.get(index)) for index in shown
    )
    hidden = len({flip.index for _, flip in flips}) - len(shown)
    more = f"<p class=note>{tables.counted(hidden, 'more photo')} in parity.json.</p>" if hidden else ""
    return f'<p class=note>What moves the door first, then the surest.</p><div class="visits sheet">{tiles}</div>{more}'


def _tile(flips: Sequence[tuple[str, Flip]], pixels: Image | None) -> str:
    """One photo with what each variant makes of it."""
    first = flips[0][1]
    picture = "" if pixels is None else f'<img alt="{escape(first.photo)}" src="{_jpeg(pixels)}">'
    said = [_said("SavedModel", first.reference_label, first.reference_score, [f"float margin {first.margin:.2f}"])]
    said += [_said(variant, flip.variant_label, flip.variant_score, _moved(flip)) for variant, flip in flips]
    moves = any(flip.moves_door for _, flip in flips)
    return (
        f'<article class="{"" if moves else "quiet"}">{picture}<div><b>{escape(first.true_label)}</b>'
        f'<small class=name title="{escape(first.photo)}">{escape(first.photo)}</small>'
        f"<table class=plain>{''.join(said)}</table></div></article>"
    )


def _said(who: str, label: str, score: float, notes: Sequence[str]) -> str:
    note = f"<tr><td colspan=3 class=note><small>{'; '.join(notes)}</small></td></tr>" if notes else ""
    return f"<tr><th>{escape(who)}</th><td>{escape(label)}</td><td>{score:.2f}</td></tr>{note}"


def _moved(flip: Flip) -> list[str]:
    """What changes at the door, as HTML."""
    said = []
    if flip.moves_door and flip.unlock_scores:
        verb = "opens here" if flip.unlocks == (False, True) else "shut here"
        said.append(f'<span class="door">{verb}</span> {flip.unlock_scores[0]:.2f} → {flip.unlock_scores[1]:.2f}')
    if flip.strangers and flip.strangers[0] != flip.strangers[1]:
        said.append("a stranger now" if flip.strangers[1] else "no stranger any more")
    return said


def _jpeg(pixels: Image) -> str:
    scale = THUMBNAIL_PX / max(pixels.shape[:2])
    if scale < 1:
        pixels = np.asarray(cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
    bgr = np.ascontiguousarray(pixels[..., ::-1])
    return data_url("jpeg", cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes())


# ------------------------------------------------------------------------------------------------------ the door


def _door(result: ParityResult) -> str:
    """The operating points; variants that are told the same are told together."""
    told: dict[tuple[str, ...], list[str]] = {}
    for entry in result.variants:
        if entry.operating_point:
            told.setdefault(tuple(entry.operating_point["sentences"]), []).append(entry.variant)
    return "".join(
        f"<h3>{escape(', '.join(variants))}</h3><ul>{tables.items(sentences)}</ul>" for sentences, variants in told.items()
    )


def _figures(result: ParityResult, scored: Scored, card: ModelCard) -> str:
    compared = [entry for entry in result.variants if entry.comparison and entry.variant in scored.variants]
    if not compared:
        return ""
    what = f"the summed score of {' or '.join(card.unlock)}" if decides(card) else "the score of the SavedModel's label"
    scatters = "".join(_scatter(entry, scored, card) for entry in compared)
    curves = "".join(_calibration(entry, scored, card) for entry in compared)
    return (
        f"<p class=note>Each dot is a photo, by {escape(what)}; in red those that are decided otherwise"
        f"{', dashed the threshold of the door' if decides(card) else ''}.</p><div class=plots>{scatters}</div>"
        f"<p class=note>Does a score mean what it says? Held-out photos in {BINS} bins of the highest score: the SavedModel's "
        f"in grey, the variant's in green, perfect on the diagonal; bins of fewer than {svg.ENOUGH} photos are left out.</p>"
        f"<div class=plots>{curves}</div>"
    )


def _scatter(entry: VariantResult, scored: Scored, card: ModelCard) -> str:
    reference, scores = scored.reference.scores, scored.variants[entry.variant].scores
    flips = entry.comparison.flips if entry.comparison else ()
    marked = np.isin(np.arange(len(reference)), [flip.index for flip in flips if flip.moves_label or flip.moves_door])
    if decides(card):
        before, after, threshold = unlock_scores(reference, card), unlock_scores(scores, card), card.threshold(SAVED_MODEL)
    else:
        before, after, threshold = _of_its_label(reference, reference), _of_its_label(reference, scores), None
    return svg.scatter(before, after, title=entry.variant, marked=marked, threshold=threshold)


def _of_its_label(reference: Scores, scores: Scores) -> NDArray[np.float64]:
    """What each photo (n,) is given for the SavedModel's label."""
    return np.asarray(scores[np.arange(len(scores)), reference.argmax(1)], np.float64)


def _calibration(entry: VariantResult, scored: Scored, card: ModelCard) -> str:
    targets = scored.targets(card.labels)[scored.judged]
    before, after = (
        reliability(scores[scored.judged], targets)
        for scores in (scored.reference.scores, scored.variants[entry.variant].scores)
    )
    error = entry.comparison.ece if entry.comparison else None
    return svg.calibration(before, after, title=entry.variant + ("" if error is None else f": error {error:.3f}"))

_STYLE = """
body{max-width:1280px}h3{font-size:1rem;margin:.8rem 0 0}.note{color:#666;font-size:.9rem}
.red{color:#b5541c}.green{color:#1f6f4a}.wide{overflow-x:auto}
table{border-collapse:collapse;background:#fff;font-size:.9rem;box-shadow:0 1px 3px #0002;border-radius:8px}
th,td{padding:.35rem .6rem;text-align:right;white-space:nowrap;border-bottom:1px solid #eee}
th{color:#666;font-weight:500;vertical-align:bottom;white-space:normal}td:first-child,th:first-child{text-align:left}
.heat{padding:.1rem .4rem;border-radius:4px}
.sheet{grid-template-columns:repeat(auto-fill,minmax(224px,1fr))}
.sheet .name{display:block;overflow:hidden;text-overflow:ellipsis;white-space:nowrap}
article.quiet{border-color:#bbb}.plain{box-shadow:none;width:100%;margin-top:.3rem;font-size:.85rem}
.plain th,.plain td{text-align:left;padding:.1rem .3rem 0 0;border:0;vertical-align:top;white-space:normal}
.plain th,.plain td:last-child{white-space:nowrap}.plain td.note{white-space:normal;text-align:right}
.plain td:nth-child(2){width:99%}.plain small{font-size:.78rem}
.plots{display:flex;flex-wrap:wrap;gap:1rem}svg{background:#fff;border-radius:8px;box-shadow:0 1px 3px #0002;font-size:11px}
svg text{fill:#666}svg .title{fill:#22262b;font-size:12px;font-weight:600}.frame{fill:none;stroke:#ccc}.diagonal{stroke:#ddd}
.threshold{stroke:#888;stroke-dasharray:4 3;fill:none}
.dots{stroke:#1f6f4a;stroke-width:4;stroke-linecap:round;stroke-opacity:.45}
.dots.marked{stroke:#b5541c;stroke-width:6;stroke-opacity:1}.before{stroke:#aaa;fill:none}.after{stroke:#1f6f4a;fill:none}
.dots.before,.dots.after{stroke-width:5;stroke-opacity:1}details{margin:.4rem 0}summary{cursor:pointer}
"""
