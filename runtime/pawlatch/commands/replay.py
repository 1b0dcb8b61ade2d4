"""`pawlatch replay`: what the door would have done with recorded clips, or with the visits in its journal."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pawlatch.camera import clip_name, open_clip
from pawlatch.classify import Classifier
from pawlatch.commands.arguments import whole
from pawlatch.commands.visits import headline, visit_line, visit_row
from pawlatch.decide import POLICIES, DecisionOptions, Policy, policy_from_card
from pawlatch.errors import OutputError
from pawlatch.loop import Step
from pawlatch.replay import ClipReplay, classify_clip, replay_clip, unlocks
from pawlatch.truth import PolicyCount, TruthError, VisitOutcome, assign, count, elsewhen, outcomes, read_truth, table

VIDEOS = (".mp4", ".webm", ".mkv", ".avi", ".mov", ".mjpeg", ".mjpg")


def replay(argv: list[str]) -> int:
    """Clips, clips against the truth, or the journal. Status 1: the policy opened for a stranger, or for nobody."""
    args = _arguments(argv)
    if args.journal is not None:
        return _replay_journal(args)
    classifier = Classifier(args.bundle, variant=args.variant, threads=args.threads)
    options, gate = _settings(args)
    return _replay_truth(args, classifier, options, gate) if args.truth else _replay_clips(args, classifier, options, gate)


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="pawlatch replay", description="What the door would have done: every frame, in clip time; nothing moves.",
        usage="%(prog)s BUNDLE CLIP... [--truth truth.csv] [options]\n"
              "       %(prog)s [BUNDLE] --journal DIR [EVENT...] [options]",
    )
    parser.add_argument("what", nargs="*", metavar="BUNDLE CLIP|EVENT",
                        help="the folder model/edge (or model/), then clips, folders of clips or of pictures, or scene:demo; "
                        "with --journal, numbers of events (default: all)")
    parser.add_argument("--policy", choices=POLICIES, help="what decides (default evidence; with --journal, what did)")
    parser.add_argument("--truth", type=Path, metavar="truth.csv",
                        help="who really came, as clip,start_s,end_s,label: counts what each policy did; status 1 "
                        "where the chosen one opened for a stranger")
    parser.add_argument("--journal", nargs="?", const="", metavar="DIR",
                        help="judge the visits in a journal (this machine's where no DIR is named) again: by --policy on "
                        "every frame, by another BUNDLE on the up to 12 that were kept")
    parser.add_argument("--config", type=Path, metavar="door.toml", help="its [decision] and [gate] instead of the defaults")
    parser.add_argument("--variant", help="instead of the one the card deploys")
    parser.add_argument("--threads", type=whole, default=2, help="for inference (default 2)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--annotate", type=Path, metavar="DIR", help="also write DIR/<clip>.webm, verdicts drawn in")
    args = parser.parse_intermixed_args(argv)
    if args.journal is not None and args.journal.isdecimal():  # `--journal 12`: its first event
        args.what, args.journal = [args.journal, *args.what], ""
    args.events = [int(word) for word in args.what if word.isdecimal()] if args.journal is not None else []
    rest = [word for word in args.what if not (args.journal is not None and word.isdecimal())]
    args.bundle, args.clips = (Path(rest[0]) if rest else None), _expanded(rest[1:])
    if args.journal is None and (args.bundle is None or not (args.clips or args.truth)):
        parser.error("name a bundle, as model/edge, and clips; or --journal DIR")
    if args.journal is not None and (args.clips or args.truth or args.annotate):
        parser.error("--journal takes a bundle and numbers of events, no clips")
    return args


def _settings(args: argparse.Namespace) -> tuple[DecisionOptions, Any]:
    """The decision's and the gate's options."""
    if args.config is None:
        return DecisionOptions(policy=args.policy or "evidence"), None
    from pawlatch.config import read_config

    config = read_config(args.config)
    return replace(config.decision, policy=args.policy or config.decision.policy), config.gate


def _expanded(clips: Sequence[str]) -> list[str]:
    """Folders of clips as their clips; a folder of pictures is a clip itself."""
    found: list[str] = []
    for clip in clips:
        inside = sorted(Path(clip).iterdir()) if Path(clip).is_dir() else []
        found += [str(path) for path in inside if path.suffix.lower() in VIDEOS] or [clip]
    return found


# ------------------------------------------------------------------------------------------------------------ clips


def _replay_clips(args: argparse.Namespace, classifier: Classifier, options: DecisionOptions, gate: Any) -> int:
    policy = policy_from_card(classifier.card, classifier.variant, options)
    annotated = _annotated_paths(args.clips, args.annotate)
    if not args.json:
        _say(headline(classifier, policy))
    replays = []
    for clip in args.clips:
        with _annotated(annotated.get(clip), clip, policy) as record:
            replays.append(replay_clip(classifier, clip, policy=policy, gate=gate, on_step=record))
        if not args.json:
            _print_replay(replays[-1])
    if args.json:
        clips = [{"clip": it.clip, "visits": [visit_row(visit) for visit in it.visits]} for it in replays]
        _say(json.dumps({"variant": classifier.variant, "policy": policy.name, "clips": clips}, ensure_ascii=False))
    return 0


@contextmanager
def _annotated(path: Path | None, clip: str, policy: Policy) -> Iterator[Callable[[Step], object]]:
    """Yield what draws a step into the clip `path`, or nothing where there is none."""
    if path is None:
        yield lambda step: None
        return
    from pawlatch.overlay import ClipWriter, draw

    with ClipWriter(path, fps=open_clip(clip).fps) as writer:
        yield lambda step: writer.write(draw(step, policy=policy), step.frame.time_s)


def _annotated_paths(clips: list[str], folder: Path | None) -> dict[str, Path]:
    if folder is None:
        return {}
    paths = {clip: folder / f"{clip_name(clip)}.webm" for clip in clips}
    if len(set(paths.values())) < len(paths):
        raise OutputError(f"clips to annotate need different names, got {', '.join(paths)}; annotate them one by one")
    if overwritten := [clip for clip, path in paths.items() if path.resolve() == Path(clip).resolve()]:
        raise OutputError(f"--annotate would overwrite {', '.join(overwritten)}; name another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {folder}: {error.strerror}; name another with --annotate") from error
    return paths


def _print_replay(replayed: ClipReplay) -> None:
    _say(replayed.clip)
    for visit in replayed.visits:
        _say(visit_line(visit))
    if not replayed.visits:
        _say("  no visit")


# ------------------------------------------------------------------------------------------------------------ truth


def _replay_truth(args: argparse.Namespace, classifier: Classifier, options: DecisionOptions, gate: Any) -> int:
    """Classify each clip once, and let every policy judge the same predictions."""
    visits = read_truth(args.truth)
    clips = args.clips or _named_in(args.truth, [visit.clip for visit in visits])
    by_clip = assign(visits, clips)
    chosen = options.policy
    names = (chosen, *(name for name in POLICIES if name != chosen))
    policies = {name: policy_from_card(classifier.card, classifier.variant,
                                       options if name == chosen else _for(replace(options, policy="evidence"), name))
                for name in names}
    told: dict[str, list[VisitOutcome]] = {name: [] for name in names}
    nobody = dict.fromkeys(names, 0)
    for clip in clips:
        if sys.stderr.isatty():
            print(f"\r{clip[-100:]:<100}", end="", file=sys.stderr, flush=True)
        take = classify_clip(classifier, clip, gate=gate)
        for name, policy in policies.items():
            said_s = unlocks(policy, take.observations)
            told[name] += outcomes(by_clip[clip], said_s, unlock=classifier.card.unlock)
            nobody[name] += elsewhen(by_clip[clip], said_s)
    counts = [count(name, told[name], nobody=nobody[name]) for name in names]
    if args.json:
        _say(json.dumps({"variant": classifier.variant, "policy": chosen, "counts": [row.to_json() for row in counts],
                         "visits": _visit_rows(told)}, ensure_ascii=False))
    else:
        _print_truth(headline(classifier, policies[chosen]), told, counts)
    return 1 if counts[0].false_unlocks or counts[0].elsewhen else 0


def _for(options: DecisionOptions, name: Any) -> DecisionOptions:
    """The same options for another policy; what only the chosen one was set to falls back to its own default."""
    return replace(options, policy=name, min_frames=None, window_s=None)


def _named_in(truth: Path, clips: Sequence[str]) -> list[str]:
    """The clips that the truth names, beside it; scenes as they are."""
    named = [clip if clip.startswith("scene:") else str(truth.parent / clip) for clip in dict.fromkeys(clips)]
    if not named:
        raise TruthError(f"{truth} names no visit; name clips after the bundle, or add lines")
    return named


def _visit_rows(told: dict[str, list[VisitOutcome]]) -> list[dict[str, Any]]:
    return [
        {**asdict(rows[0].visit), "may_pass": rows[0].may_pass,
         "unlock_s": {name: row.unlock_s for name, row in zip(told, rows, strict=True)}}
        for rows in zip(*told.values(), strict=True)
    ]


def _print_truth(title: str, told: dict[str, list[VisitOutcome]], counts: Sequence[PolicyCount]) -> None:
    _say(title)
    _say(f"{'from':>7}  {'who':<12}{''.join(f'{name:>12}' for name in told)}  clip")
    for rows in zip(*told.values(), strict=True):
        visit = rows[0].visit
        cells = "".join(f"{_outcome(row):>12}" for row in rows)
        _say(f"{visit.start_s:7.1f}  {visit.label:<12}{cells}  {visit.clip[:60]}")
    _say("")
    for line in table(counts):
        _say(line)
    _say("at most: exact 95 % upper bound of the share; times in seconds of the clip from when the animal came; each policy at "
         "this model's own thresholds")


def _outcome(row: VisitOutcome) -> str:
    if row.unlock_s is None:
        return "LOCKED OUT" if row.may_pass else "shut"
    return f"{row.unlock_s:.2f} s" if row.may_pass else "LET IN"


# ---------------------------------------------------------------------------------------------------------- journal


def _replay_journal(args: argparse.Namespace) -> int:
    """Judge recorded visits by another policy and by another model."""
    from pawlatch.journal import default_folder
    from pawlatch.records import JournalReader
    from pawlatch.rejudge import judge_again

    classifier = None if args.bundle is None else Classifier(args.bundle, variant=args.variant, threads=args.threads)
    options, _ = _settings(args)
    rows = []
    with JournalReader(Path(args.journal) if args.journal else default_folder()) as journal:
        for event in journal.events(ids=args.events):
            again = judge_again(journal.visit(event.id), args.policy, classifier, options)
            rows.append(again.to_json())
            if not args.json:
                _say("\n   ".join(again.lines()))
    if args.json:
        _say(json.dumps({"visits": rows}, ensure_ascii=False))
    elif not rows:
        _say("the journal holds no such visit")
    return 0


def _say(line: str) -> None:
    print(line, flush=True)
