"""The door as it is seen from elsewhere, and what a person may ask of it. The page and MQTT stand on this, and on nothing else.

The loop's thread leaves here what is, and carries out what was asked; any thread may read and ask. The loop waits for nobody:
what it leaves replaces what it left before. What was asked of it, and not begun in time, is dropped: a door that hung does
not open for somebody who has gone.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from pawlatch.frame import CameraState
from pawlatch.states import Cause, DoorState, Transition

if TYPE_CHECKING:
    from pawlatch.board import Board
    from pawlatch.image import Image
    from pawlatch.rules import Mode
    from pawlatch.updates import UpdateStatus
    from pawlatch.visit import Visit

ANSWER_S = 2.0  # in which a request must be begun
DONE_S = 5.0  # more, for one that was begun: a latch that is a program may take its time
MOST_WAITING = 8
KEPT_VISITS, KEPT_MOVES = 20, 100
KEPT_PICTURES = 2  # of the newest visits: one of 1920×1080 takes six megabytes


class Wish(Enum):
    """What may be asked of a door."""

    LOCK = "lock"  # now; it goes on deciding
    UNLOCK = "unlock"  # as long as for an animal
    HOLD_OPEN = "hold open"
    HOLD_LOCKED = "hold locked"
    RELEASE = "release"  # what a person holds
    MODE = "mode"


@dataclass(frozen=True)
class Request:
    """A wish of `who`. `for_s` belongs to HOLD_OPEN and HOLD_LOCKED (None: as long as may be), `mode` to MODE.

    `if_open` belongs to LOCK: a latch that is locked is not told again, so that no crowd of such wishes costs the loop's time.
    """

    wish: Wish
    who: str
    for_s: float | None = None
    mode: Mode | None = None
    if_open: bool = False


@dataclass(frozen=True)
class Answer:
    """Whether it was done; `text` is a sentence for the one who asked."""

    is_done: bool
    text: str


@dataclass(frozen=True)
class Held:
    """What a person holds, and for how much longer in seconds."""

    is_open: bool
    for_s: float
    who: str


@dataclass(frozen=True)
class Visitor:
    """An animal that is there now: what it is taken for so far, and what the last verdict said."""

    label: str
    score: float
    reason: str


@dataclass(frozen=True)
class View:
    """A door at a moment.

    `is_unlocked`: the animal can pass. Of a real latch that stays locked because the door only `observes`, it is false whatever
    the door goes through. `modes` are those that may be asked for.
    """

    state: DoorState = DoorState.STARTING
    is_unlocked: bool = False
    observes: bool = False
    mode: Mode = "observe"
    modes: tuple[Mode, ...] = ("off", "observe")
    faults: Mapping[Cause, str] = field(default_factory=lambda: MappingProxyType({}))
    held: Held | None = None
    camera: CameraState = CameraState.CONNECTING
    visitor: Visitor | None = None
    model: str = ""  # its card's name
    variant: str = ""
    sha256: str = ""  # of its file
    labels: tuple[str, ...] = ()
    unlock: tuple[str, ...] = ()

    @property
    def is_jammed(self) -> bool:
        """Whether the latch or the bolt does not obey."""
        return Cause.JAMMED in self.faults or Cause.LATCH in self.faults


@dataclass(frozen=True, eq=False)
class SeenVisit:
    """A visit that is over: the `number`-th since the start, `event` in the journal (None without one); aware local time.

    Its frames are left to the journal, and the pictures of older ones, too.
    """

    number: int
    event: int | None
    ended: datetime
    visit: Visit
    armed: bool

    @property
    def door(self) -> str:
        """What the door did: "opened", "would open" or "stayed shut"."""
        if not self.visit.unlocked:
            return "stayed shut"
        return "opened" if self.armed else "would open"


@dataclass(frozen=True)
class SeenMove:
    """A change of the door's state, the `number`-th since the start; aware local time."""

    number: int
    at: datetime
    transition: Transition


class Updater(Protocol):
    """What looks for newer models; see `pawlatch.updates`."""

    @property
    def status(self) -> UpdateStatus:
        """What is installed, and what could be."""

    def install(self, who: str) -> None:
        """Begin to install the latest, as `who` asks; returns at once."""


