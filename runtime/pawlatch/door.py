"""The door decides when the latch moves. Fail-secure: it is locked before anything else, and on every way out.

    STARTING ──first good frame──▶ LOCKED ◀──verdict, time──▶ UNLOCKED

    FAULT    something is wrong: locked until all of it has gone
    HELD     a person keeps it locked, or open, for a while
    LOCKOUT  too many strangers came: locked for a while

The last three come from every state. Where several hold at once, the door is in the first of FAULT, HELD, LOCKOUT, STARTING
and LOCKED, and the others wait underneath until they are over. It is unlocked in UNLOCKED, and in HELD if it is held open.

Time is the monotonic clock's. Should that go back, an open door locks, and whatever still had to be waited for is waited
for; a time that is no number is a fault until one comes again.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Self

from pawlatch.errors import ConfigError, LatchError
from pawlatch.latch import Latch, RecordingLatch
from pawlatch.limits import HOUR_S, MINUTE_S, Duty, Elapsed, Tally
from pawlatch.rules import DoorOptions, Mode, Rules
from pawlatch.sensors import Bolt, Passage
from pawlatch.states import Cause, DoorState, Transition

if TYPE_CHECKING:
    from pawlatch.decide import Verdict

__all__ = ["HOLD_S", "LONGEST", "Cause", "Door", "DoorOptions", "DoorState", "Transition"]

logger = logging.getLogger(__name__)

HOLD_S = 2.0  # after the last evidence: on its way through, the animal is out of the camera's sight
LONGEST = 3  # times `unlock_s`: however long the animal stays, the door does not stand open
RETRY_S = 0.5  # between lock commands to a latch that did not obey
OWN_FAULTS = frozenset({Cause.LATCH, Cause.JAMMED, Cause.SENSOR, Cause.CLOCK})
PERSON = "_person"  # the label under which a person's unlock is written down


@dataclass(frozen=True)
class Hold:
    """A person's wish, until a door time in seconds."""

    is_open: bool
    until_s: float
    who: str


OnTransition = Callable[[Transition], object]
OnUnlock = Callable[[float, "Verdict"], object]  # takes the time and the verdict of an unlock that is about to happen


