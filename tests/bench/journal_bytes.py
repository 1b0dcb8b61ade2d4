"""How much a door's journal writes in a day, since an SD card must last: 40 visits at 15 frames a second, drawn, 640×480.

    python tests/bench/journal_bytes.py [--visits 40] [--keep DIR]

Frames and gate are the real ones; predictions are made up, with embeddings of 1280 numbers as an int8 model gives them (256
different values). Counted are the bytes that Linux says this process caused to be written to storage (`write_bytes` of
/proc/self/io, whole pages), and those it asked for (`wchar`). The file system's own journal comes on top.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from pawlatch.camera import clip_frames
from pawlatch.classify import Prediction
from pawlatch.decide import Observation, Verdict
from pawlatch.door import Cause, DoorState, Transition
from pawlatch.gate import Gate
from pawlatch.image import fit
from pawlatch.journal import Journal, JournalOptions, Setting
from pawlatch.visit import Visits

FPS, DAY_S = 15, 86400.0
LABELS = ("own", "other", "_empty")
SETTING = Setting("observe", "bench", "int8", "0" * 64, ("own",), "evidence", {"false_unlock": 0.001})


class Day:
    """A day of visits, two of three of them the own animal's; its clock goes on by itself."""

    def __init__(self, folder: Path) -> None:
        self.now_s = 0.0
        self._chance = np.random.default_rng(0)
        self._midnight = datetime(2026, 11, 23).astimezone()
        self.journal = Journal(JournalOptions(folder=folder), clock=lambda: self.now_s, wall=self._wall)
        self.journal.describe(SETTING)
        self.unlock_ms: list[float] = []
        self.frames = 0

    def visit(self, number: int, start_s: float) -> None:
        """An animal comes at `start_s`."""
        is_own = number % 3 > 0
        gate, visits, unlocked = Gate(), Visits(), False
        scene = f"scene:{'own' if is_own else 'other'}?seed={number}&fps={FPS}"
        for frame in clip_frames(scene):
            self.now_s = start_s + frame.time_s
            seen = gate(frame)
            if not seen.worth:
                visits.refused(self.now_s, seen)
                continue
            said = self._say(is_own)
            fitted = fit(frame.image_bgr[..., ::-1], (224, 224), box_yxyx=seen.box_yxyx)
            verdict = Verdict(is_own and frame.time_s > 1, said.label, said.score, "made up, and as long as a sentence is")
            if verdict.unlock and not unlocked and visits.current is not None:
                unlocked = True
                self._unlock(verdict, visits)
            visits.add(Observation(self.now_s, said, seen.infrared), verdict, self.now_s, frame=frame, fitted=fitted, gate=seen)
        self.now_s += 3.0
        if (visit := visits.finish()) is not None:
            self.frames += visit.frames
            self.journal.visit(visit)
            self.journal.flush()
        if unlocked:
            self.journal.transition(self._moved(DoorState.UNLOCKED, DoorState.LOCKED, Cause.TIME))

    def _unlock(self, verdict: Verdict, visits: Visits) -> None:
        began = time.perf_counter()
        self.journal.unlocking(self.now_s, verdict, visits.current)
        self.journal.transition(self._moved(DoorState.LOCKED, DoorState.UNLOCKED, Cause.VERDICT))
        self.unlock_ms.append((time.perf_counter() - began) * 1e3)

    def _moved(self, before: DoorState, after: DoorState, cause: Cause) -> Transition:
        return Transition(self.now_s, before, after, cause, "made up", armed=False)

    def _say(self, is_own: bool) -> Prediction:
        sure = self._chance.uniform(0.7, 0.95)
        scores = np.array([sure, 0.98 - sure, 0.02] if is_own else [0.98 - sure, sure, 0.02], np.float32)
        levels = np.clip(self._chance.gamma(0.6, 20, 1280), 0, 255).astype(np.uint8)  # features after a ReLU6: many are zero
        return Prediction(LABELS, scores, levels * np.float32(0.0235), 0.3, False)

    def _wall(self) -> datetime:
        return self._midnight + timedelta(seconds=self.now_s)


def written() -> tuple[int, int]:
    """Bytes this process has caused to be written to storage, and those it asked for."""
    counters = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(counters["write_bytes"]), int(counters["wchar"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--visits", type=int, default=40)
    parser.add_argument("--keep", type=Path, help="leave the journal there")
    args = parser.parse_args()
    with ExitStack() as stack:
        folder = args.keep or Path(tempfile.mkdtemp(dir="/var/tmp"))  # a disk: /tmp may be memory
        if args.keep is None:
            stack.callback(shutil.rmtree, folder)
        day = Day(folder)
        before = written()
        for number in range(args.visits):
            day.visit(number, DAY_S * number / args.visits)
        day.journal.close()
        storage, asked = (after - start for after, start in zip(written(), before, strict=True))
        kept = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        database = (folder / "journal.sqlite3").stat().st_size
    print(f"{args.visits} visits, {day.frames} frames, {len(day.unlock_ms)} unlocks")
    print(f"written to storage {storage / 1e6:.1f} MB, asked for {asked / 1e6:.1f} MB; kept {kept / 1e6:.1f} MB, "
          f"{database / 1e3:.0f} kB of it the database")
    print(f"an unlock written: median {np.median(day.unlock_ms):.1f} ms, most {max(day.unlock_ms):.1f} ms")


if __name__ == "__main__":
    main()