class Panel:
    """A door's panel, for as long as its process lives. All of it may be called from any thread.

    `board` tells of the machine, `updater` of newer models; None where nobody looks. `picture` draws what the door sees
    now, uint8 (H, W, 3), BGR; None where there is nothing yet. `counts` are of everything since the start, by name: "frames",
    "classified", "visits", "visits of <label>", "moves", "unlocks", "requests", "requests refused"; `inference_s` is the time
    that the classified frames took.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic,
                 wall: Callable[[], datetime] = lambda: datetime.now().astimezone()) -> None:
        self.board: Callable[[], Board] | None = None
        self.updater: Updater | None = None
        self.picture: Callable[[], Image] | None = None
        self.counts: Counter[str] = Counter()
        self.inference_s = 0.0
        self.started = wall()
        self._clock, self._wall = clock, wall
        self._changed = threading.Condition()
        self._view, self._version = View(), 0
        self._seen_s = clock()
        self._visits: deque[SeenVisit] = deque(maxlen=KEPT_VISITS)
        self._moves: deque[SeenMove] = deque(maxlen=KEPT_MOVES)
        self._waiting: deque[_Pending] = deque()
        self._is_closed = False

    # ------------------------------------------------------------------------------------------------ for those who watch

    @property
    def view(self) -> View:
        """The door as the loop saw it last."""
        return self._view

    @property
    def silent_s(self) -> float:
        """How long the loop has left nothing here, in seconds: more than some is a loop that hangs, or loads a model."""
        return self._clock() - self._seen_s

    @property
    def visits(self) -> tuple[SeenVisit, ...]:
        """The last ones, oldest first."""
        with self._changed:
            return tuple(self._visits)

    @property
    def moves(self) -> tuple[SeenMove, ...]:
        """The last changes of state, oldest first."""
        with self._changed:
            return tuple(self._moves)

    @property
    def is_closed(self) -> bool:
        """Whether the door's process is on its way out."""
        return self._is_closed

    def wait(self, version: int, timeout_s: float) -> int:
        """Wait until view, visits or moves are others than at `version` (0 at first), or time is over; the version now."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or self._version != version, timeout_s)
            return self._version

    def ask(self, request: Request) -> Answer:
        """Ask the loop for something, and wait until it is done, refused, or dropped: some seconds at most."""
        pending = _Pending(request, self._clock() + ANSWER_S)
        with self._changed:
            self.counts["requests"] += 1
            if self._is_closed:
                pending.answer(Answer(False, "the door is stopping"))
            elif len(self._waiting) >= MOST_WAITING:
                pending.answer(Answer(False, "too much is asked at once; ask again"))
            else:
                self._waiting.append(pending)
        answer = pending.wait(ANSWER_S, DONE_S)
        if not answer.is_done:
            with self._changed:
                self.counts["requests refused"] += 1
        return answer

    # ------------------------------------------------------------------------------------------------------ for the loop

    def saw(self, took_s: float | None) -> None:
        """A frame came; `took_s` is what the model took for it, None where the gate kept it from the model."""
        self.counts["frames"] += 1
        if took_s is not None:
            self.counts["classified"] += 1
            self.inference_s += took_s

    def publish(self, view: View) -> None:
        """Leave what is now."""
        self._seen_s = self._clock()
        if view != self._view:
            self.counts["unlocks"] += view.is_unlocked and not self._view.is_unlocked
            with self._changed:
                self._view = view
                self._tell()

    def visited(self, visit: Visit, *, event: int | None, armed: bool) -> None:
        """A visit is over."""
        with self._changed:
            self.counts.update(["visits", f"visits of {visit.label}"])
            small = replace(visit, kept=(), shots=())
            self._visits.append(SeenVisit(self.counts["visits"], event, self._wall(), small, armed))
            if len(self._visits) > KEPT_PICTURES:
                old = self._visits[-1 - KEPT_PICTURES]
                self._visits[-1 - KEPT_PICTURES] = replace(old, visit=replace(old.visit, best_bgr=None))
            self._tell()

    def moved(self, transition: Transition) -> None:
        """The door's state changed."""
        with self._changed:
            self.counts["moves"] += 1
            self._moves.append(SeenMove(self.counts["moves"], self._wall(), transition))
            self._tell()

    def carry_out(self, act: Callable[[Request], Answer]) -> None:
        """Let `act` do what was asked since. To be called in each turn of the loop; what `act` raises comes through."""
        while self._waiting:  # one read of a deque; nearly always that is all
            with self._changed:
                pending = self._waiting.popleft()
            if pending.begin(self._clock()):
                answer = Answer(False, "the door failed at it")
                try:
                    answer = act(pending.request)
                finally:
                    pending.answer(answer)

    def close(self) -> None:
        """Nothing more is carried out; those who wait are told. May be called twice."""
        with self._changed:
            self._is_closed = True
            while self._waiting:
                self._waiting.popleft().answer(Answer(False, "the door is stopping"))
            self._tell()

    def _tell(self) -> None:
        self._version += 1
        self._changed.notify_all()


class _Pending:
    """A request on its way: begun by the loop, or dropped by the one who asked, and never both."""

    def __init__(self, request: Request, until_s: float) -> None:
        self.request = request
        self._until_s = until_s
        self._lock = threading.Lock()
        self._is_begun = self._is_dropped = False
        self._answered = threading.Event()
        self._answer = Answer(False, "")

    def begin(self, now_s: float) -> bool:
        with self._lock:
            self._is_begun = not self._is_dropped and now_s <= self._until_s
            return self._is_begun

    def answer(self, answer: Answer) -> None:
        self._answer = answer
        self._answered.set()

    def wait(self, answer_s: float, done_s: float) -> Answer:
        if not self._answered.wait(answer_s):
            with self._lock:
                self._is_dropped = not self._is_begun
            if self._is_dropped:
                return Answer(False, f"the door did not answer within {answer_s:g} s; nothing was done")
            if not self._answered.wait(done_s):
                return Answer(False, "the door is still at it; look at its state")
        return self._answer
