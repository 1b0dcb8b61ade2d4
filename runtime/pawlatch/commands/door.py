"""`pawlatch run`, the door itself, and `pawlatch replay`, what it would have done."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from pawlatch.camera import clip_name, open_camera, open_clip
from pawlatch.classify import Classifier
from pawlatch.commands.arguments import positive, whole
from pawlatch.decide import Consensus
from pawlatch.door import Door
from pawlatch.errors import OutputError
from pawlatch.latch import open_latch
from pawlatch.loop import Step, Watch, signals
from pawlatch.overlay import ClipWriter, clock_text, draw
from pawlatch.replay import ClipClock, ClipReplay, replay_clip
from pawlatch.visit import Visit


def run(argv: list[str]) -> int:
    """Watch a camera and work the latch until the source ends, or SIGTERM or SIGINT comes."""
    parser = _parser("run", "Watch a camera and open the door for the animals that may pass.")
    parser.add_argument("--camera", default="0", metavar="URI",
                        help="0 (default), /dev/video0, rtsp://…, http://…, clip.mp4, a folder of pictures, scene:demo")
    parser.add_argument("--latch", default="log", metavar="URI", help="log (default): moves nothing, tells what would")
    parser.add_argument("--fast", action="store_true", help="do not wait for a clip's own time; each frame in turn")
    parser.add_argument("--unlock-s", type=positive, default=5.0, metavar="S",
                        help="how long the door stays open; up to three times that while the animal stays (default 5)")
    parser.add_argument("--record", type=Path, metavar="CLIP.webm", help="keep what was seen, verdicts drawn in")
    args = parser.parse_args(argv)
    clock = ClipClock() if args.fast else _stopwatch()
    with (
        closing(open_latch(args.latch, clock=clock)) as latch,
        Door(latch, clock=clock, unlock_s=args.unlock_s) as door,
    ):
        classifier = Classifier(args.bundle, variant=args.variant, threads=args.threads)
        policy = Consensus.from_card(classifier.card, classifier.variant)
        with (
            open_camera(args.camera, paced=not args.fast, clock=clock) as camera,
            _annotated(args.record, fps=camera.fps, policy=policy) as record,
        ):
            watch = Watch(classifier, policy, door, clock=clock, on_visit=_print_visit)
            frames = camera.frames(idle=watch.tick)
            _say(_headline(classifier, policy))
            with signals(stop=(watch.stop, camera.stop), lock=(watch.lock,)):
                for step in watch.steps(clock.follow(frames) if isinstance(clock, ClipClock) else frames):
                    if step.opened and step.verdict is not None:
                        _say(f"{clock_text(clock()):>9}  unlocked for {step.verdict.label} {step.verdict.score:.2f}: "
                             f"{step.verdict.reason}")
                    record(step)
    _say(f"latch: {latch}")
    return 0


def replay(argv: list[str]) -> int:
    """Run clips through a door that moves nothing, and list their visits."""
    parser = _parser("replay", "What the door would have done with recorded clips: every frame, in clip time.")
    parser.add_argument("clips", nargs="+", metavar="clip.mp4", help="clips, folders of pictures, or scene:demo")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--annotate", type=Path, metavar="DIR", help="also write DIR/<clip>.webm, verdicts drawn in")
    args = parser.parse_args(argv)
    classifier = Classifier(args.bundle, variant=args.variant, threads=args.threads)
    policy = Consensus.from_card(classifier.card, classifier.variant)
    annotated = _annotated_paths(args.clips, args.annotate)
    if not args.json:
        _say(_headline(classifier, policy))
    replays = []
    for clip in args.clips:
        with _annotated(annotated.get(clip), fps=open_clip(clip).fps, policy=policy) as record:
            replays.append(replay_clip(classifier, clip, policy=policy, on_step=record))
        if not args.json:
            _print_replay(replays[-1])
    if args.json:
        clips = [{"clip": it.clip, "visits": [_visit_row(visit) for visit in it.visits]} for it in replays]
        _say(json.dumps({"variant": classifier.variant, "clips": clips}, ensure_ascii=False))
    return 0


def _parser(name: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"pawlatch {name}", description=description)
    parser.add_argument("bundle", type=Path, help="the folder model/edge (or model/)")
    parser.add_argument("--variant", help="instead of the one the card deploys")
    parser.add_argument("--threads", type=whole, default=2, help="for inference (default 2)")
    return parser


def _stopwatch() -> Callable[[], float]:
    """Monotonic seconds since now."""
    began_s = time.monotonic()
    return lambda: time.monotonic() - began_s


@contextmanager
def _annotated(path: Path | None, *, fps: float, policy: Consensus) -> Iterator[Callable[[Step], object]]:
    """Yield what draws a step into the clip `path`, or nothing where there is none."""
    if path is None:
        yield lambda step: None
        return
    with ClipWriter(path, fps=fps) as clip:
        yield lambda step: clip.write(draw(step, policy=policy), step.frame.time_s)


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


def _headline(classifier: Classifier, policy: Consensus) -> str:
    who = f"opens for {' or '.join(policy.unlock)} at {policy.threshold:.2f} or more" if policy.unlock else (
        "names no unlock label, so the door stays shut")
    return f"{classifier.card.name}, {classifier.variant}: {who}"


def _print_visit(visit: Visit) -> None:
    _say(_visit_line(visit))


def _print_replay(replayed: ClipReplay) -> None:
    _say(replayed.clip)
    for visit in replayed.visits:
        _print_visit(visit)
    if not replayed.visits:
        _say("  no visit")


def _visit_line(visit: Visit) -> str:
    times = f"{clock_text(visit.start_s)} to {clock_text(visit.end_s)}"
    did = "stayed shut" if visit.time_to_unlock_s is None else f"opened after {visit.time_to_unlock_s:.1f} s"
    return f"{times:>19}  {visit.label} {visit.score:.2f}  {did}: {visit.reason}"


def _visit_row(visit: Visit) -> dict[str, Any]:
    waited_s = visit.time_to_unlock_s
    return {
        "start_s": round(visit.start_s, 3),
        "end_s": round(visit.end_s, 3),
        "label": visit.label,
        "score": round(visit.score, 6),
        "unlocked": visit.unlocked,
        "time_to_unlock_s": None if waited_s is None else round(waited_s, 3),
        "reason": visit.reason,
    }


def _say(line: str) -> None:
    print(line, flush=True)  # a door's log is read while it runs
