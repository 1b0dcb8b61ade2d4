"""What an empty porch costs: gate and loop at 15 frames a second, decoding excluded, as a share of one core.

    python tests/bench/idle.py tests/fixtures/tiny [--hw 480x640]

The frames of a drawn porch by day are kept in memory and shown again and again, then the same with an animal in front of it,
for the gate alone. CPU time of this thread, the least of five runs, so that what else this machine does counts little.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import cv2

from pawlatch.camera import Frame
from pawlatch.classify import Classifier
from pawlatch.decide import policy_from_card
from pawlatch.door import Door
from pawlatch.gate import Gate
from pawlatch.latch import RecordingLatch
from pawlatch.loop import Watch
from pawlatch.replay import ClipClock
from pawlatch.scene import Scene

FPS = 15
AIM = 0.05


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--hw", default="480x640")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    images = [image for _, image in Scene.parse(f"empty?fps={FPS}&hw={args.hw}").frames()]
    frames = [Frame(index / FPS, images[index % len(images)], index) for index in range(300)]
    gate_s = min(spent_s(frames) for _ in range(5))
    loop_s = min(spent_s(frames, args.bundle) for _ in range(5))
    print(f"empty porch, {args.hw}: gate {1e6 * gate_s:.0f} µs, gate and loop {1e6 * loop_s:.0f} µs a frame, "
          f"{loop_s * FPS:.2%} of one core at {FPS} fps (aim: under {AIM:.0%})")
    busy = [Frame(time_s, image, index) for index, (time_s, image) in
            enumerate(Scene.parse(f"empty,own?fps={FPS}&hw={args.hw}").frames())]
    print(f"an animal in it: gate {1e6 * min(spent_s(busy, skip=60) for _ in range(5)):.0f} µs a frame")
    return 0 if loop_s * FPS < AIM else 1


def spent_s(frames: list[Frame], bundle: Path | None = None, *, skip: int = 30) -> float:
    """CPU seconds a frame, after the first `skip`."""
    if bundle is None:
        gate = Gate()
        turns = (gate(frame) for frame in frames)
    else:
        clock, classifier = ClipClock(), Classifier(bundle)
        policy = policy_from_card(classifier.card, classifier.variant)
        watch = Watch(classifier, policy, Door(RecordingLatch(clock=clock), clock=clock), clock=clock, on_visit=print)
        turns = watch.steps(clock.follow(iter(frames)))
    began_s = 0.0
    for index, _ in enumerate(turns):
        if index == skip:
            began_s = time.thread_time()
    return (time.thread_time() - began_s) / (len(frames) - skip - 1)


if __name__ == "__main__":
    raise SystemExit(main())
