"""One self-contained HTML page with what happened: visits with their pictures, the parity table, the training curves."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import cv2

from pawlatch.image import Image


@dataclass(frozen=True, eq=False)
class VisitRow:
    """One visit as a person wants to read it. `came` is the truth where it is known; `picture_bgr` shows the moment.

    `when` is its time of day, where it was no clip's; a door that was not `armed` only would have opened.
    """

    came: str
    start_s: float
    label: str
    score: float
    unlocked: bool
    reason: str
    time_to_unlock_s: float | None
    picture_bgr: Image | None = None
    when: str = ""
    armed: bool = True

    @property
    def door(self) -> str:
        """What the door did."""
        if not self.unlocked:
            return "stayed shut"
        return "opened" if self.armed else "would have opened"


def render_visits(rows: Sequence[VisitRow]) -> str:
    """The table of visits, for a terminal."""
    width = max([len("who came"), *(len(row.came) for row in rows)])
    lines = [f"{'at':>7}  {'who came':<{width}}  {'seen as':<18}  {'door':<11}  {'after':>6}  why"]
    for row in rows:
        after = "-" if row.time_to_unlock_s is None else f"{row.time_to_unlock_s:.1f} s"
        seen = f"{row.label} {row.score:.2f}"
        lines.append(f"{row.start_s:>5.1f} s  {row.came:<{width}}  {seen:<18}  {row.door:<11}  {after:>6}  {row.reason}")
    return "\n".join(lines)


def render_page(*, title: str, summary: str, rows: Sequence[VisitRow], clip: str | None, parity: str,
                pictures: Sequence[tuple[str, Path]], commands: Sequence[str]) -> str:
    """The page. `clip` is a path relative to it, `parity` a table as text; pictures are embedded."""
    video = f'<video controls loop muted autoplay playsinline src="{escape(clip)}"></video>' if clip else ""
    figures = "".join(
        f'<figure><img alt="{escape(caption)}" src="{_embed_png(path)}"><figcaption>{escape(caption)}</figcaption></figure>'
        for caption, path in pictures
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title><style>{STYLE}</style></head><body>
<h1>{escape(title)}</h1><p class="summary">{escape(summary)}</p>
<h2>Visits</h2><div class="visits">{"".join(map(visit_card, rows))}</div>{video}
<h2>Parity: does the small model decide as the large one did?</h2><pre>{escape(parity)}</pre>
<h2>Training</h2><div class="figures">{figures}</div>
<h2>Next</h2><pre>{escape(chr(10).join(commands))}</pre>
</body></html>
"""


def visit_card(row: VisitRow) -> str:
    """A visit as a card, HTML."""
    alt = escape(f"{row.came} at the door")
    picture = "" if row.picture_bgr is None else f'<img alt="{alt}" src="{_embed_jpeg(row.picture_bgr)}">'
    after = "" if row.time_to_unlock_s is None else f" after {row.time_to_unlock_s:.1f} s"
    kind = "opened" if row.unlocked else "shut"
    return (
        f'<article class="{kind}">{picture}<div><b>{escape(row.came)}</b> {escape(row.when) or f"at {row.start_s:.1f} s"}<br>'
        f'<span class="door">{row.door}{after}</span><br><small>{escape(row.reason)}</small></div></article>'
    )


def _embed_jpeg(picture_bgr: Image) -> str:
    return data_url("jpeg", cv2.imencode(".jpg", picture_bgr, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes())


def _embed_png(path: Path) -> str:
    return data_url("png", path.read_bytes())


def data_url(kind: str, data: bytes) -> str:
    """An image inside a page; `kind` is "png" or "jpeg"."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


STYLE = """
body{font:16px/1.5 system-ui,sans-serif;color:#22262b;background:#f6f5f2;max-width:1080px;margin:2rem auto;padding:0 1rem}
h1{margin-bottom:.2rem}h2{margin-top:2.2rem;font-size:1.1rem}.summary{font-size:1.15rem;color:#444}
.visits{display:grid;grid-template-columns:repeat(auto-fill,minmax(300px,1fr));gap:1rem}
article{background:#fff;border-radius:8px;overflow:hidden;border-top:6px solid #b5541c;box-shadow:0 1px 3px #0002}
article.opened{border-color:#1f6f4a}article img{width:100%;display:block}article div{padding:.6rem .9rem .8rem}
.door{font-weight:600;color:#b5541c}.opened .door{color:#1f6f4a}small{color:#666}
video{width:100%;max-width:640px;display:block;margin:1.5rem auto;border-radius:8px;background:#000}
pre{background:#fff;padding:1rem;border-radius:8px;overflow-x:auto;font-size:.8rem;line-height:1.35;box-shadow:0 1px 3px #0002}
.figures{display:flex;flex-wrap:wrap;gap:1rem;align-items:flex-start}figure{margin:0;background:#fff;padding:.6rem;border-radius:8px}
figure img{max-width:100%;max-height:420px}figcaption{color:#666;font-size:.85rem}
"""
