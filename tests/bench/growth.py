"""Does a door's memory grow? 100,000 frames through the real reader thread, gate, model, policy and door.

    python tests/bench/growth.py model/edge [--frames 100000] [--json]

Every frame shows something that moves, so every frame is classified and decided upon; visits end and begin (each 150 frames an empty place
follows for as long), and their verdicts unlock or not as the model likes. Resident memory is read a hundred times. What counts is how far the
median of the last tenth lies over that of the second tenth: the first fills caches and buffers of bounded size. Status 1 where that is more
than 2 MB.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import count, islice
from pathlib import Path
from statistics import median
from threading import Semaphore

from pawlatch.camera import Frame
from pawlatch.classify import Classifier
from pawlatch.commands.bench import moving_frames
from pawlatch.decide import policy_from_card
from pawlatch.door import Door
from pawlatch.latch import RecordingLatch
from pawlatch.loop import Watch
from pawlatch.reader import PacedCamera

LIMIT_MB = 2.0
READINGS = 100
VISIT = 150  # frames with, and frames without
FPS = 15.0


class FrameClock:
    """The time of the newest frame that was handed out."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    readings = resident_mb(Classifier(args.bundle, threads=1), args.frames)
    grown = growth_mb(readings)
    if args.json:
        print(json.dumps({"frames": args.frames, "resident_mb": readings, "growth_mb": grown}))
    else:
        print(f"{args.frames} frames: {readings[0]:.1f} MB at first, {readings[-1]:.1f} MB at last, {grown:+.2f} MB after the first tenth")
    return 1 if grown > LIMIT_MB else 0


def resident_mb(classifier: Classifier, frames: int, *, on_frame: Callable[[Frame], object] = lambda frame: None) -> list[float]:
    """Resident memory at READINGS moments on the way, in 10⁶ bytes; `on_frame` is called with each frame."""
    clock, every = FrameClock(), max(1, frames // READINGS)
    policy = policy_from_card(classifier.card, classifier.variant)
    readings = []
    wanted = Semaphore()
    with Door(RecordingLatch(clock=clock), clock=clock) as door, PacedCamera(visits(wanted), name="growth", fps=FPS) as camera:
        watch = Watch(classifier, policy, door, clock=clock, on_visit=lambda visit: None)
        for done, step in enumerate(islice(watch.steps(timed(camera.frames(), clock, wanted)), frames), start=1):
            on_frame(step.frame)
            if done % every == 0:
                readings.append(resident())
                if sys.stderr.isatty():
                    print(f"\r{done} frames, {readings[-1]:.1f} MB", end="", file=sys.stderr)
    return readings


def visits(wanted: Semaphore) -> Iterator[Frame]:
    """Each when it is wanted: all are due at once, and a reader that never waits would keep Python to itself."""
    moving = moving_frames((480, 640))
    empty = next(moving)
    for index in count():
        wanted.acquire()
        yield Frame(0.0, empty if index % (2 * VISIT) >= VISIT else next(moving), index)


def timed(frames: Iterable[Frame], clock: FrameClock, wanted: Semaphore) -> Iterator[Frame]:
    """The frames at FPS of the clock, whatever the reader made of their times."""
    try:
        for index, frame in enumerate(frames):
            clock.now_s = index / FPS
            yield Frame(clock.now_s, frame.image_bgr, frame.index)
            wanted.release()
    finally:
        wanted.release()  # so that the reader, which waits for it, ends


def growth_mb(readings: list[float]) -> float:
    """How far the last tenth lies over the second."""
    tenth = max(1, len(readings) // 10)
    return median(readings[-tenth:]) - median(readings[tenth : 2 * tenth])


def resident() -> float:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6


if __name__ == "__main__":
    sys.exit(main())
