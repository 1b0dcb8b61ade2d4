"""The check of the photos as one self-contained HTML page, with a thumbnail of what each finding names."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from pathlib import Path

from pawlatch.files import write_atomic
from pawlatch.report import STYLE, data_url
from pawlatch_train.check import Finding, PhotoCheck, check_photos, render_check
from pawlatch_train.facts import FLAGS

MOST_THUMBNAILS = 12  # of each finding


def main(folder: Path, html: Path | None, *, tell: Callable[[str], None] = print) -> int:
    """What `train --check` does: look at a folder, tell the table, write the page to `html`. The exit status is 0.

    Raises:
        PhotosError: as `check_photos`.
        OutputError: `html` cannot be written.
    """
    check = check_photos(folder)
    tell(render_check(check))
    if html is not None:
        write_atomic(html, render_page(check))
        tell(f"the same with pictures: {html}")
    return 0


def render_page(check: PhotoCheck) -> str:
    """The page; paths in it are relative to the photo folder."""
    title = f"The photos in {check.folder.name}"
    photos, moments, set_aside = len(check.facts), len(set(check.groups.tolist())), len(check.set_aside)
    summary = f"{photos} photos of {len(check.labels)} labels, {moments} different moments, {set_aside} files set aside"
    findings = "".join(_finding(check, finding) for finding in check.findings) or "<p>Nothing to complain of.</p>"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title><style>{STYLE}{_MORE_STYLE}</style></head><body>
<h1>{escape(title)}</h1><p class="summary">{escape(summary)}</p>
<h2>What there is</h2>{_table(check)}
<h2>What to look at</h2>{findings}{_set_aside(check)}
</body></html>
"""


def _table(check: PhotoCheck) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in ("", *(made or "photos" for made in check.splits), "moments", *FLAGS))
    rows = []
    for label in check.labels:
        mine = check.indices(label)
        moments = len(set(check.groups[mine].tolist()))
        flagged = [sum(flag in check.facts[i].flags for i in mine) or "" for flag in FLAGS]
        cells = [*(check.counts[split, label] for split in check.splits), moments, *flagged]
        rows.append(f"<tr><th>{escape(label)}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    return f'<table class="counts"><tr>{head}</tr>{"".join(rows)}</table>'


def _finding(check: PhotoCheck, finding: Finding) -> str:
    more = len(finding.photos) - MOST_THUMBNAILS
    thumbnails = "".join(_thumbnail(check, i) for i in finding.photos[:MOST_THUMBNAILS])
    return (
        f'<section class="{finding.severity}"><h3>{finding.severity}: {escape(finding.kind)}</h3>'
        f'<p>{escape(finding.sentence)}</p><div class="thumbnails">{thumbnails}</div>'
        f"{f'<p>and {more} more</p>' if more > 0 else ''}</section>"
    )


def _thumbnail(check: PhotoCheck, index: int) -> str:
    fact = check.facts[index]
    path = escape(check.relative(fact.photo.path))
    return f'<figure><img alt="{path}" src="{data_url("jpeg", fact.thumbnail)}"><figcaption>{path}</figcaption></figure>'


def _set_aside(check: PhotoCheck) -> str:
    if not check.set_aside:
        return ""
    items = "".join(f"<li><b>{escape(check.relative(item.path))}</b>: {escape(item.reason)}</li>" for item in check.set_aside)
    return f"<h2>Set aside</h2><ul>{items}</ul>"


_MORE_STYLE = """
section{background:#fff;border-radius:8px;border-left:6px solid #9aa0a6;padding:.4rem 1rem .8rem;margin:1rem 0}
section{box-shadow:0 1px 3px #0002}section.error{border-color:#a3161b}section.warning{border-color:#b5541c}
h3{margin:.4rem 0;font-size:1rem}section p{margin:.3rem 0}.thumbnails{display:flex;flex-wrap:wrap;gap:.6rem}
.thumbnails figure{width:112px;padding:.4rem;background:#f6f5f2}.thumbnails figcaption{overflow-wrap:anywhere;font-size:.7rem}
table.counts{border-collapse:collapse;background:#fff;border-radius:8px;box-shadow:0 1px 3px #0002}
.counts th,.counts td{padding:.3rem .9rem;text-align:right;font-weight:400}
.counts th:first-child{text-align:left;font-weight:600}
"""
