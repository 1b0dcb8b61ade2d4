"""What the gate's box gains: frames of drawn porches with small animals, classified whole and by the box around what moves.

    python tests/bench/box.py work/ [--hw 480x640] [--weights starter] [--seeds 3]

Draws clips, makes photos of them with `pawlatch frames` (boxes) and `pawlatch frames --whole` into the same folders, trains and
converts one model on both, then counts, for animals of 5 to 30 % of the picture's height and by day, dusk and night: the own
animal's frames that are accepted (recall), and strangers' frames that are (false accepts). A frame that the gate refuses is not
accepted. Frames in which the animal is only coming in or going out are left out. work/ is kept: a second run measures only.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import cv2
import numpy as np

from pawlatch import cli
from pawlatch.camera import Frame
from pawlatch.classify import Classifier
from pawlatch.gate import Gate
from pawlatch.scene import CAT, EMPTY, LIGHTS, OTHER, OWN, Scene

FOLDERS = {OWN: "biscuit", OTHER: "_other", CAT: "_other", EMPTY: "_empty"}
SIZES = (0.05, 0.1, 0.15, 0.2, 0.3)
TRAIN_SIZES = (0.07, 0.12, 0.18, 0.25, 0.4)
INSIDE_S = 0.8  # of a visit, at either end, in which the animal is at the picture's edge


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--hw", default="480x640")
    parser.add_argument("--weights", default="starter")
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    photos, model = args.work / "photos", args.work / "model"
    if not (model / "edge" / "pawlatch.json").exists():
        if not photos.exists():
            make_photos(photos, args.hw)
        run("train", str(photos), "-o", str(model), "--unlock", "biscuit", "--weights", args.weights, "--overwrite")
        run("convert", str(model))
    classifier = Classifier(model)
    print(f"| height | frames | recall, box | recall, whole | strangers' frames | false, box | false, whole | refused by the gate |\n"
          f"| --- | --- | --- | --- | --- | --- | --- | --- |   {args.hw}, {classifier.variant}")
    for size in SIZES:
        counts, refusals = Counter(), Counter()
        for light in LIGHTS:
            for seed in range(args.seeds):
                judge(classifier, f"empty,own,empty,other,empty,cat?light={light}&size={size}&hw={args.hw}&fps=5&seed={1000 + seed}",
                      counts, refusals)
        own, other = counts[OWN], counts[OTHER]
        print(f"| {size:.0%} | {own} | {counts[OWN, 'box'] / own:.0%} | {counts[OWN, 'whole'] / own:.0%} | {other} "
              f"| {counts[OTHER, 'box'] / other:.1%} | {counts[OTHER, 'whole'] / other:.1%} | {dict(refusals)} |", flush=True)


def make_photos(photos: Path, hw: str) -> None:
    for who, folder in FOLDERS.items():
        for k, (size, light) in enumerate((size, light) for size in TRAIN_SIZES for light in LIGHTS):
            script = "empty,empty" if who == EMPTY else f"empty,{who},empty,{who}"
            clip = f"scene:{script}?light={light}&size={size}&hw={hw}&fps=4&seed={k}"
            for whole in ([], ["--whole"]):
                cell = photos / folder / f"{who}-{k}{'-'.join(whole)}"  # both ways name their photos alike
                run("frames", clip, "-o", str(cell / folder), "--count", "8", *whole)
                for picture in (cell / folder).iterdir():
                    picture.rename(photos / folder / f"{cell.name}-{picture.name}")
                (cell / folder).rmdir()
                cell.rmdir()


def judge(classifier: Classifier, spec: str, counts: Counter, refusals: Counter) -> None:
    scene, gate = Scene.parse(spec), Gate()
    threshold = classifier.card.threshold(classifier.variant)
    for index, (time_s, image) in enumerate(scene.frames()):
        seen = gate(Frame(time_s, image, index))
        who = next((visit.who for visit in scene.visits if visit.start_s + INSIDE_S <= time_s < visit.end_s - INSIDE_S), None)
        if who is None:
            continue
        who = OTHER if who == CAT else who
        counts[who] += 1
        rgb = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
        counts[who, "whole"] += accepts(classifier, rgb, None, threshold)
        if seen.worth:
            counts[who, "box"] += accepts(classifier, rgb, seen.box_yxyx, threshold)
        else:
            refusals[seen.refusal.value] += 1


def accepts(classifier: Classifier, rgb, box, threshold: float) -> bool:
    seen = classifier(rgb, box_yxyx=box)
    return seen.label == "biscuit" and not seen.is_stranger and seen.score_of(("biscuit",)) >= threshold


def run(*arguments: str) -> None:
    if cli.main(list(arguments)) != 0:
        raise SystemExit(f"pawlatch {' '.join(arguments)} failed")


if __name__ == "__main__":
    main()
