"""The verdict as a person reads it in a terminal: at most 100 columns."""

from __future__ import annotations

from collections.abc import Iterator
from unicodedata import east_asian_width

from pawlatch_convert.compare import SURE_MARGIN, Comparison, Flip
from pawlatch_convert.parity import ParityResult, VariantResult
from pawlatch_convert.speed import slower_sentence

COLUMNS = 100
MAX_FLIPS = 10  # listed; parity.json holds them all
_HEADS = ("variant", "rung", "MB", "int", "ms", "top-1", "Δ", "agree", "sure", "door", "verdict")
_LEFT = {0, 1, 10}
_RUNG = 1  # the column that gives way where there is no room
_GAP = "  "


def render_table(result: ParityResult) -> str:
    """The table, what its columns are, what is red and why, and the photos that are decided otherwise."""
    told = [*_outcome(result), *_remarks(result)]
    blocks = [[_heading(result)], _table(result), _legend(result), _reds(result), told, _flips(result)]
    return "\n\n".join("\n".join(line for text in block for line in _wrapped(text)) for block in blocks if block)


def flip_sentence(flip: Flip) -> str:
    """What changed: "roses 0.55 → tulips 0.48 (float margin 0.12; opens the door now)"."""
    changed = [f"float margin {flip.margin:.2f}"]
    if flip.moves_door:
        changed.append("opens the door now" if flip.unlocks == (False, True) else "no longer opens the door")
    if flip.strangers is not None and flip.strangers[0] != flip.strangers[1]:
        changed.append("a stranger now" if flip.strangers[1] else "no longer a stranger")
    return (
        f"{flip.reference_label} {flip.reference_score:.2f} → {flip.variant_label} {flip.variant_score:.2f} "
        f"({'; '.join(changed)})"
    )


def heaviest_flips(result: ParityResult) -> list[tuple[str, Flip]]:
    """Every flip with its variant: "opens here, shut there" first, then what else moves the door, then the surest."""
    flips = [(entry.variant, flip) for entry in result.variants if entry.comparison for flip in entry.comparison.flips]
    return sorted(flips, key=lambda pair: pair[1].weight)


# ------------------------------------------------------------------------------------------------------ the table


def _heading(result: ParityResult) -> str:
    low, high = result.top1_interval
    return (
        f"{result.model}: the SavedModel is right on {result.top1:.1%} of {result.n_heldout} held-out photos "
        f"[{low:.1%}, {high:.1%}]; {result.n_photos} compared"
    )


def _table(result: ParityResult) -> list[str]:
    rows = [_HEADS, *(_row(entry) for entry in result.variants)]
    used = [column for column in range(len(_HEADS)) if any(row[column] for row in rows[1:])]
    widths = {column: max(len(row[column]) for row in rows) for column in used}
    widths[_RUNG] -= max(0, sum(widths.values()) + len(_GAP) * (len(used) - 1) - COLUMNS)
    return [_GAP.join(_aligned(row[i], widths[i], left=i in _LEFT) for i in used).rstrip() for row in rows]


def _row(entry: VariantResult) -> tuple[str, ...]:
    about = (
        entry.variant, entry.rung,
        f"{entry.file.bytes / 1e6:.2f}" if entry.file else "",
        f"{entry.census.integer_share:.0%}" if entry.census else "",
        "/".join(_ms(p50) for p50, _ in entry.speed.latency_ms.values()) if entry.speed else "",
    )
    verdict = "green" if entry.is_green else "RED"
    return (*about, *(_numbers(entry.comparison) if entry.comparison else ("",) * 5), verdict)


def _numbers(comparison: Comparison) -> tuple[str, ...]:
    door = comparison.door
    return (
        f"{comparison.top1:.1%}", f"{100 * comparison.difference:+.1f}", f"{comparison.agreement:.1%}",
        "-" if comparison.sure_agreement is None else f"{comparison.sure_agreement:.1%}",
        "-" if door is None else f"+{door.opens_here} -{door.shut_here}",
    )


def _legend(result: ParityResult) -> list[str]:
    """What a column means that its head cannot say."""
    threads = next((entry.speed.latency_ms for entry in result.variants if entry.speed), {})
    measured = f"ms: median at {'/'.join(map(str, threads))} threads; " if threads else ""
    return [
        f"int: share of integer multiplications; {measured}Δ: top-1 less the SavedModel's, in points; agree: same label; sure: "
        f"agree where the float margin is over {SURE_MARGIN}; door: photos that open it (+) or leave it shut (-) where "
        "the SavedModel did otherwise."
    ]


def _ms(value: float) -> str:
    return f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def _aligned(cell: str, width: int, *, left: bool) -> str:
    shown = cell if len(cell) <= width else cell[: width - 1] + "…"
    return shown.ljust(width) if left else shown.rjust(width)


# ------------------------------------------------------------------------------------------------- what it means


def _reds(result: ParityResult) -> list[str]:
    return [f"RED {entry.variant}: {reason}." for entry in result.variants for reason in entry.reasons]


def _outcome(result: ParityResult) -> Iterator[str]:
    if result.deploy is None:
        yield "nothing is deployed: the bundle, if there was one, stays as it was."
        return
    file = next((entry.file for entry in result.variants if entry.variant == result.deploy), None)  # None: of an earlier run
    because = f": {result.deploy_reason}" if result.deploy_reason else ""
    yield f"deployed: {result.deploy}" + (f" ({file.name})" if file else "") + because


def _remarks(result: ParityResult) -> Iterator[str]:
    speeds = {entry.variant: entry.speed for entry in result.variants if entry.speed}
    if slower := slower_sentence(speeds):
        yield slower
    if result.set_aside:
        yield f"set aside, {len(result.set_aside)}: " + "; ".join(reason for _, reason in result.set_aside[:MAX_FLIPS])


def _flips(result: ParityResult) -> list[str]:
    flips = heaviest_flips(result)
    if not flips:
        return []
    shown = [f"  {variant}: {flip.photo}: {flip_sentence(flip)}" for variant, flip in flips[:MAX_FLIPS]]
    more = [f"  … and {len(flips) - MAX_FLIPS} more in parity.json"] if len(flips) > MAX_FLIPS else []
    return [f"decided otherwise ({len(flips)}), what moves the door first:", *shown, *more]


def _wrapped(text: str) -> list[str]:
    """A line as lines of at most 100 columns; those of a table have no room to be broken."""
    if _width(text) <= COLUMNS:
        return [text]
    lines: list[str] = []
    indent = " " * (len(text) - len(text.lstrip())) + "  "
    for word in text.split():
        if lines and _width(lines[-1]) + 1 + _width(word) <= COLUMNS:
            lines[-1] += f" {word}"
        else:
            lines.append(indent + word if lines else indent[2:] + word)
    return lines


def _width(text: str) -> int:
    """In columns of a terminal: Hangul and its neighbours take two."""
    return sum(2 if east_asian_width(letter) in "WF" else 1 for letter in text)
