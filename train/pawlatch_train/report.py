"""report.html: what came out of a training, how far it can be believed, and what to photograph next."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np

from pawlatch.files import write_atomic
from pawlatch.report import STYLE, data_url
from pawlatch_train.advice import Photographed, count, photograph_next
from pawlatch_train.findings import Finding
from pawlatch_train.grids import draw_confusion, draw_mistakes, draw_predictions
from pawlatch_train.history import History
from pawlatch_train.judged import Judged, LabelRow
from pawlatch_train.plots import draw_curves, draw_reliability

MOST_PREDICTIONS, MOST_MISTAKES = 25, 12
WORST_FIRST = 12  # more labels than a person reads one by one


@dataclass(frozen=True)
class StrangerRow:
    """AUROC of known against the left-out label, by the card's statistics and by the maximum softmax."""

    left_out: str
    ours: float
    max_softmax: float


@dataclass(frozen=True)
class Story:
    """What the report tells. Sentences and names are plain text; the page escapes them.

    `photographed` by label; `recipe` pairs of field and value, `why` the sentence that says which was chosen and why;
    the calibration errors are 0..1 and None where there were no photos to measure them on; `timings` in seconds.
    """

    title: str
    unlock: Sequence[str]
    judged: Judged
    history: History
    photographed: Mapping[str, Photographed]
    backbone: str
    why: str
    recipe: Sequence[tuple[str, object]]
    temperature: float
    ece_before: float | None
    ece_after: float | None
    next_command: str
    findings: Sequence[Finding] = ()
    operating_point: Sequence[str] = ()
    strangers: Sequence[StrangerRow] = ()
    strangers_note: str = ""
    timings: Sequence[tuple[str, float]] = ()


def write_report(folder: Path, story: Story) -> None:
    """Write `report.html`, with its pictures embedded, and the same pictures as PNG beside it.

    Raises:
        OutputError: the folder cannot be written to.
    """
    judged = story.judged
    drawn = {
        name: _draw(folder / f"{name}.png", draw if wanted else None)
        for name, wanted, draw in (
            ("predictions", len(judged) > 0, lambda path: draw_predictions(judged, path, most=MOST_PREDICTIONS)),
            ("mistakes", bool(judged.worst(1)), lambda path: draw_mistakes(judged, path, most=MOST_MISTAKES)),
            ("confusion", len(judged) > 0, lambda path: draw_confusion(judged.confusion(), judged.labels, path)),
            ("reliability", len(judged) > 0, lambda path: draw_reliability(judged, path)),
            ("curves", len(story.history) > 0, lambda path: draw_curves(story.history, path)),
        )
    }
    write_atomic(folder / "report.html", render(story, {name: png for name, png in drawn.items() if png}))


def render(story: Story, pictures: Mapping[str, bytes]) -> str:
    """The page; `pictures` are PNGs by name, and those that are missing are passed over."""
    judged = story.judged
    body = "".join(
        f"<section><h2>{escape(heading)}</h2>{content}</section>" for heading, content in (
            ("Can it open a door?", _sentences(story.operating_point)),
            ("What to photograph next", _list(photograph_next(judged, story.photographed, story.unlock, story.findings))),
            ("What it says of photos it has not learned from",
             _figure(pictures, "predictions", f"a choice of {min(MOST_PREDICTIONS, len(judged))} of the {len(judged)} photos, "
                     "from each label in turn; the number is the score")),
            ("The worst mistakes", _mistakes(judged, pictures)),
            ("Label by label", _label_table(judged)
             + _figure(pictures, "confusion", "what each label was taken for; full colour is all of its photos")),
            ("Are the scores honest?", _calibration(story, pictures)),
            ("Would it know a stranger?", _strangers(story)),
            ("What the check of the photos found", _findings(story.findings)),
            ("How it learned", _figure(pictures, "curves", _curves_caption(story.history)) + _recipe(story)),
            ("Next", f"<pre>{escape(story.next_command)}</pre>"),
        ) if content
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(story.title)}</title><style>{STYLE}{_MORE_STYLE}</style></head><body>
<h1>{escape(story.title)}</h1><p class="summary">{escape(_summary(judged))}</p>
{body}
</body></html>
"""


def _draw(path: Path, draw: Callable[[Path], None] | None) -> bytes | None:
    if draw is None:
        path.unlink(missing_ok=True)  # of a former report
        return None
    draw(path)
    return path.read_bytes()


def _summary(judged: Judged) -> str:
    share = judged.share_right()
    if not share.n:
        return "No photos were held out, so nothing here says how it does on photos it has not seen."
    low, high = share.interval()
    return (f"It recognised {share.k} of {share.n} photos ({share.value:.0%}; as these are {share.groups} different moments, "
            f"the true share lies between {low:.0%} and {high:.0%}). They are {judged.source}.")


def _sentences(sentences: Iterable[str]) -> str:
    return "".join(f"<p>{escape(sentence)}</p>" for sentence in sentences)


def _list(sentences: Iterable[str]) -> str:
    return f'<ul>{"".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)}</ul>'


def _figure(pictures: Mapping[str, bytes], name: str, caption: str) -> str:
    if name not in pictures:
        return ""
    image = f'<img class="{name}" alt="{escape(caption)}" src="{data_url("png", pictures[name])}">'
    return f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>"


def _mistakes(judged: Judged, pictures: Mapping[str, bytes]) -> str:
    worst = judged.worst(MOST_MISTAKES)
    if not worst:
        return f"<p>None: all {len(judged)} photos were recognised.</p>" if len(judged) else ""
    items = "".join(
        f"<li><code>{escape(judged.names[i])}</code> is {escape(judged.labels[judged.targets[i]])}, taken for "
        f"{escape(judged.labels[judged.predicted[i]])} with {judged.confidence[i]:.2f}</li>" for i in worst
    )
    wrong = int((~judged.right).sum())
    shown = f"the {len(worst)} most confident of {wrong} mistakes" if wrong > len(worst) else "the most confident comes first"
    return _figure(pictures, "mistakes", f"{shown}; look whether the folder is right before blaming the model"
                   ) + f"<ol>{items}</ol>"


def _label_table(judged: Judged) -> str:
    if not len(judged):
        return ""
    rows = judged.label_rows()
    note = "Near-duplicates count as one moment; the interval is Wilson's, 95 %, over moments."
    if len(rows) > WORST_FIRST:
        rows.sort(key=lambda row: (row.recall.value if row.recall.n else 2.0, row.label))
        note += " The worst come first."
    return _table(("label", "photos", "moments", "recognised", "95 % interval", "right when it says so"),
                  [_label_cells(row) for row in rows]) + f"<p><small>{note}</small></p>"


def _label_cells(row: LabelRow) -> tuple[str, ...]:
    share, (low, high) = row.recall, row.recall.interval()
    recall, interval = (f"{share.value:.0%}", f"{low:.0%} to {high:.0%}") if share.n else ("–", "–")
    precision = f"{row.hits / row.claimed:.0%} ({row.hits} of {row.claimed})" if row.claimed else "never said"
    return row.label, str(share.n), str(share.groups), recall, interval, precision


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The first column is text, the others numbers."""
    heads = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    lines = "".join(f'<tr>{"".join(f"<td>{escape(cell)}</td>" for cell in row)}</tr>' for row in rows)
    return f'<div class="table"><table><thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table></div>'


