"""What the model sees, without a window: python overlay_window_free.py model/edge 0 out/

Writes out/seen.webm, every frame with the verdict drawn in, and a JPEG of each frame at which the door would open; says in
the terminal who came. It works over SSH. Ctrl-C ends it, and the clip is whole.
"""

import argparse
from pathlib import Path

import cv2

from pawlatch import Classifier, ClipWriter, Door, RecordingLatch, Watch, open_camera, overlay, policy_from_card
from pawlatch.loop import signals

parser = argparse.ArgumentParser(description="What the model sees, without a window.")
parser.add_argument("bundle", help="the folder model/edge")
parser.add_argument("camera", help="0, rtsp://…, clip.mp4, scene:demo")
parser.add_argument("output", type=Path, help="where the clip and the pictures go")
args = parser.parse_args()

args.output.mkdir(parents=True, exist_ok=True)
model = Classifier(args.bundle)
policy = policy_from_card(model.card, model.variant)
with (
    open_camera(args.camera) as camera, Door(RecordingLatch()) as door,
    ClipWriter(args.output / "seen.webm", fps=camera.fps) as clip,
):
    watch = Watch(model, policy, door, camera=camera,
                  on_visit=lambda visit: print(f"{visit.label} {visit.score:.2f}: {visit.reason}", flush=True))
    with signals(stop=(watch.stop, camera.stop), lock=(watch.lock,)):
        for step in watch.steps(camera.frames(idle=watch.tick)):
            picture = overlay.draw(step, policy=policy)
            clip.write(picture, step.frame.time_s)
            if step.opened:
                cv2.imwrite(str(args.output / f"opened-{step.frame.index:06d}.jpg"), picture)
