"""Whether `pawlatch train` holds 5,000 photos in less than 2 GB, and how long it takes.

    python tests/bench/photos_5000.py [--photos 200] [-- FLAGS OF TRAIN]

The photos are drawn: scenes of three labels, each varied by window, flip and light, since 5,000 drawings would take longer than the
training. JPEG, 640×480, as from a camera. Exit status 1 where memory goes over the limit.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from tutorial_loop import run_measured, split_flags

SIZE_HW = (480, 640)
SCENE_HW = (720, 960)  # larger than a photo, so that windows of it are as sharp as one


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, default=5000)
    parser.add_argument("--scenes", type=int, default=99, help="drawn scenes that the photos are cut from")
    parser.add_argument("--limit-mb", type=float, default=2000)
    parser.add_argument("--draw", type=Path, help=argparse.SUPPRESS)
    args, flags = split_flags(parser)
    if args.draw:
        draw_photos(args.draw, args.photos, args.scenes)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        photos = Path(folder) / "photos"  # drawn by another process: what this one holds would count for its children
        subprocess.run([sys.executable, __file__, "--draw", photos, "--photos", str(args.photos), "--scenes", str(args.scenes)],
                       check=True)
        megabytes = sum(path.stat().st_size for path in photos.rglob("*.jpg")) / 1e6
        print(f"{args.photos} photos of {args.scenes} scenes, {megabytes:.0f} MB; {os.cpu_count()} cores", flush=True)
        command = [Path(sysconfig.get_path("scripts")) / "pawlatch", "train", photos, "-o", Path(folder) / "model", *flags]
        spent = run_measured(command, stdout=sys.stderr)
    verdict = "green" if spent.peak_mb < args.limit_mb else "RED"
    print(f"peak memory {spent.peak_mb:.0f} MB of {args.limit_mb:.0f}: {verdict}; {spent.wall_s:.0f} s, processor {spent.cpu_s:.0f} s")
    return int(verdict == "RED")


def draw_photos(folder, count, scenes):
    """`count` JPEG files under own/, _other/ and _empty/."""
    import cv2
    import numpy as np

    from pawlatch import scene

    rng = np.random.default_rng(0)
    whos = {"own": scene.OWN, "_other": scene.OTHER, "_empty": scene.EMPTY}
    drawn = [(label, scene.draw(rng, whos[label], light=scene.LIGHTS[k // 3 % 3], size_hw=SCENE_HW))
             for k, label in zip(range(scenes), [*whos] * scenes, strict=False)]
    for label in whos:
        (folder / label).mkdir(parents=True)
    for k in range(count):
        label, picture = drawn[k % scenes]
        image = vary(picture, rng)
        (folder / label / f"{k:05d}.jpg").write_bytes(cv2.imencode(".jpg", image[..., ::-1])[1].tobytes())


def vary(picture, rng):
    """A window of the scene, perhaps mirrored, in another light, with its own grain: SIZE_HW, uint8."""
    import cv2
    import numpy as np

    share = rng.uniform(0.55, 1.0)
    height, width = (int(share * side) for side in SCENE_HW)
    top, left = (int(rng.integers(0, side - part + 1)) for side, part in zip(SCENE_HW, (height, width), strict=True))
    window = picture[top : top + height, left : left + width, :][:, :: rng.choice([-1, 1])]
    window = cv2.resize(window, SIZE_HW[::-1], interpolation=cv2.INTER_LINEAR).astype(np.float32)
    light = 255 * (window / 255) ** rng.uniform(0.7, 1.4) * rng.uniform(0.8, 1.2) * rng.uniform(0.9, 1.1, 3)
    return np.clip(light + rng.normal(0, 4, (*SIZE_HW, 1)), 0, 255).astype(np.uint8)


if __name__ == "__main__":
    sys.exit(main())
