"""The verdict as a person reads it."""

from __future__ import annotations

from collections.abc import Iterator

from pawlatch_convert.parity import Flip, ParityResult, VariantResult
from pawlatch_convert.recipes import REFERENCE

MAX_FLIPS = 10  # listed; parity.json holds them all
_COLUMNS = (
    "variant", "size", "integer", "p50/p95 ms", "top-1", "Δ [95 %]", "agree", "max/mean |Δ|", "flips", "verdict",
)


def render_table(result: ParityResult) -> str:
    """The table, what it means for the door, and what is red; some 100 columns wide, no line break at the end."""
    rows = [_COLUMNS, *(_row(entry) for entry in result.variants)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    lines = ["  ".join(_aligned(row[i], widths[i], left=i in {0, 9}) for i in range(len(row))).rstrip() for row in rows]
    return "\n".join([_heading(result), "", *lines, "", *_notes(result)]).rstrip()


def _heading(result: ParityResult) -> str:
    low, high = result.top1_interval
    return (
        f"{result.model}: the SavedModel is right on {result.top1:.1%} of {result.n_heldout} held-out photos "
        f"[{low:.1%}, {high:.1%}]; compared on {result.n_photos} photos"
    )


def _row(entry: VariantResult) -> tuple[str, ...]:
    size = "" if entry.file is None else f"{entry.file.bytes / 1e6:.2f} MB"
    share = "" if entry.integer_share is None else f"{entry.integer_share:.0%}"
    latency = "" if entry.latency_ms is None else "/".join(_ms(value) for value in entry.latency_ms)
    verdict = "green" if entry.is_green else "RED"
    if entry.comparison is None:
        return (entry.variant, size, share, latency, "", "", "", "", "", verdict)
    comparison = entry.comparison
    low, high = comparison.difference_interval
    return (
        entry.variant, size, share, latency, f"{comparison.top1:.1%}",
        f"{100 * comparison.difference:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]", f"{comparison.agreement:.1%}",
        f"{comparison.max_delta:.3f}/{comparison.mean_delta:.4f}", str(len(comparison.flips)), verdict,
    )


def _ms(value: float) -> str:
    return f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def _aligned(cell: str, width: int, *, left: bool) -> str:
    return cell.ljust(width) if left else cell.rjust(width)


def _notes(result: ParityResult) -> Iterator[str]:
    by_name = {entry.variant: entry for entry in result.variants}
    for entry in result.variants:
        yield from (f"RED {entry.variant}: {reason}." for reason in entry.reasons)
    if result.deploy is None:
        yield "nothing is deployed: the bundle, if there was one, stays as it was."
    else:
        deployed = by_name[result.deploy].file if result.deploy in by_name else None  # else it is of an earlier run
        yield f"deployed: {result.deploy}" + (f" ({deployed.name})" if deployed else "")
    fast, slow = by_name[REFERENCE].latency_ms, by_name["int8"].latency_ms if "int8" in by_name else None
    if fast and slow and slow[0] > fast[0]:
        yield (
            f"int8 is slower than float32 on this machine ({_ms(slow[0])} against {_ms(fast[0])} ms): "
            "a board's processor may rank them otherwise; measure there."
        )
    if result.set_aside:
        yield f"set aside, {len(result.set_aside)}: " + "; ".join(reason for _, reason in result.set_aside[:MAX_FLIPS])
    flips = [(entry.variant, flip) for entry in result.variants if entry.comparison for flip in entry.comparison.flips]
    if flips:
        yield ""
        yield f"photos decided otherwise ({len(flips)}), those that move the door first:"
        flips.sort(key=lambda pair: (not pair[1].moves_door, -pair[1].margin))
        yield from (_flip(variant, flip) for variant, flip in flips[:MAX_FLIPS])
        if len(flips) > MAX_FLIPS:
            yield f"  … and {len(flips) - MAX_FLIPS} more in parity.json"


def _flip(variant: str, flip: Flip) -> str:
    door = ""
    if flip.moves_door:
        door = "; opens the door now" if flip.unlocks == (False, True) else "; no longer opens the door"
    return (
        f"  {variant}: {flip.photo}: {flip.reference_label} {flip.reference_score:.2f} → {flip.variant_label} "
        f"{flip.variant_score:.2f} (float margin {flip.margin:.2f}{door})"
    )
