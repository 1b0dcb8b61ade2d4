"""A door in a loop of your own: python own_loop.py model/edge 0

The latch only records; `open_latch("gpio:17")` and `DoorOptions(mode="armed")` move a bolt. `pawlatch run` does more: it
keeps a journal of each unlock, takes new models, and talks to systemd.
"""

import sys

from pawlatch import Classifier, Door, RecordingLatch, Watch, open_camera, policy_from_card

model = Classifier(sys.argv[1])
policy = policy_from_card(model.card, model.variant)
with open_camera(sys.argv[2]) as camera, Door(RecordingLatch()) as door:
    watch = Watch(model, policy, door, camera=camera)
    for step in watch.steps(camera.frames(idle=watch.tick)):  # idle: the door locks in time, also while no frame comes
        if step.opened:
            print(f"come in, {step.verdict.label}: {step.verdict.reason}", flush=True)
print(f"the latch: {door.driven}")
