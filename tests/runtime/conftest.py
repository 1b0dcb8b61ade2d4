"""A clock to turn by hand, predictions by hand, and small clips of coloured squares."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.published import publish

from pawlatch import scene
from pawlatch.camera import Frame
from pawlatch.classify import Classifier, Prediction
from pawlatch.decide import Observation, Verdict, policy_from_card, policy_to_json
from pawlatch.gate import GateResult, Refusal
from pawlatch.image import fit
from pawlatch.journal import Journal, JournalOptions, Setting
from pawlatch.replay import replay_clip
from pawlatch.scene.animal import Animal, Pose, any_animal
from pawlatch.scene.porch import HOME, LIGHTS, Porch
from pawlatch.visit import Visit, Visits

from .broker import Broker, Ear

FPS = 10
COLOURS_BGR = {"own": (40, 40, 200), "other": (200, 40, 40)}


class Clock:
    """Shows the time it was set to."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def seen() -> Callable[..., Observation]:
    """`seen(time_s, own=…, other=…)`: an observation; what is left of 1 is the empty place's."""

    def observe(time_s: float, *, own: float = 0.0, other: float = 0.0) -> Observation:
        scores = np.array([own, other, 1 - own - other], np.float32)
        return Observation(time_s, Prediction(("own", "other", "_empty"), scores, np.zeros(4, np.float32)))

    return observe


def porch(who: str | None, step: int) -> np.ndarray:
    """A 160×120 porch, BGR, with who's square at its step of the way."""
    image = np.full((120, 160, 3), 120, np.uint8)
    image[:, ::20] = 90
    if who is not None:
        left = 10 + 4 * (step % 20)
        image[40:100, left : left + 50] = COLOURS_BGR[who]
    return image


@pytest.fixture
def draw_clip(tmp_path: Path) -> Callable[..., Path]:
    """`draw_clip("own", [(1, None), (2, "own")])`: a clip of one second without and two with a square."""

    def draw(name: str, script: list[tuple[float, str | None]]) -> Path:
        path = tmp_path / f"{name}.mp4"
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), FPS, (160, 120))
        for seconds, who in script:
            for step in range(round(seconds * FPS)):
                writer.write(porch(who, step))
        writer.release()
        return path

    return draw


@pytest.fixture
def stay(seen: Callable[..., Observation]) -> Callable[..., Visit]:
    """`stay(10.0, own=0.9, frames=20, unlock_at=4)`: a visit with pictures, at ten frames a second from 10.0 on.

    `before(visit, now_s, verdict)` is called before the frame that unlocks is taken in, as a door's journal is.
    """

    def come(start_s: float, *, own: float = 0.0, other: float = 0.0, frames: int = 12, unlock_at: int | None = None,
             before: Callable[[Visit | None, float, Verdict], object] | None = None) -> Visit:
        visits = Visits()
        for step in range(frames):
            now_s = start_s + step / FPS
            image = porch("own" if own >= other else "other", step)
            verdict = Verdict(step == unlock_at, "own" if own >= other else "other", max(own, other), f"after {step} frames")
            if verdict.unlock and before is not None:
                before(visits.current, now_s, verdict)
            box = (30, 10 + 4 * (step % 20), 100, 80 + 4 * (step % 20))
            visits.add(seen(now_s, own=own, other=other), verdict, now_s, frame=Frame(now_s, image, step),
                       fitted=fit(image[..., ::-1], (32, 32), box_yxyx=box), gate=GateResult(True, 0.2, "moved", box))
            if step % 5 == 4:
                visits.refused(now_s + 0.05, GateResult(True, 0.2, "blurred: 0.02", box, refusal=Refusal.BLURRED))
        visit = visits.finish()
        assert visit is not None
        return visit

    return come


