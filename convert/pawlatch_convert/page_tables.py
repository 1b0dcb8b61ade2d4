"""The tables of `parity.html` that hold all the numbers, and the pieces of HTML they are made of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape

from pawlatch_convert.census import Census
from pawlatch_convert.compare import Comparison
from pawlatch_convert.parity import ParityResult


def matrix(result: ParityResult) -> str:
    """Which share of the photos any two give the same label."""
    names = list(result.matrix)
    cells = ((f"<b>{escape(a)}</b>", *(_shaded(result.matrix[a][b], a == b) for b in names)) for a in names)
    return table(("", *names), cells) if len(names) > 1 else ""


def _shaded(share: float, is_itself: bool) -> str:
    """The redder, the fewer agree; full red from 90 % down."""
    opacity = min(1.0, 10 * (1 - share))
    return "" if is_itself else f'<span class=heat style="background:rgba(181,84,28,{opacity:.2f})">{share:.1%}</span>'


def numbers(result: ParityResult) -> str:
    """What a verdict is made of, beside what an owner decides by."""
    heads = (
        "variant", "McNemar p", "largest |Δ|", "mean |Δ|", "KL, nats", "calibration error", "cosine, mean", "cosine, lowest",
        "strangers, new / no longer",
    )
    rows = ((f"<b>{escape(entry.variant)}</b>", *_finer(entry.comparison)) for entry in result.variants if entry.comparison)
    reference = next((entry.comparison.ece_reference for entry in result.variants if entry.comparison), None)
    before = "" if reference is None else f" The SavedModel's calibration error is {reference:.3f}."
    return table(heads, rows) + (
        "<p class=note>McNemar: how often so uneven a trade of right answers comes by chance alone (exact, two-sided). "
        "|Δ|: of one score. KL: from the SavedModel's scores. Cosine: of the embeddings, by which strangers are told."
        f"{before}</p>"
    )


def _finer(comparison: Comparison) -> tuple[str, ...]:
    strangers = comparison.strangers
    return (
        f"{comparison.mcnemar_p:.2g}", f"{comparison.max_delta:.3f}", f"{comparison.mean_delta:.4f}",
        f"{comparison.mean_kl:.5f}", "–" if comparison.ece is None else f"{comparison.ece:.3f}",
        f"{comparison.mean_cosine:.4f}", f"{comparison.lowest_cosine:.4f}",
        "–" if strangers is None else f"{strangers.newly_strange} / {strangers.no_longer_strange}",
    )


def ladder(result: ParityResult) -> str:
    """What was tried where the bare recipe was not good enough, up to what was."""
    steps = [step for entry in result.variants for step in entry.steps]
    rows = (
        (
            f"<b>{escape(step.rung)}</b>", escape(step.what), step.verdict, "yes" if step.within_aim else "no",
            _optional(step.difference, "{:+.1f}", 100), _optional(step.agreement, "{:.1f}%", 100),
            _optional(step.sure_agreement, "{:.1f}%", 100), _optional(step.mean_kl, "{:.5f}"),
            _optional(step.integer_share, "{:.0f}%", 100), f"{step.seconds:.1f}",
        )
        for step in steps
    )
    heads = ("rung", "what was done", "verdict", "within the aim", "difference, points", "agree", "sure agree", "KL, nats",
             "integer", "seconds")
    return table(heads, rows) if steps else ""


def _optional(value: float | None, shown: str, times: float = 1) -> str:
    return "–" if value is None else shown.format(times * value)


def censuses(result: ParityResult) -> str:
    """What each file computes, to be opened."""
    return "".join(_census(entry.variant, entry.census) for entry in result.variants if entry.census)


def _census(variant: str, census: Census) -> str:
    scale = "" if census.input_scale is None else f", scale {census.input_scale:g}, zero point {census.input_zero_point}"
    step = "" if census.scores_step is None else f"; scores in steps of 1/{1 / census.scores_step:g}"
    islands = ", ".join(map(escape, census.float_islands))
    rows = (
        (escape(one.name), escape(one.dtype), str(one.count), f"{one.macs / 1e6:.2f}")
        for one in sorted(census.operators, key=lambda one: -one.macs)
    )
    return (
        f"<details><summary><b>{escape(variant)}</b>: {census.integer_share:.0%} of {census.macs / 1e6:.1f} million "
        f"multiplications in integers; input {escape(census.input_type)}{scale}{step}</summary>"
        + (f"<p class=note>In float: {islands}</p>" if islands else "")
        + table(("operator", "types", "count", "million multiplications"), rows) + "</details>"
    )


def set_aside(result: ParityResult) -> str:
    """Photos that could not be read, and why."""
    return f"<ul>{items(reason for _, reason in result.set_aside)}</ul>" if result.set_aside else ""


def table(heads: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    """Heads are texts, cells are HTML."""
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    return f"<div class=wide><table><tr>{head}</tr>{''.join(_rows(rows))}</table></div>"


def _rows(rows: Iterable[Sequence[str]]) -> Iterator[str]:
    for row in rows:
        yield "<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>"


def items(sentences: Iterable[str]) -> str:
    """Sentences as the items of a list."""
    return "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)


def with_range(value: float, low: float, high: float) -> str:
    """A number with the ends of its interval."""
    return f"{100 * value:.1f} <small>[{100 * low:.1f}, {100 * high:.1f}]</small>"


def counted(n: int, what: str) -> str:
    """A number of things: 1 thread, 2 threads."""
    return f"{n} {what}" + ("" if n == 1 else "s")
