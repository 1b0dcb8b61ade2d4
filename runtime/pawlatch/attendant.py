"""Carries out on a door what a person may ask of it, from a page or from MQTT, and knows what nobody may.

Nobody arms from elsewhere a door that `door.toml` does not arm: a mode that is asked for is the settings' or one below. To
open, everything must be well; to lock, nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from pawlatch.door import Door
from pawlatch.errors import JournalError, LatchError
from pawlatch.panel import Answer, Request, Wish
from pawlatch.rules import MODES, Mode
from pawlatch.standing import Standing, read_standing, write_standing
from pawlatch.states import Cause


class Attendant:
    """Stands by one door, in its thread. `folder` is where wishes are kept that outlive this process; None keeps none."""

    def __init__(self, door: Door, *, folder: Path | None = None, wall_s: Callable[[], float] = time.time) -> None:
        self._door, self._folder, self._wall_s = door, folder, wall_s
        self._settings_mode: Mode = door.options.mode
        self.modes: tuple[Mode, ...] = MODES[: MODES.index(self._settings_mode) + 1]
        self._standing = Standing() if folder is None else read_standing(folder)

    def resume(self) -> str | None:
        """Do what was asked before this process began, and say so. To be called before the first frame."""
        kept, said = self._standing, []
        if kept.mode in self.modes and kept.mode != self._settings_mode and kept.settings_mode in (None, self._settings_mode):
            self._door.set_mode(kept.mode, who=kept.who)
            said.append(f'the mode is "{kept.mode}", as {kept.who} chose; door.toml says "{self._settings_mode}"')
        left_s = (kept.locked_until_unix_s or 0.0) - self._wall_s()
        if left_s > 0:
            left_s = min(left_s, self._door.options.held_locked_longest_s)
            self._door.hold(open=False, for_s=left_s, who=kept.who)
            said.append(f"{kept.who} keeps it locked for {left_s / 60:.0f} min more")
        return "; ".join(said) or None

    def carry_out(self, request: Request) -> Answer:
        """Do it, or say why not."""
        try:
            return self._carry_out(request)
        except (LatchError, JournalError) as error:  # the door is locked, and says so by its faults
            return Answer(False, str(error))

    def _carry_out(self, request: Request) -> Answer:
        door, who = self._door, request.who
        if request.wish is Wish.LOCK:
            return self._lock(request)
        if request.wish is Wish.MODE:
            return self._set_mode(request)
        if request.wish is Wish.HOLD_LOCKED:
            return self._hold_locked(request)
        if request.wish is Wish.RELEASE:
            door.release(who)
            return self._kept(replace(self._standing, locked_until_unix_s=None, who=who), "released")
        return self._open(request)

    def _lock(self, request: Request) -> Answer:
        door = self._door
        is_told = door.is_unlocked or not request.if_open
        if is_told:
            door.lock(Cause.PERSON, f"{request.who} locks it")
        jams = [f"{cause.value}: {detail}" for cause, detail in door.faults.items() if cause in (Cause.LATCH, Cause.JAMMED)]
        if jams:
            return Answer(False, f"it was told to lock, but {'; '.join(jams)}")
        return Answer(True, "locked" if is_told else "it is locked")

    def _open(self, request: Request) -> Answer:
        options = self._door.options
        if self._door.observes:
            return Answer(False, 'the door only observes, so its latch stays locked; only mode = "armed" moves it')
        longest_s = options.held_open_longest_s
        asked_s = longest_s if request.for_s is None else request.for_s
        for_s = options.unlock_s if request.wish is Wish.UNLOCK else asked_s
        if refusal := _out_of_bounds(for_s, longest_s):
            return Answer(False, refusal)
        if refusal := self._door.hold(open=True, for_s=for_s, who=request.who):
            return Answer(False, refusal)
        done = f"open for {for_s:g} s"
        if self._standing.locked_until_unix_s is None:
            return Answer(True, done)
        return self._kept(replace(self._standing, locked_until_unix_s=None, who=request.who), done)

    def _hold_locked(self, request: Request) -> Answer:
        longest_s = self._door.options.held_locked_longest_s
        for_s = longest_s if request.for_s is None else request.for_s
        if refusal := _out_of_bounds(for_s, longest_s):
            return Answer(False, refusal)
        until_s = self._wall_s() + for_s
        kept = self._kept(replace(self._standing, locked_until_unix_s=until_s, who=request.who), f"locked for {for_s:g} s")
        self._door.hold(open=False, for_s=for_s, who=request.who)
        return kept

    def _set_mode(self, request: Request) -> Answer:
        mode = request.mode
        if mode not in self.modes:
            return Answer(False, f'door.toml says mode = "{self._settings_mode}": from elsewhere it can be '
                                 f"{' or '.join(self.modes)}, got {mode}")
        if mode == self._door.options.mode:
            return Answer(True, f"the mode is {mode}")
        is_settings = mode == self._settings_mode
        kept = self._kept(replace(self._standing, mode=None if is_settings else mode, who=request.who,
                                  settings_mode=None if is_settings else self._settings_mode), f"the mode is {mode}")
        self._door.set_mode(mode, who=request.who)
        return kept

    # Both write first: where the latch does not obey, or the process dies at it, the next start still knows the wish.

    def _kept(self, standing: Standing, done: str) -> Answer:
        self._standing = standing
        if self._folder is None:
            return Answer(True, done)
        trouble = write_standing(self._folder, standing)
        return Answer(True, done if trouble is None else f"{done}, but only until the next start: {trouble}")


def _out_of_bounds(for_s: float, longest_s: float) -> str | None:
    return None if 0 < for_s <= longest_s else f"it can be held for more than 0 and up to {longest_s:g} s, got {for_s:g}"