class Door:
    """A latch with manners: each unlock is bounded in time and in how often it may come, and is written down first.

    The door stays open for `unlock_s`, and until HOLD_S after the last evidence while the animal is still there, but
    never longer than LONGEST times `unlock_s`; then it pauses for `pause_s`. Locking never waits for anything.

    `on_unlock` makes an unlock durable, then `on_transition` hears of it, then the latch moves; where one of them raises,
    the door stays shut and the exception comes through. Of other changes `on_transition` hears after the latch was locked.
    `passage` and `reed` are sensors as in `pawlatch.sensors.Sensors`, read by `tick`. `clock` is monotonic seconds, the same
    that `now_s` is read from, and `wall` the time of day. One thread only.

    Outside mode "armed" a real latch is only ever told to lock; in "observe" a RecordingLatch moves in its place.

    Raises:
        LatchError: the latch does not lock. Nothing else may start then.
        ConfigError: the latch may be powered for less than one unlock needs.
    """

    def __init__(self, latch: Latch, *, options: DoorOptions | None = None, clock: Callable[[], float] = time.monotonic,
                 wall: Callable[[], datetime] = datetime.now, on_transition: OnTransition | None = None,
                 on_unlock: OnUnlock | None = None, passage: Callable[[], bool] | None = None,
                 reed: Callable[[], bool] | None = None) -> None:
        latch.lock()  # before anything that could raise
        self.options = options or DoorOptions()
        self.state = DoorState.STARTING
        self._latch, self._clock, self._wall = latch, clock, wall
        self.driven: Latch = self._drive()
        self._on_transition, self._on_unlock = on_transition, on_unlock
        self._passage, self._reed = passage, reed
        self._through, self._bolt = Passage(), Bolt(self.options.sensors)
        self._rules = Rules(self.options)
        self._per_hour = Tally(self.options.max_unlocks_per_hour, within_s=HOUR_S)
        self._strangers = Tally(max(1, self.options.lockout_strangers), within_s=self.options.lockout_within_s)
        self._duty = Duty(pulse_s=latch.pulse_s)
        self._need_s = self.options.unlock_s if latch.pulse_s is None else latch.pulse_s
        if self._need_s > self.options.powered_s_per_minute:
            raise ConfigError(f"an unlock powers the latch for {self._need_s:g} s, which powered_s_per_minute = "
                              f"{self.options.powered_s_per_minute:g} never allows; make unlock_s or pulse_s shorter")
        self._faults: dict[Cause, str] = {}
        self._hold: Hold | None = None
        self._started = self._closed = self._open = False
        self._time = Elapsed()
        self._opened_s = self._until_s = 0.0
        self._pause_until_s = self._lockout_until_s = self._retry_s = -math.inf

    @property
    def is_armed(self) -> bool:
        """Whether a real latch moves."""
        return self._latch.is_real and self.options.mode == "armed"

    @property
    def is_unlocked(self) -> bool:
        """Whether the animal can pass (or could, were the door armed)."""
        return self._open

    @property
    def held(self) -> tuple[Hold, float] | None:
        """What a person holds, and for how many seconds more."""
        return None if self._hold is None else (self._hold, self._hold.until_s - self._time.now_s)

    @property
    def observes(self) -> bool:
        """Whether a real latch stays locked while the door goes through the motions."""
        return self.driven is not self._latch

    @property
    def faults(self) -> dict[Cause, str]:
        """What is wrong now, with details."""
        return dict(self._faults)

    def started(self) -> None:
        """Everything works, as the first good frame shows. Without effect later."""
        if not self._started:
            self._started = True
            self._settle(Cause.STARTED)

    def consider(self, verdict: Verdict, now_s: float) -> Verdict:
        """Act on a verdict.

        Returns:
            The verdict as it was carried out: where the door itself refuses, `unlock` is false and `reason` says why.

        Raises:
            LatchError: the latch failed; it was told to lock again. What the callbacks raise comes through, door shut.
        """
        self.tick(now_s)
        self.started()
        if not verdict.unlock:
            return verdict
        if refusal := self._refusal(verdict):
            return replace(verdict, unlock=False, reason=refusal)
        if not self._open:
            self._unlock(verdict, DoorState.UNLOCKED, Cause.VERDICT)
            self._until_s = self._time.now_s + self.options.unlock_s
        self._extend()
        return verdict

    def tick(self, now_s: float) -> None:
        """Let time pass: lock when a time is over, read the sensors, command again what did not obey."""
        if not self._advance(now_s):
            return
        if self._retry_s <= self._time.now_s and (Cause.LATCH in self._faults or Cause.JAMMED in self._faults):
            self._command_again()
        self._sense()
        if self._hold is not None and self._time.now_s >= self._hold.until_s:
            self._end_hold(Cause.HOLD_OVER)
        if self.state is DoorState.UNLOCKED and self._time.now_s >= self._until_s:
            self._shut(Cause.TIME)
        if self._open and self._duty.used_s(self._time.now_s) >= self.options.powered_s_per_minute < MINUTE_S:
            self._hold = None
            self._shut(Cause.DUTY, f"{self.options.powered_s_per_minute:g} s within a minute")
        self._settle(Cause.LOCKOUT_OVER)

    def lock(self, cause: Cause = Cause.REQUEST, detail: str = "") -> None:
        """Lock now, whatever the state; an open door pauses afterwards, and is held open no longer."""
        self._time.take(self._clock())
        if self._hold is not None and self._hold.is_open:
            self._hold = None
        self._shut(cause, detail)

    def fault(self, cause: Cause, detail: str) -> None:
        """Lock until this and all other faults have gone. Free of cost where it is known."""
        if cause not in self._faults:
            self._time.take(self._clock())
        self._fault(cause, detail)

    def recover(self, cause: Cause) -> None:
        """This fault has gone. Free of cost where there was none; of LATCH, JAMMED, SENSOR and CLOCK the door knows itself."""
        if cause not in OWN_FAULTS:
            self._recover(cause)

    def stranger(self, now_s: float) -> None:
        """A stranger's visit is over. After `lockout_strangers` of them the door is locked for everybody for a while."""
        self.tick(now_s)
        if self.options.lockout_strangers and not (self._hold is not None and self._hold.is_open):
            self._strangers.add(self._time.now_s)
            if self._strangers.is_full(self._time.now_s):
                self._strangers.clear()
                self._lockout_until_s = self._time.now_s + self.options.lockout_s
                self._shut(Cause.STRANGERS, f"{self.options.lockout_strangers} visits, locked for {self.options.lockout_s:g} s")

    def hold(self, *, open: bool, for_s: float, who: str) -> str | None:
        """A person keeps the door open, or locked, for a while; what held before is over. Opening ends a lockout.

        Returns:
            Why it is not held open; None where it is held.

        Raises:
            ValueError: `for_s` is out of bounds.
            LatchError: as `consider`; what the callbacks raise comes through as there.
        """
        longest_s = self.options.held_open_longest_s if open else self.options.held_locked_longest_s
        if not 0 < for_s <= longest_s:
            raise ValueError(f"a door is held {'open' if open else 'locked'} for up to {longest_s:g} s, got {for_s}")
        self.tick(self._clock())
        hold = Hold(open, self._time.now_s + for_s, who)
        detail = f"{who} holds it {'open' if open else 'locked'} for {for_s:g} s"
        if not open:
            self._hold = hold
            self._shut(Cause.PERSON, detail)
            return None
        if refusal := self._refusal_of_person():
            return refusal
        if self._open:
            self._tell(DoorState.HELD, Cause.PERSON, detail)
            self.state = DoorState.HELD
        else:
            self._unlock(_person(detail), DoorState.HELD, Cause.PERSON)
        self._hold, self._lockout_until_s = hold, -math.inf
        self._strangers.clear()
        return None

    def release(self, who: str) -> None:
        """The person lets the door do as it does by itself; an open one locks."""
        if self._hold is not None:
            self._time.take(self._clock())
            self._end_hold(Cause.PERSON, f"{who} releases it")

    def set_mode(self, mode: Mode, *, who: str) -> None:
        """Go on in another mode, locked first.

        Raises:
            LatchError: it does not lock; the door is at fault, and in the other mode all the same.
        """
        try:
            self.lock(Cause.PERSON, f'{who} sets the mode to "{mode}"')
        finally:
            self.options = replace(self.options, mode=mode)
            self.driven = self._drive()

    def close(self, cause: Cause = Cause.STOP, detail: str = "") -> None:
        """Lock for good: no verdict and no person opens this door again. May be called twice."""
        self._closed = True
        self.lock(cause, detail)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if kind is None or issubclass(kind, KeyboardInterrupt):
            self.close()
        else:
            self.close(Cause.EXCEPTION, f"{kind.__name__}: {error}")

    def _drive(self) -> Latch:
        """What moves: the latch, or in a real one's place a shadow of it."""
        if self.is_armed or not self._latch.is_real:
            return self._latch
        shadow = RecordingLatch(clock=self._clock, pulse_s=self._latch.pulse_s)
        shadow.lock()
        return shadow

    def _refusal(self, verdict: Verdict) -> str | None:
        if refusal := self._never_or_not_now():
            return refusal
        if self._hold is not None:
            return f"{self._hold.who} holds the door {'open' if self._hold.is_open else 'locked'}"
        if self._time.now_s < self._lockout_until_s:
            return f"too many strangers: locked for {self._lockout_until_s - self._time.now_s:.0f} s more"
        if not math.isfinite(verdict.score):
            return f"a score must be a number, got {verdict.score}: the model is broken"
        if refusal := self._rules.refusal(verdict.label, self._wall):
            return refusal
        if self._open:
            return None
        if self._per_hour.is_full(self._time.now_s):
            return f"the door opened {self.options.max_unlocks_per_hour} times within an hour: no more for now"
        return self._not_again_yet()

    def _refusal_of_person(self) -> str | None:
        return self._never_or_not_now() or (None if self._open else self._not_again_yet())

    def _never_or_not_now(self) -> str | None:
        if self._closed:
            return "the door is closed for good"
        if self._faults:
            return "; ".join(f"{cause.value}: {detail}" for cause, detail in self._faults.items())
        if self.options.mode == "off":
            return 'the door is off: mode = "off"'
        return None

    def _not_again_yet(self) -> str | None:
        if self._time.now_s < self._pause_until_s:
            return f"the door rests for {self._pause_until_s - self._time.now_s:.1f} s more"
        limit_s, used_s = self.options.powered_s_per_minute, self._duty.used_s(self._time.now_s)
        if limit_s < MINUTE_S and limit_s - used_s < self._need_s:
            return f"the latch was powered for {used_s:.1f} s of the last minute: {limit_s:g} at most"
        return None

    def _unlock(self, verdict: Verdict, state: DoorState, cause: Cause) -> None:
        """Written first, then moved: an unlock that nobody can read about later does not happen."""
        if self._on_unlock is not None:
            self._on_unlock(self._time.shown_s, verdict)
        self._tell(state, cause, verdict.reason if cause is Cause.PERSON
                   else f"{verdict.label} {verdict.score:.2f}: {verdict.reason}")
        self._opened_s = self._until_s = self._time.now_s
        self._through.opened()
        self._duty.on(self._time.now_s)
        self._open, self.state = True, state
        if state is DoorState.UNLOCKED:
            self._per_hour.add(self._time.now_s)
        try:
            self.driven.unlock()
        except BaseException as error:  # it may have moved before it failed
            self._unlock_failed(error)
            raise

    def _unlock_failed(self, error: BaseException) -> None:
        if isinstance(error, LatchError):
            self._faults[Cause.LATCH] = str(error)
            self._retry_s = self._time.now_s + RETRY_S
            self._shut(Cause.LATCH, str(error))
        else:
            self._shut(Cause.EXCEPTION, str(error))

    def _shut(self, cause: Cause, detail: str = "", *, always: bool = False) -> None:
        """Lock the latch, then settle in the state that holds."""
        failure = self._command_lock()
        if self._open:
            self._open = False
            self._duty.off(self._time.now_s)
            self._pause_until_s = self._time.now_s + self.options.pause_s
        if failure is None:
            self._settle(cause, detail, always=always)
            return
        self._faults[Cause.LATCH] = str(failure)
        self._settle(Cause.LATCH, str(failure), always=True)
        raise failure

    def _command_lock(self) -> LatchError | None:
        """Tell both latches, the real one and the shadow, whatever the first says."""
        self._retry_s = self._time.now_s + RETRY_S
        failures = [*_failures(self._latch), *(_failures(self.driven) if self.driven is not self._latch else ())]
        for failure in failures:
            logger.error("the latch does not lock: %s", failure)
        return failures[0] if failures else None

    def _command_again(self) -> None:
        """Quietly: what it raised was raised when it began."""
        failure = self._command_lock()
        if failure is None:
            self._recover(Cause.LATCH)
        elif Cause.LATCH not in self._faults:
            self._faults[Cause.LATCH] = str(failure)
            self._settle(Cause.LATCH, str(failure), always=True)

    def _extend(self) -> None:
        """The animal is still there."""
        longest_s = self._opened_s + LONGEST * self.options.unlock_s
        self._until_s = max(self._until_s, min(self._time.now_s + HOLD_S, longest_s))

    def _end_hold(self, cause: Cause, detail: str = "") -> None:
        if self._hold is not None:
            was_open, self._hold = self._hold.is_open, None
            if was_open:
                self._shut(cause, detail)
            else:
                self._settle(cause, detail)

    def _settled(self) -> DoorState:
        """The state that holds while the door is shut."""
        if self._faults:
            return DoorState.FAULT
        if self._hold is not None:
            return DoorState.HELD
        if self._time.now_s < self._lockout_until_s:
            return DoorState.LOCKOUT
        return DoorState.LOCKED if self._started else DoorState.STARTING

    def _settle(self, cause: Cause, detail: str = "", *, always: bool = False) -> None:
        """Go to the state that holds, if that is another one (or `always`); an open door stays open."""
        before, after = self.state, self._settled()
        if not self._open and (always or before is not after):
            self.state = after
            self._tell(after, cause, detail, before=before)

    def _tell(self, after: DoorState, cause: Cause, detail: str, *, before: DoorState | None = None) -> None:
        transition = Transition(self._time.shown_s, before or self.state, after, cause, detail, self.is_armed)
        logger.info("door %s", transition)
        if self._on_transition is not None:
            self._on_transition(transition)

    def _fault(self, cause: Cause, detail: str) -> None:
        known = cause in self._faults
        self._faults[cause] = detail
        if not known:
            if self._hold is not None and self._hold.is_open:
                self._hold = None
            self._shut(cause, detail, always=True)

    def _recover(self, cause: Cause) -> None:
        if cause in self._faults:
            del self._faults[cause]
            self._settle(Cause.RECOVERED, cause.value, always=True)

    def _advance(self, now_s: float) -> bool:
        """Take in the time; False where it is none."""
        if not math.isfinite(now_s):
            self._fault(Cause.CLOCK, f"it shows {now_s}")
            return False
        back_s = self._time.take(now_s)
        if back_s and self._open:
            self._hold = None
            self._shut(Cause.CLOCK, f"it went back by {back_s:.1f} s")
        self._recover(Cause.CLOCK)
        return True

    def _sense(self) -> None:
        try:
            passing = self._passage() if self._passage is not None else None
            sensed_locked = self._reed() if self._reed is not None else None
        except LatchError as error:
            self._fault(Cause.SENSOR, str(error))
            return
        self._recover(Cause.SENSOR)
        if passing is not None and self.state is DoorState.UNLOCKED:
            self._watch_passage(passing)
        if sensed_locked is not None:
            self._watch_bolt(sensed_locked)

    def _watch_passage(self, passing: bool) -> None:
        if passing:
            self._extend()
        if self._through.is_over(passing, self._time.now_s):
            self._shut(Cause.PASSAGE)

    def _watch_bolt(self, sensed_locked: bool) -> None:
        told_locked = not (self._open and self.driven is self._latch)
        jammed = self._bolt.is_jammed(told_locked=told_locked, sensed_locked=sensed_locked, time_s=self._time.now_s)
        if jammed:
            told, sensed = ("locked" if locked else "unlocked" for locked in (told_locked, sensed_locked))
            self._fault(Cause.JAMMED, f"told to be {told}, and the reed switch says {sensed}; look at the bolt and the flap")
        elif jammed is False:
            self._recover(Cause.JAMMED)


def _failures(latch: Latch) -> Iterator[LatchError]:
    try:
        latch.lock()
    except LatchError as error:
        yield error
    except Exception as error:  # of somebody's own latch
        yield LatchError(f"the latch fails with {type(error).__name__}: {error}; look at its program")


def _person(detail: str) -> Verdict:
    from pawlatch.decide import Verdict  # only here: `pawlatch latch` needs no NumPy

    return Verdict(True, PERSON, 1.0, detail)