@pytest.fixture
def recorded(tmp_path: Path, clock: Clock) -> Callable[[Path, Path], Path]:
    """`recorded(bundle, clip)`: the journal that a door with this model would have of a clip; it decides by evidence."""

    def record(bundle: Path, clip: Path) -> Path:
        classifier = Classifier(bundle)
        policy = policy_from_card(classifier.card, classifier.variant)
        entry = classifier.card.files[classifier.variant]
        setting = Setting("observe", "tiny", classifier.variant, entry.sha256, policy.unlock, policy.name, policy_to_json(policy))
        folder = tmp_path / "journal"
        with Journal(JournalOptions(folder), clock=clock, wall=lambda: datetime(2026, 1, 2, 7, 30, tzinfo=UTC)) as written:
            written.describe(setting)
            for visit in replay_clip(classifier, clip, policy=policy).visits:
                clock.now_s = visit.end_s
                if visit.unlocked:
                    written.unlocking(visit.start_s + visit.time_to_unlock_s, visit.verdict, visit)
                written.visit(visit)
                written.flush()
        return folder

    return record


@pytest.fixture
def published(tmp_path: Path) -> Callable[..., Path]:
    """`published("new", unlock=["other"])`: a bundle as `convert` lays it out, its card changed so."""

    return lambda name, **changes: publish(Path(__file__).parents[1] / "fixtures" / "tiny", tmp_path / name, name=name, **changes)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A real mosquitto that lets everybody in. A test that wants it is marked `needs_mosquitto`."""
    it = Broker(tmp_path)
    yield it
    it.kill()


@pytest.fixture
def ear(broker: Broker) -> Iterator[Ear]:
    """A client of that broker, which hears everything."""
    it = Ear(broker.port)
    yield it
    it.close()


STAGE_HW = (240, 320)


class Stage:
    """A drawn porch to play on, frame by frame: who stands where, under which light."""

    def __init__(self, *, light="day", seed=0, look=HOME, fps=10):
        self._rng = np.random.default_rng(seed)
        self._porch = Porch(np.random.default_rng(seed), look, size_hw=STAGE_HW)
        self._animals = {}
        self._noise = {light: scene._noise(self._rng, light, size_hw=(304, 384)) for light in LIGHTS}
        self._fps, self._index = fps, 0
        self.light = light

    @property
    def time_s(self):
        return self._index / self._fps

    def picture(self, *cast, light=None, lamp=None):
        """RGB float32; `cast` is (who, x, tall[, sit[, y]]) in shares of the picture; `lamp` brightens it, (H, W)."""
        light = light or self.light
        image = self._porch.lit(self._porch.rgb, light)
        for who, x, tall, *more in cast:
            sit, y = (*more, *(0.0, 0.93)[len(more):])
            animal = self._animals.setdefault(who, _animal(who))
            place = scene._Place(STAGE_HW[1] * x, STAGE_HW[0] * y, STAGE_HW[0] * tall / 1.45, 1.0)
            scene._put(image, self._porch, animal, Pose(sit=sit), place, light=light)
        return image if lamp is None else image * (1 + lamp[..., None])

    def shot(self, image, *, noise=1.0, light=None):
        """The next frame: the picture with the sensor's noise."""
        y, x = self._rng.integers(0, 64, 2)
        grain = self._noise[light or self.light][y : y + STAGE_HW[0], x : x + STAGE_HW[1]]
        noisy = np.clip(image + noise * grain, 0, 255).astype(np.uint8)
        return self.still(cv2.cvtColor(noisy, cv2.COLOR_RGB2BGR))

    def still(self, image_bgr):
        """The next frame, as it is."""
        frame = Frame(self.time_s, image_bgr, self._index)
        self._index += 1
        return frame

    def play(self, gate, seconds, *cast, **how):
        """Show one and the same cast for some seconds; the gate's results."""
        image = self.picture(*cast, **how)
        return [gate(self.shot(image, light=how.get("light"))) for _ in range(round(seconds * self._fps))]


def _animal(who: str) -> Animal:
    if who != "black":
        return any_animal(np.random.default_rng(5), who)
    cat = any_animal(np.random.default_rng(5), "cat")
    return cat._replace(light_rgb=np.full(3, 24.0), dark_rgb=np.full(3, 14.0), fur=0.3 * cat.fur)


@pytest.fixture
def stage() -> type[Stage]:
    """`stage(light="dusk").play(gate, 3, ("own", 0.5, 0.4))`: three seconds of a dog in the middle, 0.4 of the picture high."""
    return Stage
