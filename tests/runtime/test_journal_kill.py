"""A door that is killed at any moment, two hundred times: no unlock that was acknowledged is lost, nothing is half there."""

from __future__ import annotations

import os
import random
import select
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from pawlatch.journal import Journal
from pawlatch.schema import DATABASE, PICTURES

KILLS = 200
LONGEST_S = 0.25  # a door's life; in it, about twenty visits
KEPT_VISITS = 100  # so that it is killed while it forgets, too

NURSERY = """
import os, sys, time
import numpy as np
from pathlib import Path
from pawlatch.camera import Frame
from pawlatch.classify import Prediction
from pawlatch.decide import Observation, Verdict
from pawlatch.gate import GateResult
from pawlatch.journal import Journal, JournalOptions
from pawlatch.visit import Visits

PICTURE = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)

def live(folder, visits_kept, life):
    with Journal(JournalOptions(folder=Path(folder), visits=visits_kept, megabytes_a_day=10000)) as journal:
        for number in range(20):
            visits = Visits()
            for step in range(6):
                now_s = time.monotonic()
                verdict = Verdict(step == 3 and number % 2 == 0, "own", 0.9, f"{life}-{number}")
                if verdict.unlock:
                    journal.unlocking(now_s, verdict, visits.current)
                    os.write(1, f"{verdict.reason}\\n".encode())
                said = Prediction(("own", "_empty"), np.array([0.9, 0.1], np.float32), np.zeros(64, np.float32))
                visits.add(Observation(now_s, said), verdict, now_s, frame=Frame(now_s, PICTURE, step), fitted=PICTURE[:64, :64],
                           gate=GateResult(True, 0.2, "moved"))
            journal.visit(visits.finish())
            journal.check()
            if number % 4 == 3:
                journal.flush()

for life in sys.stdin:
    if not (child := os.fork()):
        live(*sys.argv[1:2], int(sys.argv[2]), life.strip())
        os._exit(0)
    os.write(1, f"pid {child}\\n".encode())
    status = os.waitpid(child, 0)[1]
    os.write(1, f"gone {os.waitstatus_to_exitcode(status)}\\n".encode())
"""


class Lives:
    """Doors with one start between them: each is a fork, killed at a moment of chance."""

    def __init__(self, folder: Path) -> None:
        self._nursery = subprocess.Popen([sys.executable, "-c", NURSERY, str(folder), str(KEPT_VISITS)], stdin=subprocess.PIPE,
                                         stdout=subprocess.PIPE)
        self._rest = b""

    def live(self, name: str, longest_s: float | None) -> tuple[list[str], int]:
        """The unlocks that were acknowledged, and the exit status; killed after `longest_s`."""
        assert self._nursery.stdin is not None
        self._nursery.stdin.write(f"{name}\n".encode())
        self._nursery.stdin.flush()
        acknowledged: list[str] = []
        pid, until_s = 0, None
        while True:
            line = self._line(until_s)
            if line is None:
                os.kill(pid, signal.SIGKILL)
                until_s = None
            elif line.startswith("pid"):
                pid = int(line.split()[1])
                until_s = None if longest_s is None else time.monotonic() + longest_s
            elif line.startswith("gone"):
                return acknowledged, int(line.split()[1])
            else:
                acknowledged.append(line)

    def end(self) -> None:
        assert self._nursery.stdin is not None
        self._nursery.stdin.close()
        self._nursery.wait(60)

    def _line(self, until_s: float | None) -> str | None:
        """The next line; None once it is `until_s`."""
        assert self._nursery.stdout is not None
        while b"\n" not in self._rest:
            wait_s = 120.0 if until_s is None else max(0.0, until_s - time.monotonic())
            if not select.select([self._nursery.stdout], [], [], wait_s)[0]:
                assert until_s is not None, "the door hangs"
                return None
            self._rest += os.read(self._nursery.stdout.fileno(), 4096)
        line, self._rest = self._rest.split(b"\n", 1)
        return line.decode()


@pytest.mark.slow
def test_a_door_that_is_killed_two_hundred_times_loses_no_unlock(tmp_path):
    folder = tmp_path / "journal"
    chance, lives = random.Random(5), Lives(folder)
    acknowledged = 0
    for life in range(KILLS):
        unlocks, status = lives.live(str(life), chance.uniform(0, LONGEST_S))
        assert status in (0, -signal.SIGKILL)
        acknowledged += len(unlocks)
        if not (folder / DATABASE).is_file():
            continue
        with closing(sqlite3.connect(f"file:{folder / DATABASE}?mode=ro", uri=True)) as database:
            assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            if unlocks:
                rows = database.execute("SELECT verdict FROM unlocking ORDER BY id DESC LIMIT 40").fetchall()
                assert all(any(f'"{unlock}"' in verdict for (verdict,) in rows) for unlock in unlocks)
                named = [name for row in database.execute("SELECT data, best, strip FROM event") for name in row if name]
                assert all((folder / PICTURES / name).is_file() for name in named)
    print(f"{KILLS} kills, {acknowledged} unlocks acknowledged")
    assert acknowledged > KILLS
    assert lives.live("last", None)[1] == 0
    lives.end()
    assert not list(folder.glob("broken-*"))
    with Journal.open_read(folder) as journal:
        events = journal.events()
        assert len(events) == KEPT_VISITS
        for event in events:
            assert len(journal.visit(event.id).inputs) == (6 if event.pictures else 0)  # whole, or not named
        assert all(event.end_s is not None for event in events[-20:])  # those of the door that was not killed
        named = {path.name for event in events for path in event.pictures.values()}
    assert {path.name for path in (folder / PICTURES).iterdir()} == named