def _calibration(story: Story, pictures: Mapping[str, bytes]) -> str:
    told = f"All logits are divided by a temperature of {story.temperature:.2f} inside the model."
    if story.ece_before is not None and story.ece_after is not None:
        told += (f" On photos that chose nothing, scores and shares differ by {100 * story.ece_after:.1f} points on average "
                 f"(expected calibration error); without the temperature it was {100 * story.ece_before:.1f}.")
    return f"<p>{escape(told)}</p>" + _figure(pictures, "reliability", "on the diagonal, a score of 0.8 is right 8 times of 10")


def _strangers(story: Story) -> str:
    if not story.strangers:
        return _sentences(filter(None, [story.strangers_note]))
    rows = [(row.left_out, f"{row.ours:.2f}", f"{row.max_softmax:.2f}") for row in story.strangers]
    means = [float(np.mean([getattr(row, name) for row in story.strangers])) for name in ("ours", "max_softmax")]
    rows.append(("mean", f"{means[0]:.2f}", f"{means[1]:.2f}"))
    return _table(("left out", "by its features", "by its highest score alone"), rows) + _sentences(
        ["Each label was left out in turn and shown as a stranger. 1.00 tells all strangers from all known animals, 0.50 is a "
         "coin (AUROC).", *filter(None, [story.strangers_note])]
    )


def _findings(findings: Sequence[Finding]) -> str:
    if not findings:
        return "<p>Nothing to remark.</p>"
    items = "".join(f'<li><b class="severity {escape(one.severity)}">{escape(one.severity)}</b> {escape(one.sentence)}</li>'
                    for one in findings)
    return f'<ul class="findings">{items}</ul>'


def _curves_caption(history: History) -> str:
    frozen = len(history) if history.turn is None else history.turn
    return f"{count(frozen, 'epoch')} with the backbone frozen, {len(history) - frozen} of fine-tuning"


def _recipe(story: Story) -> str:
    rows = [(name, str(value)) for name, value in story.recipe]
    took = ", ".join(f"{what} {seconds:.1f} s" for what, seconds in story.timings)
    return _sentences(filter(None, [story.why, story.backbone, took and f"It took: {took}."])) + (
        f'<details><summary>the recipe, field by field</summary>{_table(("field", "value"), rows)}</details>' if rows else "")


_MORE_STYLE = """
.summary{max-width:52rem}section figure{margin:1rem 0;display:inline-block}figure img{max-height:none;display:block}
table{border-collapse:collapse;background:#fff;border-radius:8px;font-size:.92rem}.table{overflow-x:auto;margin:.8rem 0}
th,td{padding:.35rem .9rem;text-align:right;border-bottom:1px solid #0001;font-variant-numeric:tabular-nums}
th:first-child,td:first-child{text-align:left}th{color:#666;font-weight:600}
li{margin:.3rem 0}code{font-size:.85em;overflow-wrap:anywhere}summary{cursor:pointer;color:#444}
.findings{list-style:none;padding:0}.severity{display:inline-block;min-width:5.5rem;color:#666}
.severity.warning{color:#b5541c}.severity.error{color:#be2418}
"""
